"""What the runs over a data set found, read from their folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from megc_stream.comparison.corpus import Corpus
from megc_stream.errors import DataError
from megc_stream.evaluation import Interval, IntervalRow
from megc_stream.evaluation.labels import COARSE_OF
from megc_stream.output.run_folder import EVENTS, RUN
from megc_stream.output.run_record import RunRecord
from megc_stream.output.tables import is_confirmed
from megc_stream.records import Event

__all__ = ["Detections", "merge_detections", "read_detections"]


class Detections(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the recordings of one data set.

    Parameters
    ----------
    rows
        Found expressions with apex and confidence, by subject, video and onset; the emotion is one of the three coarse
        ones, or "" where none was named.
    k_prime
        k' in frames of each recording that was analysed to its end, by (subject, video).
    failed
        Recordings, as (subject, video), that were not.
    dropped
        Number of found expressions left out because they were named others or neutral: a submission has no such row.
    """

    rows: tuple[IntervalRow, ...]
    k_prime: dict[tuple[str, str], int]
    failed: tuple[tuple[str, str], ...]
    dropped: int


def read_detections(folder: Path, corpus: Corpus, sha256: str | None = None) -> Detections:
    """Read the results of all complete runs below a folder that are of recordings of the corpus.

    Parameters
    ----------
    folder
        Where ``megc-stream batch`` put them, or any folder above.
    corpus
        Runs of other recordings are passed over.
    sha256
        Pass over runs of any other model; None takes all.

    Raises
    ------
    DataError
        A complete run has no legible event log, or a recording was analysed twice.
    """
    rows: list[IntervalRow] = []
    k_prime: dict[tuple[str, str], int] = {}
    folders: dict[tuple[str, str], Path] = {}
    dropped = 0
    for path in sorted(folder.rglob(RUN)):
        record = _read_record(path)
        if record is None or record.source is None or record.k_prime is None:
            continue
        key = record.source.subject, record.source.video
        if key not in corpus.recordings or (sha256 is not None and sha256 not in record.checksums.values()):
            continue
        if key in folders:
            raise DataError(f"{path.parent}: recording {key[1]} is also in {folders[key]}; keep one of the two folders")
        folders[key] = path.parent
        k_prime[key] = record.k_prime
        for event in _read_events(path.parent / EVENTS):
            emotion = COARSE_OF.get(event.emotion or "", event.emotion or "")
            if emotion in ("others", "neutral"):
                dropped += 1
                continue
            assert event.offset is not None
            rows.append(
                IntervalRow(
                    interval=Interval(key[0], key[1], event.onset.number, event.offset.number, emotion),
                    row=0,
                    apex=None if event.apex is None else event.apex.number,
                    fps=corpus.recordings[key],
                    score=event.score,
                )
            )
    return _detections(corpus, rows, k_prime, dropped)


def merge_detections(corpus: Corpus, parts: Sequence[Detections]) -> Detections:
    """Return the detections of several models, each of which analysed other recordings of the corpus."""
    return _detections(
        corpus,
        [row for part in parts for row in part.rows],
        {key: value for part in parts for key, value in part.k_prime.items()},
        sum(part.dropped for part in parts),
    )


def _detections(
    corpus: Corpus, rows: Iterable[IntervalRow], k_prime: Mapping[tuple[str, str], int], dropped: int
) -> Detections:
    return Detections(
        rows=tuple(sorted(rows, key=lambda row: row.interval)),
        k_prime=dict(sorted(k_prime.items())),
        failed=tuple(sorted(key for key in corpus.recordings if key not in k_prime)),
        dropped=dropped,
    )


def _read_record(path: Path) -> RunRecord | None:
    """Return the record of a complete run; None for any other file of that name."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except (OSError, msgspec.DecodeError):
        return None
    return record if record.status == "complete" else None


def _read_events(path: Path) -> list[Event]:
    """Return the last revision of each event that was not retracted."""
    last: dict[str, Event] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected the event log of a run") from error
    for row, line in enumerate(lines, start=1):
        try:
            event = msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}, row {row}: not an event ({error}); run this recording again") from error
        last[event.event_id] = event
    return [event for event in last.values() if is_confirmed(event)]
