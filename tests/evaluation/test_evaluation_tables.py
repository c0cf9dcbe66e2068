from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megc_stream.errors import DataError
from megc_stream.evaluation import (
    IntervalSet,
    evaluate_lvqa,
    evaluate_str,
    evaluate_vqa,
    read_answers,
    read_interval_rows,
)

_HEADER = b"subject,video,onset,offset,emotion,apex,fps,type,score\n"
_CELL = st.one_of(
    st.sampled_from(
        [b"006", b"1", b"9" * 5000, b"1e999", b"-1", b"nan", b"", b"\0", b"\xff", b'"', b"\r", b"\xef\xbb\xbf", b"1_0"]
    ),
    st.sampled_from(["٣", "²", "\u2028", "micro", "negative"]).map(str.encode),
    st.binary(max_size=6),
)
_JSON = st.one_of(
    st.sampled_from(
        [
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"video_id":"v","question":"q","answer":' + b"9" * 5000 + b"}",
            b'{"video_id":"v","question":"q","answer":1e999}',
            b'{"video_id":"v","question":"\\ud800"}',
            b'{"video_id":"v","question":"q\\u0000","answer":"\\n"}',
            b'{"video_id":"v","question":"q","answer":"a","x":' + b"9" * 400 + b"}",
            b'{"video_id":null}',
            b'{"video_id":"v"}',
            b"null",
            b"[]",
            b"\0",
            b"NaN",
            b"\xff\xfe{\0}\0",
            b'{"video_id":"v","question":"What is the action unit?","answer":"dimpler"}',
            b'{"video_id":"v","question":"What is the coarse expression class?","answer":"\\u2028"}',
            b'{"video_id":"v","question":"How many expression events appear in this video?","answer":"\\u00b2"}',
            b'{"video_id":"v","question":"What distinct action units appear in this video?","answer":",,:au99 (,"}',
        ]
    ),
    st.binary(max_size=12),
)


def _score_intervals(path: Path) -> None:
    rows = read_interval_rows(path)
    evaluate_str([IntervalSet(name="all", pred=rows, truth=rows)], resamples=5)


def _score_answers(path: Path) -> None:
    rows = read_answers(path)
    for evaluate in (evaluate_vqa, evaluate_lvqa):
        evaluate(rows, rows)


def _fails_in_one_line(read: Callable[[Path], object], path: Path) -> None:
    """Read and score the file; if it is refused, then by an error of one line that names it."""
    try:
        read(path)
    except DataError as error:
        assert str(error).startswith(str(path))
        assert str(error).isprintable(), str(error)
        assert len(str(error)) < 1000


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(_CELL, max_size=10), max_size=3), header=st.booleans())
def test_any_csv_is_read_or_refused(rows: list[list[bytes]], header: bool, tmp_path: Path) -> None:
    path = tmp_path / "pred.csv"
    path.write_bytes((_HEADER if header else b"") + b"\n".join(b",".join(row) for row in rows))
    _fails_in_one_line(_score_intervals, path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(_JSON, max_size=3))
def test_any_jsonl_is_read_or_refused(lines: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "pred.jsonl"
    path.write_bytes(b"\n".join(lines))
    _fails_in_one_line(_score_answers, path)


def test_further_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(
        "subject,video,onset,apex,offset,emotion,fps,type,confidence,note\n"
        "006,006_1,1,5,9,Negative,200,Micro - 1/2,0.25,x\n"
        "\n"
        "006,006_1,20,/,29,,,mae,,\n"
    )
    first, second = read_interval_rows(path)
    assert (first.apex, first.fps, first.type, first.score, first.row) == (5, 200.0, "micro", 0.25, 2)
    assert (second.apex, second.fps, second.type, second.score, second.row) == (None, None, "macro", None, 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("006,v,1,9,x,5,0,,", r"row 2, column fps: got '0'; expected a number from 0\.001 to 1e6"),
        ("006,v,1,9,x,5,,odd,", r"row 2, column type: got 'odd'; expected micro or macro"),
        ("006,v,1,9,x,5,,,inf", r"row 2, column score: got 'inf'; expected a finite number"),
        ("006,v,1,9,x,5.5,,,", r"row 2, column apex: got '5\.5'; expected a whole frame number"),
        ("006,v,1," + "9" * 13 + ",x,,,,", r"row 2, column offset: got '9999999999999'; expected a whole frame number"),
        ("006,v,1,9\0,x,,,,", r"row 2: holds a NUL byte"),
        ("00\x016,v,1,9,x,,,,", r"row 2, column subject: got control characters"),
    ],
)
def test_malformed_cells_are_named(row: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_bytes(_HEADER + row.encode())
    with pytest.raises(DataError, match=message):
        read_interval_rows(path)


def test_a_column_twice_and_another_encoding_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("subject,video,onset,offset,emotion,onset\n")
    with pytest.raises(DataError, match="column 'onset' is there twice"):
        read_interval_rows(path)
    path.write_bytes(_HEADER + "006,v,1,9,Überraschung,,,,".encode("latin-1"))
    with pytest.raises(DataError, match="row 2: not a UTF-8 CSV table"):
        read_interval_rows(path)


def test_answers_of_both_forms_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"video_id": "samm_test_SAMM-1_1", "video": "SAMM-1", "question": "Q?", "answer": " a "}\n\n'
        '{"id": "casme2_sub01_EP02_01f_1", "dataset": "casme2", "filename": "EP02_01f", "question": "Q?"}\r\n'
    )
    test, train = read_answers(path)
    assert (test.video_id, test.dataset, test.video, test.answer, test.row) == (
        "samm_test_SAMM-1_1",
        "samm",
        "SAMM-1",
        "a",
        1,
    )
    assert (train.dataset, train.video, train.answer, train.row) == ("casme2", "EP02_01f", "", 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "holds no row"),
        ('{"question": "q"}', "row 1, field video_id: missing"),
        ('{"video_id": "v", "answer": "a"}', "row 1, field question: missing"),
        ('{"video_id": "v", "question": "q", "answer": 3}', "row 1, field answer: got 3; expected a text"),
        ("[1]", "row 1: got .*; expected a JSON object"),
        ("{", "row 1: not JSON"),
        ("[" * 100_000, "row 1: nested too deeply"),
    ],
)
def test_malformed_answers_are_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=message):
        read_answers(path)
