from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megc_stream.errors import DataError
from megc_stream.evaluation import AnswerRow, read_answers
from megc_stream.submission import (
    KNOWN,
    check_answer_file,
    check_str_file,
    collect_runs,
    fill_answers,
    format_answer_file,
    format_str_file,
    read_videos,
    suggested_name,
)

_HEADER = "subject,video,onset,offset,emotion\n"


def _run(folder: Path, video: str, rows: str, status: str = "complete", first: int = 1, frames: int = 100) -> Path:
    """Write the parts of a run's folder that a submission needs; k is 10."""
    place = folder / video
    place.mkdir(parents=True)
    (place / "intervals.csv").write_text(_HEADER + rows)
    source = {"record": "streaminfo", "subject": video.split("_")[0], "video": video, "fps": 200.0, "frames": frames}
    (place / "run.json").write_text(json.dumps({"status": status, "source": source, "k": 10}))
    numbers = list(range(first, first + frames - 10))
    pq.write_table(pa.table({"frame": [n - first for n in numbers], "number": numbers}), place / "scores.parquet")
    return place


def _all_of_samm(folder: Path) -> None:
    for video in KNOWN["samm"].videos:
        _run(folder, video, f"{video[:3]},{video},20,40,negative\n" if video != "005_7" else "")


# --- spot-then-recognise: written ------------------------------------------------------------------------------------


def test_runs_become_the_exact_file(tmp_path: Path) -> None:
    _run(tmp_path, "b_1", "b,b_1,30,50,disgust\nb,b_1,1,9,others\nb,b_1,60,70,neutral\n")
    _run(tmp_path, "a_1", "a,a_1,70,90,surprise\na,a_1,10,20,positive\n")
    (tmp_path / "intervals.csv").write_text(_HEADER + "z,z_1,1,2,negative\n")  # the pooled table of 'batch'
    collected = collect_runs(tmp_path, None)
    assert collected.problems == ()
    assert collected.dropped == {"others": 1, "neutral": 1}
    assert format_str_file(collected.rows) == (
        _HEADER + "a,a_1,10,20,positive\na,a_1,70,90,surprise\nb,b_1,30,50,negative\n"
    )
    kept = collect_runs(tmp_path, None, keep_others=True)
    assert [row.emotion for row in kept.rows] == ["positive", "surprise", "others", "negative"]
    assert collected.frames == {"a_1": (1, 100), "b_1": (1, 100)}


def test_a_test_set_is_wanted_whole_and_alone(tmp_path: Path) -> None:
    _all_of_samm(tmp_path)
    _run(tmp_path, "dzw_a1", "dzw,dzw_a1,20,40,negative\n")
    collected = collect_runs(tmp_path, KNOWN["samm"])
    assert collected.problems == ()
    assert collected.ignored == (str(tmp_path / "dzw_a1"),)
    assert [row.video for row in collected.rows] == list(KNOWN["samm"].videos[:-1])
    missing = collect_runs(tmp_path, KNOWN["cas"]).problems
    assert len(missing) == 19
    assert all(problem.missing for problem in missing)


def test_a_known_set_is_recognised_by_its_videos(tmp_path: Path) -> None:
    _run(tmp_path, "001_2", "001,001_2,20,40,negative\n")
    assert len(collect_runs(tmp_path, None).problems) == 9


def test_unfit_runs_are_named(tmp_path: Path) -> None:
    _run(tmp_path, "a_1", "a,a_1,20,40,negative\n", status="stopped")
    _run(tmp_path / "again", "a_1", "a,a_1,20,40,negative\n")
    _run(tmp_path, "b_1", "b,b_1,40,20,negative\n")
    (_run(tmp_path, "c_1", "") / "run.json").write_text("[" * 100_000)
    (_run(tmp_path, "d_1", "") / "intervals.csv").unlink()
    (_run(tmp_path, "e_1", "") / "scores.parquet").write_bytes(b"PAR1")
    text = "\n".join(map(str, collect_runs(tmp_path, None).problems))
    for said in (
        "a_1/run.json, column status: the run is stopped",
        "a_1 was run twice, also in",
        "b_1/intervals.csv: row 2, column offset: got 20",
        "c_1/run.json: not the record of a run",
        "d_1: holds run.json, but no intervals.csv",
        "scores.parquet: cannot be read",
    ):
        assert said in text
    assert all(line.isprintable() for line in text.splitlines())


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no intervals\.csv in it or below"):
        collect_runs(tmp_path, None)


