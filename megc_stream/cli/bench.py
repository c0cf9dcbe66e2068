"""``megc-stream bench``: what this machine does with generated material."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megc_stream.cli.options import JsonOption

if TYPE_CHECKING:
    from megc_stream.benchmarking import FlowBench

__all__ = ["app"]

app = typer.Typer(help="Measure speed and error on generated material with known truth.", no_args_is_help=True)


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

    from megc_stream.benchmarking import FlowBenchSettings, bench_flow
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
