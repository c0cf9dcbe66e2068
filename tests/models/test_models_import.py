from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_files import random_weights, write_keras

from megc_stream.errors import MegcError, ModelError, OutputError, UsageError
from megc_stream.models import (
    ImportOptions,
    MeanModel,
    OnnxModel,
    build_mean,
    import_mean,
    mean_reference,
    read_mean_weights,
)

GOLDEN = ("SAMMLV_s1", "CASME_sq_s1", "CASME2_s3", "SMIC_HS_s2")
FEATURES = np.random.default_rng(7).random((3, 42, 42, 3), np.float32)


def _outputs(path: Path, features: np.ndarray) -> list[np.ndarray]:
    return OnnxModel(path).run({"features": features})


@pytest.mark.parametrize("name", GOLDEN)
def test_published_weights_give_published_outputs(shared: Path, tmp_path: Path, name: str) -> None:
    golden = np.load(shared / "golden" / "mean" / f"{name}.npz")
    out = tmp_path / f"{name}.onnx"
    result = import_mean([shared / "golden" / "mean" / f"{name}.hdf5"], out, ImportOptions(name=name))
    spot, recog = _outputs(out, golden["inputs"])
    assert np.abs(spot - golden["spot"]).max() <= 1e-5
    assert np.abs(recog - golden["recog"]).max() <= 1e-5
    assert result.difference <= 1e-5
    assert len(result.classes) == golden["recog"].shape[1]
    # The person left out of this fold had no rated expression, so its recognition head was never trained.
    assert bool(result.untrained) == (name == "CASME_sq_s1")


def test_published_weights_averaged_are_the_mean_of_the_single_networks(shared: Path, tmp_path: Path) -> None:
    golden = [np.load(shared / "golden" / "mean" / f"{name}.npz") for name in GOLDEN if name != "CASME2_s3"]
    files = [shared / "golden" / "mean" / f"{name}.hdf5" for name in GOLDEN if name != "CASME2_s3"]
    out = tmp_path / "three.onnx"
    import_mean(files, out, ImportOptions(name="three"))
    for data in golden:
        singles = []
        for number, file in enumerate(files):
            single = tmp_path / f"single{number}.onnx"
            import_mean([file], single, ImportOptions(name="single"), overwrite=True)
            singles.append(_outputs(single, data["inputs"]))
        for index, got in enumerate(_outputs(out, data["inputs"])):
            assert np.abs(got - np.mean([single[index] for single in singles], axis=0)).max() <= 1e-5


@pytest.mark.parametrize("count", [1, 2, 4, 5])
@pytest.mark.parametrize("flipped", [False, True])
def test_the_graph_computes_the_mean_of_the_networks(tmp_path: Path, count: int, flipped: bool) -> None:
    networks = [random_weights(seed, 5, flipped=flipped and seed % 2 == 0) for seed in range(count)]
    path = tmp_path / "some.onnx"
    path.write_bytes(build_mean(networks, {"name": "some"}))
    singles = [mean_reference(network, FEATURES) for network in networks]
    for index, got in enumerate(_outputs(path, FEATURES)):
        np.testing.assert_allclose(got, np.mean([single[index] for single in singles], axis=0), atol=1e-5)
    assert build_mean(networks, {"name": "some"}) == path.read_bytes()


def test_networks_can_be_left_out_of_the_probabilities_alone(tmp_path: Path) -> None:
    files = [
        write_keras(tmp_path / f"s{seed}.hdf5", random_weights(seed, trained=seed != 1), first=10 * seed)
        for seed in range(3)
    ]
    result = import_mean(files, tmp_path / "kept.onnx", ImportOptions(name="kept", only_trained=True))
    assert result.untrained == (str(files[1]),)
    assert any("s1.hdf5" in warning and "left out" in warning for warning in result.warnings)
    singles = [mean_reference(random_weights(seed, trained=seed != 1), FEATURES) for seed in range(3)]
    spot, recog = _outputs(tmp_path / "kept.onnx", FEATURES)
    np.testing.assert_allclose(spot, np.mean([single[0] for single in singles], axis=0), atol=1e-5)
    np.testing.assert_allclose(recog, (singles[0][1] + singles[2][1]) / 2, atol=1e-5)
    metadata = MeanModel(tmp_path / "kept.onnx").metadata
    assert json.loads(metadata["recognition_untrained"]) == ["s1.hdf5"]
    assert metadata["recognition_averaged_over"] == "2"


