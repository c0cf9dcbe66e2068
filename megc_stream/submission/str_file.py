"""The submission file of the spot-then-recognise task: written from the folders of runs, and checked.

One CSV file a data set, header ``subject,video,onset,offset,emotion``, native frame numbers, both borders included;
``emotion`` is negative, positive or surprise. Rows of other emotions are allowed, but the score leaves them out of the
analysis and counts them as false positives of spotting: they are dropped unless asked for.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from megc_stream.errors import DataError
from megc_stream.evaluation.labels import COARSE, COARSE_OF
from megc_stream.evaluation.tables import INTERVAL_COLUMNS, read_csv, read_intervals, read_text, shown, whole_number
from megc_stream.output.run_folder import INTERVALS, RUN, SCORES
from megc_stream.submission.problems import Problem
from megc_stream.submission.videos import VideoList, list_of

__all__ = ["Collected", "StrRow", "check_str_file", "collect_runs", "format_str_file"]

_LABELS = (*COARSE, "others")


class StrRow(msgspec.Struct, frozen=True, order=True):
    """One row of a submission file."""

    subject: str
    video: str
    onset: int
    offset: int
    emotion: str


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What the runs found, ready to be written, and what is wrong with it.

    ``videos`` are all that a run was found of, ``frames`` the first and last frame number where they are known,
    ``dropped`` counts rows left out by emotion, ``ignored`` runs of videos that are not on the list.
    """

    rows: tuple[StrRow, ...]
    videos: tuple[str, ...]
    frames: dict[str, tuple[int, int]]
    dropped: dict[str, int]
    ignored: tuple[str, ...]
    problems: tuple[Problem, ...]


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    folder: Path
    video: str | None
    status: str
    frames: tuple[int, int] | None


def collect_runs(folder: Path, listed: VideoList | None, *, keep_others: bool = False) -> Collected:
    """Collect the intervals of all runs below a folder; finer emotions become the three classes.

    Parameters
    ----------
    folder
        A folder of results of ``megc-stream run``, or any folder above such folders.
    listed
        The videos wanted: each must have been run, others are ignored. None takes all; if they are all of one known
        test set, that set is wanted whole.
    keep_others
        Keep rows whose emotion is others.

    Raises
    ------
    DataError
        There is no result below the folder.
    """
    runs, problems = _find_runs(folder)
    if not runs and not problems:
        raise DataError(
            f"{folder}: no {INTERVALS} in it or below; expected folders of 'megc-stream run' or 'megc-stream batch'"
        )
    rows: list[StrRow] = []
    frames: dict[str, tuple[int, int]] = {}
    seen: dict[str, Path] = {}
    dropped: dict[str, int] = {}
    ignored: list[str] = []
    read = []
    for run in runs:
        try:
            intervals = read_intervals(run.folder / INTERVALS)
        except DataError as error:
            problems.append(
                Problem(file=str(run.folder / INTERVALS), message=_without_file(error, run.folder / INTERVALS))
            )
            continue
        videos = {interval.video for interval in intervals} | ({run.video} if run.video else set())
        read.append((run, intervals, videos))
    listed = listed or list_of({video for _, _, videos in read for video in videos})
    for run, intervals, videos in read:
        if listed is not None and videos and not videos & set(listed.videos):
            ignored.append(str(run.folder))
            continue
        if run.status not in ("", "complete"):
            problems.append(
                Problem(file=str(run.folder / RUN), column="status", message=f"the run is {run.status}; run it again")
            )
        for video in sorted(videos):
            if video in seen:
                problems.append(
                    Problem(
                        file=str(run.folder / INTERVALS),
                        column="video",
                        message=f"{shown(video)} was run twice, also in {seen[video]}; keep one",
                    )
                )
            seen[video] = run.folder
            if listed is not None and video in listed.frames:
                frames[video] = listed.frames[video]
            elif run.frames is not None and video == run.video:
                frames[video] = run.frames
        for interval in intervals:
            emotion = COARSE_OF.get(interval.emotion, interval.emotion)
            if emotion == "neutral" or (emotion == "others" and not keep_others):
                dropped[emotion] = dropped.get(emotion, 0) + 1
            else:
                rows.append(StrRow(interval.subject, interval.video, interval.onset, interval.offset, emotion))
    if listed is not None:
        problems += [
            Problem(
                file=str(folder),
                column="video",
                message=f"{video} of {listed.name} is missing: no run of it",
                missing=True,
            )
            for video in listed.videos
            if video not in seen
        ]
    order = {video: position for position, video in enumerate(listed.videos if listed else ())}
    rows.sort(key=lambda row: (order.get(row.video, len(order)), row))
    return Collected(
        rows=tuple(rows),
        videos=tuple(seen),
        frames=frames,
        dropped=dropped,
        ignored=tuple(ignored),
        problems=tuple(problems),
    )


