"""`table vqa` from the command line: answers of files, rows not measured, and the embedded answerer over a clip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcome import Command

COARSE = "What is the coarse expression class?"
UNITS = "What are the action units?"


def rows(file: Path, answers: list[tuple[str, str, str, str]]) -> Path:
    """Write (subject, clip, question, answer)."""
    lines = [
        {"id": f"samm_{clip}_{n}", "dataset": "samm", "subject": subject, "filename": clip, "question": q, "answer": a}
        for n, (subject, clip, q, a) in enumerate(answers)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return rows(
        tmp_path / "truth.jsonl",
        [
            ("6", "006_1_1", COARSE, "negative"),
            ("6", "006_1_1", UNITS, "brow lowerer, lid tightener"),
            ("7", "007_1_1", COARSE, "positive"),
            ("7", "007_1_1", UNITS, "cheek raiser, lip corner puller"),
        ],
    )


def trained(folder: Path, *persons: str) -> Path:
    """Write what `train vqa` leaves behind."""
    folder.mkdir()
    facts = {
        "trained_on": persons, "held_out": [], "lessons": 3, "steps": 2, "model": {"name": "base"},
        "lora": {"rank": 8, "seed": 0}, "prompts": {"id": "megc-1"},
    }  # fmt: skip
    (folder / "train.json").write_text(json.dumps(facts), encoding="utf-8")
    rows(folder / "train.jsonl", [("9", "009_1_1", COARSE, "surprise"), ("9", "009_1_1", UNITS, "dimpler, jaw drop")])
    return folder


def test_answers_of_files_and_rows_that_were_not_measured(command: Command, truth: Path, tmp_path: Path) -> None:
    out = tmp_path / "table"
    pred = ("--pred", f"LoRA/oao={truth}", "--pred", f"embedded={truth}", "--pred", f"by hand={truth}")
    done = command(
        "table", "vqa", "--truth", truth, "--out", out, *pred, "--trained", trained(tmp_path / "t", "samm-lv/007")
    )
    assert (done.code, done.out) == (0, f"{out}/table.md\n"), done.err
    made = json.loads((out / "table.json").read_text(encoding="utf-8"))
    named = [(row["answerer"], row["shown"]) for row in made["rows"]]
    assert named == [
        *(("zero-shot", shown) for shown in ("video", "oao", "flow")),
        *(("LoRA", shown) for shown in ("video", "oao", "flow")),
        *(("embedded", ""), ("by hand", ""), ("prior only", "")),
    ]
    by_name = dict(zip(named, made["rows"], strict=True))
    assert by_name["zero-shot", "oao"]["reason"].startswith("--server and --model and --frames not given")
    assert by_name["LoRA", "oao"]["short"]["UF1 Coarse"] == 1
    assert by_name["LoRA", "video"]["reason"]
    assert made["prior_source"] == "training file"
    text = (out / "table.md").read_text(encoding="utf-8")
    assert text.count("not measured") == 5
    assert "published" in text and "leaderboard" in text


def test_same_call_same_bytes_and_json_on_stdout(command: Command, truth: Path, tmp_path: Path) -> None:
    call = (
        "table",
        "vqa",
        "--truth",
        truth,
        "--out",
        tmp_path / "t",
        "--pred",
        f"embedded={truth}",
        "--inputs",
        "oao+flow",
    )
    first = command(*call, "--json", "-")
    files = {path: path.read_bytes() for path in (tmp_path / "t").glob("table.*")}
    assert len(files) == 2
    assert json.loads(first.out)["rows"][0]["shown"] == "oao+flow"
    assert command(*call, "--json", "-").out == first.out
    assert files == {path: path.read_bytes() for path in files}


def test_who_was_trained_on_is_told_from_train_json(command: Command, truth: Path, tmp_path: Path) -> None:
    pred = ("--pred", f"lora/oao={truth}", "--pred", f"embedded={truth}")
    for name, seen in (("samm-lv/6", True), ("samm/006", True), ("samm-lv/016", False), ("casme-ii/6", False)):
        folder = trained(tmp_path / name.replace("/", "-"), name)
        done = command(
            "table", "vqa", "--truth", truth, "--out", tmp_path / "t", *pred, "--trained", folder, "--json", "-"
        )
        rows_made = json.loads(done.out)["rows"]
        lora = [row["seen"] for row in rows_made if row["answerer"] == "LoRA" and not row["reason"]]
        assert lora == [seen], name


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--pred", "embedded"], "expected ROW=FILE"),
        (["--inputs", "film"], "input 'film' of 'film': unknown"),
        (["--pred", "embedded=absent.jsonl"], "absent.jsonl: cannot be read"),
        (["--trained", "absent"], "train.json: cannot be read"),
    ],
)
def test_wrong_use_is_said_in_one_line(
    command: Command, truth: Path, tmp_path: Path, more: list[str], problem: str
) -> None:
    done = command("table", "vqa", "--truth", truth, "--out", tmp_path / "t", *more)
    assert done.code in (1, 2)
    assert problem in done.err and len(done.err.splitlines()) == 1


def test_embedded_answers_of_a_clip(command: Command, clip: Path, tmp_path: Path) -> None:
    truth = rows(
        tmp_path / "truth.jsonl",
        [("ada", clip.stem, COARSE, "negative"), ("ada", clip.stem, UNITS, "dimpler, jaw drop")],
    )
    done = command("table", "vqa", "--truth", truth, "--frames", clip.parent, "--out", tmp_path / "t", "--json", "-")
    assert done.code == 0, done.err
    row = next(row for row in json.loads(done.out)["rows"] if row["answerer"] == "embedded")
    assert row["reason"] == "" and row["short"]["rows"] == 2 and row["short"]["unparsed"] == 0
    assert (tmp_path / "t" / "answers" / "embedded.jsonl").is_file()
    missing = rows(tmp_path / "other.jsonl", [("ada", "absent", COARSE, "negative")])
    failed = command("table", "vqa", "--truth", missing, "--frames", clip.parent, "--out", tmp_path / "u")
    assert failed.code == 1
    assert "embedded: 1 clips failed" in failed.err
    assert "not measured: 1 clips failed" in (tmp_path / "u" / "table.md").read_text(encoding="utf-8")
