"""The submission files of the question tasks: the rows to be answered, filled; and their check.

Rows stay what they are, in their order, with ``answer`` filled. File names: ``..._test_to_answer.jsonl`` becomes
``..._test_pred.jsonl``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from megc_stream.errors import DataError
from megc_stream.evaluation.answers import match_answers
from megc_stream.evaluation.labels import COARSE, EVENT_TYPES, fine_labels
from megc_stream.evaluation.tables import AnswerRow, read_answers, shown
from megc_stream.submission.problems import Problem
from megc_stream.vocabulary import ACTION_UNIT_NAMES
from megc_stream.vqa.questions import COUNT_KINDS, QuestionKind, kind_of

__all__ = ["check_answer_file", "check_answers", "fill_answers", "format_answer_file", "suggested_name"]

_UNITS = frozenset(ACTION_UNIT_NAMES.values())
_COMBINED = re.compile(
    r"The action (?:unit present is|units present are): (?P<units>.+)\. "
    r"Therefore, the fine-grained expression class is (?P<fine>.+), and the coarse expression class is (?P<coarse>.+)\."
)
_FORM = (
    "'The action unit present is: A. Therefore, the fine-grained expression class is F, and the coarse expression "
    "class is C.'"
)


def suggested_name(questions: Path) -> str:
    """Return the name under which the answers to a file of questions are handed in."""
    return questions.name.replace("_to_answer", "_pred") if "_to_answer" in questions.name else f"pred_{questions.name}"


def fill_answers(questions: Sequence[AnswerRow], answers: Sequence[AnswerRow]) -> tuple[list[AnswerRow], int]:
    """Return the rows of the questions with their answers, and how many answers belong to no question.

    Matched as by :func:`megc_stream.evaluation.answers.match_answers`; a row without an answer has "".
    """
    found, extra = match_answers(answers, questions)
    filled = [
        msgspec.structs.replace(row, answer=answer or "", fields={**row.fields, "answer": answer or ""})
        for row, answer in zip(questions, found, strict=True)
    ]
    return filled, extra


def format_answer_file(rows: Sequence[AnswerRow]) -> str:
    """Return the text of a submission file: all fields of each row."""
    return "".join(json.dumps(row.fields, ensure_ascii=False) + "\n" for row in rows)


def check_answer_file(
    path: Path, questions: Sequence[AnswerRow] | None, kinds: Collection[QuestionKind] | None = None
) -> list[Problem]:
    """Return everything that is wrong with a submission file.

    Parameters
    ----------
    path
        The file.
    questions
        The rows that were to be answered: number, order and all other fields must be theirs. None leaves that out.
    kinds
        What the task's questions ask for; others are warned of.
    """
    file = str(path)
    try:
        rows = read_answers(path)
    except DataError as error:
        return [Problem(file=file, message=str(error).removeprefix(file).lstrip(":, "))]
    problems = []
    seen: dict[str, int] = {}
    for row in rows:
        question = json.dumps({field: row.fields[field] for field in sorted({*row.fields} - {"answer"})})
        first = seen.setdefault(question, row.row)
        if first != row.row and questions is None:
            problems.append(Problem(file=file, row=row.row, message=f"asks the same as row {first}", level="warning"))
    if questions is not None:
        if len(rows) != len(questions):
            problems.append(Problem(file=file, message=f"{len(rows)} rows; expected {len(questions)}, one a question"))
        for row, asked in zip(rows, questions, strict=False):
            problems += [
                Problem(
                    file=file,
                    row=row.row,
                    column=field,
                    message=f"got {_value(row, field)}; expected {_value(asked, field)}, as in row {asked.row} "
                    "of the questions",
                )
                for field in sorted({*asked.fields, *row.fields} - {"answer"})
                if row.fields.get(field) != asked.fields.get(field)
            ]
    return problems + check_answers(file, rows, kinds)


def check_answers(file: str, rows: Sequence[AnswerRow], kinds: Collection[QuestionKind] | None = None) -> list[Problem]:
    """Return what is wrong with each answer: empty, not of the question's form, or not of the vocabulary."""
    problems = []
    for row in rows:
        kind = kind_of(row.question)
        if kinds is not None and kind not in kinds:
            problems.append(
                Problem(
                    file=file,
                    row=row.row,
                    column="question",
                    message=f"'{shown(row.question)}' is no question of this task",
                    level="warning",
                )
            )
        if not row.answer:
            problems.append(
                Problem(file=file, row=row.row, column="answer", message=f"no answer to '{shown(row.question)}'")
            )
            continue
        # As it stands in the file: blanks around a label do count.
        problems += _check_form(file, row, kind, row.fields["answer"])
    return problems


def _check_form(file: str, row: AnswerRow, kind: QuestionKind, answer: str) -> list[Problem]:
    def problem(expected: str, level: str = "error") -> Problem:
        return Problem(
            file=file,
            row=row.row,
            column="answer",
            message=f"got '{shown(answer)}'; expected {expected}",
            level="warning" if level == "warning" else "error",
        )

    def one_of(labels: Collection[str]) -> list[Problem]:
        return [] if answer in labels else [problem(" or ".join(labels))]

    if kind == "coarse":
        return one_of(COARSE)
    if kind == "fine":
        return one_of(fine_labels(row.dataset))
    if kind == "unit_shown":
        return one_of(("yes", "no"))
    if kind == "unit_side":
        return one_of(("left", "right"))
    if kind == "event_type":
        return one_of(EVENT_TYPES)
    if kind in COUNT_KINDS:
        return [] if re.fullmatch("[0-9]{1,6}", answer) else [problem("a whole number in digits")]
    if kind == "unit_set" and answer == "none":
        return [problem("at least one action unit: every event of the challenge has one", "warning")]
    if kind in ("units_one", "units_several", "unit_set"):
        return _check_units(answer, kind, problem)
    if kind in ("combined_one", "combined_several"):
        form = _COMBINED.fullmatch(answer)
        if form is None:
            return [problem(_FORM)]
        problems = _check_units(form["units"], "units_one" if kind == "combined_one" else "units_several", problem)
        if form["fine"] not in fine_labels(row.dataset):
            problems.append(problem(f"fine-grained class {' or '.join(fine_labels(row.dataset))}"))
        if form["coarse"] not in COARSE:
            problems.append(problem(f"coarse class {' or '.join(COARSE)}"))
        return problems
    return []


def _check_units(units: str, kind: QuestionKind, problem: Callable[..., Problem]) -> list[Problem]:
    names = units.split(", ")
    problems = [
        problem(f"names of action units, lower case, separated by ', '; '{shown(name)}' is none")
        for name in names
        if name not in _UNITS
    ]
    if len(set(names)) < len(names):
        problems.append(problem("each action unit once"))
    if problems:
        return problems
    if kind == "units_one" and len(names) > 1:
        problems.append(problem("one action unit: the question is in the singular", "warning"))
    if kind == "units_several" and len(names) == 1:
        problems.append(problem("several action units: the question is in the plural", "warning"))
    return problems


def _value(row: AnswerRow, field: str) -> str:
    return f"'{shown(str(row.fields[field]))}'" if field in row.fields else "nothing"
