"""``megc-stream bench``: how fast and how exact this machine is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from megc_stream.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from megc_stream.benchmarking.flow_bench import FlowBench
    from megc_stream.benchmarking.wire_bench import WireBench

__all__ = ["app"]

SourcesArgument = Annotated[list[str], typer.Argument(help="One or more sources, as of 'run'.")]
FpsOption = Annotated[float | None, typer.Option(help="Frames per second, where the source is wrong or has none.")]
SecondsOption = Annotated[float | None, typer.Option(help="Stop after so many seconds of the source.")]
ModelOption = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Spotting network [mean-synthetic].")]
ProvidersOption = Annotated[str | None, typer.Option(help="ONNX Runtime providers in order, e.g. cuda,cpu.")]
BenchOutOption = Annotated[Path | None, typer.Option(help="Keep the results of the run in this folder [removed].")]

app = typer.Typer(help="Measure speed, latency and error on this machine.", no_args_is_help=True)


class Texture(StrEnum):
    """Faces that are moved."""

    portrait = "portrait"
    generated = "generated"


@app.callback()
def _bench() -> None:
    pass


@app.command("flow", epilog="Example: megc-stream bench flow --json flow.json")
def flow(
    sizes: Annotated[
        str | None, typer.Option(metavar="PX,PX", help="Widths of the pictures [128,256; 128 with --quick].")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help="Pairs of each kind, and sequences, at 128 px [6; 1 with --quick].")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="How often each method sees each pair; DualTVL1 once [3; 1 with --quick].")
    ] = None,
    texture: Annotated[
        Texture | None, typer.Option(help="The face that moves [portrait with the extra 'demo', else generated].")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute, rough figures.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Compare the TV-L1 solver with OpenCV's DualTVL1, DIS and Farneback: times and errors, one thread."""
    import msgspec

    from megc_stream.benchmarking.flow_bench import FlowBenchSettings, bench_flow
    from megc_stream.benchmarking.textures import default_texture
    from megc_stream.cli.console import note, report_json
    from megc_stream.errors import UsageError

    usual = (
        FlowBenchSettings(sizes=(128,), pairs=1, rounds=1, stream_pairs=60, every=12) if quick else FlowBenchSettings()
    )
    settings = FlowBenchSettings(
        sizes=usual.sizes if sizes is None else _sizes(sizes),
        pairs=usual.pairs if pairs is None else pairs,
        rounds=usual.rounds if rounds is None else rounds,
        stream_pairs=usual.stream_pairs,
        every=usual.every,
        texture=default_texture() if texture is None else texture.value,
    )
    if json_file not in (None, "-") and not Path(json_file).absolute().parent.is_dir():
        raise UsageError(f"--json {json_file}: no folder {Path(json_file).parent}; make it first")
    result = bench_flow(settings, note)
    report_json(json_file, msgspec.to_builtins(result))
    if json_file != "-":
        _print_flow(result)


@app.command("wire", epilog="Example: megc-stream bench wire --seconds 10 --json wire.json")
def wire(
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of messages for each case.")] = 5.0,
    streams: Annotated[str, typer.Option(metavar="N,N", help="Numbers of cameras, 200 messages/s each.")] = "1,4,16",
    transports: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="Some of inproc, ipc, tcp, tcp+curve.")
    ] = "inproc,ipc,tcp,tcp+curve",
    json_file: JsonOption = None,
) -> None:
    """Measure the event stream beside a slow subscriber: latency and CPU per message, by transport."""
    import msgspec

    from megc_stream.benchmarking.wire_bench import WireBenchSettings, bench_wire
    from megc_stream.cli.console import note, report_json
    from megc_stream.errors import UsageError

    try:
        settings = msgspec.convert(
            {"seconds": seconds, "streams": streams.split(","), "transports": transports.split(",")},
            WireBenchSettings,
            strict=False,
        )
    except msgspec.ValidationError as error:
        raise UsageError(f"bench wire: {error}; expected --streams 1,4 and --transports inproc,tcp+curve") from None
    result = bench_wire(settings, note)
    report_json(json_file, msgspec.to_builtins(result))
    if json_file != "-":
        _print_wire(result)


