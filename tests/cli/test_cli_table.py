"""``table str``: which runs it makes, what it keeps, what it writes, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import corpora
import cv2
import pytest
from outcome import Command
from run_stubs import Found, write_run

from megc_stream.cli import batch_runs
from megc_stream.models import find_mean, model_path, sha256_of
from megc_stream.settings import Settings

FOUND = {
    ("causal", "006_1"): [Found(6, 19, "negative", 0.9)],
    ("causal", "013_1"): [Found(1, 8, "positive", 0.3), Found(41, 50, "surprise", 0.6)],
    ("video", "006_1"): [Found(5, 20, "negative", 0.7)],
}


class Runs:
    """Stands in for the analysis: writes what :data:`FOUND` says and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.stop_after: int | None = None
        self.damaged: set[str] = set()
        monkeypatch.setattr(batch_runs, "_run", self._run)

    def _run(self, name: str, task: Settings) -> batch_runs.Outcome:
        if self.stop_after is not None and len(self.made) >= self.stop_after:
            raise KeyboardInterrupt
        assert task.output.folder is not None
        mode, folder = task.spotting.mode, task.output.folder
        if name in self.damaged:
            return batch_runs.Outcome(video=name, folder=str(folder), error=f"{name}: is damaged")
        self.made.append(f"{folder.parent.name}/{name}")
        video = name
        subject = video.partition("_")[0]
        sha256 = sha256_of(find_mean(task.model.name))
        write_run(folder, subject, video, FOUND.get((mode, video), []), sha256=sha256, k_prime=5, settings=task)
        return batch_runs.Outcome(video=name, folder=str(folder))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


@pytest.fixture
def samm(tmp_path: Path) -> Path:
    return corpora.samm_lv(tmp_path / "samm")


def test_every_mode_and_model_is_run_once_and_the_same_inputs_give_the_same_bytes(
    command: Command, runs: Runs, samm: Path
) -> None:
    shutil.copy(model_path("mean-synthetic.onnx"), "mine.onnx")
    arguments = ("table", "str", "samm", "--layout", "samm-lv", "--models", "mean-synthetic,mine.onnx", "--out")
    done = command(*arguments, "a")
    assert done.code == 0, done.err
    assert done.out == "a/table.md\n"
    assert len(runs.made) == len(set(runs.made)) == 2 * 2 * 3
    before = {name: Path("a", name).read_bytes() for name in ("table.json", "table.md")}
    assert command(*arguments, "a").code == 0
    assert len(runs.made) == 12, "complete runs are not done again"
    again = command(*arguments, "b", "--jobs", "1", "--json", "-")
    assert again.code == 0
    for name, text in before.items():
        assert Path("a", name).read_bytes() == text
        assert Path("b", name).read_bytes() == text
    assert json.loads(again.out) == json.loads(before["table.json"])
    assert {"command", "wall_s", "runs"} <= set(json.loads(Path("a/timings.json").read_text()))

    table = json.loads(before["table.json"])
    assert [(row["spotting"], row["model"]) for row in table["rows"]] == [
        ("causal", "mean-synthetic"),
        ("causal", "mine"),
        ("video", "mean-synthetic"),
        ("video", "mine"),
    ]
    first = table["rows"][0]
    assert [first["corrected"][f"{name} spotting"] for name in ("TP", "FP", "FN")] == [2, 1, 1]
    assert first["corrected"]["STRS"] == pytest.approx(2 * 2 / 6)
    assert table["models"][0]["sha256"] == sha256_of(model_path("mean-synthetic.onnx"))
    assert "--spotting causal,video" in table["command"]
    text = before["table.md"].decode()
    assert "2 / 1 / 1" in text
    assert table["command"] in text
    assert first["sha256"][0] in text


