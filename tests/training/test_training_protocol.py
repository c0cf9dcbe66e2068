"""Folds, labels, sampling and augmentation: what a network of recordings learns from, without any training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from megc_stream.datasets import Annotation, DataSet, Recording
from megc_stream.errors import DataError
from megc_stream.records import Crop
from megc_stream.spotting import mean_features
from megc_stream.training.augmentation import changer, mirrored, scaled
from megc_stream.training.folds import Fold, leave_one_out, of_persons
from megc_stream.training.pairs import PairMaker, TrueEvent
from megc_stream.training.protocol import class_of, half_length_s, pseudo_labels, recognition_lesson, spotting_lesson
from megc_stream.training.recordings import KnownRecording, RecordingPairs, known_recordings

K_PRIME_S = 0.1


def _recording(
    person: str, events: tuple[TrueEvent, ...], value: float, *, frames: int = 400, synthetic: bool = False
) -> RecordingPairs:
    features = np.full((frames, 42, 42, 3), value, np.float16)
    return RecordingPairs(
        person=person,
        video=f"{person}_1",
        fps=100.0,
        frame_count=frames + 10,
        k=10,
        first_number=1,
        events=events,
        frames=np.arange(frames),
        features=features,
        rate_frames=np.arange(0, frames, 4),
        rate_features=features[::4],
        apex_events=np.arange(len(events)),
        apex_features=features[: len(events)],
        synthetic=synthetic,
    )


def test_a_subject_on_both_sides_is_refused() -> None:
    with pytest.raises(DataError, match="subject 007 is trained on and tested on"):
        Fold("007", ("006", "007"), ("007",))
    with pytest.raises(DataError, match="nobody to train on"):
        leave_one_out(["006", "006"])


def test_every_subject_is_left_out_once() -> None:
    folds = leave_one_out(["b", "a", "c", "a"])
    assert [fold.test for fold in folds] == [("a",), ("b",), ("c",)]
    for fold in folds:
        assert sorted(fold.training + fold.test) == ["a", "b", "c"]
    recordings = [_recording(person, (), 0.5, frames=2) for person in "abca"]
    for fold in folds:
        training, test = of_persons(recordings, fold.training), of_persons(recordings, fold.test)
        assert not {one.person for one in training} & {one.person for one in test}
        assert len(training) + len(test) == len(recordings)


def test_pseudo_labels_are_the_published_ones() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        k_prime = int(rng.integers(1, 20))
        starts = rng.integers(0, 90, 3).tolist()
        events = [TrueEvent(start, None, start + int(rng.integers(1, 30)), "") for start in starts]
        frames = np.arange(100)
        expected = [
            any(len(np.intersect1d(np.arange(i, i + k_prime), np.arange(e.onset, e.offset + 1))) > 0 for e in events)
            for i in frames
        ]
        np.testing.assert_array_equal(pseudo_labels(frames, k_prime, events), expected)


def test_k_prime_is_half_the_mean_length() -> None:
    recordings = [
        _recording("a", (TrueEvent(10, 20, 49, "anger"),), 0.5),
        replace(_recording("b", (TrueEvent(10, 20, 29, "anger"),), 0.5), fps=50.0),
    ]
    assert half_length_s(recordings) == pytest.approx(0.2)
    # As published, in whole frames: int((mean(offset - onset) + 1) / 2).
    assert half_length_s(recordings[:1]) * 100 == pytest.approx((39 + 1) / 2)
    with pytest.raises(DataError, match="no annotated micro-expression"):
        half_length_s([_recording("a", (), 0.5)])


def test_five_negatives_per_positive_of_which_one_is_synthetic() -> None:
    event = TrueEvent(100, 110, 119, "anger")
    recorded = [_recording("a", (event,), 0.25), _recording("b", (), 0.5)]
    lesson = spotting_lesson(recorded, K_PRIME_S, seed=3)
    positives = int(lesson.fit.wanted.sum())
    # [i, i + 9] meets [100, 119]: i = 91 ... 119, and every fourth of them again, as of a lower rate.
    assert positives == 29 + 7
    assert len(lesson.fit.wanted) == 6 * positives
    assert (lesson.fit.features[lesson.fit.wanted == 1] == 0.25).all()
    rows = lesson.draw(np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(rows), np.arange(6 * positives))

    with_blinks = spotting_lesson([*recorded, _recording("a", (), 0.75, synthetic=True)], K_PRIME_S, seed=3)
    assert len(with_blinks.fit.wanted) == 6 * positives
    assert (with_blinks.fit.features[:, 0, 0, 0] == 0.75).sum() == positives
    again = spotting_lesson(recorded, K_PRIME_S, seed=3)
    np.testing.assert_array_equal(again.fit.features, lesson.fit.features)
    with pytest.raises(DataError, match="0 positive"):
        spotting_lesson(recorded[1:], K_PRIME_S, seed=3)


def test_events_are_named_by_their_own_or_the_coarse_class() -> None:
    three, five = ("negative", "positive", "surprise"), ("disgust", "happiness", "others", "surprise", "repression")
    assert [class_of(word, three) for word in ("anger", "happiness", "surprise", "other", "")] == [0, 1, 2, None, None]
    assert [class_of(word, five) for word in ("disgust", "happiness", "other", "fear")] == [0, 1, 2, None]
    events = (TrueEvent(10, 20, 30, "anger"), TrueEvent(50, 60, 70, "other"), TrueEvent(90, 95, 99, "surprise"))
    lesson = recognition_lesson([_recording("a", events, 0.5)], three)
    assert lesson is not None
    np.testing.assert_array_equal(lesson.fit.wanted, [0, 2])
    assert recognition_lesson([_recording("a", events[1:2], 0.5)], three) is None


def _data_set(layout: str, *subjects: str, first: int = 5) -> DataSet:
    recordings = tuple(
        Recording(
            subject=subject, video=f"{subject}_1", fps=30.0, path="x", numbers=tuple(range(first, 50)), files=("x",)
        )
        for subject in subjects
    )
    annotations = tuple(
        Annotation(
            subject=subjects[0],
            video=f"{subjects[0]}_1",
            onset=onset,
            apex=None,
            offset=onset + 9,
            onset_index=onset - first,
            apex_index=None,
            offset_index=onset + 9 - first,
            type=kind,
            emotion="anger",
            coarse="negative",
            row=2,
        )
        for onset, kind in ((10, "micro"), (30, "macro"))
    )
    return DataSet(layout=layout, root="x", recordings=recordings, annotations=annotations)


def test_subjects_of_one_name_are_one_person_within_a_layout() -> None:
    (only,) = known_recordings([_data_set("plain", "ada")])
    assert (only.person, only.events) == ("ada", (TrueEvent(5, None, 14, "anger"),))
    both = known_recordings([_data_set("plain", "ada"), _data_set("samm-lv", "ada")])
    assert [known.person for known in both] == ["plain/ada", "samm-lv/ada"]
    with pytest.raises(DataError, match="video ada_1 of subject ada was given before"):
        known_recordings([_data_set("plain", "ada"), _data_set("plain", "ada")])
    assert isinstance(both[0], KnownRecording)


def test_mirrored_features_are_those_of_mirrored_crops() -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:128, :128].astype(np.float32)
    texture = sum(
        rng.uniform(5, 15) * np.sin(rng.uniform(0.1, 0.6) * x + rng.uniform(-0.6, 0.6) * y + rng.uniform(0, 6))
        for _ in range(12)
    )
    bump = 1.5 * np.exp(-((x - 45) ** 2 + (y - 40) ** 2) / 200)
    from scipy.ndimage import map_coordinates

    first = np.clip(128 + texture, 0, 255)
    second = map_coordinates(first, [y + 0.4 * bump, x - bump], order=3, mode="nearest")
    landmarks = np.full((68, 2), 64.0, np.float32)
    for number, place in {17: (19, 30), 19: (27, 24), 21: (40, 28), 41: (40, 41), 60: (45, 88), 50: (52, 82)}.items():
        landmarks[number] = place
    for left, right in ((17, 26), (19, 24), (21, 22), (41, 46), (60, 64), (50, 52)):
        landmarks[right] = (127 - landmarks[left][0], landmarks[left][1])
    landmarks[57] = (63.5, 96)

    def features(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        crops = [
            Crop(
                source="x",
                frame=frame,
                number=frame,
                t_capture_s=0.0,
                segment=0,
                image=np.ascontiguousarray(np.rint(np.clip(image, 0, 255)).astype(np.uint8)),
                landmarks68=landmarks,
            )
            for frame, image in enumerate((a, b))
        ]
        found = PairMaker().features(*crops)
        assert found is not None
        return found.astype(np.float32)

    straight, turned = features(first, second), features(first[:, ::-1], second[:, ::-1])
    difference = np.abs(mirrored(straight[None])[0] - turned)
    assert difference.mean() < 0.02
    assert np.abs(straight - turned).mean() > 5 * difference.mean()
    np.testing.assert_allclose(mirrored(mirrored(straight)), straight, atol=1e-6)
    assert (mirrored(np.zeros((1, 42, 42, 3), np.float32)) == 0).all()


def test_scaled_features_are_those_of_a_stronger_motion_in_the_regions() -> None:
    y, x = np.mgrid[:128, :128].astype(np.float32)
    landmarks = np.full((68, 2), 64.0, np.float32)
    for number, place in {17: (20, 30), 26: (108, 30), 19: (27, 24), 24: (100, 24), 41: (40, 41), 46: (88, 41)}.items():
        landmarks[number] = place
    for number, place in {60: (45, 88), 64: (83, 88), 50: (52, 82), 57: (64, 92)}.items():
        landmarks[number] = place
    bump = np.exp(-((x - 64) ** 2 + (y - 88) ** 2) / 60)
    rim = 3 * np.exp(-((x - 120) ** 2 + (y - 60) ** 2) / 8) - 3 * np.exp(-((x - 8) ** 2 + (y - 60) ** 2) / 8)

    def flow(gain: float) -> np.ndarray:
        return np.stack([gain * bump + rim, 0.5 * gain * bump + rim], axis=-1).astype(np.float32)

    weak, strong = (mean_features(flow(gain), landmarks) for gain in (1.0, 1.5))
    result = scaled(weak[None], np.array([1.5], np.float32))[0]
    np.testing.assert_allclose(result, strong, atol=0.01)
    assert np.abs(strong - weak).max() > 0.05
    # A gain on the whole flow would be invisible.
    np.testing.assert_allclose(mean_features(2 * flow(1.0), landmarks), weak, atol=1e-5)


def test_nothing_to_change_and_repeatable_changes() -> None:
    assert changer(frozenset({"rate", "negatives"})) is None
    change = changer(frozenset({"mirror", "scale"}))
    assert change is not None
    features = np.random.default_rng(0).random((8, 42, 42, 3), np.float32)
    before = features.copy()
    first, again = (change(features, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(features, before)
    assert first.dtype == np.float32
    assert not np.array_equal(first, features)
