"""Exports of a recording: its events as JSON lines, CSV, Parquet, ELAN annotations or WebVTT subtitles."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from megc_stream.errors import DataError, UsageError, WireError
from megc_stream.output._files import write_text, writing
from megc_stream.output.event_log import EventLog
from megc_stream.output.recording import RecordingReader
from megc_stream.output.tables import IntervalTable, is_settled
from megc_stream.records import Annotation, Event, EventPoint, StreamInfo
from megc_stream.wire.protocol import AnnotationMessage, EventMessage, Message, StreamMessage, decode

__all__ = ["EXPORTS", "Timeline", "export_recording", "read_timeline"]

_T = TypeVar("_T")
_REMARK_MS = 1000
_SHORTEST_MS = 1
_NEAR_S = 3600.0


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's remark, ``t_s`` after the zero of its source."""

    source: str
    t_s: float
    text: str


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording tells about events.

    ``revisions`` are all of them in the order of publication, ``events`` the last revision of each event that was found
    and named and not retracted, in the same order; ``remarks`` the operator's; ``zero_s`` is, by source,
    the time in events that exports with a time axis call 0: the beginning of a file, of a camera the moment when it
    was opened or, where that was not recorded, first seen. ``began_unix_s`` is Unix time at that moment, None for a
    file. ``unreadable`` messages were passed over.
    """

    revisions: tuple[Event, ...]
    events: tuple[Event, ...]
    remarks: tuple[Remark, ...]
    zero_s: dict[str, float]
    began_unix_s: dict[str, float]
    unreadable: int


def read_timeline(reader: RecordingReader) -> Timeline:
    """Read what a recording tells about events; messages that cannot be understood are counted."""
    revisions: list[Event] = []
    settled: dict[tuple[str, str], Event] = {}
    remarks: list[Annotation] = []
    begun_s: dict[str, float] = {}
    first_s: dict[str, float] = {}
    streams: dict[str, StreamInfo] = {}
    unreadable = 0
    for recorded in reader.messages():
        topic = recorded.parts[0] if recorded.parts else b""
        if not topic.startswith((b"event.", b"annotation.", b"meta.stream.", b"metric.face.")):
            continue
        try:
            message: Message = decode(recorded.parts)
        except WireError:
            unreadable += 1
            continue
        if message.t_capture_s is not None:
            first_s.setdefault(message.source, message.t_capture_s)
        match message:
            case EventMessage():
                revisions.append(message.event)
                key = (message.session, message.event.event_id)
                if message.event.kind == "retracted":
                    settled.pop(key, None)
                elif key in settled or is_settled(message.event):
                    settled[key] = message.event
            case AnnotationMessage():
                remarks.append(message.annotation)
            case StreamMessage():
                streams.setdefault(message.stream.source, message.stream)
                begun_s.setdefault(message.stream.source, message.t_publish_s)
    zero_s: dict[str, float] = {}
    began_unix_s: dict[str, float] = {}
    offset_s = reader.header.unix_minus_clock_s if reader.header is not None else 0.0
    for source in {event.source for event in revisions} | {remark.source for remark in remarks}:
        capture_s = first_s.get(source, 0.0)
        if streams[source].live if source in streams else _on_capture_clock(revisions, source, capture_s):
            zero_s[source] = begun_s.get(source, capture_s)
            began_unix_s[source] = zero_s[source] + offset_s
        else:
            zero_s[source] = 0.0
    return Timeline(
        revisions=tuple(revisions),
        events=tuple(settled.values()),
        remarks=tuple(
            Remark(
                source=remark.source,
                # In a file, the frame tells the time; the time of capture is that of the replay.
                t_s=remark.t_capture_s - (zero_s[remark.source] or first_s.get(remark.source, 0.0))
                if remark.source in began_unix_s or remark.source not in streams
                else remark.frame / streams[remark.source].fps,
                text=f"{remark.text} ({remark.author})" if remark.author else remark.text,
            )
            for remark in remarks
        ),
        zero_s=zero_s,
        began_unix_s=began_unix_s,
        unreadable=unreadable,
    )


def _on_capture_clock(revisions: Sequence[Event], source: str, capture_s: float) -> bool:
    """Return whether the times of events are capture times: then the first lies near that of the first frame."""
    first = next((event for event in revisions if event.source == source), None)
    return first is not None and abs(first.onset.t_s - capture_s) < _NEAR_S < capture_s


def export_recording(reader: RecordingReader, out: Path, *, overwrite: bool = False, media: str = "") -> int:
    """Write the events of a recording in the form that the suffix of ``out`` names; return how many.

    Parameters
    ----------
    out
        ``.jsonl``: all revisions, as in ``events.jsonl``; ``.csv``: intervals, as in ``intervals.csv``; ``.parquet``:
        one row an event; ``.eaf``: annotations for ELAN; ``.vtt``: subtitles.
    overwrite
        Replace ``out`` if it is there.
    media
        The video that the annotations of ELAN belong to: a path or URL.

    Raises
    ------
    UsageError
        The suffix is unknown, or the file is there already.
    DataError
        The recording holds no messages about events.
    OutputError
        The file cannot be written.
    """
    write = EXPORTS.get(out.suffix)
    if write is None:
        raise UsageError(f"{out}: suffix '{out.suffix}'; expected one of {', '.join(EXPORTS)}")
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is there already; choose another name, or --overwrite")
    timeline = read_timeline(reader)
    if timeline.unreadable and not timeline.revisions:
        raise DataError(f"{reader.path}: none of its {timeline.unreadable} messages about events can be understood")
    write(timeline, out, media)
    return len(timeline.revisions) if out.suffix == ".jsonl" else len(timeline.events)


def _write_jsonl(timeline: Timeline, out: Path, media: str) -> None:
    with contextlib.closing(EventLog(out)) as log:
        for event in timeline.revisions:
            log.write(event)


def _write_csv(timeline: Timeline, out: Path, media: str) -> None:
    with contextlib.closing(IntervalTable(out)) as table:
        for event in timeline.revisions:
            table.add(event)


def _write_parquet(timeline: Timeline, out: Path, media: str) -> None:
    point = pa.struct([("frame", pa.int64()), ("number", pa.int64()), ("t_s", pa.float64())])
    columns: list[tuple[str, Any, Callable[[Event], Any]]] = [
        ("event_id", pa.string(), lambda event: event.event_id),
        ("source", pa.string(), lambda event: event.source),
        ("subject", pa.string(), lambda event: event.subject),
        ("video", pa.string(), lambda event: event.video),
        ("type", pa.string(), lambda event: event.type),
        ("onset", point, lambda event: _point(event.onset)),
        ("apex", point, lambda event: _point(event.apex)),
        ("offset", point, lambda event: _point(event.offset)),
        ("emotion", pa.string(), lambda event: event.emotion),
        ("probabilities", pa.map_(pa.string(), pa.float64()), lambda event: sorted(event.probabilities.items())),
        ("aus", pa.list_(pa.string()), lambda event: list(event.aus)),
        ("answers", pa.map_(pa.string(), pa.string()), lambda event: [(a.question, a.answer) for a in event.answers]),
        ("score", pa.float64(), lambda event: event.score),
        ("threshold", pa.float64(), lambda event: event.threshold),
        ("flags", pa.list_(pa.string()), lambda event: list(event.flags)),
        ("model", pa.string(), lambda event: event.model),
        ("model_sha256", pa.string(), lambda event: event.model_sha256),
    ]
    schema = pa.schema([(name, kind) for name, kind, _ in columns])
    events = _by_onset(timeline)
    table = pa.table({name: [read(event) for event in events] for name, _, read in columns}, schema=schema)
    with writing(out, "choose another folder"):
        pq.write_table(table, out, compression="zstd")


def _by_onset(timeline: Timeline) -> list[Event]:
    return sorted(timeline.events, key=lambda event: (event.onset.t_s, event.source, event.event_number))


def _point(point: EventPoint | None) -> dict[str, Any] | None:
    return None if point is None else msgspec.structs.asdict(point)


def _write_vtt(timeline: Timeline, out: Path, media: str) -> None:
    blocks = ["WEBVTT", *_began(timeline)]
    several = len({event.source for event in timeline.events}) > 1
    for event in _by_onset(timeline):
        begin_ms, end_ms = _span_ms(event, timeline)
        who = f"{event.source}: " if several else ""
        lines = [
            _escaped(event.event_id),
            f"{_vtt_time(begin_ms)} --> {_vtt_time(end_ms)}",
            _escaped(who + _named(event)),
            *(_escaped(f"{answer.question} {answer.answer}") for answer in event.answers),
        ]
        blocks.append("\n".join(lines))
    write_text(out, "\n\n".join(blocks) + "\n")


def _began(timeline: Timeline) -> list[str]:
    return [
        f"NOTE 00:00:00.000 of {_escaped(source)} is {_iso(unix_s)}"
        for source, unix_s in sorted(timeline.began_unix_s.items())
    ]


def _vtt_time(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"


def _escaped(text: str) -> str:
    """Return one line of a cue: no markup, no arrow, no line break."""
    text = " ".join(text.split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _named(event: Event) -> str:
    """Return an event in a few words: ``micro, surprise (82%), AU 1+2``."""
    words: list[str] = [event.type or "expression"]
    if event.emotion is not None:
        share = event.probabilities.get(event.emotion)
        words.append(event.emotion if share is None else f"{event.emotion} ({share:.0%})")
    if event.aus:
        words.append(f"AU {'+'.join(event.aus)}")
    return ", ".join(words)


def _span_ms(event: Event, timeline: Timeline) -> tuple[int, int]:
    """Return onset and offset in whole milliseconds from the zero of the source, at least 1 ms long."""
    assert event.offset is not None
    zero_s = timeline.zero_s[event.source]
    begin_ms = max(0, round((event.onset.t_s - zero_s) * 1000))
    return begin_ms, max(begin_ms + _SHORTEST_MS, round((event.offset.t_s - zero_s) * 1000))


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


class _Eaf:
    """An ELAN document under construction."""

    def __init__(self, media: str) -> None:
        self.root = ET.Element(
            "ANNOTATION_DOCUMENT",
            {
                "AUTHOR": "megc-stream",
                "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
                "FORMAT": "3.0",
                "VERSION": "3.0",
                "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
                "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
            },
        )
        self.header = ET.SubElement(self.root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
        if media:
            url = media if "://" in media else Path(media).resolve().as_uri()
            kind = "video/mp4" if media.lower().endswith((".mp4", ".m4v", ".mov")) else "video/*"
            ET.SubElement(self.header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": url, "MIME_TYPE": kind})
        self.times = ET.SubElement(self.root, "TIME_ORDER")
        self._slots = self._annotations = 0

    def tier(self, name: str, kind: str, parent: str = "") -> ET.Element:
        place = {"PARENT_REF": parent} if parent else {}
        return ET.SubElement(self.root, "TIER", {"LINGUISTIC_TYPE_REF": kind, "TIER_ID": name} | place)

    def add(self, tier: ET.Element, text: str, begin_ms: int, end_ms: int) -> str:
        """Add an annotation with times of its own; return its id."""
        return self._add(
            tier,
            "ALIGNABLE_ANNOTATION",
            text,
            {"TIME_SLOT_REF1": self._slot(begin_ms), "TIME_SLOT_REF2": self._slot(end_ms)},
        )

    def refer(self, tier: ET.Element, text: str, to: str) -> None:
        """Add an annotation about another one."""
        self._add(tier, "REF_ANNOTATION", text, {"ANNOTATION_REF": to})

    def finish(self) -> str:
        for name, constraint in (("interval", ""), ("about an interval", "Symbolic_Association")):
            ET.SubElement(
                self.root,
                "LINGUISTIC_TYPE",
                {
                    "GRAPHIC_REFERENCES": "false",
                    "LINGUISTIC_TYPE_ID": name,
                    "TIME_ALIGNABLE": "false" if constraint else "true",
                }
                | ({"CONSTRAINTS": constraint} if constraint else {}),
            )
        ET.SubElement(
            self.root,
            "CONSTRAINT",
            {"DESCRIPTION": "1-1 association with a parent annotation", "STEREOTYPE": "Symbolic_Association"},
        )
        last = ET.SubElement(self.header, "PROPERTY", {"NAME": "lastUsedAnnotationId"})
        last.text = str(self._annotations)
        ET.indent(self.root)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(self.root, encoding="unicode") + "\n"

    def _slot(self, ms: int) -> str:
        self._slots += 1
        name = f"ts{self._slots}"
        ET.SubElement(self.times, "TIME_SLOT", {"TIME_SLOT_ID": name, "TIME_VALUE": str(ms)})
        return name

    def _add(self, tier: ET.Element, kind: str, text: str, place: dict[str, str]) -> str:
        self._annotations += 1
        name = f"a{self._annotations}"
        outer = ET.SubElement(ET.SubElement(tier, "ANNOTATION"), kind, {"ANNOTATION_ID": name} | place)
        # XML has no place for control characters, whatever a remark holds.
        ET.SubElement(outer, "ANNOTATION_VALUE").text = "".join(c if c.isprintable() else " " for c in text)
        return name


def _without_overlap(spans: Iterable[tuple[_T, int, int]]) -> list[list[tuple[_T, int, int]]]:
    """Deal spans (what, begin, end) out to as few rows as keep those of a row apart."""
    rows: list[list[tuple[_T, int, int]]] = []
    for span in sorted(spans, key=lambda span: span[1:]):
        row = next((row for row in rows if row[-1][2] <= span[1]), None)
        if row is None:
            rows.append([span])
        else:
            row.append(span)
    return rows


_EAF_TIERS: dict[str, Callable[[Event], str]] = {
    "emotion": lambda event: event.emotion or "",
    "action units": lambda event: "+".join(event.aus),
    "apex": lambda event: "" if event.apex is None else f"frame {event.apex.number}",
    "answers": lambda event: "; ".join(f"{answer.question} {answer.answer}" for answer in event.answers),
    "event": lambda event: event.event_id,
}


def _write_eaf(timeline: Timeline, out: Path, media: str) -> None:
    document = _Eaf(media)
    sources = sorted({event.source for event in timeline.events} | {remark.source for remark in timeline.remarks})
    for source in sources:
        mark = f" {source}" if len(sources) > 1 else ""
        events = [event for event in timeline.events if event.source == source]
        # The annotations of one tier must not overlap.
        for number, row in enumerate(_without_overlap([(event, *_span_ms(event, timeline)) for event in events])):
            suffix = f"{mark} {number + 1}" if number else mark
            tier = document.tier(f"expression{suffix}", "interval")
            names = [document.add(tier, event.type or "expression", begin, end) for event, begin, end in row]
            for title, read in _EAF_TIERS.items():
                below = document.tier(f"{title}{suffix}", "about an interval", f"expression{suffix}")
                for name, (event, _, _) in zip(names, row, strict=True):
                    if text := read(event):
                        document.refer(below, text, name)
        remarks = [remark for remark in timeline.remarks if remark.source == source]
        if remarks:
            begins_ms = [max(0, round(remark.t_s * 1000)) for remark in remarks]
            spans = [(remark, ms, ms + _REMARK_MS) for remark, ms in zip(remarks, begins_ms, strict=True)]
            for number, remark_row in enumerate(_without_overlap(spans)):
                tier = document.tier(f"remark{mark}" + (f" {number + 1}" if number else ""), "interval")
                for remark, begin, end in remark_row:
                    document.add(tier, remark.text, begin, end)
    write_text(out, document.finish())


EXPORTS: dict[str, Callable[[Timeline, Path, str], None]] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".eaf": _write_eaf,
    ".vtt": _write_vtt,
}
"""Forms of export by the suffix of the file."""
