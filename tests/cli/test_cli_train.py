"""``megc-stream train``: its options, and what it says; training itself is tested in tests/training."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from outcome import Command

from megc_stream import training
from megc_stream.training import DataOptions
from megc_stream.training.train import PUBLISHED


@pytest.mark.parametrize("name", ["mean", "synthetic"])
def test_help_has_an_example(command: Command, name: str) -> None:
    done = command("train", name, "--help")
    assert done.code == 0
    assert f"Example: megc-stream train {name}" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "samm-lv"], "--data samm-lv: expected LAYOUT:ROOT"),
        (["--data", "bogus:x"], "layout 'bogus': unknown"),
        (["--data", "plain:x", "--augment", "mirror,blur"], "--augment blur: unknown"),
        (["--data", "plain:x", "--classes", "anger"], "--classes anger: expected two or more"),
        (["--data", "plain:x", "--folds", "few"], "--folds few: expected a number of folds, or all"),
    ],
)
def test_wrong_use(command: Command, words: list[str], message: str) -> None:
    done = command("train", "mean", "--out", "out", *words)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_options_reach_the_training_and_scores_are_told(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "videos" / "ada_1").mkdir(parents=True)
    (tmp_path / "data" / "annotations.csv").write_text("subject,video,onset,apex,offset,type\nada,ada_1,1,,2,micro\n")
    seen: dict[str, object] = {}
    scores = {
        "events": 4,
        "tp": 1,
        "fp": 2,
        "fn": 3,
        "f1": 0.2857,
        "length_ceiling": 0.75,
        "strs": 0.1,
    }

    def train(sets: list[object], out: Path, options: DataOptions, **rest: object) -> SimpleNamespace:
        seen.update(rest, sets=sets, out=out, options=options)
        results = tmp_path / "results.json"
        results.write_text(json.dumps({"pooled": {"video": {"all recordings": scores}}}))
        return SimpleNamespace(results=results, model=out / "mean.onnx", kept=2)

    monkeypatch.setattr(training, "train_on_data", train)
    words = ["--data", "plain:data", "--out", "nets", "--classes", "Anger,happiness", "--augment", "rate,mirror"]
    words += ["--folds", "2", "--epochs-spot", "3", "--epochs-recog", "4", "--seed", "5", "--jobs", "2"]
    words += ["--epoch-pairs", "64"]
    done = command("train", "mean", *words, "--cache", "kept", "--overwrite")
    assert done.code == 0, done.err
    options = seen["options"]
    assert isinstance(options, DataOptions)
    assert (options.classes, options.augment) == (("anger", "happiness"), {"mirror", "rate"})
    assert (options.folds, options.seed) == (2, 5)
    assert options.epoch_pairs == 64
    assert (options.settings.spot_epochs, options.settings.recog_epochs) == (3, 4)
    assert options.settings.learning_rate == PUBLISHED.learning_rate == 5e-4
    assert (seen["jobs"], seen["cache"], seen["overwrite"]) == (2, Path("kept"), True)
    assert "video  all recordings: 4 events, TP 1, FP 2, FN 3, F1 0.286 (ceiling of recall 0.75)" in done.out
    assert done.out.splitlines()[-1] == str(Path("nets") / "mean.onnx")
    assert "2 networks were there already" in done.err
    assert json.loads(command("train", "mean", *words, "--json", "-").out)["pooled"]


def test_train_vqa_without_its_packages_names_the_extra(command: Command, tmp_path: Path) -> None:
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers", "peft")):
        pytest.skip("the packages of the extra 'train-vqa' are installed")
    done = command("train", "vqa", "--data", "absent.jsonl", "--model", tmp_path, "--out", "out")
    assert done.code == 1
    assert "install the extra 'train-vqa'" in done.err and len(done.err.splitlines()) == 1
