from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcome import Command

_HEADER = "subject,video,onset,offset,emotion\n"
_COARSE = "What is the coarse expression class?"


def _table(path: Path, *rows: str, more: str = "") -> Path:
    path.write_text(_HEADER.strip() + more + "\n" + "\n".join(rows) + "\n")
    return path


def _answers(path: Path, *answers: str, dataset: str = "samm") -> Path:
    rows = [
        {"video_id": f"{dataset}_test_{n}", "video": str(n), "question": _COARSE, "answer": answer}
        for n, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "words", [[group, task] for group in ("evaluate", "submit") for task in ("str", "vqa", "lvqa")], ids="-".join
)
def test_every_command_has_help_with_an_example(command: Command, words: list[str]) -> None:
    done = command(*words, "--help")
    assert done.code == 0
    assert "Example: megc-stream " + " ".join(words) in done.out


# --- evaluate str ----------------------------------------------------------------------------------------------------


def test_evaluate_str_writes_the_published_names(command: Command, tmp_path: Path) -> None:
    _table(tmp_path / "pred.csv", "006,006_1,10,20,negative", "006,006_1,50,60,positive")
    _table(tmp_path / "truth.csv", "006,006_1,10,20,negative,15,200", more=",apex,fps")
    done = command("evaluate", "str", "--pred", "pred.csv", "--truth", "truth.csv", "--json", "-")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["TP spotting"], found["FP spotting"]) == (1, 1)
    assert found["F1-score spotting"] == pytest.approx(2 / 3)
    assert found["STRS"] == pytest.approx(2 / 3)
    assert found["datasets"]["all"]["STRS"] == found["STRS"]
    assert found["differences"]["STRS"]["published"] is None
    assert found["apex"]["frames"] == 0.0
    compat = command("evaluate", "str", "--compat", "--pred", "pred.csv", "--truth", "truth.csv", "--json", "-")
    assert json.loads(compat.out)["STRS"] is None


def test_evaluate_str_pools_named_sets(command: Command, tmp_path: Path) -> None:
    for name in ("samm", "cas"):
        _table(tmp_path / f"{name}_pred.csv", f"1,{name}_1,10,20,negative")
        _table(tmp_path / f"{name}_truth.csv", f"1,{name}_1,10,20,negative", f"2,{name}_2,10,20,surprise")
    files = [
        word
        for name in ("samm", "cas")
        for word in ("--pred", f"{name}={name}_pred.csv", "--truth", f"{name}={name}_truth.csv")
    ]
    done = command("evaluate", "str", *files, "--json", "out.json")
    assert done.code == 0, done.err
    for said in ("rules: corrected", "samm/1", "subjects without predictions: 2 FN", "AP", "95% interval"):
        assert said in done.out
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["TP spotting"], found["FN spotting"]) == (2, 2)
    assert found["datasets"]["cas"]["FN spotting"] == 1
    assert set(found["datasets"]) == {"samm", "cas"}


def test_evaluate_str_without_a_true_positive(command: Command, tmp_path: Path) -> None:
    _table(tmp_path / "pred.csv", "006,006_1,50,60,negative")
    _table(tmp_path / "truth.csv", "006,006_1,10,20,negative")
    for flags, strs in (((), 0), (("--compat",), None)):
        done = command("evaluate", "str", "--pred", "pred.csv", "--truth", "truth.csv", *flags, "--json", "-")
        assert (done.code, json.loads(done.out)["STRS"]) == (0, strs)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--pred", "other.csv", "--truth", "truth.csv"], 1, "share no (subject, video)"),
        (["--pred", "absent.csv", "--truth", "truth.csv"], 1, "absent.csv: cannot be read"),
        (["--pred", "a=other.csv", "--truth", "b=truth.csv"], 2, "expected the same names"),
        (["--pred", "other.csv", "--pred", "other.csv", "--truth", "truth.csv"], 2, "a second file for 'all'"),
        (["--pred", "other.csv"], 2, "--truth"),
    ],
)
def test_evaluate_str_says_what_is_wrong(
    command: Command, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    _table(tmp_path / "other.csv", "007,007_1,50,60,negative")
    _table(tmp_path / "truth.csv", "006,006_1,10,20,negative")
    done = command("evaluate", "str", *arguments)
    assert done.code == code
    assert message in done.err


# --- evaluate vqa and lvqa -------------------------------------------------------------------------------------------


def test_evaluate_vqa_prints_priors_beside_scores(command: Command, tmp_path: Path) -> None:
    truth = _answers(tmp_path / "truth.jsonl", "negative", "positive", "negative")
    _answers(tmp_path / "train.jsonl", "negative", dataset="casme2")
    done = command("evaluate", "vqa", "--pred", truth, "--truth", truth, "--json", "out.json")
    assert done.code == 0, done.err
    for said in ("UF1 Coarse", "BLEU corpus: sacrebleu nrefs:1", "truth, leaving each video out"):
        assert said in done.out
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["UF1 Coarse"], found["UF1 Fine-Grained"], found["ROUGE-1 F1"]) == (1.0, None, 1.0)
    assert found["datasets"]["samm"]["prior"] == found["prior"]
    done = command("evaluate", "vqa", "--pred", truth, "--truth", truth, "--train", "train.jsonl", "--json", "-")
    assert json.loads(done.out)["prior_source"] == "training file"
    assert json.loads(done.out)["prior"]["UAR Coarse"] == 0.5


