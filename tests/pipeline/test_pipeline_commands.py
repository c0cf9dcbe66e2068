"""What control clients can do, what the reader does with it, and the parts of recovery one by one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from stub_graph import Adder, Options, StubFace, StubSource, Told, told

from megc_stream.errors import UsageError
from megc_stream.packing import pack
from megc_stream.pipeline import Chain, Sink, run_chains
from megc_stream.pipeline.commands import RunControl
from megc_stream.pipeline.feeding import Feed
from megc_stream.pipeline.hosting import Desk, Header, Insertion
from megc_stream.pipeline.orders import Command
from megc_stream.pipeline.spool import Spool
from megc_stream.records import Adjustment, Annotation, Crop, Event, EventPoint, Record
from megc_stream.settings import PipelineSettings


class State(msgspec.Struct):
    value: int = 1


def control(posted: list[Command], mode: str = "causal") -> RunControl:
    return RunControl(
        ("left", "right"), posted.append, snapshot=State, status=State, settings={"spotting": {"mode": mode}}
    )


def crop(frame: int) -> Crop:
    image = np.ones((4, 4), np.uint8)
    return Crop(source="x", frame=frame, number=frame, t_capture_s=frame / 10, segment=0, image=image)


def test_commands_are_posted_once_each_with_growing_numbers() -> None:
    posted: list[Command] = []
    handlers = control(posted).handlers
    for name in ("pause", "start", "stop"):
        assert handlers[name]({"source": "left"}, "") == {"accepted": True}
    handlers["shutdown"]({}, "")
    assert [(one.name, one.source) for one in posted] == [
        ("pause", "left"),
        ("start", "left"),
        ("stop", "left"),
        ("stop", None),
    ]
    assert all(before.id < after.id for before, after in pairwise(posted))
    again: list[Command] = []
    control(again).handlers["pause"]({}, "")
    assert again[0].id > posted[-1].id, "a process that was started again counts on"


def test_remarks_and_thresholds_become_records_of_the_stream() -> None:
    posted: list[Command] = []
    target = control(posted)
    target.names["cam0"] = "right"
    target.annotate({"text": "coughs", "source": "cam0"}, "lab-pc")
    target.set_threshold({"deviations": 4, "least_threshold": None, "source": ""}, "lab-pc")
    first, second = posted
    assert first.source == "right"
    assert isinstance(first.insertion, Insertion)
    assert isinstance(first.insertion.record, Annotation)
    assert (first.insertion.record.text, first.insertion.record.author) == ("coughs", "lab-pc")
    assert second.source is None
    assert isinstance(second.insertion, Insertion)
    assert isinstance(second.insertion.record, Adjustment)
    assert (second.insertion.record.deviations, second.insertion.record.least_threshold) == (4, None)


def test_a_snapshot_says_what_is_held_and_how_it_is_set() -> None:
    target = control([])
    target.pause({"source": "left"}, "")
    assert target.snapshot({}, "") == {"value": 1, "paused": ["left"], "settings": {"spotting": {"mode": "causal"}}}
    target.start({}, "")
    assert target.snapshot({}, "")["paused"] == []


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("pause", {"source": "middle"}, "source 'middle': unknown; expected left, right"),
        ("pause", {"source": 3}, "source 3: unknown"),
        ("stop", {"when": "now"}, "argument 'when': unknown; expected source"),
        ("annotate", {}, "text = None"),
        ("annotate", {"text": ""}, "expected 1 to"),
        ("annotate", {"text": "x", "author": 1}, "author = 1"),
        ("set_threshold", {}, "nothing to set"),
        ("set_threshold", {"deviations": 0}, "expected a number > 0"),
        ("set_threshold", {"deviations": True}, "expected a number > 0"),
        ("set_threshold", {"least_threshold": float("nan")}, "expected a number"),
        ("set_threshold", {"least_threshold": "low"}, "expected a number"),
    ],
)
def test_wrong_arguments_are_refused(name: str, arguments: dict[str, Any], words: str) -> None:
    posted: list[Command] = []
    with pytest.raises(UsageError, match=words):
        control(posted).handlers[name](arguments, "")
    assert posted == []


def test_whole_videos_have_no_threshold_to_set() -> None:
    with pytest.raises(UsageError, match="use causal"):
        control([], "video").set_threshold({"deviations": 4}, "")


def test_the_desk_places_before_the_next_frame_or_the_one_named() -> None:
    placed: list[tuple[int, int]] = []
    desk = Desk(lambda number, frame: placed.append((number, frame)))
    assert desk.take(crop(0)) == []
    remark = Annotation(source="", frame=-1, t_capture_s=0, text="a")
    desk.leave(Insertion(1, remark, frame=7))
    desk.leave(Insertion(2, remark))
    [record] = desk.take(crop(5))
    assert (record.source, record.frame, record.t_capture_s) == ("x", 5, 0.5)
    assert desk.take(crop(6)) == []
    assert [record.frame for record in desk.take(crop(7))] == [7]
    assert placed == [(2, 5), (1, 7)]


def test_a_remark_passes_all_stages_and_comes_to_the_sinks_once(tmp_path: Path) -> None:
    desk, sink = Desk(), Told(tmp_path / "told")
    desk.leave(Insertion(1, Annotation(source="", frame=-1, t_capture_s=0, text="hello"), frame=20))
    source = StubSource(Options(frames=50))
    chain = Chain(
        name="",
        source=source,  # type: ignore[arg-type]
        face=StubFace(),  # type: ignore[arg-type]
        stages=[("adder", Adder("adder")), ("teller", Adder("teller"))],
        sinks=[sink],
        desk=desk,
    )
    run_chains([chain], PipelineSettings())
    sink.close()
    lines = (tmp_path / "told").read_text().splitlines()
    assert [line for line in lines if line.startswith("annotation")] == ["annotation hello"]
    reader = [line for line in lines if line.startswith(("annotation", "crop"))]
    assert reader[20:22] == ["annotation hello", "crop 20"]
    assert len(told(tmp_path / "told")["crop"]) == 50


def message(n: int, *records: Record, state: str = "running") -> list[bytes]:
    return [pack(Header("", "vqa", n, n, state=state)), *map(pack, records)]  # type: ignore[arg-type]


def answer(rev: int, late: bool) -> Event:
    return Event(
        event_id="x-0001",
        event_number=1,
        rev=rev,
        kind="answer",
        final=True,
        source="x",
        subject="x",
        video="x",
        decision_frame=5,
        onset=EventPoint(frame=1, number=1, t_s=0.1),
        score=1.0,
        threshold=0.5,
        model="m",
        model_sha256="0",
        k=1,
        k_prime=2,
        lookahead_s=0.1,
        run={"late": True} if late else {},
    )


class Kept(Sink):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


def test_a_message_is_fed_once_and_a_missing_one_is_noticed() -> None:
    sink = Kept()
    feed = Feed({"": [sink]}, {"": ["vqa"]})
    assert feed.take(message(0, crop(0))) is not None
    assert feed.take(message(0, crop(0))) is None
    assert feed.take(message(2, crop(2))) is None
    assert feed.gaps == {("", "vqa")}
    assert feed.take(message(1, crop(1))) is not None
    assert feed.gaps == set()
    assert feed.take(message(2, state="mark")) is not None
    assert feed.marks == {"": 2}
    assert feed.take(message(9, crop(9), state="jump")) is not None
    assert feed.take(message(10, state="end")) is not None
    assert feed.ended("")
    assert [record.frame for record in sink.records if isinstance(record, Crop)] == [0, 1, 9]


def test_a_late_answer_in_a_message_had_before_is_taken_once() -> None:
    sink = Kept()
    feed = Feed({"": [sink]}, {"": ["vqa"]})
    feed.take(message(0, answer(4, late=False)))
    feed.take(message(0, answer(4, late=False), answer(5, late=True)))
    feed.take(message(0, answer(5, late=True)))
    feed.take(message(1, answer(6, late=True)))
    feed.take(message(1, answer(6, late=True)))
    assert [record.rev for record in sink.records if isinstance(record, Event)] == [4, 5, 6]


def test_a_spool_survives_being_cut_off_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = Spool(path, "one", with_images=False)
    assert list(spool.messages()) == []
    for n in range(3):
        spool.add(Header("", "reader", n), [crop(n)], message(n, crop(n)))
    spool.close()
    whole = path.read_bytes()
    assert np.ones((4, 4), np.uint8).tobytes() not in whole, "no pixels"
    counts = []
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        again = Spool(path, "one", with_images=False)
        counts.append(len(list(again.messages())))
        again.add(Header("", "reader", 9), [crop(9)], message(9, crop(9)))
        again.close()
        after = Spool(path, "one", with_images=False)
        assert len(list(after.messages())) == counts[-1] + 1
        after.close()
    assert counts == sorted(counts)
    assert counts[-1] == 3


def test_a_spool_of_another_run_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = Spool(path, "one", with_images=True)
    spool.add(Header("", "reader", 0), [crop(0)], message(0, crop(0)))
    spool.close()
    assert np.ones((4, 4), np.uint8).tobytes() in path.read_bytes()
    assert Spool.belongs(path, "one")
    assert not Spool.belongs(path, "two")
    assert not Spool.belongs(tmp_path / "none", "two")
    other = Spool(path, "two", with_images=True)
    assert list(other.messages()) == []
    other.remove()
    other.close()
    assert not path.exists()