@pytest.mark.parametrize("whole_model", [False, True])
@pytest.mark.parametrize("first", [0, 7, 97])
def test_both_layouts_and_any_numbers_of_layers_are_read(tmp_path: Path, whole_model: bool, first: int) -> None:
    weights = random_weights(3)
    read = read_mean_weights(write_keras(tmp_path / "w.hdf5", weights, whole_model=whole_model, first=first))
    for got, wanted in zip(mean_reference(read, FEATURES), mean_reference(weights, FEATURES), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_an_imported_file_says_what_it_is(tmp_path: Path) -> None:
    file = write_keras(tmp_path / "w.hdf5", random_weights(0))
    options = ImportOptions(name="mine", classes=("a", "b", "c"), k_s=0.12, k_prime_s=0.185, trained_on="our own")
    result = import_mean([file], tmp_path / "mine.onnx", options)
    assert result.warnings == ()
    model = MeanModel(tmp_path / "mine.onnx")
    assert model.info.name == "mine"
    assert model.info.classes == ("a", "b", "c")
    assert (model.info.k_s, model.info.k_prime_s, model.info.trained_on) == (0.12, 0.185, "our own")
    assert "no licence file" in model.metadata["licence"] or "without a licence file" in model.metadata["licence"]
    assert json.loads(model.metadata["weights"])[0]["file"] == "w.hdf5"
    difference = model.difference()
    assert difference is not None
    assert difference < 1e-5
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("count", "names", "origin"),
    [
        (3, ("negative", "positive", "surprise"), "published training code"),
        (5, ("disgust", "happiness", "others", "surprise", "repression"), "published training code"),
        (7, tuple(f"class {number}" for number in range(7)), "unknown"),
    ],
)
def test_names_of_classes_and_where_they_come_from(
    tmp_path: Path, count: int, names: tuple[str, ...], origin: str
) -> None:
    file = write_keras(tmp_path / "w.hdf5", random_weights(0, count))
    result = import_mean([file], tmp_path / "m.onnx", ImportOptions(name="m"))
    assert result.classes == names
    assert origin in MeanModel(tmp_path / "m.onnx").metadata["classes_from"]
    assert any("--classes" in warning for warning in result.warnings) == (origin == "unknown")
    assert any("k' was not given" in warning for warning in result.warnings)


def _drop(*names: str) -> Any:
    def change(root: Any) -> None:
        for name in names:
            del root[name]

    return change


def _without_name(name: str) -> Any:
    def change(root: Any) -> None:
        root.attrs["layer_names"] = [layer for layer in root.attrs["layer_names"] if layer != name]

    return change


def _replace(name: str, value: Any) -> Any:
    def change(root: Any) -> None:
        del root[name]
        root[name] = value

    return change


def _drop_attribute(root: Any) -> None:
    del root.attrs["layer_names"]