# --- spot-then-recognise: checked ------------------------------------------------------------------------------------


def test_a_sound_file_has_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "samm_pred.csv"
    path.write_text(_HEADER + "".join(f"{v[:3]},{v},20,40,negative\n" for v in KNOWN["samm"].videos))
    assert check_str_file(path) == check_str_file(path, KNOWN["samm"]) == []


def test_everything_wrong_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "pred.csv"
    path.write_text(
        _HEADER + "001,001_2,20,40,Negative\n"
        "001,001_2,20,40,negative\n"
        "001,001_9,x,40,negative\n"
        "001,001_3,50,40,neutral\n"
        ",001_3,500,700,positive\n"
    )
    problems = check_str_file(path, KNOWN["samm"], frames={"001_3": (1, 600)}, empty=["002_1"])
    text = [str(problem).removeprefix(f"error: {path}, ") for problem in problems]
    assert text[:7] == [
        "row 2, column emotion: got 'Negative'; expected negative, positive, surprise or others, in lower case",
        "row 3: the same interval as in row 2",
        "row 4, column video: got '001_9'; expected a video of samm, e.g. 001_2",
        "row 4, column onset: got 'x'; expected a whole frame number, 0 or more",
        "row 5, column offset: got '40'; expected at least the onset, 50",
        "row 5, column emotion: got 'neutral'; expected negative, positive, surprise or others, in lower case",
        "row 6, column subject: got ''; expected a name",
    ]
    assert text[7] == "row 6, column offset: got '700'; expected 1 to 600, the frames of 001_3"
    assert len(problems) == 8 + 7
    assert all(problem.missing for problem in problems[8:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'subject' is missing"),
        ("subject,video,onset,offset,emotion,score\na,b,1,2,negative,1\n", "expected exactly subject,video,onset"),
        ("video,subject,onset,offset,emotion\na,b,1,2,negative\n", "expected exactly subject,video,onset"),
        (_HEADER + "a,b,1,2\n", "row 2, column emotion: the row ends"),
        (_HEADER + 'a,b,1,2,"neg\n', "not a UTF-8 CSV table"),
        (_HEADER + "a,b,1,2,negative\0\n", "row 2: holds a NUL byte"),
    ],
)
def test_malformed_files_are_problems(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pred.csv"
    path.write_text(text)
    problems = check_str_file(path)
    assert message in str(problems[0])
    assert problems[0].level == "error"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda b: _HEADER.encode() + b)))
def test_any_file_is_checked_without_failing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pred"
    path.write_bytes(content)
    assert check_str_file(path)
    assert check_answer_file(path, None)
    for problem in (*check_str_file(path), *check_answer_file(path, None)):
        assert str(problem).isprintable()