def test_evaluate_lvqa(command: Command, tmp_path: Path) -> None:
    for name, count in (("truth", "4"), ("pred", "6")):
        row = {"video_id": "samm_test_1", "question": "How many expression events appear in this video?"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**row, "answer": count}) + "\n")
    done = command("evaluate", "lvqa", "--pred", "pred.jsonl", "--truth", "truth.jsonl", "--json", "-")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["MAE counts"], found["RMSE counts"], found["F1 action units"]) == (2.0, 2.0, None)
    assert "MAE counts" in command("evaluate", "lvqa", "--pred", "pred.jsonl", "--truth", "truth.jsonl").out


def test_damaged_answers_are_one_line(command: Command, tmp_path: Path) -> None:
    truth = _answers(tmp_path / "truth.jsonl", "negative")
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe{\0")
    done = command("evaluate", "vqa", "--pred", "bad.jsonl", "--truth", truth)
    assert done.code == 1
    assert done.err.startswith("error: bad.jsonl, row 1: not a UTF-8")


# --- submit ----------------------------------------------------------------------------------------------------------


def _run(folder: Path, video: str, rows: str) -> None:
    place = folder / video
    place.mkdir(parents=True)
    (place / "intervals.csv").write_text(_HEADER + rows)
    (place / "run.json").write_text(json.dumps({"status": "complete", "source": {"video": video}, "k": 10}))


def test_submit_str_writes_and_checks(command: Command, tmp_path: Path) -> None:
    _run(tmp_path / "runs", "a_1", "a,a_1,10,20,negative\na,a_1,30,40,others\n")
    (tmp_path / "videos.txt").write_text("a_1\nb_1\n")
    done = command("submit", "str", "runs", "--out", "pred.csv", "--videos", "videos.txt")
    assert done.code == 1
    assert "b_1 of videos.txt is missing: no run of it" in done.out
    assert [path.name for path in tmp_path.glob("*pred*")] == []
    done = command("submit", "str", "runs", "--out", "pred.csv", "--videos", "videos.txt", "--allow-missing")
    assert done.code == 0, done.err
    assert "1 rows of the emotion others left out" in done.err
    assert (tmp_path / "pred.csv").read_text() == _HEADER + "a,a_1,10,20,negative\n"
    assert command("submit", "str", "--check", "pred.csv").code == 0
    checked = command("submit", "str", "--check", "pred.csv", "--dataset", "samm", "--json", "-")
    assert checked.code == 1
    problems = json.loads(checked.out)["problems"]
    assert (problems[0]["row"], problems[0]["column"]) == (2, "video")
    assert len(problems) == 11


def test_submit_str_refuses_rows_without_an_emotion(command: Command, tmp_path: Path) -> None:
    _run(tmp_path / "runs", "a_1", "a,a_1,10,20,\n")
    done = command("submit", "str", "runs", "--out", "pred.csv")
    assert done.code == 1
    assert "pred.csv, row 2, column emotion: got ''" in done.out
    assert list(tmp_path.glob("*pred*")) == []


@pytest.mark.parametrize("words", [[], ["runs"], ["--check", "x", "--dataset", "samm", "--videos", "y"]])
def test_submit_str_wrong_use(command: Command, tmp_path: Path, words: list[str]) -> None:
    _run(tmp_path / "runs", "a_1", "a,a_1,10,20,negative\n")
    assert command("submit", "str", *words).code == 2


def test_submit_vqa_fills_and_checks(command: Command, tmp_path: Path) -> None:
    asked = _answers(tmp_path / "me_vqa_samm_test_to_answer.jsonl", "", "")
    _answers(tmp_path / "one.jsonl", "negative")
    done = command("submit", "vqa", asked, "one.jsonl", "--out", ".")
    assert done.code == 1
    assert "row 2, column answer: no answer to 'What is the coarse expression class?'" in done.out
    answered = _answers(tmp_path / "both.jsonl", "negative", "surprise")
    done = command("submit", "vqa", asked, answered, "--out", ".")
    assert done.code == 0, done.err
    assert done.out.strip() == "me_vqa_samm_test_pred.jsonl"
    assert (tmp_path / "me_vqa_samm_test_pred.jsonl").read_text() == answered.read_text()
    assert command("submit", "vqa", asked, "--check", "me_vqa_samm_test_pred.jsonl").code == 0
    assert "the challenge calls this file" in command("submit", "vqa", asked, answered, "--out", "x.jsonl").err
    assert command("submit", "vqa", asked).code == 2
    assert command("submit", "vqa").code == 2


def test_submit_lvqa_warns_of_other_tasks(command: Command, tmp_path: Path) -> None:
    path = _answers(tmp_path / "pred.jsonl", "negative")
    done = command("submit", "lvqa", "--check", path)
    assert done.code == 0
    assert "is no question of this task" in done.out
