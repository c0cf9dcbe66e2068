from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.clock import ManualClock
from megc_stream.errors import DataError, UsageError
from megc_stream.recognition import Recogniser
from megc_stream.records import Adjustment, Annotation, Crop, Event, EventPoint, Score, StreamEnd, StreamInfo
from megc_stream.settings import Settings, load_settings
from megc_stream.vqa.gathering import CropMemory, known_event, solver_of
from megc_stream.vqa.material import Material, material_of_event, sampled, with_strongest_apex
from megc_stream.vqa.stage import VqaStage

FPS = 100.0
INFO = StreamInfo(source="v", subject="s", video="v", fps=FPS, width=64, height=64)
ONSET, APEX, OFFSET = 40, 50, 60
QUESTIONS = ("What is the coarse expression class?", "What are the action units?")


def landmarks() -> NDArray[np.float32]:
    """A plain face: 17 points of the jaw, 10 of the brows, 9 of the nose, 12 of the eyes, 20 of the mouth."""
    turn = np.linspace(np.pi, 0, 17)
    jaw = np.stack([64 + 52 * np.cos(turn), 40 + 85 * np.sin(turn)], axis=1)
    brows = [(x, 22) for x in (24, 31, 38, 46, 53, 75, 82, 90, 97, 104)]
    nose = [(64, y) for y in (36, 44, 52, 60)] + [(x, 66) for x in (54, 59, 64, 69, 74)]
    eyes = [(x + dx, 36 + dy) for x in (39, 89) for dx, dy in ((-9, 0), (-3, -3), (3, -3), (9, 0), (3, 3), (-3, 3))]
    around = np.linspace(np.pi, -np.pi, 12, endpoint=False)
    mouth = np.stack([64 + 19 * np.cos(around), 88 - 6 * np.sin(around)], axis=1)
    inner = np.linspace(np.pi, -np.pi, 8, endpoint=False)
    lips = np.stack([64 + 15 * np.cos(inner), 88 - 2 * np.sin(inner)], axis=1)
    return np.concatenate([jaw, brows, nose, eyes, mouth, lips]).astype(np.float32)


TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (140, 128)), (0, 0), 1.5)
TEXTURE = np.clip(128 + 3 * (TEXTURE - 128), 0, 255).astype(np.uint8)


def crop(frame: int, segment: int = 0, lost: bool = False) -> Crop:
    """A picture whose lower half shifts up by up to 3 px until the apex, and back."""
    shift = round(3 * max(0.0, 1 - abs(frame - APEX) / (APEX - ONSET)))
    image = TEXTURE[:128].copy()
    image[74:] = TEXTURE[74 + shift : 128 + shift]
    return Crop(
        source="v",
        frame=frame,
        number=frame,
        t_capture_s=frame / FPS,
        segment=segment,
        image=None if lost else image,
        landmarks68=None if lost else landmarks(),
    )


def point(frame: int) -> EventPoint:
    return EventPoint(frame=frame, number=frame, t_s=frame / FPS)


def label(number: int = 1, kind: str = "label") -> Event:
    return Event(
        event_id=f"v-{number:04d}",
        event_number=number,
        rev=3,
        kind=kind,  # type: ignore[arg-type]
        final=False,
        source="v",
        subject="s",
        video="v",
        decision_frame=80,
        onset=point(ONSET),
        apex=point(APEX),
        offset=point(OFFSET),
        type="micro",
        emotion="positive",
        probabilities={"positive": 0.9, "negative": 0.1},
        score=1.0,
        threshold=0.5,
        model="m",
        model_sha256="0",
        k=10,
        k_prime=10,
        lookahead_s=0.3,
        run={"t_event_s": 1.0},
    )


class Late:
    """Keeps what it is given; ``done`` comes out of the next collect."""

    def __init__(self) -> None:
        self.taken: list[tuple[Event, Material]] = []
        self.done: list[Event] = []

    def submit(self, event: Event, material: Material) -> None:
        self.taken.append((event, material))

    def collect(self) -> list[Event]:
        done, self.done = self.done, []
        return done

    def drain(self, timeout_s: float | None = None) -> list[Event]:
        return [msgspec.structs.replace(event, rev=event.rev + 1, final=True) for event, _ in self.taken]


