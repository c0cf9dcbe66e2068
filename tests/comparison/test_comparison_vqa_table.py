"""The table of answers: rows that were measured and those that were not, priors, published results, both tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from megc_stream.comparison.published import published_answers, published_sources
from megc_stream.comparison.vqa_markdown import format_vqa_markdown
from megc_stream.comparison.vqa_table import PRIOR, AnswerSet, VqaTable, build_vqa_table, format_vqa_json
from megc_stream.errors import DataError
from megc_stream.evaluation import AnswerRow, evaluate_vqa
from megc_stream.output.run_record import environment

COARSE = "What is the coarse expression class?"
FINE = "What is the fine-grained expression class?"
COUNT = "How many expression events appear in this video?"


def row(dataset: str, video: str, question: str, answer: str) -> AnswerRow:
    fields = {"video_id": f"{dataset}_{video}", "video": video, "question": question, "answer": answer}
    return AnswerRow(
        video_id=fields["video_id"], question=question, answer=answer, dataset=dataset, video=video, file="truth.jsonl",
        row=1, fields=fields,
    )  # fmt: skip


SHORT = (
    row("samm", "1", COARSE, "negative"),
    row("samm", "1", FINE, "anger"),
    row("samm", "2", COARSE, "positive"),
    row("samm", "2", FINE, "happiness"),
    row("casme2", "a", COARSE, "surprise"),
    row("casme2", "a", FINE, "surprise"),
)
LONG = (row("samm", "L1", COUNT, "3"), row("samm", "L2", COUNT, "5"))


def answered(truth: tuple[AnswerRow, ...], **answers: str) -> tuple[AnswerRow, ...]:
    """Return true answers, but for those given by question kind."""
    named = {"coarse": COARSE, "fine": FINE, "count": COUNT}
    changed = {named[kind]: answer for kind, answer in answers.items()}
    return tuple(msgspec.structs.replace(one, answer=changed.get(one.question, one.answer)) for one in truth)


def table(sets: list[AnswerSet], truth: tuple[AnswerRow, ...] = SHORT, **more: Any) -> VqaTable:
    return build_vqa_table(
        sets, truth, more.pop("train", None), command="megc-stream table vqa --out DIR", environment=environment(),
        settings={}, **more,
    )  # fmt: skip


def test_rows_are_scored_by_the_challenge_s_metrics() -> None:
    lora = AnswerSet(answerer="LoRA", shown="oao", model="megc", answers=SHORT, replaced=1, repaired=2)
    wrong = AnswerSet(answerer="zero-shot", shown="oao", model="base", answers=answered(SHORT, coarse="negative"))
    made = table([wrong, lora])
    by_name = {(one.answerer, one.tested_on): one for one in made.rows}
    # All data sets, then each.
    assert list(by_name) == [
        (name, tested_on) for name in ("zero-shot", "LoRA", PRIOR) for tested_on in ("all", "casme2", "samm")
    ]
    assert by_name["LoRA", "all"].short.uf1_coarse == 1
    assert (by_name["LoRA", "all"].replaced, by_name["LoRA", "samm"].replaced) == (1, None)
    expected = evaluate_vqa(list(wrong.answers), SHORT)
    assert by_name["zero-shot", "all"].short == expected.score
    assert by_name["zero-shot", "samm"].short == expected.datasets["samm"][0]
    assert by_name[PRIOR, "all"].short == expected.prior
    assert all(one.long is None for one in made.rows)
    assert made.clips == {"casme2": 1, "samm": 2}


def test_prior_answers_come_from_the_training_file_where_there_is_one() -> None:
    train = [row("samm", "9", COARSE, "surprise"), row("samm", "9", FINE, "fear")]
    made = table([], train=train)
    assert made.prior_source == "training file"
    assert made.rows[0].answerer == PRIOR and made.rows[0].short.uar_coarse == pytest.approx(1 / 3)


def test_rows_that_were_not_measured_say_so() -> None:
    made = table([AnswerSet(answerer="LoRA", shown="video", reason="--server not given")])
    text = format_vqa_markdown(made)
    line = next(line for line in text.splitlines() if line.startswith("| **LoRA**"))
    assert "not measured: --server not given" in line
    assert line.count(" - |") >= 6
    assert made.rows[0].short is None


def test_published_results_stand_beside_and_are_not_comparable() -> None:
    made = table([])
    text = format_vqa_markdown(made)
    assert made.not_comparable
    for one in published_answers():
        line = next(line for line in text.splitlines() if one.method in line)
        assert "*published*" in line and "| no " in line
        for value in (one.uf1_coarse, one.uar_fine, one.bleu, one.rouge1):
            assert value is None or f" {value} " in line
        assert one.source in published_sources()
    assert "could not be retrieved" in text


def test_the_challenge_s_own_clips_are_comparable() -> None:
    videos = [("samm", f"SAMM-{n}") for n in range(1, 8)] + [("casme3", f"CAS-{n}") for n in range(1, 18)]
    made = table([], tuple(row(dataset, video, COARSE, "negative") for dataset, video in videos))
    assert made.not_comparable == ""
    assert "| yes " in format_vqa_markdown(made)


def test_both_tasks_in_one_truth() -> None:
    truth = (*SHORT, *LONG)
    one = AnswerSet(answerer="embedded", answers=answered(truth, count="4"))
    made = table([one], truth)
    assert (made.short_questions, made.long_questions) == (6, 2)
    assert made.rows[0].long.mae_counts == 1
    assert made.rows[0].short.uf1_fine == 1
    assert made.rows[0].notes == ()
    text = format_vqa_markdown(made)
    assert "## ME-VQA" in text and "## ME-LVQA" in text
    only_long = format_vqa_markdown(table([AnswerSet(answerer="embedded", answers=LONG)], LONG))
    assert "## ME-VQA" not in only_long and "published*" not in only_long


def test_an_adapter_that_saw_the_tested_persons_is_marked() -> None:
    made = table([AnswerSet(answerer="LoRA", shown="oao", answers=SHORT, seen=True)])
    assert "no test on new ones" in format_vqa_markdown(made)


def test_answers_to_other_questions_are_refused() -> None:
    with pytest.raises(DataError, match=r"answers of LoRA \(oao\): answers and truth share no"):
        table([AnswerSet(answerer="LoRA", shown="oao", answers=(row("samm", "x", COARSE, "negative"),))])


def test_same_inputs_same_bytes() -> None:
    sets = [AnswerSet(answerer="embedded", answers=SHORT)]
    assert format_vqa_json(table(sets)) == format_vqa_json(table(sets))
    read = json.loads(format_vqa_json(table(sets)))
    assert read["rows"][0]["short"]["UF1 Coarse"] == 1
    assert format_vqa_markdown(table(sets)) == format_vqa_markdown(table(sets))


def test_the_documentation_has_the_published_numbers() -> None:
    text = (Path(__file__).parents[2] / "docs" / "published-results.md").read_text(encoding="utf-8")
    for one in published_answers():
        line = next((line for line in text.splitlines() if line.startswith(f"| {one.method} |")), "")
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        numbers = (one.uf1_coarse, one.uar_coarse, one.uf1_fine, one.uar_fine, one.bleu, one.rouge1)
        assert cells[1:7] == ["-" if value is None else str(value) for value in numbers], one.method