def format_str_file(rows: Sequence[StrRow]) -> str:
    """Return the text of a submission file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INTERVAL_COLUMNS)
    writer.writerows(msgspec.structs.astuple(row) for row in rows)
    return text.getvalue()


def check_str_file(
    path: Path,
    listed: VideoList | None = None,
    *,
    frames: Mapping[str, tuple[int, int]] | None = None,
    empty: Sequence[str] = (),
) -> list[Problem]:
    """Return everything that is wrong with a submission file.

    Parameters
    ----------
    path
        The file.
    listed
        The videos it must have; None takes the known test set that all its videos are of, if there is one.
    frames
        First and last frame number by video, beside those of ``listed``.
    empty
        Videos that may be missing, because nothing was found in them.
    """
    file = str(path)
    try:
        header = next(csv.reader(io.StringIO(read_text(path, "a submission file"))), [])
        table = read_csv(path, INTERVAL_COLUMNS)
    except DataError as error:
        return [Problem(file=file, message=_without_file(error, path))]
    except csv.Error as error:
        return [Problem(file=file, row=1, message=f"not a CSV table ({error})")]
    problems = []
    if tuple(header) != INTERVAL_COLUMNS:
        problems.append(
            Problem(
                file=file,
                row=1,
                message=f"columns are {shown(','.join(header))}; expected exactly {','.join(INTERVAL_COLUMNS)}",
            )
        )
    videos = {cells["video"] for _, cells in table}
    listed = listed or list_of(videos)
    ranges = {**(frames or {}), **(listed.frames if listed else {})}
    seen: dict[tuple[str, ...], int] = {}
    for row, cells in table:
        problems += _check_row(file, row, cells, listed, ranges)
        key = tuple(cells[column] for column in INTERVAL_COLUMNS[:4])
        if key in seen:
            problems.append(Problem(file=file, row=row, message=f"the same interval as in row {seen[key]}"))
        seen.setdefault(key, row)
    if listed is not None:
        problems += [
            Problem(
                file=file,
                column="video",
                message=f"{video} of {listed.name} is missing: no row (--allow-missing if nothing was found in it)",
                missing=True,
            )
            for video in listed.videos
            if video not in videos and video not in empty
        ]
    elif not table:
        problems.append(Problem(file=file, message="holds no row below the header", level="warning"))
    return problems


def _check_row(
    file: str,
    row: int,
    cells: Mapping[str, str],
    listed: VideoList | None,
    frames: Mapping[str, tuple[int, int]],
) -> list[Problem]:
    def problem(column: str, expected: str) -> Problem:
        return Problem(file=file, row=row, column=column, message=f"got '{shown(cells[column])}'; expected {expected}")

    problems = [problem(column, "a name") for column in ("subject", "video") if not cells[column]]
    video = cells["video"]
    if listed is not None and video and video not in listed.videos:
        problems.append(problem("video", f"a video of {listed.name}, e.g. {listed.videos[0]}"))
    numbers = {column: whole_number(cells[column]) for column in ("onset", "offset")}
    for column, number in numbers.items():
        if number is None:
            problems.append(problem(column, "a whole frame number, 0 or more"))
        elif video in frames and not frames[video][0] <= number <= frames[video][1]:
            problems.append(problem(column, f"{frames[video][0]} to {frames[video][1]}, the frames of {video}"))
    onset, offset = numbers["onset"], numbers["offset"]
    if onset is not None and offset is not None and offset < onset:
        problems.append(problem("offset", f"at least the onset, {onset}"))
    if cells["emotion"] not in _LABELS:
        problems.append(problem("emotion", f"{', '.join(_LABELS[:-1])} or {_LABELS[-1]}, in lower case"))
    return problems


def _find_runs(folder: Path) -> tuple[list[_Run], list[Problem]]:
    """Return the runs below a folder; tables without a run's record count only where no record is."""
    problems: list[Problem] = []
    tables = sorted(path.parent for path in folder.rglob(INTERVALS))
    recorded = [place for place in tables if (place / RUN).is_file()]
    problems += [
        Problem(file=str(path.parent), message=f"holds {RUN}, but no {INTERVALS}; run it again")
        for path in sorted(folder.rglob(RUN))
        if path.parent not in tables
    ]
    runs = []
    for place in recorded or tables:
        try:
            runs.append(_read_run(place) if recorded else _Run(folder=place, video=None, status="", frames=None))
        except DataError as error:
            problems.append(Problem(file=str(place / RUN), message=_without_file(error, place / RUN)))
    return runs, problems


def _read_run(folder: Path) -> _Run:
    path = folder / RUN
    text = read_text(path, "the record of a run")
    try:
        record: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"{path}: not the record of a run ({error}); run it again") from error
    source = record.get("source") if isinstance(record, dict) else None
    if not isinstance(source, dict) or not isinstance(source.get("video"), str):
        raise DataError(f"{path}: does not say which video was run; expected the record of a run; run it again")
    status = record.get("status")
    return _Run(
        folder=folder,
        video=source["video"],
        status=status if isinstance(status, str) else "unknown",
        frames=_frame_range(folder / SCORES, source.get("frames"), record.get("k")),
    )


def _frame_range(scores: Path, count: object, k: object) -> tuple[int, int] | None:
    """Return the first and last frame number of a run's video as its table of scores tells them; None if it cannot."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not scores.is_file():
        return None
    try:
        table = pq.read_table(scores, columns=["frame", "number"])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{scores}: cannot be read ({str(error).splitlines()[0]}); run it again") from error
    if not len(table):
        return None
    first = table["number"][0].as_py() - table["frame"][0].as_py()
    last = table["number"][len(table) - 1].as_py()
    # The last score belongs to the pair whose second picture is the last, k frames on.
    by_pairs = last + k if isinstance(k, int) else last
    return first, max(by_pairs, first + count - 1) if isinstance(count, int) else by_pairs


def _without_file(error: DataError, path: Path) -> str:
    return str(error).removeprefix(str(path)).lstrip(":,/ ")
