"""Training on recordings from end to end: a tiny corpus in the layout of SAMM Long Videos, and one in the plain one."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from samm_layout import write_samm_layout

from megc_stream.datasets import DataSet, read_dataset
from megc_stream.errors import DataError, UsageError
from megc_stream.models import MeanModel, sha256_of
from megc_stream.synthesis import synth_clip
from megc_stream.training import DataOptions, data_sets, recordings, train_on_data
from megc_stream.training.recordings import known_recordings, prepare_recordings
from megc_stream.training.train import PUBLISHED

_SUBJECTS = ("006", "007", "008")
_OPTIONS = DataOptions(
    augment=frozenset({"mirror", "scale", "rate"}), settings=replace(PUBLISHED, spot_epochs=1, recog_epochs=2)
)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    data = pytest.importorskip("skimage.data", reason="needs a portrait from scikit-image")
    head = data.astronaut()[:320, 60:400, ::-1]
    files = []
    for number, image in enumerate((head, head[:, ::-1], head[:, :, ::-1])):
        files.append(tmp_path_factory.mktemp("portraits") / f"p{number}_neutral.png")
        cv2.imwrite(str(files[-1]), np.ascontiguousarray(image))
    return files


@pytest.fixture(scope="module")
def samm(tmp_path_factory: pytest.TempPathFactory, portraits: list[Path]) -> Path:
    """One recording of 1 s with one event of each of three subjects."""
    root = tmp_path_factory.mktemp("SAMMLV")
    assert write_samm_layout(root, portraits, recordings=1, seconds=1.0, events=1, plan={"length_s": (0.2, 0.3)}) == 3
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def data(samm: Path) -> DataSet:
    return read_dataset("samm-lv", samm)


@pytest.mark.train
def test_from_samm_layout_to_models_and_scores(
    data: DataSet, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs torch (extra `train`)")
    said: list[tuple[str, int, int]] = []
    out = tmp_path / "out"
    result = train_on_data([data], out, _OPTIONS, cache=cache, progress=lambda *step: said.append(step))
    assert said[0] == ("features of recordings", 0, 3)
    assert said[-1] == ("networks", 4, 4)
    files = {f"fold-{subject}.{suffix}" for subject in _SUBJECTS for suffix in ("onnx", "json")}
    assert {file.name for file in out.iterdir()} == files | {"mean.onnx", "mean.json", "mean.md", "results.json"}

    assert [fold.test for fold in result.folds] == [(subject,) for subject in _SUBJECTS]
    for fold in result.folds:
        assert not set(fold.training) & set(fold.test)
        assert 0 < fold.negatives <= 5 * fold.positives
        own = [event for event in data.annotations if event.subject in fold.training]
        assert fold.k_prime_s == pytest.approx(np.mean([e.offset - e.onset + 1 for e in own]) / 400)
        assert {score.person for score in fold.scores["video"]} == set(fold.test)
        (truth,) = [interval for score in fold.scores["causal"] for interval in score.truth]
        (event,) = [event for event in data.annotations if event.subject == fold.fold]
        assert (truth.onset, truth.offset, truth.emotion) == (event.onset, event.offset, event.coarse)
    model = MeanModel(result.model)
    assert (model.info.name, model.info.k_s) == ("mean", 0.1)
    assert "3 micro-expressions" in model.info.trained_on
    table = json.loads(result.results.read_text(encoding="utf-8"))
    assert table["pooled"]["video"]["all recordings"]["events"] == 3
    assert table["final"]["sha256"] == sha256_of(result.model)
    card = result.card.read_text(encoding="utf-8")
    assert table["final"]["sha256"] in card
    assert "3 of 3 folds were trained" in card
    assert str(tmp_path) not in card

    # The same seed gives the same weights, and the cached features serve again.
    again = train_on_data([data], tmp_path / "again", replace(_OPTIONS, folds=1), cache=cache)
    assert [fold.sha256 for fold in again.folds] == [result.folds[0].sha256]
    assert sha256_of(again.model) == sha256_of(result.model)

    # An interrupted run goes on with what is missing.
    whole = result.results.read_bytes()
    trained: list[str] = []
    train = data_sets._train
    monkeypatch.setattr(data_sets, "_train", lambda task: (trained.append(task.fold), train(task)))
    (out / "fold-007.json").unlink()
    (out / "mean.onnx").unlink()
    resumed = train_on_data([data], out, _OPTIONS, cache=cache)
    assert trained == ["007", "mean"]
    assert resumed.kept == 2
    assert resumed.results.read_bytes() == whole

    other = replace(_OPTIONS, seed=1, folds=1)
    with pytest.raises(UsageError, match=r"fold-006.json: is of other settings"):
        train_on_data([data], out, other, cache=cache)
    replaced = train_on_data([data], out, other, cache=cache, overwrite=True)
    assert [fold.fold for fold in replaced.folds] == ["006"]
    assert not (out / "fold-007.onnx").exists()
    assert replaced.folds[0].sha256 != result.folds[0].sha256


def test_features_follow_their_sources(data: DataSet, cache: Path) -> None:
    known = known_recordings([data])
    first = prepare_recordings(known, cache, rates=True, negatives=False, seed=0)
    pairs = first[0].load()
    assert pairs.features.shape == (180, 42, 42, 3)
    # 25 frames per second: every 8th frame, and k of 3 of them.
    np.testing.assert_array_equal(pairs.rate_frames, np.arange(0, 176, 8))
    assert pairs.apex_features.shape == (1, 42, 42, 3)
    (event,) = pairs.events
    assert event.apex is not None
    np.testing.assert_array_equal(pairs.frames, np.arange(180))
    made = set(cache.iterdir())
    prepare_recordings(known, cache, rates=True, negatives=False, seed=0)
    assert set(cache.iterdir()) == made
    image = known[0].recording.path / known[0].recording.files[0]
    os.utime(image, ns=(1, 1))
    steps: list[tuple[int, int]] = []
    prepare_recordings(known, cache, rates=True, negatives=False, seed=0, progress=lambda *s: steps.append(s))
    assert steps[0] == (2, 3)


@pytest.mark.train
def test_plain_layout_with_negatives(
    portraits: list[Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs torch (extra `train`)")
    monkeypatch.setattr(recordings, "_NEGATIVE_S", 1.0)
    rows = []
    (tmp_path / "videos").mkdir()
    for person, portrait in zip(("ada", "bob"), portraits, strict=False):
        clip = tmp_path / f"{person}_1.mkv"
        synth_clip(clip, portrait, fps=30, seconds=2.0, events=1, seed=4)
        clip.rename(tmp_path / "videos" / clip.name)
        with clip.with_suffix(".csv").open(newline="", encoding="utf-8") as stream:
            (event,) = csv.DictReader(stream)
        # Without an apex: the frame whose features differ most from the onset's stands in. "ada" has no emotion.
        emotion = event["emotion"] if person == "bob" else ""
        rows.append(f"{person},{person}_1,{event['onset']},,{event['offset']},micro,{emotion}")
    (tmp_path / "annotations.csv").write_text(
        "subject,video,onset,apex,offset,type,emotion\n" + "\n".join(rows) + "\n", encoding="utf-8"
    )
    options = replace(_OPTIONS, augment=frozenset({"negatives"}))
    result = train_on_data([read_dataset("plain", tmp_path)], tmp_path / "out", options, cache=cache)
    ada, bob = result.folds
    assert (ada.test, bob.test) == (("ada",), ("bob",))
    # Who is tested on "ada" has learned a name from "bob"; who is tested on "bob" has learned none.
    assert (ada.named, bob.named) == (1, 0)
    assert [len(fold.recognised) for fold in (ada, bob)] == [0, 1]


def test_what_cannot_be_trained_on(data: DataSet, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch (extra `train`)")
    one = msgspec.structs.replace(
        data, annotations=tuple(event for event in data.annotations if event.subject == "006")
    )
    with pytest.raises(DataError, match="1 of 3 subjects have annotated micro-expressions; expected at least 2"):
        train_on_data([one], tmp_path, _OPTIONS, cache=cache)
    with pytest.raises(DataError, match="no recording in the layout samm-lv"):
        train_on_data([msgspec.structs.replace(data, recordings=())], tmp_path, _OPTIONS, cache=cache)