def test_an_interrupted_table_goes_on(command: Command, runs: Runs, samm: Path) -> None:
    arguments = ("table", "str", samm, "--layout", "samm-lv", "--out", "t")
    runs.stop_after = 4
    stopped = command(*arguments)
    assert stopped.code == 1
    assert stopped.err.splitlines()[-1].startswith("error: stopped with 1 of 3 recordings of samm-lv complete, before")
    assert not Path("t/table.md").exists()
    runs.stop_after = None
    assert command(*arguments).code == 0
    assert len(runs.made) == len(set(runs.made)) == 6
    changed = command(*arguments, "--config", str(_config()))
    assert changed.code == 2
    assert "holds complete results of other settings" in changed.err
    assert command(*arguments, "--config", str(_config()), "--overwrite").code == 0
    assert len(runs.made) == 12


def _config() -> Path:
    Path("c.toml").write_text("[spotting]\np = 0.6\n")
    return Path("c.toml")


def test_videos_that_fail_are_named_and_count_as_missed(command: Command, runs: Runs, samm: Path) -> None:
    runs.damaged = {"013_1"}
    done = command("table", "str", samm, "--layout", "samm-lv", "--spotting", "causal", "--out", "t")
    assert done.code == 1
    assert "failed: samm-lv, causal spotting with mean-synthetic: 013_1: 013_1: is damaged" in done.err
    assert done.err.splitlines()[-1] == "error: 1 runs failed; t/table.md counts their expressions as missed"
    (row,) = json.loads(Path("t/table.json").read_text())["rows"]
    assert row["failed"] == ["013/013_1"]
    assert [row["corrected"][f"{name} spotting"] for name in ("TP", "FP", "FN")] == [1, 0, 2]
    assert "1 videos failed" in Path("t/table.md").read_text()


def test_pairs_are_tested_apart_and_pooled(command: Command, runs: Runs, samm: Path) -> None:
    corpora.plain(Path("own"))
    done = command(
        "table", "str", samm, "--layout", "samm-lv", "--pair", "plain:own", "--spotting", "causal", "--out", "t"
    )
    assert done.code == 0, done.err
    table = json.loads(Path("t/table.json").read_text())
    assert [row["tested_on"] for row in table["rows"]] == ["samm-lv", "plain", "samm-lv + plain"]
    assert [one["truths"] for one in table["data_sets"]] == [3, 2]
    assert {one["beside"] for one in table["published"]} == {"samm-lv"}


