from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megc_stream.errors import OutputError
from megc_stream.output._files import LineFile
from megc_stream.output.event_log import EventLog, EventMerger
from megc_stream.records import Event

MakeEvent = Callable[..., Event]


def test_event_leaves_once_every_stage_is_past_its_decision_frame(make_event: MakeEvent) -> None:
    merger = EventMerger(["spotter", "recogniser"])
    event = make_event(decision_frame=5)
    merger.push(event)
    assert merger.advance("spotter", 9) == []
    assert merger.advance("recogniser", 5) == []
    assert merger.advance("recogniser", 6) == [event]
    assert merger.finish() == []


def test_events_are_ordered_by_decision_frame_number_and_revision(make_event: MakeEvent) -> None:
    keys = [(7, 2, 0), (7, 1, 3), (7, 1, 2), (6, 3, 0)]
    merger = EventMerger(["spotter"])
    for frame, number, rev in keys:
        merger.push(make_event(number, rev, decision_frame=frame))
    released = merger.finish()
    assert [(e.decision_frame, e.event_number, e.rev) for e in released] == sorted(keys)


def test_a_watermark_never_moves_back(make_event: MakeEvent) -> None:
    merger = EventMerger(["spotter"])
    merger.advance("spotter", 10)
    event = make_event(decision_frame=9)
    merger.advance("spotter", 3)
    with pytest.raises(OutputError, match="decided at frame 9"):
        merger.push(event)


def test_an_event_decided_at_the_newest_frame_may_still_come(make_event: MakeEvent) -> None:
    merger = EventMerger(["spotter"])
    merger.advance("spotter", 10)
    event = make_event(decision_frame=10)
    merger.push(event)
    assert merger.finish() == [event]


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(OutputError, match="stage 'vqa'"):
        EventMerger(["spotter"]).advance("vqa", 1)


def _late(make_event: MakeEvent, number: int, rev: int, **fields: Any) -> Event:
    values = {"kind": "answer", "final": True, "decision_frame": 5, "run": {"late": True}}
    return make_event(number, rev, **values | fields)


def test_a_late_revision_leaves_at_once_when_the_one_before_it_has_left(make_event: MakeEvent) -> None:
    merger = EventMerger(["spotter", "vqa"])
    label = make_event(1, 1, decision_frame=5, kind="label")
    assert merger.push(label) == []
    merger.advance("spotter", 40)
    assert merger.advance("vqa", 40) == [label]
    late = _late(make_event, 1, 2)
    # Long past its decision frame, and not an error.
    assert merger.push(late) == [late]
    assert merger.finish() == []


def test_a_late_revision_waits_for_the_one_before_it(make_event: MakeEvent) -> None:
    merger = EventMerger(["spotter"])
    label, other = make_event(1, 1, decision_frame=5, kind="label"), make_event(2, 0, decision_frame=5)
    first, second = _late(make_event, 1, 2, final=False), _late(make_event, 1, 3)
    assert merger.push(second) == []
    assert merger.push(label) == []
    assert merger.push(first) == []
    assert merger.push(other) == []
    assert merger.advance("spotter", 6) == [label, first, second, other]


def test_late_revisions_without_a_revision_before_them_leave_at_the_end(make_event: MakeEvent) -> None:
    merger = EventMerger(["spotter"])
    late = [_late(make_event, number, 2) for number in (2, 1)]
    for event in late:
        assert merger.push(event) == []
    assert merger.advance("spotter", 50) == []
    assert merger.finish() == [late[1], late[0]]
    assert merger.finish() == []


def test_events_that_are_over_are_forgotten(make_event: MakeEvent) -> None:
    merger = EventMerger(["spotter"])
    for number in range(100):
        merger.push(make_event(number, 0, decision_frame=number))
        merger.push(make_event(number, 1, decision_frame=number, final=True))
        merger.advance("spotter", number + 1)
    assert not merger._left
    assert not merger._late


# What two stages hand over: per frame the events decided there, then the word that the frame is done.
def _stream(make_event: MakeEvent, stage: str, decided: list[int], first_rev: int) -> list[tuple[str, Event | int]]:
    records: list[tuple[str, Event | int]] = []
    for frame in range(12):
        records += [
            (stage, make_event(number, first_rev, decision_frame=frame))
            for number, at in enumerate(decided, start=1)
            if at == frame
        ]
        records.append((stage, frame))
    return records


@given(
    spotted=st.lists(st.integers(0, 11), max_size=6),
    labelled=st.lists(st.integers(0, 11), max_size=6),
    turns=st.lists(st.booleans(), max_size=60),
)
def test_any_interleaving_of_two_stages_gives_the_same_order(
    make_event: MakeEvent, spotted: list[int], labelled: list[int], turns: list[bool]
) -> None:
    left = _stream(make_event, "spotter", spotted, 0)
    right = _stream(make_event, "recogniser", labelled, 1)

    def merged(order: list[tuple[str, Event | int]]) -> list[Event]:
        merger = EventMerger(["spotter", "recogniser"])
        released: list[Event] = []
        for stage, record in order:
            if isinstance(record, Event):
                merger.push(record)
            else:
                released += merger.advance(stage, record)
        return released + merger.finish()

    order: list[tuple[str, Event | int]] = []
    rest = [list(left), list(right)]
    order += [rest[turn].pop(0) for turn in turns if rest[turn]]
    order += rest[0] + rest[1]
    expected = sorted(
        (e for _, e in left + right if isinstance(e, Event)), key=lambda e: (e.decision_frame, e.event_number, e.rev)
    )
    assert [(e.event_id, e.rev) for e in merged(order)] == [(e.event_id, e.rev) for e in expected]


def test_log_has_one_object_a_line_with_run_last_and_maps_by_key(tmp_path: Path, make_event: MakeEvent) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.write(make_event(probabilities={"surprise": 0.25, "negative": 0.75}, run={"seq": 3}))
    # Readable before the log is closed.
    first = path.read_bytes()
    log.write(make_event(number=2))
    log.close()
    log.close()
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[0] == first
    assert len(lines) == 2
    event = json.loads(lines[0])
    assert next(iter(event)) == "record"
    assert list(event)[-1] == "run"
    assert list(event["probabilities"]) == ["negative", "surprise"]
    assert event["onset"] == {"frame": 20, "number": 21, "t_s": 0.2}


def test_full_disk_is_an_output_error(make_event: MakeEvent) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    log = EventLog(Path("/dev/full"))
    with pytest.raises(OutputError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        log.write(make_event())
    log.close()


class _FillingDisk(io.FileIO):
    """Takes 300 bytes, in parts, and then no more."""

    def write(self, data: Any) -> int:
        room = 300 - self.tell()
        if room <= 0:
            raise OSError(28, "No space left on device")
        return super().write(bytes(data)[: min(room, 100)])


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    file = LineFile(path)
    file._file.close()
    file._file = _FillingDisk(path, "wb")
    line = b"x" * 199 + b"\n"
    file.write(line)
    with pytest.raises(OutputError, match="No space left on device"):
        file.write(line)
    assert path.read_bytes() == line
    file.write(b"short\n")
    file.close()
    assert path.read_bytes() == line + b"short\n"


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"events\.jsonl"):
        EventLog(tmp_path / "absent" / "events.jsonl")
