"""Folders of runs as ``megc-stream batch`` leaves them, without an analysis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from megc_stream.output.event_log import EventLog
from megc_stream.output.run_folder import EVENTS, INTERVALS, REPORT, RUN, SCORES
from megc_stream.output.run_record import RunRecord, environment, write_run_record
from megc_stream.output.tables import IntervalTable
from megc_stream.records import Event, EventPoint, StreamInfo
from megc_stream.settings import Settings

SHA256 = "0" * 64


class Found(NamedTuple):
    """A detection: native frame numbers, emotion, confidence."""

    onset: int
    offset: int
    emotion: str = "negative"
    score: float = 0.5


def write_run(
    folder: Path,
    subject: str,
    video: str,
    found: Sequence[Found] = (),
    *,
    fps: float = 200.0,
    k_prime: int = 27,
    sha256: str = SHA256,
    settings: Settings | None = None,
    status: str = "complete",
) -> Path:
    """Write the five files of a run; the log also has an event that was retracted."""
    folder.mkdir(parents=True, exist_ok=True)
    info = StreamInfo(source=video, subject=subject, video=video, fps=fps, width=32, height=24)
    log, table = EventLog(folder / EVENTS), IntervalTable(folder / INTERVALS)
    for number, one in enumerate(found):
        event = Event(
            event_id=f"{video}-{number}",
            event_number=number,
            rev=2,
            kind="offset",
            final=False,
            source=video,
            subject=subject,
            video=video,
            decision_frame=one.offset,
            onset=_point(one.onset),
            apex=_point((one.onset + one.offset) // 2),
            offset=_point(one.offset),
            type="micro",
            score=one.score,
            threshold=0.1,
            model="stub",
            model_sha256=sha256,
            k=20,
            k_prime=k_prime,
            lookahead_s=0.1,
        )
        log.write(event)
        label = msgspec.structs.replace(event, rev=3, kind="label", final=True, emotion=one.emotion)
        log.write(label)
        table.add(label)
        log.write(
            msgspec.structs.replace(event, event_id=f"{video}-no-{number}", kind="retracted", final=True, offset=None)
        )
    log.close()
    table.close()
    (folder / SCORES).write_bytes(b"")
    (folder / REPORT).write_text("<html></html>")
    write_run_record(
        folder / RUN,
        RunRecord(
            status=status,  # type: ignore[arg-type]
            error="",
            started="",
            wall_s=0.0,
            environment=environment(),
            settings=(settings or Settings()).model_dump(mode="json"),
            source=info,
            end=None,
            model="stub",
            checksums={"stub.onnx": sha256},
            k=20,
            k_prime=k_prime,
            counts={},
            flags={},
            dropped={},
            late=None,
            fps_out=None,
            timings={},
        ),
    )
    return folder


def _point(number: int) -> EventPoint:
    return EventPoint(frame=number, number=number, t_s=number / 200)
