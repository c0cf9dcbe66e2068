"""``megc-stream demo``: a clip with known micro-expressions, analysed, and an honest account of the result."""

from __future__ import annotations

from pathlib import Path

import msgspec

from megc_stream.cli.console import note, report_json, say
from megc_stream.cli.progress import CountProgress
from megc_stream.cli.run import analyse_with_progress, show
from megc_stream.errors import UsageError
from megc_stream.evaluation import Comparison, Interval, compare_with_truth, spotting_score
from megc_stream.output.report_chart import TruthInterval
from megc_stream.settings import load_settings
from megc_stream.synthesis import read_truth, synth_clip

__all__ = ["demo_command"]

_EVENTS = 6


def demo_command(out: Path, *, fps: float, seconds: float, seed: int, open_report: bool, json_file: str | None) -> None:
    """Render, analyse and compare; see :func:`megc_stream.cli.app.demo`."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; expected a folder for the clip and the results")
    clip = out / "astronaut_demo.mp4"
    if out.is_dir() and any(out.iterdir()) and not clip.is_file():
        raise UsageError(f"--out {out}: holds other files; expected a new folder, or that of an earlier demo")
    out.mkdir(parents=True, exist_ok=True)
    note(f"making a clip of {seconds:g} s at {fps:g} frames per second with known micro-expressions: {clip}")
    with CountProgress("rendering") as progress:
        synth_clip(clip, None, fps=fps, seconds=seconds, events=_EVENTS, seed=seed, overwrite=True, progress=progress)
    rows = read_truth(clip.with_suffix(".csv"))
    planted = [Interval(row.subject, row.video, row.onset, row.offset, row.emotion) for row in rows]
    settings = load_settings(
        None, {"source": str(clip), "output": {"folder": out / "results", "overwrite": True, "with_images": True}}
    )
    analysis = analyse_with_progress(
        settings, [TruthInterval(onset=row.onset, offset=row.offset, emotion=row.emotion) for row in rows]
    )
    found = [
        Interval(event.subject, event.video, event.onset.number, event.offset.number, event.emotion or "")
        for event in analysis.events
        if event.offset is not None
    ]
    comparison = compare_with_truth(found, planted)
    _tell(comparison, fps)
    report = Path(analysis.folder) / "report.html"
    report_json(json_file, {"report": str(report), **msgspec.to_builtins(spotting_score(comparison))})
    if json_file != "-":
        say(f"report: {report}")
    if open_report:
        show(report)


def _tell(comparison: Comparison, fps: float) -> None:
    """Say what was found, missed and invented, one line each."""
    planted = len(comparison.found) + len(comparison.missed)
    say(
        f"planted {planted}: found {len(comparison.found)}, missed {len(comparison.missed)}; "
        f"invented {len(comparison.invented)}"
    )
    lines = [
        (match.truth.onset, f"found     {_line(match.truth, fps)}, named {match.found.emotion or 'nothing'}")
        for match in comparison.found
    ]
    lines += [(interval.onset, f"missed    {_line(interval, fps)}") for interval in comparison.missed]
    lines += [(interval.onset, f"invented  {_line(interval, fps)}") for interval in comparison.invented]
    for _, line in sorted(lines):
        say(f"  {line}")


def _line(interval: Interval, fps: float) -> str:
    return (
        f"{interval.onset / fps:6.2f} to {interval.offset / fps:6.2f} s  "
        f"({interval.offset - interval.onset + 1} frames)  {interval.emotion or 'no emotion'}"
    )