def _print_wire(result: WireBench) -> None:
    from megc_stream.cli.console import say

    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    say(f"{result.machine}, {result.cores} cores; {versions}")
    say(
        f"{result.settings.rate_hz:g} messages/s a stream, {result.message_bytes} bytes each, "
        f"{result.settings.seconds:g} s, a slow subscriber beside; the first 0.5 s left out"
    )
    say(f"{'':10}{'streams':>8}{'ms p50':>9}{'p99':>9}{'max':>9}{'us CPU publisher':>18}{'subscriber':>12}{'lost':>7}")
    for one in result.figures:
        subscriber = "-" if one.cpu_subscriber_us is None else f"{one.cpu_subscriber_us:.1f}"
        say(
            f"{one.transport:10}{one.streams:8}{one.latency_ms_p50:9.3f}{one.latency_ms_p99:9.3f}"
            f"{one.latency_ms_max:9.3f}{one.cpu_publisher_us:18.1f}{subscriber:>12}{one.lost:7}"
        )
    say("CPU over inproc is that of publisher and both subscribers together")
    if result.tcp_p99_ms is not None:
        met = "met    " if result.met else "NOT MET"
        say(f"{met} worst p99 over tcp, ms: {result.tcp_p99_ms:.3g} (goal <= {result.goal_ms:g})")


@app.command("latency", epilog="Example: megc-stream bench latency SAMM/006_1 --fps 200 --seconds 60 --json F.json")
def latency(
    source: SourcesArgument,
    fps: FpsOption = None,
    seconds: SecondsOption = None,
    model: ModelOption = None,
    providers: ProvidersOption = None,
    out: BenchOutOption = None,
    picture: Annotated[Path | None, typer.Option(metavar="F.svg", help="Draw a histogram of the latencies.")] = None,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run sources at their own pace, to their end, and say how long it takes from capture to score, stage by stage."""
    from megc_stream.cli.bench_runs import bench_run

    bench_run(
        source,
        paced=True,
        fps=fps,
        seconds=seconds,
        out=out,
        config=config,
        overrides=_network(model, providers),
        picture=picture,
        json_file=json_file,
    )


@app.command("throughput", epilog="Example: megc-stream bench throughput interview.mp4")
def throughput(
    source: SourcesArgument,
    fps: FpsOption = None,
    seconds: SecondsOption = None,
    model: ModelOption = None,
    providers: ProvidersOption = None,
    out: BenchOutOption = None,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run files as fast as this machine goes, and say how fast that is and where the time goes."""
    from megc_stream.cli.bench_runs import bench_run

    bench_run(
        source,
        paced=False,
        fps=fps,
        seconds=seconds,
        out=out,
        config=config,
        overrides=_network(model, providers),
        picture=None,
        json_file=json_file,
    )


def _network(model: str | None, providers: str | None) -> dict[str, Any]:
    return {"model": {"name": model, "providers": None if providers is None else tuple(providers.split(","))}}


def _sizes(text: str) -> tuple[int, ...]:
    from megc_stream.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--sizes {text}: expected widths in px, separated by commas, such as 128,256") from None


def _print_flow(result: FlowBench) -> None:
    from megc_stream.cli.console import say

    versions = ", ".join(f"{name} {result.versions[name]}" for name in ("megc_stream", "numba", "numpy"))
    say(f"{result.machine}, {result.cores} cores; {versions}; one thread, texture {result.settings.texture}")
    say("errors: end-point error over the crop and where the face moves, angular error; energy: TV-L1 per px")
    for figures in result.sizes:
        for case, methods in figures.cases.items():
            compared = next(iter(methods.values())).compared
            say()
            say(f"{figures.size_px} px, {case} ({compared} pairs compared)")
            say(f"  {'':22}{'ms p50':>9}{'p95':>9}{'x dual':>8}{'px':>8}{'moving':>8}{'deg':>8}{'energy':>9}")
            for name, one in methods.items():
                moving = "-" if one.moving_error_px is None else f"{one.moving_error_px:.3f}"
                say(
                    f"  {name:22}{one.ms_p50:9.2f}{one.ms_p95:9.2f}{one.times_dual:8.1f}{one.error_px:8.3f}"
                    f"{moving:>8}{one.angular_error_deg:8.2f}{one.energy:9.4f}"
                )
    say()
    say(f"features of a 128 px flow: {result.features.ms_p50:.3f} ms (p95 {result.features.ms_p95:.3f})")
    for target in result.targets:
        sign = "<=" if target.at_most else ">="
        say(f"{'met    ' if target.met else 'NOT MET'} {target.name}: {target.value:.3g} (goal {sign} {target.goal:g})")
