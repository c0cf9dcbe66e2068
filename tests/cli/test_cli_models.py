from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from keras_files import random_weights, write_keras
from outcome import Command
from weight_server import WeightServer, serving

from megc_stream.models import MeanModel, entries, find_mean, sha256_of

COMMANDS = ["list", "info", "verify", "import-mean", "fetch"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    for module in ("session", "fetching"):
        monkeypatch.setattr(f"megc_stream.models.{module}.cache_folder", lambda: folder)
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightServer]:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as state:
        monkeypatch.setitem(entries(), "mean-test", state.entry())
        yield state


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(command: Command, name: str) -> None:
    done = command("models", name, "--help")
    assert done.code == 0
    assert f"Example: megc-stream models {name}" in done.out


def test_list_names_what_is_here_and_what_can_be_fetched(command: Command) -> None:
    done = command("models", "list")
    assert done.code == 0
    assert "mean-synthetic " in done.out
    assert "fetchable" in done.out
    rows = {row["name"]: row for row in json.loads(command("models", "list", "--json", "-").out)["models"]}
    assert rows["mean-synthetic"]["state"] == "shipped"
    assert rows["mean-synthetic"]["sha256"] == sha256_of(find_mean("mean-synthetic"))
    samm = rows["mean-samm-lv"]
    assert (samm["state"], samm["folds"], samm["k_prime_s"]) == ("fetchable", 29, 0.185)
    assert samm["classes"] == ["negative", "positive", "surprise"]
    assert len(samm["addresses"]) == 29
    assert samm["sha256"] is None


def test_import_several_files_and_ask_about_the_result(command: Command, tmp_path: Path) -> None:
    files = [write_keras(tmp_path / f"s{seed}.hdf5", random_weights(seed)) for seed in range(2)]
    done = command("models", "import-mean", *files, "two.onnx", "--k-prime-s", "0.185", "--trained-on", "our lab")
    assert done.code == 0, done.err
    assert done.out == "two.onnx\n"
    assert "2 networks, classes negative, positive, surprise" in done.err
    assert "warning" not in done.err
    found = json.loads(command("models", "info", "two.onnx", "--json", "-").out)
    assert (found["name"], found["trained_on"], found["k_prime_s"]) == ("two", "our lab", 0.185)
    assert found["sha256"] == sha256_of(tmp_path / "two.onnx")
    assert found["outputs"] == {"spot": ["B", "1"], "recog": ["B", "3"]}
    shown = command("models", "info", "two.onnx").out
    assert "order of the published training code for 3 classes" in shown
    assert "our lab" in shown
    again = command("models", "import-mean", *files, "two.onnx")
    assert again.code == 2
    assert "exists; choose another name or say --overwrite" in again.err
    named = command("models", "import-mean", files[0], "two.onnx", "--classes", "a, b,c", "--overwrite", "--json", "-")
    assert json.loads(named.out)["classes"] == ["a", "b", "c"]
    assert "k' was not given: 0.2 s is assumed" in named.err


def test_wrong_imports_are_one_line(command: Command, tmp_path: Path) -> None:
    good = write_keras(tmp_path / "good.hdf5", random_weights(0))
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(good.read_bytes()[:5000])
    for arguments, code, words in (
        ([cut, "out.onnx"], 1, "cut.hdf5: cannot be read as HDF5"),
        ([good, "none.hdf5", "out.onnx"], 1, "none.hdf5: no such file"),
        ([good, cut], 2, "expected the .onnx file to write"),
        ([good, "out.onnx", "--classes", "a"], 2, "3 outputs; expected 3 names"),
        ([good], 2, "Missing argument"),
    ):
        done = command("models", "import-mean", *arguments)
        assert done.code == code, done.err
        assert words in done.err
        assert done.out == ""
    assert not (tmp_path / "out.onnx").exists()
    assert cut.stat().st_size == 5000


