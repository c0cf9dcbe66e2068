from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from megc_stream.clock import ManualClock
from megc_stream.errors import UsageError
from megc_stream.output.event_log import EventLog
from megc_stream.output.exports import export_recording, read_timeline
from megc_stream.output.recording import RecordingHeader, RecordingLoss, RecordingReader, RecordingWriter
from megc_stream.output.recording_summary import RecordingSummary, summarise
from megc_stream.output.tables import IntervalTable
from megc_stream.records import Annotation, Answer, Event, EventPoint, StreamInfo
from megc_stream.settings import WireSettings
from megc_stream.wire.protocol import topic_of
from megc_stream.wire.publisher import Publisher

MakeEvent = Callable[..., Event]
UNIX_S = 1_700_000_000.0


def labelled(make_event: MakeEvent, number: int, onset: int, offset: int, **fields: Any) -> list[Event]:
    """The revisions of one event."""
    named = {"emotion": "surprise", "probabilities": {"surprise": 0.75, "negative": 0.25}, "type": "micro"} | fields
    apex = (onset + offset) // 2
    same = {name: fields[name] for name in ("source", "event_id") if name in fields}
    return [
        make_event(number, 0, onset, **same),
        make_event(number, 1, onset, apex, kind="apex", **same),
        make_event(number, 2, onset, apex, offset, kind="offset", **same),
        make_event(number, 3, onset, apex, offset, kind="label", final=True, **named),
    ]


def shifted(event: Event, by_s: float) -> Event:
    """The same event with times ``by_s`` later."""
    import msgspec

    def move(point: EventPoint | None) -> EventPoint | None:
        return None if point is None else msgspec.structs.replace(point, t_s=point.t_s + by_s)

    return msgspec.structs.replace(event, onset=move(event.onset), apex=move(event.apex), offset=move(event.offset))


class Maker:
    """Publishes to a recording."""

    def __init__(self, path: Path, began_s: float = 5000.0) -> None:
        self.clock = ManualClock(began_s)
        header = RecordingHeader(
            recorder="ab" * 16,
            session="s1",
            schema="f00",
            endpoint="tcp://127.0.0.1:5553",
            began_unix_s=UNIX_S + began_s,
            unix_minus_clock_s=UNIX_S,
        )
        self.writer = RecordingWriter(path, header, clock=self.clock)
        self.n = 0
        self.publisher = Publisher(None, WireSettings(), clock=self.clock, session="s1")  # type: ignore[arg-type]
        self.publisher.listeners.append(self._take)

    def _take(self, parts: list[bytes]) -> None:
        self.writer.append(self.n, self.n - 1, tuple(parts))
        self.n += 1

    def stream(self, source: str, live: bool) -> None:
        info = StreamInfo(source=source, subject="s", video="v", fps=100.0, width=640, height=480, live=live)
        self.publisher.publish(topic_of("meta", "stream", source), "stream", source, info)

    def events(self, *events: Event) -> None:
        for event in events:
            self.clock.advance_s(0.125)
            self.publisher.publish(
                topic_of("event", event.kind, event.source), "event", event.source, event, self.clock.now_s()
            )

    def remark(self, source: str, frame: int, text: str) -> None:
        remark = Annotation(source=source, frame=frame, t_capture_s=self.clock.now_s(), text=text, author="eva")
        self.publisher.publish(topic_of("annotation", source), "annotation", source, remark, remark.t_capture_s)


@pytest.fixture
def events(make_event: MakeEvent) -> list[Event]:
    answers = (Answer(question="What is the emotion?", answer="surprise", by="embedded"),)
    return [
        *labelled(make_event, 1, 20, 45, aus=("1", "2"), answers=answers),
        make_event(2, 0, 60),
        make_event(2, 1, 60, kind="retracted", final=True),
        *labelled(make_event, 3, 370_000, 370_060, emotion="<b>&-->", probabilities={}, type="macro"),
        make_event(4, 0, 400_000),
    ]


@pytest.fixture
def recording(tmp_path: Path, events: list[Event]) -> Path:
    path = tmp_path / "a.megc"
    maker = Maker(path)
    maker.stream("clip.mkv", live=False)
    maker.events(*events)
    maker.remark("clip.mkv", 250, "co\x00ughs <loudly>")
    maker.writer.append(maker.n, maker.n - 1, (b"event.onset.x.", b"\xc1"))
    maker.writer.close("over")
    return path


def export(path: Path, out: Path, **options: Any) -> int:
    with RecordingReader(path) as reader:
        return export_recording(reader, out, **options)


