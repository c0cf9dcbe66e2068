"""Portraits, the split by person, the plan, the chain down to features, and the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from megc_stream.errors import DataError, OutputError
from megc_stream.training import cache
from megc_stream.training.corpus import (
    ClipSpec,
    find_portraits,
    make_clip_pairs,
    plan_scored,
    plan_training,
    prepare_corpus,
    split_persons,
)
from megc_stream.training.pairs import CLASSES

_SPEC = ClipSpec("astronaut", seed=5, fps=30.0, seconds=2.0, events=1, length_s=(0.3, 0.4), blinks_per_s=0.5)


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = pytest.importorskip("skimage.data", reason="needs a portrait from scikit-image")
    file = tmp_path_factory.mktemp("portraits") / "astronaut_neutral.png"
    cv2.imwrite(str(file), data.astronaut()[:320, 60:400, ::-1])
    return file


def test_one_portrait_per_person(tmp_path: Path) -> None:
    for name in ("anna_smiling.jpg", "anna_neutral.jpg", "bert_2.png", "bert_1.png", "carl.jpeg", "carl.txt"):
        (tmp_path / name).touch()
    assert {person: file.name for person, file in find_portraits(tmp_path).items()} == {
        "anna": "anna_neutral.jpg",
        "bert": "bert_1.png",
        "carl": "carl.jpeg",
    }


def test_too_few_persons_or_no_folder(tmp_path: Path) -> None:
    (tmp_path / "anna_neutral.jpg").touch()
    with pytest.raises(DataError, match="1 persons found; expected at least 3"):
        find_portraits(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_portraits(tmp_path / "absent")


@pytest.mark.parametrize("count", [3, 4, 36])
def test_no_person_is_in_two_parts(count: int) -> None:
    persons = [f"p{number:02d}" for number in range(count)]
    split = split_persons(persons, seed=4)
    assert sorted((*split.training, *split.validation, *split.test)) == persons
    assert min(map(len, (split.training, split.validation, split.test))) >= 1
    assert split_persons(reversed(persons), seed=4) == split


def test_plans_are_varied_and_repeatable() -> None:
    specs = plan_training(["anna", "bert"], seed=1)
    assert plan_training(["anna", "bert"], seed=1) == specs
    assert {spec.fps for spec in specs} == {25.0, 30.0, 50.0, 100.0, 200.0}
    assert all(1 <= spec.noise_sigma <= 3 for spec in specs)
    assert len({spec.seed for spec in specs}) == len(specs)
    scored = plan_scored(["anna"], 1, ((30.0, 20.0, 6),))
    assert [(spec.fps, spec.seconds, spec.events, spec.dense) for spec in scored] == [(30.0, 20.0, 6, True)]


def test_chain_gives_features_and_truth(portrait: Path) -> None:
    dense = make_clip_pairs(replace(_SPEC, dense=True), portrait)
    assert dense.features.shape == (57, 42, 42, 3)
    assert dense.features.dtype == np.float16
    assert 0 <= dense.features.min() < dense.features.max() <= 1
    np.testing.assert_array_equal(dense.frames, np.arange(57))
    (event,) = dense.events
    assert event.emotion in CLASSES
    during = (dense.frames + dense.k > event.onset) & (dense.frames < event.offset)
    assert (dense.event[~during] == -1).all()
    assert (dense.motion_px[~during] == 0).all()
    rise = dense.motion_px[dense.frames == event.apex - dense.k]
    assert 0.018 * 50 / 3 < rise < 0.05 * 50 + 1e-3
    assert dense.motion_px[dense.frames == event.apex] < 0

    sparse = make_clip_pairs(_SPEC, portrait)
    assert 0 < len(sparse.frames) < len(dense.frames)
    # Every pair is solved from a cold start, so leaving some out changes none.
    np.testing.assert_array_equal(sparse.features, dense.features[sparse.frames])
    assert set(np.flatnonzero(during)) <= set(sparse.frames)


def test_cache_makes_each_clip_once(portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [replace(_SPEC, seconds=1.2, seed=seed) for seed in (1, 2)]
    portraits, folder = {"astronaut": portrait}, tmp_path / "cache"
    steps: list[tuple[int, int]] = []
    (first,) = prepare_corpus(specs[:1], portraits, folder, progress=lambda *step: steps.append(step))
    both = prepare_corpus(specs, portraits, folder, progress=lambda *step: steps.append(step))
    assert steps == [(0, 1), (1, 1), (1, 2), (2, 2)]
    assert len(list(folder.iterdir())) == 4

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(cache, "_make_and_store", refuse)
    for again, before in zip(prepare_corpus(specs, portraits, folder), both, strict=True):
        for name in ("spec", "frame_count", "k", "events", "person", "video"):
            assert getattr(again, name) == getattr(before, name)
        for name in ("frames", "features", "motion_px", "event"):
            np.testing.assert_array_equal(getattr(again, name), getattr(before, name))
    np.testing.assert_array_equal(first.features, both[0].features)
    with pytest.raises(AssertionError, match="made again"):
        prepare_corpus([replace(specs[0], noise_sigma=1.0)], portraits, folder)


def test_unusable_portraits_and_cache(tmp_path: Path) -> None:
    wall = tmp_path / "wall_neutral.png"
    cv2.imwrite(str(wall), np.full((200, 200), 128, np.uint8))
    with pytest.raises(DataError, match="no face"):
        make_clip_pairs(_SPEC, wall)
    broken = tmp_path / "broken_neutral.png"
    broken.touch()
    with pytest.raises(DataError, match="decoded"):
        make_clip_pairs(_SPEC, broken)
    with pytest.raises(OutputError, match="cannot be made"):
        prepare_corpus([], {}, wall / "cache")