def settings(**spotting: object) -> Settings:
    return load_settings(overrides={"vqa": {"questions": QUESTIONS}, "spotting": spotting})


def stage(late: Late | None = None, **spotting: object) -> VqaStage:
    made = VqaStage(settings(**spotting), ManualClock(9.0), late)
    made.process(INFO)
    return made


def fed(made: VqaStage, frames: int = 81) -> VqaStage:
    for frame in range(frames):
        assert list(made.process(crop(frame))) == []
    return made


def test_a_label_is_answered_once_and_for_all() -> None:
    [answer] = fed(stage()).process(label())
    assert isinstance(answer, Event)
    assert (answer.kind, answer.rev, answer.final, answer.event_id) == ("answer", 4, True, "v-0001")
    asked = QUESTIONS if len(answer.aus) > 1 else (QUESTIONS[0], "What is the action unit?")
    assert [given.question for given in answer.answers] == list(asked)
    assert answer.answers[0].answer == "positive"
    assert all(given.by == "embedded" for given in answer.answers)
    frames = answer.answers[1].evidence["frames"]
    assert (frames["onset"], frames["offset"]) == (ONSET, OFFSET)
    assert abs(frames["apex"] - APEX) <= 1
    assert answer.aus == tuple(unit["code"] for unit in answer.answers[1].evidence["action_units"])[: len(answer.aus)]
    assert answer.run == {"t_event_s": 9.0}
    assert answer.emotion == "positive"


def test_other_records_are_let_be() -> None:
    made = fed(stage())
    note = Annotation(source="v", frame=3, t_capture_s=0.0, text="x")
    change = Adjustment(source="v", frame=3, t_capture_s=0.0)
    score = Score(source="v", frame=1, number=1, frame_to=11, t_capture_s=0.0, t_score_s=0.0)
    end = StreamEnd(source="v", frames=81, reason="end")
    for record in (note, change, score, label(kind="offset"), label(kind="retracted"), end):
        assert list(made.process(record)) == []
    assert list(made.flush()) == []


def test_it_does_the_same_from_a_snapshot() -> None:
    made, other = fed(stage()), stage()
    other.restore(made.snapshot())
    assert list(other.process(label())) == list(made.process(label()))


def test_an_event_without_a_face_is_answered_all_the_same() -> None:
    made = stage()
    for frame in range(81):
        made.process(crop(frame, lost=True))
    [answer] = made.process(label())
    assert isinstance(answer, Event)
    assert answer.aus == ()
    assert "no face was measured" in answer.answers[1].evidence["remarks"][0]


def test_crops_of_another_segment_are_left_out() -> None:
    made = stage()
    for frame in range(81):
        made.process(crop(frame, segment=0 if frame < 45 else 1))
    [answer] = made.process(label())
    assert answer.answers[1].evidence["frames"]["onset"] == 45  # type: ignore[union-attr]


def test_a_served_answer_comes_later_and_nobody_waits() -> None:
    late = Late()
    made = fed(stage(late))
    [first] = made.process(label())
    assert isinstance(first, Event)
    assert not first.final
    [(event, material)] = late.taken
    assert event == first
    assert material.scope == "event"
    assert list(made.process(crop(81))) == []
    late.done = [msgspec.structs.replace(first, rev=5, final=True)]
    assert list(made.process(crop(82))) == [msgspec.structs.replace(first, rev=5, final=True)]
    late.taken = []
    assert list(made.flush()) == []


def test_the_end_waits_for_what_is_out() -> None:
    made = fed(stage(Late()))
    [first] = made.process(label())
    [last] = made.flush()
    assert (last.rev, last.final) == (first.rev + 1, True)  # type: ignore[union-attr]


