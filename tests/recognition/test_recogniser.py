from __future__ import annotations

import pytest

from megc_stream.clock import ManualClock
from megc_stream.errors import UsageError
from megc_stream.recognition import Recogniser, most_frequent_class
from megc_stream.records import Event, EventPoint, Frame, Score, StreamInfo

CLASSES = ("negative", "positive", "surprise")


def point(frame: int) -> EventPoint:
    return EventPoint(frame=frame, number=frame, t_s=frame / 100)


def offset_event(apex: int = 50, k_prime: int = 10, kind: str = "offset") -> Event:
    return Event(
        event_id="v-0001",
        event_number=1,
        rev=2,
        kind=kind,  # type: ignore[arg-type]
        final=False,
        source="v",
        subject="v",
        video="v",
        decision_frame=80,
        onset=point(apex - 10),
        apex=point(apex),
        offset=point(apex + 10),
        score=1.0,
        threshold=0.5,
        model="m",
        model_sha256="0",
        k=10,
        k_prime=k_prime,
        lookahead_s=0.3,
        run={"t_event_s": 1.0},
    )


def score(frame: int, probabilities: tuple[float, ...]) -> Score:
    return Score(
        source="v",
        frame=frame,
        number=frame,
        frame_to=frame + 10,
        t_capture_s=0.0,
        t_score_s=0.0,
        spot=1.0 if probabilities else None,
        recog=probabilities,
    )


def make(whole_video: bool = False) -> Recogniser:
    stage = Recogniser(CLASSES, None if whole_video else 10.0, ManualClock(9.0))
    stage.process(StreamInfo(source="v", subject="v", video="v", fps=100, width=64, height=64))
    return stage


NEGATIVE, POSITIVE = (0.6, 0.3, 0.1), (0.2, 0.7, 0.1)


@pytest.mark.parametrize(("classes", "winner"), [([1, 0, 0], 0), ([2, 1, 1, 2], 2), ([1], 1)])
def test_most_frequent_class_and_ties(classes: list[int], winner: int) -> None:
    assert most_frequent_class(classes) == winner


def test_no_classes_is_an_error() -> None:
    with pytest.raises(UsageError):
        most_frequent_class([])


def test_the_label_is_the_vote_over_the_pairs_before_the_peak() -> None:
    stage = make()
    for frame in range(100):
        # Outside [40, 50) everything says positive; it must not count.
        stage.process(score(frame, NEGATIVE if 40 <= frame < 46 else POSITIVE))
    [label] = stage.process(offset_event())
    assert isinstance(label, Event)
    assert (label.kind, label.rev, label.final, label.event_id) == ("label", 3, True, "v-0001")
    assert label.emotion == "negative"
    assert label.probabilities == pytest.approx(
        {"negative": (6 * 0.6 + 4 * 0.2) / 10, "positive": (6 * 0.3 + 4 * 0.7) / 10, "surprise": 0.1}
    )
    assert label.run == {"t_event_s": 9.0}


def test_pairs_without_a_score_do_not_vote() -> None:
    stage = make()
    for frame in range(40, 50):
        stage.process(score(frame, () if frame != 44 else POSITIVE))
    [label] = stage.process(offset_event())
    assert label.emotion == "positive"  # type: ignore[union-attr]


def test_an_event_without_any_scored_pair_gets_no_emotion() -> None:
    [label] = make().process(offset_event())
    assert isinstance(label, Event)
    assert label.emotion is None
    assert label.final
    assert label.probabilities == {}


@pytest.mark.parametrize("kind", ["onset", "apex", "retracted"])
def test_other_revisions_add_nothing(kind: str) -> None:
    assert list(make().process(offset_event(kind=kind))) == []


def test_memory_is_bounded_live_and_complete_for_whole_videos() -> None:
    live, whole = make(), make(whole_video=True)
    for frame in range(5000):
        live.process(score(frame, POSITIVE))
        whole.process(score(frame, POSITIVE))
    assert len(live.snapshot()) < len(whole.snapshot()) / 2
    [label] = whole.process(offset_event())
    assert label.emotion == "positive"  # type: ignore[union-attr]


def test_snapshot_keeps_the_votes() -> None:
    stage, other = make(), make()
    for frame in range(100):
        stage.process(score(frame, NEGATIVE))
    other.restore(stage.snapshot())
    assert list(other.process(offset_event())) == list(stage.process(offset_event()))
    assert list(stage.flush()) == []


def test_foreign_records_are_refused() -> None:
    import numpy as np

    with pytest.raises(UsageError, match="got a Frame record"):
        make().process(Frame(source="v", frame=0, number=0, image=np.zeros((2, 2), np.uint8), t_capture_s=0))