def test_info_of_every_kind(command: Command) -> None:
    synthetic = command("models", "info", "mean-synthetic").out
    assert "has seen no real micro-expression" in synthetic
    samm = command("models", "info", "mean-samm-lv").out
    assert "no licence file" in samm
    assert "STRS 0.050" in samm
    assert "not fetched; 'megc-stream models fetch mean-samm-lv' does it" in samm
    assert "image" in json.loads(command("models", "info", "mediapipe-face-mesh", "--json", "-").out)["inputs"]
    unknown = command("models", "info", "mean-nothing")
    assert unknown.code == 1
    assert "unknown; expected one of mean-synthetic" in unknown.err


def test_verify_all_one_and_a_damaged_one(command: Command, tmp_path: Path) -> None:
    done = command("models", "verify", "--json", "-")
    assert done.code == 0, done.err
    assert {row["checksum"] for row in json.loads(done.out)["models"]} == {"matches"}
    assert "mean-synthetic: good; SHA-256 matches" in command("models", "verify", "mean-synthetic").out
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    broken = command("models", "verify", "broken.onnx")
    assert broken.code == 1
    assert "broken: damaged" in broken.out
    assert "ONNX Runtime cannot load it" in broken.err


def test_fetch_says_what_it_does_and_does_it(command: Command, server: WeightServer, cache: Path) -> None:
    done = command("models", "fetch", "mean-test")
    assert done.code == 0, done.err
    assert done.out == f"{cache / 'mean-test.onnx'}\n"
    assert "licence: the repository has no licence file" in done.err
    assert "3 of the files have no known checksum: the first download is trusted" in done.err
    assert "not leave-one-subject-out" in done.err
    assert "left out of the emotions" in done.err
    assert "Downloading" not in done.err
    assert MeanModel(find_mean("mean-test")).info.name == "mean-test"
    rows = {row["name"]: row for row in json.loads(command("models", "list", "--json", "-").out)["models"]}
    assert rows["mean-test"]["state"] == "fetched"
    verified = command("models", "verify", "mean-test")
    assert "mean-test: good; SHA-256 matches" in verified.out
    shown = command("models", "info", "mean-test").out
    assert "average of 3 leave-one-subject-out networks" in shown
    assert "recognition heads of s2.hdf5; emotions averaged over 2 networks" in shown
    server.asked.clear()
    again = command("models", "fetch", "mean-test")
    assert again.code == 0
    assert "already there" in again.err
    assert server.asked == []


def test_fetch_one_fold_into_a_folder(command: Command, server: WeightServer, tmp_path: Path) -> None:
    done = command("models", "fetch", "mean-test", "--fold", "s2", "--to", "mine", "--json", "-")
    assert done.code == 0, done.err
    assert json.loads(done.out)["path"] == "mine/mean-test-fold-2.onnx"
    assert "never trained (all of them): its emotions mean nothing" in done.err
    assert server.asked == ["s2.hdf5"]
    assert command("models", "verify", "mine/mean-test-fold-2.onnx").code == 0


def test_fetch_without_a_network_says_what_to_do(
    command: Command, server: WeightServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(entries(), "mean-test", server.entry(address="http://127.0.0.1:9/W/TEST/spot_recog"))
    done = command("models", "fetch", "mean-test")
    assert done.code == 1
    assert "download the 3 files s1.hdf5 to s3.hdf5" in done.err
    assert "--from FOLDER" in done.err
    assert done.err.count("note: http://127.0.0.1:9/W/TEST/spot_recog/s") == 3
    by_hand = command("models", "fetch", "mean-test", "--from", tmp_path / "served")
    assert by_hand.code == 0, by_hand.err
    assert "first download" not in by_hand.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mean-nothing"], "unknown; can be fetched"),
        (["mean-synthetic"], "nothing to fetch"),
        (["mean-samm-lv", "--fold", "s30"], "expected s1 to s29"),
        (["mean-samm-lv", "--from", "nowhere"], "no such folder"),
    ],
)
def test_wrong_fetches(command: Command, arguments: list[str], words: str) -> None:
    done = command("models", "fetch", *arguments)
    assert done.code == 2
    assert words in done.err
