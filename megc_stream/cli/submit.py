"""``megc-stream submit``: the files that the challenge wants handed in, and their check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megc_stream.cli.options import JsonOption

if TYPE_CHECKING:
    from megc_stream.submission import Problem, VideoList
    from megc_stream.vqa.questions import QuestionKind

__all__ = ["app"]

app = typer.Typer(help="Write and check submission files of the challenge.", no_args_is_help=True)

_OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="The file to write, or a folder for it.")
]
_CheckOption = Annotated[
    Path | None, typer.Option("--check", metavar="FILE", help="Check this file instead of writing one.")
]
_QuestionsArgument = Annotated[
    Path | None, typer.Argument(metavar="[QUESTIONS]", help="The rows to answer, ..._to_answer.jsonl.")
]
_AnswersArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[ANSWERS]...", help="Answered rows: video_id, question, answer; JSON lines."),
]


class TestSet(StrEnum):
    """The two test sets of the spot-then-recognise task."""

    samm = "samm"
    cas = "cas"


@app.command("str", epilog="Example: megc-stream submit str samm-results --dataset samm --out samm_pred.csv")
def submit_str(
    runs: Annotated[
        Path | None, typer.Argument(metavar="[RUNS_DIR]", help="Folder of results of 'run' or 'batch'.")
    ] = None,
    out: _OutOption = None,
    dataset: Annotated[TestSet | None, typer.Option(help="The test set, whose videos must all be there.")] = None,
    videos: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Videos that must be there, instead: names, or CSV video,first,last."),
    ] = None,
    keep_others: Annotated[bool, typer.Option("--keep-others", help="Keep rows of the emotion others.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Videos may be missing.")] = False,
    check: _CheckOption = None,
    json_file: JsonOption = None,
) -> None:
    """Collect the intervals of runs in one table; nothing is written if anything is wrong."""
    from megc_stream.cli.console import note
    from megc_stream.errors import UsageError
    from megc_stream.submission import check_str_file, collect_runs, format_str_file
    from megc_stream.submission.videos import KNOWN, read_videos

    if dataset is not None and videos is not None:
        raise UsageError("--dataset and --videos: expected one list of videos; leave one out")
    listed: VideoList | None = read_videos(videos) if videos else KNOWN[dataset] if dataset else None
    if runs is None and check is None:
        raise UsageError("RUNS_DIR is missing: expected a folder of results, or --check FILE")
    collected = None if runs is None else collect_runs(runs, listed, keep_others=keep_others)
    if check is not None:
        problems = check_str_file(
            check,
            listed,
            frames=collected.frames if collected else None,
            empty=collected.videos if collected else (),
        )
        _report(check, _without_missing(problems, allow_missing), json_file)
        return
    if out is None:
        raise UsageError("--out is missing: expected the file to write, e.g. samm_pred.csv")
    assert collected is not None
    target = out / f"{dataset or 'str'}_pred.csv" if out.is_dir() else out
    for emotion, count in sorted(collected.dropped.items()):
        note(f"{count} rows of the emotion {emotion} left out")
    if collected.ignored:
        note(f"{len(collected.ignored)} runs of videos that are not on the list left out")
    _write(
        target,
        format_str_file(collected.rows),
        len(collected.rows),
        _without_missing(collected.problems, allow_missing),
        lambda path: _without_missing(
            check_str_file(path, listed, frames=collected.frames, empty=collected.videos), allow_missing
        ),
        json_file,
    )


@app.command("vqa", epilog="Example: megc-stream submit vqa me_vqa_samm_test_to_answer.jsonl answers.jsonl --out .")
def submit_vqa(
    questions: _QuestionsArgument = None,
    answers: _AnswersArgument = None,
    out: _OutOption = None,
    check: _CheckOption = None,
    json_file: JsonOption = None,
) -> None:
    """Fill the questions about short clips with answers; nothing is written if anything is wrong."""
    from megc_stream.vqa.questions import VQA_KINDS

    _submit_answers(VQA_KINDS, questions, answers or [], out, check, json_file)


@app.command("lvqa", epilog="Example: megc-stream submit lvqa me_lvqa_samm_test_to_answer.jsonl answers.jsonl --out .")
def submit_lvqa(
    questions: _QuestionsArgument = None,
    answers: _AnswersArgument = None,
    out: _OutOption = None,
    check: _CheckOption = None,
    json_file: JsonOption = None,
) -> None:
    """Fill the questions about long videos with answers; nothing is written if anything is wrong."""
    from megc_stream.vqa.questions import LVQA_KINDS

    _submit_answers(LVQA_KINDS, questions, answers or [], out, check, json_file)


def _submit_answers(
    kinds: Sequence[QuestionKind],
    questions: Path | None,
    answers: Sequence[Path],
    out: Path | None,
    check: Path | None,
    json_file: str | None,
) -> None:
    from megc_stream.cli.console import note
    from megc_stream.errors import UsageError
    from megc_stream.evaluation import read_answers
    from megc_stream.submission import (
        check_answer_file,
        fill_answers,
        format_answer_file,
        suggested_name,
    )

    asked = None if questions is None else read_answers(questions)
    if check is not None:
        if answers:
            raise UsageError(f"--check {check}: expected no ANSWERS beside it; leave {answers[0]} out")
        _report(check, check_answer_file(check, asked, kinds), json_file)
        return
    if asked is None or questions is None:
        raise UsageError("QUESTIONS is missing: expected the rows to answer, or --check FILE")
    if not answers:
        raise UsageError("ANSWERS is missing: expected one or more files of answered rows")
    name = suggested_name(questions)
    if out is None:
        raise UsageError(f"--out is missing: expected the file to write; the challenge calls it {name}")
    target = out / name if out.is_dir() else out
    if target.name != name:
        note(f"warning: {target.name}: the challenge calls this file {name}")
    filled, extra = fill_answers(asked, [row for path in answers for row in read_answers(path)])
    if extra:
        note(f"{extra} answers belong to no question of {questions} and are left out")
    _write(
        target,
        format_answer_file(filled),
        len(filled),
        [],
        lambda path: check_answer_file(path, asked, kinds),
        json_file,
    )


def _write(
    target: Path,
    text: str,
    rows: int,
    problems: list[Problem],
    check: Callable[[Path], list[Problem]],
    json_file: str | None,
) -> None:
    """Write the file under another name, check it, and let it take its name only if nothing is wrong."""
    import msgspec

    from megc_stream.cli.console import note
    from megc_stream.errors import OutputError

    if not target.parent.is_dir():
        raise OutputError(f"{target}: its folder does not exist; make it or change --out")
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        known = {str(problem.message) for problem in problems}
        problems = problems + [
            msgspec.structs.replace(problem, file=str(target))
            for problem in check(part)
            if problem.message not in known
        ]
        if not _errors(problems):
            part.replace(target)
            note(f"{rows} rows written")
    finally:
        part.unlink(missing_ok=True)
    _report(target, problems, json_file, verb="would be unfit; nothing is written")


def _report(file: Path, problems: Sequence[Problem], json_file: str | None, verb: str = "is unfit") -> None:
    """Print all problems; errors make the command fail."""
    import msgspec

    from megc_stream.cli.console import report_json, say
    from megc_stream.errors import DataError

    errors = _errors(problems)
    report_json(json_file, {"file": str(file), "valid": not errors, "problems": msgspec.to_builtins(problems)})
    if json_file != "-":
        for problem in problems:
            say(str(problem))
    if errors:
        raise DataError(f"{file}: {verb}: {len(errors)} problem{'s' if len(errors) > 1 else ''}, see above")
    if json_file != "-":
        say(str(file))


def _errors(problems: Sequence[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.level == "error"]


def _without_missing(problems: Sequence[Problem], allow_missing: bool) -> list[Problem]:
    """Return the problems; missing videos become warnings where they are allowed."""
    import msgspec

    return [
        msgspec.structs.replace(problem, level="warning") if allow_missing and problem.missing else problem
        for problem in problems
    ]