def test_jsonl_and_csv_equal_what_a_run_writes(recording: Path, events: list[Event], tmp_path: Path) -> None:
    log, table = EventLog(tmp_path / "run.jsonl"), IntervalTable(tmp_path / "run.csv")
    for event in events:
        log.write(event)
        table.add(event)
    log.close()
    table.close()
    assert export(recording, tmp_path / "e.jsonl") == len(events)
    assert export(recording, tmp_path / "e.csv") == 2
    assert (tmp_path / "e.jsonl").read_bytes() == (tmp_path / "run.jsonl").read_bytes()
    assert (tmp_path / "e.csv").read_bytes() == (tmp_path / "run.csv").read_bytes()
    rows = list(csv.reader((tmp_path / "e.csv").read_text().splitlines()))
    assert [row[2:4] for row in rows[1:]] == [["21", "46"], ["370001", "370061"]]


def test_parquet_has_one_row_an_event(recording: Path, tmp_path: Path) -> None:
    assert export(recording, tmp_path / "e.parquet") == 2
    first, second = pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert first["event_id"] == "clip-1"
    assert first["onset"] == {"frame": 20, "number": 21, "t_s": 0.2}
    assert dict(first["probabilities"]) == {"surprise": 0.75, "negative": 0.25}
    assert first["aus"] == ["1", "2"]
    assert dict(first["answers"]) == {"What is the emotion?": "surprise"}
    assert (second["type"], second["probabilities"], second["answers"]) == ("macro", [], [])


def test_webvtt(recording: Path, tmp_path: Path) -> None:
    assert export(recording, tmp_path / "e.vtt") == 2
    blocks = (tmp_path / "e.vtt").read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    assert blocks == [
        "WEBVTT",
        "clip-1\n00:00:00.200 --> 00:00:00.450\nmicro, surprise (75%), AU 1+2\nWhat is the emotion? surprise",
        "clip-3\n01:01:40.000 --> 01:01:40.600\nmacro, &lt;b&gt;&amp;--&gt;",
    ]


