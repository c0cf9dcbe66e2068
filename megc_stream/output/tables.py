"""The two tables of a run: ``intervals.csv`` (what was found) and ``scores.parquet`` (what was measured)."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from megc_stream.errors import OutputError
from megc_stream.output._files import LineFile, writing
from megc_stream.output.arrow_columns import floats, integers, string_lists, strings
from megc_stream.records import Annotation, Event, Score, Trace

__all__ = ["AnnotationTable", "IntervalTable", "ScoreTable", "is_confirmed", "is_settled"]

_ROW_GROUP = 2000


def is_confirmed(event: Event) -> bool:
    """Return whether this revision is the last word on an event that was not retracted and has an end."""
    return event.final and event.kind != "retracted" and event.offset is not None


def is_settled(event: Event) -> bool:
    """Return whether this revision is the one of an event that settles where it is and what it is called: its label,
    which answers may follow, or the last one where nothing is labelled."""
    return event.offset is not None and (event.kind == "label" or (is_confirmed(event) and event.kind != "answer"))


class IntervalTable:
    """``intervals.csv``: ``subject,video,onset,offset,emotion`` in native frame numbers, inclusive, one row an event.

    A row is on its way to the disk when :meth:`add` returns. An event without an emotion has an empty last column.

    Raises
    ------
    OutputError
        The file cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path)
        try:
            self._write("subject", "video", "onset", "offset", "emotion")
        except OutputError:
            self._file.close()
            raise

    def add(self, event: Event) -> None:
        """Append the event if it :func:`is_settled`; other revisions are passed over."""
        if is_settled(event) and event.offset is not None:
            self._write(event.subject, event.video, event.onset.number, event.offset.number, event.emotion or "")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def _write(self, *cells: str | int) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        self._file.write(line.getvalue().encode())


class AnnotationTable:
    """``annotations.csv``: ``frame,t_capture_s,text,author``, one row a remark; made with the first one.

    Raises
    ------
    OutputError
        The file cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: LineFile | None = None

    def add(self, annotation: Annotation) -> None:
        """Append a remark."""
        if self._file is None:
            self._file = LineFile(self._path)
            self._file.write(b"frame,t_capture_s,text,author\n")
        cells = (annotation.frame, repr(annotation.t_capture_s), annotation.text, annotation.author)
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        self._file.write(line.getvalue().encode())

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()


class ScoreTable:
    """``scores.parquet``: one row a score, joined by frame with the smoothed score and threshold that follow later.

    Columns: frame, number (int64), t_s, spot, smoothed, threshold (float64; null where there is none), reason (string),
    flags (list of strings), recog_<class> (float64; null where not scored). Rows are written in groups of 2000, as soon
    as a trace at or after their last frame has come (traces come in order of frames), at the latest after
    ``trace_delay_frames``; so memory does not grow with the length of the stream. The file is readable once closed.

    Parameters
    ----------
    path
        The file.
    classes
        Emotions in the order of ``Score.recog``.
    metadata
        Kept in the schema, e.g. version, source, model, sha256, k, k_prime, fps.
    trace_delay_frames
        How long rows may wait for their traces; None waits to the end (whole-video mode; about 100 bytes a row).

    Raises
    ------
    OutputError
        The file cannot be created or written.
    """

    def __init__(
        self, path: Path, classes: Sequence[str], metadata: Mapping[str, str], *, trace_delay_frames: int | None
    ) -> None:
        self._path = path
        self._classes = tuple(classes)
        self._trace_delay_frames = trace_delay_frames
        self._schema = pa.schema(
            [
                ("frame", pa.int64()),
                ("number", pa.int64()),
                ("t_s", pa.float64()),
                ("spot", pa.float64()),
                ("smoothed", pa.float64()),
                ("threshold", pa.float64()),
                ("reason", pa.string()),
                ("flags", pa.list_(pa.string())),
                *((f"recog_{name}", pa.float64()) for name in self._classes),
            ],
            metadata=dict(metadata),
        )
        self._rows: list[tuple[float | None, Score]] = []
        self._groups: deque[tuple[list[int], Any]] = deque()  # frames and table of groups that wait for their traces
        self._traces: dict[int, Trace] = {}
        self._written_to = -1
        with writing(path):
            self._file = path.open("wb")
            self._writer: Any = pq.ParquetWriter(self._file, self._schema, compression="zstd")

    def add(self, score: Score, t_s: float | None) -> None:
        """Append a score; ``t_s`` is the time of ``score.frame`` in the source, None where unknown.

        ``recog`` must be empty or have one value for each class.
        """
        self._rows.append((t_s, score))
        if len(self._rows) >= _ROW_GROUP:
            self._form_group()
            if self._trace_delay_frames is not None:
                self._write_groups(score.frame - self._trace_delay_frames)

    def add_trace(self, trace: Trace) -> None:
        """Join the smoothed score and threshold with the row of the same frame; passed over if that row has gone."""
        if trace.frame > self._written_to:
            self._traces[trace.frame] = trace
            self._write_groups(trace.frame)

    def close(self) -> None:
        """Write what is left and close the file, whatever fails; a second call does nothing."""
        if self._file.closed:
            return
        with writing(self._path):
            try:
                if self._rows:
                    self._form_group()
                self._write_groups(None)
            finally:
                try:
                    self._writer.close()
                finally:
                    self._file.close()

    def _form_group(self) -> None:
        rows, self._rows = self._rows, []
        scores = [score for _, score in rows]
        frames = [score.frame for score in scores]
        later = floats([None] * len(rows))  # smoothed score and threshold
        columns = [
            integers(frames),
            integers([score.number for score in scores]),
            floats([t_s for t_s, _ in rows]),
            floats([score.spot for score in scores]),
            later,
            later,
            strings([score.reason for score in scores]),
            string_lists([score.flags for score in scores]),
            *(
                floats([score.recog[index] if score.recog else None for score in scores])
                for index in range(len(self._classes))
            ),
        ]
        self._groups.append((frames, pa.Table.from_arrays(columns, schema=self._schema)))

    def _write_groups(self, to_frame: int | None) -> None:
        while self._groups and (to_frame is None or self._groups[0][0][-1] <= to_frame):
            frames, group = self._groups.popleft()
            traces = [self._traces.pop(frame, None) for frame in frames]
            for name, values in (
                ("smoothed", [trace.smoothed if trace else None for trace in traces]),
                ("threshold", [trace.threshold if trace else None for trace in traces]),
            ):
                position = self._schema.get_field_index(name)
                group = group.set_column(position, self._schema.field(name), floats(values))
            self._written_to = frames[-1]
            # A trace may lack its score, e.g. within a gap: it must not stay behind.
            self._traces = {frame: trace for frame, trace in self._traces.items() if frame > self._written_to}
            with writing(self._path):
                self._writer.write_table(group)