def test_what_was_out_at_a_snapshot_ends_with_the_embedded_answers() -> None:
    made = fed(stage(Late()))
    [first] = made.process(label())
    again = stage(Late())
    again.restore(made.snapshot())
    [last] = again.process(crop(81))
    assert isinstance(last, Event)
    assert isinstance(first, Event)
    assert (last.event_id, last.rev, last.final, last.run["late"]) == (first.event_id, first.rev + 1, True, True)
    assert all("started again" in given.fallback for given in last.answers)
    assert [given.answer for given in last.answers] == [given.answer for given in first.answers]
    assert list(again.process(crop(82))) == []


def test_questions_about_whole_videos_are_refused() -> None:
    asked = load_settings(overrides={"vqa": {"questions": ["How many expression events appear in this video?"]}})
    with pytest.raises(UsageError, match="whole video"):
        VqaStage(asked, ManualClock())


def test_events_before_the_stream_are_refused() -> None:
    with pytest.raises(UsageError, match="StreamInfo"):
        VqaStage(settings(), ManualClock()).process(label())


def test_memory_is_bounded_while_frames_arrive() -> None:
    memory = CropMemory(kept_s=5.0, fps=200.0)
    for frame in range(4000):
        memory.add(crop(frame))
    # All of the last 1.2 s, and at least 30 per second of the 5 s before.
    frames = [one.frame for one in memory.crops]
    assert frames[-241:] == list(range(3759, 4000))
    assert frames[0] >= 3999 - 1000
    assert len(frames) <= 241 + 4 * 35
    assert max(np.diff(frames)) <= 200 / 30


def test_memory_of_a_whole_video_is_bounded_and_even() -> None:
    memory = CropMemory(kept_s=None, fps=200.0)
    blank = np.zeros((128, 128), np.uint8)
    for frame in range(9000):
        memory.add(msgspec.structs.replace(crop(0), frame=frame, image=blank))
    assert 1024 <= len(memory.crops) <= 2048
    assert set(np.diff([one.frame for one in memory.crops])) == {memory.stride}
    assert CropMemory.span_s(settings(mode="video")) is None


def test_sampling_keeps_what_is_wanted() -> None:
    crops = [crop(frame) for frame in range(300)]
    frames = [one.frame for one in sampled(crops, [7])]
    assert len(frames) <= 64
    assert {0, 7, 299} <= set(frames)
    assert [one.frame for one in sampled(crops[:5])] == [0, 1, 2, 3, 4]


def test_material_names_its_images() -> None:
    crops = [crop(frame) for frame in range(81)]
    material = material_of_event(INFO, crops, known_event(label(), 1), solver_of(settings().flow), dataset="samm")
    assert [material.frames[index] for index in (material.onset, material.apex, material.offset)] == [40, 50, 60]
    assert material.times_s[material.apex] == pytest.approx(0.5)
    assert material.flow is not None
    assert np.median(material.flow[85:115, 30:100, 1]) == pytest.approx(-3, abs=0.3)
    assert material.motions[0].direction == "up"
    assert material.events[0].units == material.units


def test_the_apex_is_where_the_face_has_moved_furthest() -> None:
    crops = [crop(frame) for frame in range(81)]
    solver = solver_of(settings().flow)
    event = msgspec.structs.replace(known_event(label(), 1), apex=43)
    assert abs(with_strongest_apex(crops, event, solver).apex - APEX) <= 1
    assert abs(with_strongest_apex(crops, event, solver, most=6).apex - APEX) <= 2
    assert with_strongest_apex([], event, solver) == event
    assert with_strongest_apex(crops[:41], event, solver).apex == 43


def test_an_unfinished_event_is_no_material() -> None:
    with pytest.raises(DataError, match="no apex"):
        known_event(msgspec.structs.replace(label(), apex=None), 1)


def test_the_recogniser_passes_on_what_the_stage_needs() -> None:
    recogniser = Recogniser(("negative", "positive"), 10.0, ManualClock(), pass_crops=True)
    assert list(recogniser.process(INFO)) == [INFO]
    picture = crop(3)
    assert list(recogniser.process(picture)) == [picture]
    [named] = recogniser.process(label(kind="offset"))
    assert not named.final  # type: ignore[union-attr]
