"""``megc-stream run``."""

from __future__ import annotations

import re
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from megc_stream.cli.analysis import Analysis, analyse_graph, raise_problems
from megc_stream.cli.console import note, report_json, say, warn
from megc_stream.cli.progress import CountProgress, RunProgress
from megc_stream.errors import UsageError
from megc_stream.output.report_chart import TruthInterval
from megc_stream.pipeline import Sink
from megc_stream.records import Crop, Record
from megc_stream.settings import Settings

__all__ = ["analyse_with_progress", "parse_speed", "run_command", "show"]

_SPEEDS = {"native": 1.0, "max": 0.0}
_PATIENCE_S = 5.0
_STARTING = "still starting; the first run of an installation compiles its kernels, which takes up to a minute"


def parse_speed(text: str | None) -> float | None:
    """Return the value of ``capture.speed`` that ``--speed`` asks for; None where it says nothing."""
    if text is None:
        return None
    if text in _SPEEDS:
        return _SPEEDS[text]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x", text)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--speed {text}: expected native, max, or a factor such as 2x")
    return float(match[1])


def analyse_with_progress(settings: Settings, truth: list[TruthInterval] | None = None) -> Analysis:
    """Run the analysis of one source with a bar, and print its warnings."""
    analyses = _with_progress(settings, truth)
    raise_problems(analyses)
    return analyses[0]


def _with_progress(settings: Settings, truth: list[TruthInterval] | None) -> list[Analysis]:
    import cv2

    # One core a stream: OpenCV's own threads would compete with the other stages.
    cv2.setNumThreads(1)
    with CountProgress("analysing") as progress:
        starting = threading.Timer(_PATIENCE_S, progress.line, [_STARTING])
        starting.daemon = True
        starting.start()
        sinks = [RunProgress(progress, settings.capture.max_seconds), _AtFirstFrame(starting.cancel)]
        try:
            return analyse_graph(
                settings, sinks=sinks, truth=truth, warn=lambda text: progress.line(f"warning: {text}")
            )
        finally:
            starting.cancel()


class _AtFirstFrame(Sink):
    """Calls ``then`` when a frame was analysed."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then: Callable[[], None] | None = then

    def write(self, record: Record) -> None:
        if self._then is not None and isinstance(record, Crop):
            self._then()
            self._then = None


def run_command(settings: Settings, *, open_report: bool, json_file: str | None) -> None:
    """Analyse and report; see :func:`megc_stream.cli.app.run`."""
    embedded = settings.pipeline.runner == "embedded"
    analyses = _with_progress(settings, None) if embedded else analyse_graph(settings)
    whole = [analysis for analysis in analyses if not analysis.problem]
    for analysis in whole:
        named = f"{analysis.name}: " if analysis.name else ""
        stopped = " (stopped early)" if analysis.end.reason == "stopped" else ""
        lost = f", {sum(analysis.dropped.values())} lost" if analysis.dropped else ""
        note(f"{named}{analysis.end.frames} frames{lost}{stopped}, {len(analysis.events)} expressions found")
    summaries = [_summary(analysis) for analysis in analyses]
    report_json(json_file, {"sources": summaries} if settings.sources else summaries[0])
    for analysis in whole:
        report = Path(analysis.folder) / "report.html"
        if json_file != "-":
            say(str(report))
        if open_report:
            show(report)
    raise_problems(analyses)


def show(report: Path) -> None:
    """Open a report in the user's browser."""
    if not webbrowser.open(report.resolve().as_uri()):
        warn(f"no browser could be opened; open {report} yourself")


def _summary(analysis: Analysis) -> dict[str, object]:
    return {
        "folder": analysis.folder,
        "report": str(Path(analysis.folder) / "report.html"),
        "source": analysis.info.source,
        "frames": analysis.end.frames,
        "fps": analysis.info.fps,
        "end": analysis.end.reason,
        "problem": analysis.problem,
        "dropped": analysis.dropped,
        "late": analysis.late,
        "late_by_reason": analysis.late_by_reason,
        "warnings": list(analysis.warnings),
        "events": [
            {
                "onset": event.onset.number,
                "apex": event.apex.number if event.apex else None,
                "offset": event.offset.number if event.offset else None,
                "onset_s": event.onset.t_s,
                "type": event.type,
                "emotion": event.emotion,
                "score": event.score,
            }
            for event in analysis.events
        ],
    }