def test_lists_of_videos(tmp_path: Path) -> None:
    path = tmp_path / "videos"
    path.write_text("a_1\n\nb_1\n")
    assert read_videos(path).videos == ("a_1", "b_1")
    path.write_text("video,first,last\na_1,5,90\nb_1,,\n")
    assert read_videos(path).frames == {"a_1": (5, 90)}
    path.write_text("video,frames\na_1,90\n")
    assert read_videos(path).frames == {"a_1": (0, 90)}
    for text, message in (
        ("a\na\n", "row 2.*got 'a'"),
        ("", "names no video"),
        ("video,last\na,x\n", "column last: got 'x'"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_videos(path)


# --- answers ---------------------------------------------------------------------------------------------------------

_QUESTIONS = (
    ("What is the coarse expression class?", "negative"),
    ("What is the fine-grained expression class?", "anger"),
    ("What are the action units?", "brow lowerer, lid tightener"),
    ("Is the action unit brow lowerer located on the left or right face?", "left"),
    (
        "What is the action unit present, and based on it, what is the fine-grained expression and the coarse "
        "expression class?",
        "The action unit present is: dimpler. Therefore, the fine-grained expression class is anger, and the coarse "
        "expression class is negative.",
    ),
)


def _write_rows(path: Path, answers: list[str], dataset: str = "samm") -> list[AnswerRow]:
    rows = [
        {"video_id": f"{dataset}_test_SAMM-1_{n}", "video": "SAMM-1", "question": question, "answer": answer, "more": n}
        for n, ((question, _), answer) in enumerate(zip(_QUESTIONS, answers, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_answers(path)


def test_rows_are_filled_in_their_order_and_kept_otherwise(tmp_path: Path) -> None:
    asked = _write_rows(tmp_path / "asked.jsonl", [""] * 5)
    answers = _write_rows(tmp_path / "answers.jsonl", [answer for _, answer in _QUESTIONS])
    filled, extra = fill_answers(asked, [*reversed(answers), answers[0]])
    assert extra == 1
    out = tmp_path / "out.jsonl"
    out.write_text(format_answer_file(filled))
    assert [row.answer for row in read_answers(out)] == [answer for _, answer in _QUESTIONS]
    assert [{**row.fields, "answer": ""} for row in read_answers(out)] == [row.fields for row in asked]
    assert check_answer_file(out, asked) == []


def test_names_are_those_of_the_challenge() -> None:
    names = {
        "me_vqa_samm_test_to_answer.jsonl": "me_vqa_samm_test_pred.jsonl",
        "me_vqa_casme3_v2_test_to_answer.jsonl": "me_vqa_casme3_v2_test_pred.jsonl",
        "me_lvqa_samm_test_to_answer.jsonl": "me_lvqa_samm_test_pred.jsonl",
    }
    assert {name: suggested_name(Path("x") / name) for name in names} == names


def test_wrong_rows_are_listed(tmp_path: Path) -> None:
    asked = _write_rows(tmp_path / "asked.jsonl", [""] * 5)
    path = tmp_path / "pred.jsonl"
    _write_rows(path, [answer for _, answer in _QUESTIONS])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:4]]))
    text = "\n".join(map(str, check_answer_file(path, asked)))
    assert "4 rows; expected 5" in text
    assert f"{path}, row 1, column video_id: got 'samm_test_SAMM-1_1'; expected 'samm_test_SAMM-1_0'" in text
    assert f"{path}, row 2, column more: got '0'; expected '1'" in text


@pytest.mark.parametrize(
    ("position", "answer", "dataset", "message"),
    [
        (0, "Negative", "samm", "expected negative or positive or surprise"),
        (0, "", "samm", "no answer to 'What is the coarse"),
        (0, " negative", "samm", "expected negative or positive or surprise"),
        (1, "repression", "samm", "expected anger or happiness"),
        (1, "contempt", "casme3", "expected happiness or surprise"),
        (2, "brow lowerer,lid tightener", "samm", "separated by ', '"),
        (2, "brow lowerer, brow lowerer", "samm", "each action unit once"),
        (2, "dimpler", "samm", "warning"),
        (3, "both", "samm", "expected left or right"),
        (
            4,
            _QUESTIONS[4][1].replace("is: dimpler", "are: dimpler"),
            "samm",
            "expected 'The action unit present is: A.",
        ),
        (4, "dimpler", "samm", "expected 'The action unit present is: A."),
        (4, _QUESTIONS[4][1].replace("dimpler", "dimple"), "samm", "'dimple' is none"),
        (4, _QUESTIONS[4][1].replace("anger", "rage"), "samm", "fine-grained class anger or"),
        (4, _QUESTIONS[4][1].replace("negative", "bad"), "samm", "coarse class negative or"),
        (4, _QUESTIONS[4][1].replace("dimpler", "dimpler, jaw drop"), "samm", "the question is in the singular"),
    ],
)
def test_forms_and_vocabulary_are_checked(
    position: int, answer: str, dataset: str, message: str, tmp_path: Path
) -> None:
    answers = [right for _, right in _QUESTIONS]
    answers[position] = answer
    path = tmp_path / "pred.jsonl"
    _write_rows(path, answers, dataset)
    (problem,) = check_answer_file(path, None)
    assert (problem.row, problem.column) == (position + 1, "answer")
    assert message in str(problem)


def test_a_question_answered_twice_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "pred.jsonl"
    row = {"video_id": "samm_test_SAMM-1_1", "video": "SAMM-1", "question": "What is the coarse expression class?"}
    path.write_text("".join(json.dumps({**row, "answer": answer}) + "\n" for answer in ("negative", "positive")))
    assert [str(problem) for problem in check_answer_file(path, None)] == [
        f"warning: {path}, row 2: asks the same as row 1"
    ]
