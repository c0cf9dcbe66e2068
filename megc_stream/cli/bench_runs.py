"""``megc-stream bench latency`` and ``bench throughput``: an ordinary run with a probe beside its sinks."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from megc_stream.benchmarking import latency_bench
from megc_stream.benchmarking.latency_bench import LatencyBench, LatencyProbe, histogram_svg
from megc_stream.cli.analysis import analyse_graph, raise_problems
from megc_stream.cli.console import listed, note, report_json, say, warn
from megc_stream.cli.inputs import is_settings_file
from megc_stream.errors import OutputError, UsageError
from megc_stream.models import MeanModel, find_mean
from megc_stream.settings import load_settings

__all__ = ["bench_run"]

_TOLD_STOLEN_CORES = 0.02


def bench_run(
    sources: Sequence[str],
    *,
    paced: bool,
    fps: float | None,
    seconds: float | None,
    out: Path | None,
    config: Path | None,
    overrides: dict[str, Any],
    picture: Path | None,
    json_file: str | None,
) -> None:
    """Run the sources, at their own pace or as fast as possible, and print what it cost."""
    if len(sources) == 1 and config is None and is_settings_file(sources[0]):
        config, sources = Path(sources[0]), []
    least_s = latency_bench.LEFT_OUT_S + 1
    if seconds is not None and 0 < seconds < least_s:
        raise UsageError(
            f"bench: --seconds {seconds:g}: expected at least {least_s:g}, because the first "
            f"{latency_bench.LEFT_OUT_S:g} s after the first score count for nothing"
        )
    if picture is not None and picture.suffix.lower() != ".svg":
        raise UsageError(f"--picture {picture}: expected a name that ends with .svg, which is what is drawn")
    for file in (json_file if json_file != "-" else None, picture):
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise UsageError(f"{file}: no folder {Path(file).parent}; make it first")
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="megc-bench-"))) / "results"
        capture = {"fps": fps, "speed": 1.0 if paced else 0.0, "max_seconds": seconds}
        named: dict[str, Any] = {"source": sources[0]} if len(sources) == 1 else {}
        if len(sources) > 1:
            named = {"sources": [{"name": f"s{n}", "source": source} for n, source in enumerate(sources)]}
        settings = load_settings(config, {**overrides, **named, "capture": capture, "output": {"folder": folder}})
        if settings.pipeline.runner != "embedded":
            raise UsageError("bench: measures one process; leave pipeline.runner at 'embedded'")
        of = ", ".join(sources) or str(config)
        note(f"running {of} {'at its own pace' if paced else 'as fast as it goes'}")
        probe = LatencyProbe()
        analyses = analyse_graph(settings, sinks=[probe], warn=warn)
        raise_problems(analyses, kept=out is not None)
        info = MeanModel(find_mean(settings.model.name)).info
        late = [analysis.late for analysis in analyses if analysis.late is not None]
        result = probe.result(
            late=sum(late) if late else None,
            late_by_reason=dict(sum((Counter(analysis.late_by_reason) for analysis in analyses), Counter[str]())),
            stopped=any(analysis.end.reason == "stopped" for analysis in analyses),
            k_s=settings.spotting.k_s or info.k_s,
            k_prime_s=settings.spotting.k_prime_s or info.k_prime_s,
            whole_video=settings.spotting.mode == "video",
        )
    report_json(json_file, msgspec.to_builtins(result))
    if picture is not None:
        _write(picture, histogram_svg(probe.latencies_s(), ", ".join(result.sources), result.machine))
    if json_file != "-":
        _print(result, paced)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror}); change --picture") from error


def _print(result: LatencyBench, paced: bool) -> None:
    versions = ", ".join(f"{name} {result.versions[name]}" for name in ("megc_stream", "numba", "numpy"))
    calibration = f"calibration loop {result.calibration_ms:.2f} ms, {result.calibration_in_run_ms:.2f} during the run"
    say(f"{result.machine}, {result.cores} cores; {versions}; {calibration}")
    for source in result.sources:
        say(f"  {source}")
    losses = listed(result.dropped_by_reason)
    say(
        f"{result.frames} frames of {result.seconds:.1f} s: {result.fps_in:.1f} frames/s in, "
        f"{result.fps_out:.1f} scores/s out, {result.dropped} dropped{f' ({losses})' if losses else ''}"
        + (f", {result.late} late by more than 50 ms" if result.late is not None else "")
        + (f" ({listed(result.late_by_reason)})" if result.late_by_reason else "")
        + ("" if paced else f"; {result.times_real_time:.1f} x real time")
        + (" (stopped early)" if result.stopped else "")
    )
    say()
    say(f"  {'ms':24}{'p50':>10}{'p95':>10}{'p99':>10}{'max':>10}")
    rows = {"capture to score": result.capture_to_score_ms, **result.stages_ms} if paced else result.stages_ms
    for name, row in rows.items():
        say(f"  {name:24}{row.p50:10.2f}{row.p95:10.2f}{row.p99:10.2f}{row.max:10.2f}")
    say()
    threads = ", ".join(f"{name} {share:.2f}" for name, share in result.cpu_cores_by_thread.items() if share >= 0.005)
    say(f"CPU {result.cpu_cores:.2f} cores ({threads}), {result.cpu_ms_per_frame:.2f} ms a frame")
    if result.stolen_cores is not None and result.stolen_cores >= _TOLD_STOLEN_CORES:
        say(f"the host of this virtual machine gave {result.stolen_cores:.2f} cores to others meanwhile")
    say(f"memory {result.rss_mb:.0f} MB at most, {result.rss_growth_mb:+.1f} MB from start to end")
    say(f"first score {result.first_score_s:.2f} s after the start of the program")
    ahead = result.lookahead
    if ahead is None:
        say(f"no look-ahead of the method in {result.lookahead_reason}")
        return
    say(
        f"look-ahead of the method, not in these figures: {ahead.total:.3f} s "
        f"(pair k {ahead.pair:.3f}, smoothing {ahead.smoothing:.3f}, peak {ahead.peak:.3f})"
    )