def _as_string(root: Any) -> None:
    del root["spot/spot_42/bias:0"]
    root["spot/spot_42/bias:0"] = "zero"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop_attribute, "attribute 'layer_names' is missing"),
        (_without_name("recog"), "layer 'recog' is missing; .*'spot_recog'"),
        (_without_name("conv2d_99"), "4 conv2d layers instead of 5"),
        (_without_name("batch_normalization_9"), "2 batch_normalization layers instead of 3"),
        (_drop("spot"), "layer 'spot' is named and missing"),
        (_drop("conv2d_96/conv2d_96/kernel:0"), "'kernel' of layer 'conv2d_96' is named and missing"),
        (
            _replace("conv2d_98/conv2d_98/kernel:0", np.zeros((5, 5, 1, 3), np.float32)),
            r"'kernel' of layer 'conv2d_98' has shape \(5, 5, 1, 3\); expected \(5, 5, 1, 8\)",
        ),
        (_replace("recog/recog_42/bias:0", np.zeros(5, np.float32)), "'recog' has 3 outputs and 5 biases"),
        (_replace("recog/recog_42/kernel:0", np.zeros((392, 400_000), np.int8)), "expected floating-point numbers"),
        (_replace("spot/spot_42/bias:0", np.array([np.nan], np.float32)), "'bias' of layer 'spot' is not finite"),
        (
            _replace("batch_normalization_9/batch_normalization_9/moving_variance:0", -np.ones(3, np.float32)),
            "negative moving_variance",
        ),
        (_as_string, "'bias' of layer 'spot' has shape"),
    ],
)
def test_foreign_and_damaged_weights_are_refused_by_name(tmp_path: Path, change: Any, words: str) -> None:
    path = write_keras(tmp_path / "w.hdf5", random_weights(0), change=change)
    with pytest.raises(ModelError, match=words) as caught:
        read_mean_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.hdf5: no such file"):
        read_mean_weights(tmp_path / "none.hdf5")
    for content in (b"", b"<html>not found</html>", b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "w.hdf5").write_bytes(content)
        with pytest.raises(ModelError, match=r"w\.hdf5: cannot be read as HDF5"):
            read_mean_weights(tmp_path / "w.hdf5")
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["table"] = np.arange(5)
    with pytest.raises(ModelError, match="Keras did not write it"):
        read_mean_weights(tmp_path / "other.hdf5")


def test_cut_and_scrambled_files_never_give_anything_but_a_model_error(tmp_path: Path) -> None:
    rng = random.Random(0)
    whole = write_keras(tmp_path / "w.hdf5", random_weights(0)).read_bytes()
    spoilt = [whole[: rng.randrange(len(whole))] for _ in range(30)] + [whole[:-1]]
    for _ in range(70):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 8, 200])):
            content[rng.randrange(rng.choice([4096, len(content)]))] = rng.randrange(256)
        spoilt.append(bytes(content))
    path = tmp_path / "spoilt.hdf5"
    errors = 0
    for content in spoilt:
        path.write_bytes(content)
        try:
            read_mean_weights(path)
        except ModelError as error:
            errors += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
    assert errors >= 31


def test_wrong_calls_write_nothing(tmp_path: Path) -> None:
    three = write_keras(tmp_path / "three.hdf5", random_weights(0))
    five = write_keras(tmp_path / "five.hdf5", random_weights(0, 5))
    there = tmp_path / "there.onnx"
    there.write_text("mine")
    new, name = tmp_path / "new.onnx", "m"
    calls: list[tuple[list[Path], Path, ImportOptions, type[MegcError], str]] = [
        ([three, five], new, ImportOptions(name=name), ModelError, r"five\.hdf5: 5 classes, but .*three\.hdf5 has 3"),
        ([three], there, ImportOptions(name=name), UsageError, "exists; choose another name or say --overwrite"),
        ([three], five, ImportOptions(name=name), UsageError, "expected the .onnx file to write"),
        ([three], tmp_path / "no" / "m.onnx", ImportOptions(name=name), UsageError, "does not exist"),
        ([], new, ImportOptions(name=name), UsageError, "no weight file"),
        ([three], new, ImportOptions(name=name, classes=("a", "b")), UsageError, "3 outputs; expected 3 names"),
        ([three], new, ImportOptions(name=name, classes=("a", "b", "b")), UsageError, "expected 3 names"),
        ([three], new, ImportOptions(name=name, k_s=0), UsageError, "k 0 s: expected a duration"),
        ([three], new, ImportOptions(name=name, k_prime_s=float("nan")), UsageError, "k' nan s"),
    ]
    for files, out, options, kind, words in calls:
        with pytest.raises(kind, match=words):
            import_mean(files, out, options)
    assert there.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["five.hdf5", "there.onnx", "three.hdf5"]
    import_mean([three], there, ImportOptions(name=name), overwrite=True)
    assert MeanModel(there).info.name == name


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_keras(tmp_path / "w.hdf5", random_weights(0))

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"m\.onnx: cannot be written \(No space left on device\)"):
        import_mean([file], tmp_path / "m.onnx", ImportOptions(name="m"))
