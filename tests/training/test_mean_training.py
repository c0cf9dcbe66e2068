"""Targets, a small training run, scores of a perfect model, and the whole way to file and card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generated_pairs import generated_clip

from megc_stream.errors import DataError
from megc_stream.models import MeanModel, sha256_of
from megc_stream.training import synthetic
from megc_stream.training.corpus import ClipPairs, ClipSpec
from megc_stream.training.pairs import CLASSES
from megc_stream.training.scoring import pooled, score_clips
from megc_stream.training.synthetic import train_synthetic
from megc_stream.training.targets import recognition_labels, spotting_targets, synthetic_lessons
from megc_stream.training.train import EpochLoss, TrainSettings, train_mean

_SHORT = TrainSettings(spot_epochs=3, recog_epochs=3, batch=32)


def test_targets_follow_the_motion() -> None:
    clip = replace(
        generated_clip(frame_count=100),
        motion_px=np.array([0.0, 0.05, 0.125, 0.25, 2.0, -0.125, -2.0], np.float32),
        event=np.array([-1, 0, 0, 0, 0, 0, 0]),
    )
    np.testing.assert_allclose(spotting_targets(clip), [0, 0.2, 0.5, 1, 1, 0.5, 1])
    emotion = CLASSES.index(clip.events[0].emotion)
    np.testing.assert_array_equal(recognition_labels(clip), [-1, -1, emotion, emotion, emotion, -1, -1])


def test_perfect_scores_find_and_name_everything() -> None:
    clips = [generated_clip("anna"), generated_clip("bert", 1)]

    def oracle(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bands = np.stack([features[:, 4 + 14 * n : 12 + 14 * n].mean(axis=(1, 2)) for n in range(3)], axis=1)
        brightest = bands.max(axis=1)[:, :2].max(axis=1)
        return (brightest > 0.4).astype(np.float32), bands[:, :, 0]

    for mode in ("video", "causal"):
        result, ceiling = pooled(score_clips(oracle, clips, mode, 0.15))
        assert ceiling == 1.0
        # The causal threshold needs 2 s of scores, which covers the first event of each clip.
        assert result.spotting.fp == 0
        assert result.spotting.tp >= (8 if mode == "video" else 6)
        assert result.f1_analysis == 1.0


@pytest.mark.train
def test_training_lowers_the_loss_and_repeats() -> None:
    torch = pytest.importorskip("torch", reason="needs torch (extra `train`)")
    losses: list[EpochLoss] = []
    lessons = synthetic_lessons([generated_clip("anna")], [generated_clip("bert", 1)], 3, 320, 128)
    trained = train_mean(*lessons, seed=3, settings=_SHORT, progress=losses.append)
    assert tuple(losses) == trained.epochs
    for step, kept in (("spot", trained.spot_epoch), ("recog", trained.recog_epoch)):
        own = [loss for loss in losses if loss.step == step]
        assert own[-1].training < 0.95 * own[0].training
        assert own[kept].validation == min(loss.validation for loss in own)
    threads = torch.get_num_threads()
    again = train_mean(*lessons, seed=3, settings=_SHORT)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_missing_cases_are_named() -> None:
    clip = generated_clip()
    dull = replace(clip, motion_px=np.zeros_like(clip.motion_px))
    with pytest.raises(DataError, match=r"validation clips: .*0.* of the cases of the spot head"):
        synthetic_lessons([clip], [dull], 0, 320, 128)
    with pytest.raises(DataError, match="training clips: none"):
        synthetic_lessons([], [clip], 0, 320, 128)


@pytest.mark.train
def test_from_portraits_to_file_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="needs torch (extra `train`)")
    pytest.importorskip("onnx", reason="needs onnx (extra `train`)")
    for person in ("frll_001", "frll_002", "frll_003"):
        (tmp_path / f"{person}_neutral.jpg").touch()

    def generated(specs: list[ClipSpec], *_: object, **__: object) -> list[ClipPairs]:
        return [generated_clip(spec.person, spec.seed % 1000) for spec in specs[:2]]

    monkeypatch.setattr(synthetic, "prepare_corpus", generated)
    out = tmp_path / "models" / "mean-tiny.onnx"
    said: list[str] = []
    result = train_synthetic(
        tmp_path,
        out,
        seed=7,
        progress=lambda what, *_: said.append(what),
        cache=tmp_path,
        settings=_SHORT,
        epoch_pairs=320,
    )
    assert said == ["training (spot)"] * 4 + ["training (recog)"] * 3
    model = MeanModel(out)
    assert model.info.name == "mean-tiny"
    assert model.info.classes == CLASSES
    assert (model.info.k_s, model.info.k_prime_s) == (0.1, 0.135)
    assert "London Set" in model.info.trained_on
    card = result.card.read_text(encoding="utf-8")
    assert sha256_of(out) in card
    assert "**This model has seen no real micro-expression." in card
    assert all(person in card for person in ("frll_001", "frll_002", "frll_003"))
    assert card.count("| whole video |") == 3  # in the pooled table at 30 fps and all, and event by event
    assert str(tmp_path) not in card
