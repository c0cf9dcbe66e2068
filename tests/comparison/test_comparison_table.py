"""Tables of the comparison: what is read, how it is scored, what stands beside it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from run_stubs import Found, write_run

from megc_stream.comparison import (
    Contender,
    Corpus,
    Detections,
    Table,
    build_table,
    format_json,
    format_markdown,
    published_answers,
    published_beside,
    published_results,
    read_detections,
    why_not_comparable,
)
from megc_stream.comparison.published import published_sets, published_sources
from megc_stream.errors import DataError
from megc_stream.evaluation import Interval, IntervalRow, IntervalSet, evaluate_str
from megc_stream.output.run_record import environment


def corpus(name: str = "samm-lv", layout: str = "samm-lv", *truths: Interval) -> Corpus:
    rows = truths or (
        Interval("006", "006_1", 100, 160, "negative"),
        Interval("007", "007_3", 200, 250, "surprise"),
        Interval("007", "007_3", 400, 450, "others"),
    )
    return Corpus(
        name=name,
        title="SAMM Long Videos",
        layout=layout,
        root=Path("data"),
        expressions="micro",
        recordings={("006", "006_1"): 200.0, ("007", "007_3"): 200.0, ("008", "008_1"): 200.0},
        truths=tuple(
            IntervalRow(interval=row, row=n, apex=row.onset + 20, fps=200.0, type="micro")
            for n, row in enumerate(rows, start=1)
        ),
        micro=len(rows),
        macro=0,
        elsewhere=0,
    )


def runs(folder: Path) -> Path:
    write_run(folder / "006_1", "006", "006_1", [Found(101, 155, "negative", 0.9), Found(300, 354, "positive", 0.2)])
    write_run(folder / "007_3", "007", "007_3", [Found(205, 259, "positive", 0.6), Found(600, 654, "others")])
    write_run(folder / "008_1", "008", "008_1", [Found(10, 64)])
    return folder


def contender(name: str, detections: Detections, **more: object) -> Contender:
    fields = {"spotting": "causal", "model": "mean-x", "trained_on": "clips", "detections": {name: detections}} | more
    return Contender(**fields)  # type: ignore[arg-type]


def table(corpora: list[Corpus], contenders: list[Contender]) -> Table:
    return build_table(
        corpora, contenders, [], command="megc-stream table str", environment=environment(), settings={}, resamples=200
    )


def test_detections_are_what_a_submission_would_hold(tmp_path: Path) -> None:
    one = read_detections(runs(tmp_path), corpus())
    assert [row.interval for row in one.rows] == [
        Interval("006", "006_1", 101, 155, "negative"),
        Interval("006", "006_1", 300, 354, "positive"),
        Interval("007", "007_3", 205, 259, "positive"),
        Interval("008", "008_1", 10, 64, "negative"),
    ]
    assert [(row.apex, row.score) for row in one.rows][:2] == [(128, 0.9), (327, 0.2)]
    assert one.dropped == 1, "named others"
    assert one.failed == ()
    assert set(one.k_prime.values()) == {27}


def test_only_complete_runs_of_the_corpus_and_the_model_count(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "006", "006_1", [Found(1, 2)], status="stopped")
    write_run(tmp_path / "b", "099", "099_1", [Found(1, 2)])
    write_run(tmp_path / "c", "007", "007_3", [Found(1, 2)], sha256="1" * 64)
    (tmp_path / "run.json").write_text("{}")
    one = read_detections(tmp_path, corpus(), "0" * 64)
    assert one.rows == ()
    assert one.failed == (("006", "006_1"), ("007", "007_3"), ("008", "008_1"))
    write_run(tmp_path / "d", "006", "006_1")
    write_run(tmp_path / "e", "006", "006_1")
    with pytest.raises(DataError, match=r"006_1 is also in"):
        read_detections(tmp_path, corpus())


def test_a_damaged_event_log_is_named(tmp_path: Path) -> None:
    runs(tmp_path)
    (tmp_path / "006_1" / "events.jsonl").write_text('{"record": "event"}\n')
    with pytest.raises(DataError, match=r"006_1/events.jsonl, row 1: not an event"):
        read_detections(tmp_path, corpus())
    (tmp_path / "006_1" / "events.jsonl").unlink()
    with pytest.raises(DataError, match=r"events.jsonl: cannot be read"):
        read_detections(tmp_path, corpus())


def test_a_row_has_the_scores_of_evaluate_str_by_both_rules(tmp_path: Path) -> None:
    here = corpus()
    found = read_detections(runs(tmp_path), here)
    (row,) = table([here], [contender(here.name, found)]).rows
    pair = IntervalSet(name="x", pred=found.rows, truth=here.truths)
    for mode, score, confidence in (
        ("corrected", row.corrected, row.confidence),
        ("compat", row.compat, row.confidence_compat),
    ):
        report, _ = evaluate_str([pair], mode=mode, resamples=200, seed=0)  # type: ignore[arg-type]
        assert score == report.score
        assert confidence == report.confidence
        assert row.average_precision == report.average_precision
    assert (row.corrected.tp_spotting, row.corrected.fp_spotting, row.corrected.fn_spotting) == (2, 2, 1)
    assert (row.compat.tp_spotting, row.compat.fp_spotting, row.compat.fn_spotting) == (2, 1, 1)
    assert row.length_ceiling == 1
    assert not row.seen


def test_detections_in_the_wrong_videos_alone_are_a_score_not_an_error(tmp_path: Path) -> None:
    write_run(tmp_path, "008", "008_1", [Found(10, 64)])
    here = corpus()
    (row,) = table([here], [contender(here.name, read_detections(tmp_path, here))]).rows
    assert (row.corrected.tp_spotting, row.corrected.fp_spotting, row.corrected.fn_spotting) == (0, 1, 3)
    assert row.compat.strs is None
    assert row.failed == ("006/006_1", "007/007_3")
    assert row.length_ceiling == 0, "nothing can be found in recordings that failed"


def test_several_sets_are_pooled_where_a_contender_was_tested_on_all(tmp_path: Path) -> None:
    first, second = corpus("a", "plain"), corpus("b", "plain")
    found = read_detections(runs(tmp_path), first)
    both = msgspec.structs.replace(contender("a", found), detections={"a": found, "b": found})
    one = contender("b", found, spotting="video", seen=("b",))
    rows = table([first, second], [both, one]).rows
    assert [(row.tested_on, row.spotting, row.seen) for row in rows] == [
        ("a", "causal", False),
        ("b", "causal", False),
        ("b", "video", True),
        ("a + b", "causal", False),
    ]
    assert rows[3].corrected.tp_spotting == 2 * rows[0].corrected.tp_spotting
    assert rows[3].corrected.fn_spotting == 2 * rows[0].corrected.fn_spotting
    assert rows[3].confidence.subjects == 2 * rows[0].confidence.subjects


def test_json_is_the_same_for_the_same_inputs_and_has_no_nan(tmp_path: Path) -> None:
    here = corpus()
    found = read_detections(runs(tmp_path), here)
    texts = [format_json(table([here], [contender(here.name, found)])) for _ in range(2)]
    assert texts[0] == texts[1]
    data = json.loads(texts[0], parse_constant=lambda text: pytest.fail(text))
    assert data["rows"][0]["corrected"]["TP spotting"] == 2
    assert (
        data["rows"][0]["compat"]["STRS"]
        == data["rows"][0]["compat"]["F1-score spotting"] * (data["rows"][0]["compat"]["F1-score analysis"])
    )
    assert {one["beside"] for one in data["published"]} == {"samm-lv"}


def test_markdown_has_ours_then_the_published_rows_all_as_wide_as_the_header(tmp_path: Path) -> None:
    here = corpus()
    found = read_detections(runs(tmp_path), here)
    text = format_markdown(table([here], [contender(here.name, found, model="mean|x")]))
    lines = text.splitlines()
    grid = lines[lines.index(next(line for line in lines if line.startswith("| tested on"))) :]
    grid = grid[: grid.index("")]
    assert len({line.replace(r"\|", "!!").count("|") for line in grid}) == 1
    assert len({len(line) for line in grid}) == 1
    assert grid[2].startswith("| **samm-lv**")
    assert "2 / 2 / 1" in grid[2]
    assert r"mean\|x" in grid[2]
    assert all("*published*" in line and "no (" in line for line in grid[3:])
    assert "- (a) samm-lv has here 3 of 147 videos, 3 of 159 micro-expressions, 0 of 343 macro-expressions" in lines
    assert "arXiv 2506.15298" in text
    assert str(tmp_path) not in text


def test_every_published_number_has_a_known_set_and_source() -> None:
    sets, sources = published_sets(), published_sources()
    for one in published_results():
        assert one.set in sets
        assert one.source in sources
        for value in (one.precision, one.recall, one.f1_spotting, one.f1_analysis, one.uf1, one.uar, one.strs):
            assert value is None or 0 <= value <= 1
        if one.strs is not None and one.f1_spotting is not None and one.f1_analysis is not None:
            # Printed with two to four digits.
            assert one.strs == pytest.approx(one.f1_spotting * one.f1_analysis, abs=0.011)
        if one.tp is not None and one.fp is not None and one.fn is not None and one.precision and one.recall:
            assert one.precision == pytest.approx(one.tp / (one.tp + one.fp), abs=5e-5)
            assert one.recall == pytest.approx(one.tp / (one.tp + one.fn), abs=5e-5)
    assert {one.source for one in (*published_results(), *published_answers())} == set(sources)


def test_what_stands_beside_counts_the_same_expressions_where_the_source_has_them() -> None:
    micro = corpus()
    both = msgspec.structs.replace(micro, expressions="all")
    f1 = {
        here.expressions: [one.f1_spotting for one in published_beside(here) if one.method.startswith("AUW")]
        for here in (micro, both)
    }
    assert f1 == {"micro": [0.1984], "all": [0.3728]}
    order = [one.set == "samm-lv" for one in published_beside(micro)]
    assert order == sorted(order, reverse=True)
    assert published_beside(corpus("p", "plain")) == []


def test_a_result_is_comparable_only_on_the_whole_of_the_same_set() -> None:
    part = corpus()
    whole = msgspec.structs.replace(part, recordings={("1", str(n)): 200.0 for n in range(147)}, micro=159, macro=343)
    mean = next(one for one in published_results() if one.method == "MEAN" and one.set == "samm-lv")
    lgs = next(one for one in published_results() if one.method == "LGSNet" and one.set == "samm-lv")
    baseline = next(one for one in published_results() if one.set == "samm-challenge")
    assert why_not_comparable(mean, whole) == ""
    assert "3 of 147 videos" in why_not_comparable(mean, part)
    assert "counts macro- and micro-expressions" in why_not_comparable(lgs, whole)
    assert why_not_comparable(baseline, whole) == "another test set than samm-lv"


def test_the_document_has_every_published_number() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "published-results.md").read_text().splitlines()
    for one in published_results():
        values = [one.precision, one.recall, one.f1_spotting, one.f1_analysis, one.uf1, one.uar, one.strs]
        wanted = [str(value) for value in values if value is not None]
        assert any(line.startswith(f"| {one.method} |") and all(value in line for value in wanted) for line in lines), (
            one.method,
            one.set,
        )
    for text in published_sources().values():
        assert any(line.endswith(text) for line in lines)