@pytest.mark.train
def test_trained_networks_meet_only_persons_they_were_not_trained_on(
    command: Command, runs: Runs, samm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from megc_stream import training

    calls: list[dict[str, Any]] = []

    def train(sets: Any, out: Path, options: Any, **more: Any) -> Any:
        out.mkdir(exist_ok=True)
        calls.append({"out": out, "seed": options.seed, "augment": options.augment, "cache": more["cache"]})
        subjects = sorted({one.subject for one in sets[0].recordings})
        for name in ("mean", *(f"fold-{subject}" for subject in subjects)):
            shutil.copy(model_path("mean-synthetic.onnx"), out / f"{name}.onnx")
        folds = [SimpleNamespace(file=f"fold-{subject}.onnx", test=(subject,)) for subject in subjects]
        return SimpleNamespace(model=out / "mean.onnx", folds=folds)

    monkeypatch.setattr(training, "train_on_data", train)
    corpora.plain(Path("own"))
    arguments = ["table", "str", samm, "--layout", "samm-lv", "--pair", "plain:own", "--spotting", "causal"]
    done = command(*arguments, "--train", "--augment", "mirror", "--seed", 3, "--cache", "features", "--out", "t")
    assert done.code == 0, done.err
    assert calls == [
        {"out": Path("t/training") / name, "seed": 3, "augment": {"mirror"}, "cache": Path("features")}
        for name in ("samm-lv", "plain")
    ]
    own = [made for made in runs.made if made.startswith("fold-")]
    assert sorted(own) == ["fold-006/006_1", "fold-006/006_2", "fold-013/013_1", "fold-ada/ada_1", "fold-bob/bob_1"]
    across = [made for made in runs.made if "trained-on" in made]
    assert sorted({made.partition("/")[0] for made in across}) == [
        "causal-trained-on-plain",
        "causal-trained-on-samm-lv",
    ]
    assert len(across) == 5
    table = json.loads(Path("t/table.json").read_text())
    rows = [(row["tested_on"], row["trained_on"]) for row in table["rows"] if row["model"] != "mean-synthetic"]
    assert rows == [
        ("samm-lv", "same set, subject left out"),
        ("samm-lv", "plain, all subjects"),
        ("plain", "same set, subject left out"),
        ("plain", "samm-lv, all subjects"),
        ("samm-lv + plain", "same set, subject left out"),
    ]
    assert not any(row["seen"] for row in table["rows"])
    assert [model["name"] for model in table["models"]][1:4] == [
        "trained on samm-lv",
        "trained on samm-lv without 006",
        "trained on samm-lv without 013",
    ]
    assert table["training"]["seed"] == 3
    assert "Training: " in Path("t/table.md").read_text()


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--models", "mean-nobody"), 1, "model 'mean-nobody': unknown; expected one of mean-synthetic"),
        (("--models", "nothing.onnx"), 1, "model nothing.onnx: no such file"),
        (("--models", "a,,b"), 2, "--models a,,b: expected names separated by commas"),
        (("--spotting", "future"), 2, "--spotting future: unknown; expected causal, video"),
        (("--layout", "samm"), 2, "layout 'samm': unknown; expected one of samm-lv"),
        (("--pair", "plain"), 2, "--pair plain: expected LAYOUT:ROOT"),
        (("--pair", "plain:absent"), 1, "absent: is not a folder"),
        (("--pair", "samm-lv:samm"), 2, "2 data sets would be called samm-lv-samm"),
        (("--pair", "samm-challenge:test"), 1, "no annotated subject in SAMM Challenge"),
        (("--train", "--augment", "blur"), 2, "--augment blur: unknown; expected none, or some of mirror"),
        (("--out", "absent/t"), 1, "its parent absent is not a folder"),
        (("--out", "file"), 1, "file: cannot be written"),
        (("--bootstrap", "-1"), 2, ""),
    ],
)
def test_wrong_use_is_one_line(
    command: Command, runs: Runs, samm: Path, more: tuple[str, ...], code: int, words: str
) -> None:
    corpora.samm_challenge(Path("test"))
    Path("file").write_text("")
    done = command("table", "str", samm, "--layout", "samm-lv", "--out", "t", *more)
    assert done.code == code
    assert words in done.err
    if words:
        assert done.err.count("\n") == 1
    assert runs.made == []


def test_a_set_without_recordings_or_without_micro_expressions_is_refused(
    command: Command, runs: Runs, samm: Path
) -> None:
    Path("empty").mkdir()
    empty = command("table", "str", "empty", "--layout", "samm-lv", "--out", "t")
    assert empty.code == 1
    assert "holds no recording of SAMM Long Videos" in empty.err
    corpora.plain(Path("own"))
    sheet = Path("own/annotations.csv")
    sheet.write_text(sheet.read_text().replace(",micro,", ",macro,"))
    arguments = ("table", "str", "own", "--layout", "plain", "--out", "t")
    macro = command(*arguments)
    assert macro.code == 1
    assert "got 3 annotated macro-expressions; expected micro-expressions; --expressions all counts them" in macro.err
    assert not runs.made
    assert command(*arguments, "--expressions", "all").code == 0


def test_a_table_of_real_runs(command: Command, clip: Path) -> None:
    capture = cv2.VideoCapture(str(clip))
    folder = Path("own/videos/ada_1")
    folder.mkdir(parents=True)
    for number in range(120):
        read, picture = capture.read()
        assert read
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA))
    Path("own/annotations.csv").write_text(
        "subject,video,onset,apex,offset,type,emotion,aus,fps\nada,ada_1,60,65,70,micro,anger,4,50\n"
    )
    done = command("table", "str", "own", "--layout", "plain", "--spotting", "video", "--out", "t")
    assert done.code == 0, done.err
    (row,) = json.loads(Path("t/table.json").read_text())["rows"]
    found = len(Path("t/runs/plain/video-mean-synthetic/ada_1/intervals.csv").read_text().splitlines()) - 1
    assert row["corrected"]["TP spotting"] + row["corrected"]["FP spotting"] == found
    assert row["corrected"]["TP spotting"] + row["corrected"]["FN spotting"] == 1
    assert row["confidence"]["intervals"]["STRS"] is None, "one subject"
