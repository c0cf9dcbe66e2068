from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from keras_files import random_weights
from weight_server import WeightServer, serving

from megc_stream.errors import ModelError, OutputError, UsageError
from megc_stream.models import (
    MeanModel,
    entries,
    expected_sha256,
    fetch_mean,
    fetchable,
    find_mean,
    fold_of,
    mean_reference,
    sha256_of,
    verify_model,
)

FEATURES = np.random.default_rng(1).random((2, 42, 42, 3), np.float32)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightServer]:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as state:
        yield state


def test_all_folds_become_one_model_that_is_found_by_name(server: WeightServer, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = fetch_mean(server.entry(), progress=lambda done, total: seen.append((done, total)))
    assert server.asked == ["s1.hdf5", "s2.hdf5", "s3.hdf5"]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert find_mean("mean-test") == cache / "mean-test.onnx" == result.path
    model = MeanModel(result.path)
    assert (model.info.k_s, model.info.k_prime_s, model.info.trained_on) == (0.1, 0.185, "nothing")
    assert "not leave-one-subject-out" in model.metadata["note"]
    assert "no licence file" in model.metadata["licence"]
    # Fold 2 has an untrained recognition head: its score counts, its emotions do not.
    singles = [mean_reference(random_weights(fold, trained=fold != 2), FEATURES) for fold in (1, 2, 3)]
    spot, recog = model.score(FEATURES)
    np.testing.assert_allclose(spot, np.mean([single[0][:, 0] for single in singles], axis=0), atol=1e-5)
    np.testing.assert_allclose(recog, (singles[0][1] + singles[2][1]) / 2, atol=1e-5)
    recorded = json.loads((cache / "checksums.json").read_bytes())
    assert recorded["mean-test/s2.hdf5"] == hashlib.sha256(server.files["s2.hdf5"]).hexdigest()
    assert expected_sha256("mean-test", result.path) == recorded["mean-test.onnx"] == sha256_of(result.path)
    assert verify_model("mean-test", result.path).problem == ""


def test_a_single_fold_has_a_name_of_its_own(server: WeightServer, cache: Path) -> None:
    entry = server.entry()
    result = fetch_mean(entry, fold=fold_of("s3", entry), k_prime_s=0.3)
    assert server.asked == ["s3.hdf5"]
    assert find_mean("mean-test-fold-3") == result.path
    assert "without the 3. person" in MeanModel(result.path).metadata["note"]
    assert result.k_prime_s == 0.3
    np.testing.assert_allclose(
        MeanModel(result.path).score(FEATURES)[1], mean_reference(random_weights(3), FEATURES)[1], atol=1e-5
    )


def test_a_known_checksum_has_to_match(server: WeightServer, cache: Path) -> None:
    good = hashlib.sha256(server.files["s1.hdf5"]).hexdigest()
    with pytest.raises(ModelError, match=rf"/s2\.hdf5 is not the file expected: its SHA-256 is not {good}"):
        fetch_mean(server.entry(fold_sha256={"s1": good, "s2": good}))
    assert not (cache / "mean-test" / "s2.hdf5").exists()
    assert not (cache / "mean-test.onnx").exists()


def test_a_file_that_changed_since_the_first_download_is_refused(server: WeightServer, cache: Path) -> None:
    fetch_mean(server.entry())
    server.files["s2.hdf5"] = server.files["s3.hdf5"]
    (cache / "mean-test" / "s2.hdf5").unlink()
    with pytest.raises(ModelError, match=r"/s2\.hdf5 is not the file expected"):
        fetch_mean(server.entry(), overwrite=True)
    assert verify_model("mean-test", cache / "mean-test.onnx").problem == ""


def test_an_interrupted_fetch_goes_on_where_it_stopped(server: WeightServer, cache: Path) -> None:
    server.cut.add("s3.hdf5")
    with pytest.raises(ModelError, match=r"s3\.hdf5 cannot be downloaded") as caught:
        fetch_mean(server.entry())
    assert "\n" not in str(caught.value)
    assert not (cache / "mean-test" / "s3.hdf5").exists()
    server.cut.clear()
    server.asked.clear()
    fetch_mean(server.entry())
    assert server.asked == ["s3.hdf5"]


def test_a_missing_file_says_what_to_download_and_where_to_put_it(server: WeightServer, cache: Path) -> None:
    server.gone.add("s1.hdf5")
    with pytest.raises(ModelError) as caught:
        fetch_mean(server.entry())
    text = str(caught.value)
    assert "the server says 404" in text
    assert "download the 3 files s1.hdf5 to s3.hdf5 from http://127.0.0.1" in text
    assert "models fetch mean-test --from FOLDER" in text
    assert caught.value.__notes__ == list(server.entry().addresses().values())


def test_without_a_network_nothing_is_written(server: WeightServer, cache: Path) -> None:
    entry = server.entry(address="http://127.0.0.1:9/MEAN_Weights/TEST/spot_recog")
    with pytest.raises(ModelError, match=r"cannot be downloaded \(.*--from FOLDER"):
        fetch_mean(entry)
    assert not list(cache.rglob("*.*"))


def test_a_page_instead_of_weights_is_not_kept(server: WeightServer, cache: Path) -> None:
    server.files["s1.hdf5"] = b"<html>please log in</html>"
    with pytest.raises(ModelError, match=r"s1\.hdf5: cannot be read as HDF5"):
        fetch_mean(server.entry())
    assert not list(cache.rglob("*.*"))


@pytest.mark.parametrize("inside", ["", "spot_recog", "TEST/spot_recog", "MEAN_Weights/TEST/spot_recog"])
def test_files_fetched_by_hand_are_imported(server: WeightServer, cache: Path, tmp_path: Path, inside: str) -> None:
    place = tmp_path / "by-hand" / inside
    place.mkdir(parents=True)
    for name, content in server.files.items():
        (place / name).write_bytes(content)
    entry = server.entry(fold_sha256={"s2": hashlib.sha256(server.files["s2.hdf5"]).hexdigest()})
    result = fetch_mean(entry, given=tmp_path / "by-hand", folder=tmp_path / "mine")
    assert server.asked == []
    assert result.path == tmp_path / "mine" / "mean-test.onnx"
    assert result.networks == 3
    (place / "s2.hdf5").write_bytes(server.files["s1.hdf5"])
    with pytest.raises(ModelError, match=r"s2\.hdf5: its SHA-256 is not"):
        fetch_mean(entry, given=tmp_path / "by-hand")
    (place / "s3.hdf5").unlink()
    with pytest.raises(ModelError, match=r"1 of 3 weight files are missing \(s3\.hdf5\); download") as caught:
        fetch_mean(entry, given=tmp_path / "by-hand")
    assert caught.value.__notes__ == [entry.addresses()["s3"]]
    with pytest.raises(UsageError, match="no such folder"):
        fetch_mean(entry, given=tmp_path / "nowhere")


def test_wrong_calls(server: WeightServer, cache: Path, tmp_path: Path) -> None:
    entry = server.entry()
    for text in ("s4", "0", "s", "-1", "one", "99999999"):
        with pytest.raises(UsageError, match="expected s1 to s3"):
            fold_of(text, entry)
    assert fold_of("02", entry) == 2
    with pytest.raises(UsageError, match="unknown; can be fetched: mean-samm-lv"):
        fetchable("mean-nothing")
    with pytest.raises(UsageError, match="comes with megc-stream"):
        fetchable("mean-synthetic")
    assert fetchable("mean-samm-lv") is entries()["mean-samm-lv"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be created"):
        fetch_mean(entry, folder=tmp_path / "file")
    fetch_mean(entry)
    with pytest.raises(UsageError, match="exists; say --overwrite"):
        fetch_mean(entry)


def test_a_damaged_record_of_checksums_is_named(server: WeightServer, cache: Path) -> None:
    cache.mkdir()
    (cache / "checksums.json").write_text("[")
    with pytest.raises(ModelError, match=r"checksums\.json: cannot be read"):
        fetch_mean(server.entry())