def elan(path: Path) -> tuple[ET.Element, dict[str, list[tuple[str, int, int]]]]:
    """Return an ELAN document and its annotations by tier, checked for unique ids and references."""
    root = ET.parse(path).getroot()
    slots = {slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")}
    kinds = {kind.attrib["LINGUISTIC_TYPE_ID"]: kind.attrib for kind in root.iter("LINGUISTIC_TYPE")}
    spans: dict[str, tuple[int, int]] = {}
    tiers: dict[str, list[tuple[str, int, int]]] = {}
    for tier in root.iter("TIER"):
        found = tiers[tier.attrib["TIER_ID"]] = []
        aligned = kinds[tier.attrib["LINGUISTIC_TYPE_REF"]]["TIME_ALIGNABLE"] == "true"
        assert aligned == ("PARENT_REF" not in tier.attrib)
        assert aligned or tier.attrib["PARENT_REF"] in tiers
        for annotation in tier.iter("ANNOTATION"):
            (inner,) = annotation
            name = inner.attrib["ANNOTATION_ID"]
            assert name not in spans
            if aligned:
                assert inner.tag == "ALIGNABLE_ANNOTATION"
                spans[name] = slots[inner.attrib["TIME_SLOT_REF1"]], slots[inner.attrib["TIME_SLOT_REF2"]]
                assert spans[name][0] < spans[name][1]
                assert all(end <= spans[name][0] for _, _, end in found)
            else:
                assert inner.tag == "REF_ANNOTATION"
                spans[name] = spans[inner.attrib["ANNOTATION_REF"]]
            found.append((inner.findtext("ANNOTATION_VALUE") or "", *spans[name]))
    used = root.find("HEADER/PROPERTY[@NAME='lastUsedAnnotationId']")
    assert used is not None
    assert used.text == str(len(spans))
    return root, tiers


def test_elan(recording: Path, tmp_path: Path) -> None:
    assert export(recording, tmp_path / "e.eaf", media=str(tmp_path / "clip.mp4")) == 2
    root, tiers = elan(tmp_path / "e.eaf")
    assert root.tag == "ANNOTATION_DOCUMENT"
    assert [child.tag for child in root] == [
        "HEADER", "TIME_ORDER", *["TIER"] * len(tiers), "LINGUISTIC_TYPE", "LINGUISTIC_TYPE", "CONSTRAINT",
    ]  # fmt: skip
    assert tiers == {
        "expression": [("micro", 200, 450), ("macro", 3_700_000, 3_700_600)],
        "emotion": [("surprise", 200, 450), ("<b>&-->", 3_700_000, 3_700_600)],
        "action units": [("1+2", 200, 450)],
        "apex": [("frame 33", 200, 450), ("frame 370031", 3_700_000, 3_700_600)],
        "answers": [("What is the emotion? surprise", 200, 450)],
        "event": [("clip-1", 200, 450), ("clip-3", 3_700_000, 3_700_600)],
        "remark": [("co ughs <loudly> (eva)", 2500, 3500)],
    }
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert media is not None
    assert media.attrib["MEDIA_URL"] == (tmp_path / "clip.mp4").as_uri()
    assert media.attrib["MIME_TYPE"] == "video/mp4"


@pytest.mark.parametrize("announced", [True, False])
def test_a_camera_counts_from_its_opening_or_what_was_first_seen_of_it(
    make_event: MakeEvent, tmp_path: Path, announced: bool
) -> None:
    path = tmp_path / "a.megc"
    maker = Maker(path, began_s=7000.0)
    if announced:
        maker.stream("cam0", live=True)
    maker.clock.advance_s(10)
    revisions = [shifted(event, 7012.0) for event in labelled(make_event, 1, 20, 45, source="cam0")]
    maker.events(*revisions)
    maker.writer.close()
    zero_s = 7000.0 if announced else 7010.125
    with RecordingReader(path) as reader:
        timeline = read_timeline(reader)
    assert timeline.zero_s == {"cam0": zero_s}
    assert timeline.began_unix_s == {"cam0": UNIX_S + zero_s}
    export(path, tmp_path / "e.vtt")
    text = (tmp_path / "e.vtt").read_text()
    assert "NOTE 00:00:00.000 of cam0 is 2023-11-15T00:1" in text
    assert ("00:00:12.200 --> 00:00:12.450" if announced else "00:00:02.075 --> 00:00:02.325") in text


def test_overlapping_events_and_several_sources_get_tiers_of_their_own(make_event: MakeEvent, tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    maker = Maker(path)
    for source in ("a", "b"):
        maker.stream(source, live=False)
        for number, onset, offset in ((1, 10, 60), (2, 50, 90), (3, 60, 70), (4, 90, 90)):
            maker.events(*labelled(make_event, number, onset, offset, source=source, event_id=f"{source}-{number}"))
    maker.writer.close()
    assert export(path, tmp_path / "e.eaf") == 8
    _, tiers = elan(tmp_path / "e.eaf")
    assert tiers["expression a"] == [("micro", 100, 600), ("micro", 600, 700), ("micro", 900, 901)]
    assert tiers["expression a 2"] == [("micro", 500, 900)]
    assert tiers["event b 2"] == [("b-2", 500, 900)]


def test_wrong_use_is_said_in_one_line(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"suffix '.docx'; expected one of .jsonl, .csv, .parquet, .eaf, .vtt"):
        export(recording, tmp_path / "e.docx")
    (tmp_path / "e.vtt").touch()
    with pytest.raises(UsageError, match="is there already"):
        export(recording, tmp_path / "e.vtt")
    assert export(recording, tmp_path / "e.vtt", overwrite=True) == 2


def summary_of(path: Path) -> RecordingSummary:
    with RecordingReader(path) as reader:
        return summarise(reader)


def test_the_summary_of_a_whole_recording(recording: Path, events: list[Event]) -> None:
    summary = summary_of(recording)
    assert summary.messages == len(events) + 3
    assert summary.malformed == 1
    assert (summary.lost, summary.damage, summary.torn_bytes, summary.ended) == (0, [], 0, "over")
    assert summary.indexed
    assert summary.duration_s == pytest.approx(0.125 * len(events))
    assert [(session.session, session.messages) for session in summary.sessions] == [("s1", summary.messages)]
    assert summary.topics["event.label.clip_mkv."].messages == 2
    assert re.fullmatch(r"2023-1\d-\d\dT.*", summary.began)


def test_the_summary_names_gaps_losses_and_damage(make_event: MakeEvent, tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    maker = Maker(path)
    sizes = []
    for number in range(10):
        maker.events(make_event(number))
        sizes.append(path.stat().st_size)
        if number == 6:
            maker.writer.note(RecordingLoss(t_s=1.0, first_n=7, last_n=11, why="slow"))
            maker.n = 12
    maker.writer.close()
    data = bytearray(path.read_bytes())
    data[sizes[2] + 40] ^= 1
    path.write_bytes(data[: sizes[-1] - 3])
    summary = summary_of(path)
    assert summary.messages == 8
    assert len(summary.damage) == 1
    assert summary.damage[0].offset == sizes[2]
    assert summary.damaged_bytes == sizes[3] - sizes[2]
    assert summary.torn_bytes == sizes[-1] - sizes[-2] - 3
    assert summary.lost == 1 + 5
    assert summary.topics["event.onset.clip_mkv."].gaps == 1
    assert summary.ended == ""
