from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from keras_files import random_weights
from mean_files import GOOD, write_mean

from megc_stream.errors import ModelError
from megc_stream.models import (
    PUBLISHED_CLASSES,
    MeanModel,
    build_mean,
    entries,
    expected_sha256,
    find_mean,
    installed_models,
    model_path,
    sha256_of,
    shipped_models,
    verify_model,
)


def test_the_registry_knows_every_shipped_model_and_agrees_with_it(cache: Path) -> None:
    shipped = {name for name, entry in entries().items() if entry.origin == "shipped"}
    assert shipped <= set(shipped_models())
    for name in shipped:
        path, entry = model_path(f"{name}.onnx"), entries()[name]
        assert expected_sha256(name, path) == sha256_of(path), f"{name}: correct registry.toml or the card"
        if entry.classes:
            info = MeanModel(path).info
            assert (info.classes, info.k_s, info.k_prime_s) == (entry.classes, entry.k_s, entry.k_prime_s)


def test_the_published_weights_are_described(cache: Path) -> None:
    published = {name: entry for name, entry in entries().items() if entry.origin == "published"}
    folds = {name: entry.folds for name, entry in published.items()}
    assert folds == {
        "mean-samm-lv": 29,
        "mean-casme-sq": 14,
        "mean-casme2": 26,
        "mean-smic-hs": 16,
        "mean-smic-vis": 8,
        "mean-smic-nir": 8,
    }
    for entry in published.values():
        assert "no licence file" in entry.licence
        assert entry.classes == PUBLISHED_CLASSES[len(entry.classes)]
        assert entry.k_s == 0.1
        assert re.fullmatch(r"https://\S+/[0-9a-f]{40}/MEAN_Weights/\w+/spot_recog", entry.address)
        assert list(entry.addresses())[-1] == f"s{entry.folds}"
        assert set(entry.fold_sha256) <= set(entry.addresses())
        assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in entry.fold_sha256.values())
    assert published["mean-samm-lv"].scores[0].strs == 0.05
    assert published["mean-casme-sq"].k_prime_s == 0.2


def test_recorded_checksums_are_those_of_the_published_files(shared: Path) -> None:
    for name, stem in (
        ("mean-samm-lv", "SAMMLV_s1"),
        ("mean-casme-sq", "CASME_sq_s1"),
        ("mean-casme2", "CASME2_s3"),
        ("mean-smic-hs", "SMIC_HS_s2"),
    ):
        fold = stem.rpartition("_")[2]
        assert entries()[name].fold_sha256[fold] == sha256_of(shared / "golden" / "mean" / f"{stem}.hdf5")


def test_models_of_the_cache_are_found_by_name(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"'mean-samm-lv': not fetched yet; 'megc-stream models fetch mean-samm-lv'"):
        find_mean("mean-samm-lv")
    cache.mkdir()
    path = write_mean(cache / "mean-samm-lv.onnx")
    write_mean(cache / ".mean-half.onnx")
    assert find_mean("mean-samm-lv") == path
    assert installed_models()["mean-samm-lv"] == path
    assert not any("half" in name for name in installed_models())
    # A file in the cache never takes the place of one that is shipped.
    write_mean(cache / "mean-synthetic.onnx")
    assert find_mean("mean-synthetic") == installed_models()["mean-synthetic"] != cache / "mean-synthetic.onnx"


@pytest.mark.parametrize("name", ["mean-synthetic", "mediapipe-face-detector", "mediapipe-face-mesh"])
def test_shipped_models_pass(cache: Path, name: str) -> None:
    check = verify_model(name, model_path(f"{name}.onnx"))
    assert check.problem == ""
    assert check.checksum == "matches"


def test_a_model_that_is_not_what_it_should_be_is_found_out(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "mean-synthetic.onnx"
    shutil.copy(model_path("mean-synthetic.onnx").with_suffix(".md"), tmp_path)
    write_mean(path)
    check = verify_model("mean-synthetic", path)
    assert check.checksum == "differs"
    assert "install or fetch it again" in check.problem
    path.write_bytes(b"not a model")
    assert "ONNX Runtime cannot load it" in verify_model("mean-synthetic", path).problem
    with pytest.raises(ModelError, match="no such file"):
        verify_model("gone", tmp_path / "gone.onnx")


def test_changed_weights_are_found_by_the_recorded_outputs(cache: Path, tmp_path: Path) -> None:
    good, other = (build_mean([random_weights(seed)], GOOD) for seed in (0, 1))
    path = tmp_path / "changed.onnx"
    path.write_bytes(good)
    check = verify_model("changed", path)
    assert check.problem == ""
    assert check.checksum == "not recorded"
    assert check.difference is not None
    assert check.difference < 1e-5
    # The other network's weights under this one's recorded outputs.
    import onnx

    spoilt, recorded = onnx.load_from_string(other), onnx.load_from_string(good)
    del spoilt.metadata_props[:]
    spoilt.metadata_props.extend(recorded.metadata_props)
    onnx.save(spoilt, path)
    assert "outputs differ by" in verify_model("changed", path).problem
    onnx.helper.set_model_props(spoilt, {**GOOD, "check_spot": "[0.5]", "check_recog": "soon"})
    onnx.save(spoilt, path)
    assert "recorded outputs cannot be read" in verify_model("changed", path).problem
