from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mean_files import GOOD, write_mean

from megc_stream.errors import ModelError
from megc_stream.models import MeanModel, OnnxModel, find_mean, model_path, sha256_of, shipped_models


def test_a_model_says_what_it_is_and_scores_batches(tmp_path: Path) -> None:
    model = MeanModel(write_mean(tmp_path / "tiny.onnx"))
    assert model.info.name == "mean-tiny"
    assert model.info.classes == ("negative", "positive", "surprise")
    assert (model.info.k_s, model.info.k_prime_s) == (0.1, 0.185)
    assert model.info.sha256 == sha256_of(tmp_path / "tiny.onnx")
    features = np.random.default_rng(0).random((5, 42, 42, 3), np.float32)
    spot, recog = model.score(features)
    assert np.allclose(spot, features.mean((1, 2, 3)), atol=1e-6)
    assert recog.shape == (5, 3)
    assert np.allclose(recog.sum(1), 1)
    assert np.allclose(model.score(features[:1])[0], spot[:1], atol=1e-6)


def test_the_shipped_model_is_found_by_name_and_works() -> None:
    assert "mean-synthetic" in shipped_models()
    model = MeanModel(find_mean("mean-synthetic"))
    assert model.info.name == "mean-synthetic"
    assert model.info.classes == ("negative", "positive", "surprise")
    spot, recog = model.score(np.zeros((2, 42, 42, 3), np.float32))
    assert np.isfinite(spot).all()
    assert np.allclose(recog.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 40}, r"expected one input 'features' \(B, 42, 42, 3\)"),
        ({"outputs": ("score", "recog")}, r"expected 'spot' \(B, 1\) and 'recog' \(B, C\)"),
        ({"metadata": {}}, "metadata 'classes' is missing"),
        ({"metadata": {**GOOD, "classes": "negative"}}, "metadata cannot be read"),
        ({"metadata": {**GOOD, "k_s": "soon"}}, "metadata cannot be read"),
        ({"metadata": {**GOOD, "k_s": "nan"}}, "metadata cannot be read"),
        ({"metadata": {**GOOD, "k_prime_s": "-5"}}, "metadata cannot be read"),
        ({"metadata": {**GOOD, "classes": "3"}}, "metadata cannot be read"),
        ({"metadata": {**GOOD, "classes": "[1, 2, 3]"}}, "metadata cannot be read"),
        ({"double": True}, r"expected one input 'features' \(B, 42, 42, 3\) float32"),
        ({"batch": 8}, "cannot score a batch of 2"),
        ({"batch": 1}, "cannot score a batch of 2"),
        ({"classes": 5}, "recog has 5 classes, its metadata name 3"),
    ],
)
def test_foreign_models_are_refused_by_name(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = write_mean(tmp_path / "other.onnx", **changes)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=words) as caught:
        MeanModel(path)
    assert str(path) in str(caught.value)


def test_a_face_model_is_not_a_mean_model() -> None:
    with pytest.raises(ModelError, match="expected one input 'features'"):
        MeanModel(model_path("mediapipe-face-detector.onnx"))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        find_mean(str(tmp_path / "none.onnx"))
    with pytest.raises(ModelError, match=r"'mean-nothing': unknown; expected one of .*mean-synthetic"):
        find_mean("mean-nothing")
    with pytest.raises(ModelError, match="no such file"):
        OnnxModel(tmp_path)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"damaged\.onnx: ONNX Runtime cannot load it"):
        OnnxModel(damaged)
    with pytest.raises(ModelError, match="installation is damaged"):
        model_path("nothing.onnx")


def test_unknown_and_absent_providers_are_named(tmp_path: Path) -> None:
    path = write_mean(tmp_path / "tiny.onnx")
    with pytest.raises(ModelError, match="provider 'abacus': unknown; expected one of cpu, cuda"):
        OnnxModel(path, ("abacus",))
