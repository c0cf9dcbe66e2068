"""The work of ``megc-stream table vqa``: the answerers are run, or their answers read, and the files of the table."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import msgspec

from megc_stream.cli.console import note, report_json, say
from megc_stream.cli.table_files import write_whole, writing
from megc_stream.cli.vqa_runs import run_questions
from megc_stream.comparison import AnswerSet, build_vqa_table, format_vqa_json, format_vqa_markdown
from megc_stream.errors import DataError, MegcError, UsageError
from megc_stream.evaluation import AnswerRow, read_answers
from megc_stream.output.run_record import environment, redacted
from megc_stream.settings import Settings
from megc_stream.submission import format_answer_file

__all__ = ["VqaTableRequest", "vqa_table_command"]

_ZERO_SHOT, _LORA, _EMBEDDED = "zero-shot", "LoRA", "embedded"
_TABLE, _MARKDOWN, _QUESTIONS = "table.json", "table.md", "questions.jsonl"
# What is asked has no bearing beyond these.
_SETTINGS = ("capture", "face", "flow", "model", "spotting", "vqa")


class VqaTableRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; see :func:`megc_stream.cli.table.table_vqa`.

    ``inputs`` are combinations of media, "oao+flow" for example; ``given`` are (row, file of answers).
    """

    truth: Path
    out: Path
    train: Path | None
    frames: Path | None
    model: str | None
    lora: str | None
    inputs: tuple[str, ...]
    given: tuple[tuple[str, Path], ...]
    trained: Path | None
    overwrite: bool
    json_file: str | None
    settings: Settings


def vqa_table_command(request: VqaTableRequest) -> None:
    """Make the table; rows that could not be measured say why, and the exit code is 1 where one failed."""
    truth = read_answers(request.truth)
    training = _training(request.trained)
    train_file = request.train or (request.trained / "train.jsonl" if request.trained else None)
    train = None if train_file is None else read_answers(train_file)
    trained_on = _persons(training)
    seen = bool(trained_on & {_person(row) for row in truth})
    given = _given(request, seen)
    with writing(request.out):
        (request.out / "answers").mkdir(parents=True, exist_ok=True)
    questions = request.out / _QUESTIONS
    write_whole(questions, format_answer_file([_without_answer(row) for row in truth]))
    work = _Work(request, questions, seen)
    answerers = ((_ZERO_SHOT, request.model), (_LORA, request.lora))
    sets = [
        given.pop(_row_name(answerer, shown))
        if _row_name(answerer, shown) in given
        else work.served(answerer, model, shown)
        for answerer, model in answerers
        for shown in request.inputs
    ]
    sets.append(given.pop(_EMBEDDED) if _EMBEDDED in given else work.embedded())
    sets += given.values()
    settings = redacted(request.settings.model_dump(mode="json"))
    table = build_vqa_table(
        sets,
        truth,
        train,
        command=_command(request, train_file),
        environment=environment(),
        settings={key: settings[key] for key in _SETTINGS},
        training=training,
    )
    write_whole(request.out / _TABLE, format_vqa_json(table))
    write_whole(request.out / _MARKDOWN, format_vqa_markdown(table))
    report_json(request.json_file, msgspec.to_builtins(table))
    if request.json_file != "-":
        say(str(request.out / _MARKDOWN))
    for problem in work.problems:
        note(f"failed: {problem}")
    if work.problems:
        raise MegcError(f"{len(work.problems)} answerers failed; {request.out / _MARKDOWN} says so in their rows")


class _Work:
    """Has the questions answered; what was answered by an earlier call is not asked again."""

    def __init__(self, request: VqaTableRequest, questions: Path, seen: bool) -> None:
        self._request = request
        self._questions = questions
        self._seen = seen
        self.problems: list[str] = []

    def served(self, answerer: str, model: str | None, shown: str) -> AnswerSet:
        """Return what a served model says when it is shown some media."""
        request = self._request
        option = "--lora" if answerer == _LORA else "--model"
        missing = [
            what
            for what, there in (
                ("--server", request.settings.vqa.answerer),
                (option, model),
                ("--frames", request.frames),
            )
            if not there
        ]
        one = AnswerSet(answerer=answerer, shown=shown, model=model or "", seen=answerer == _LORA and self._seen)
        if missing or request.frames is None:
            return msgspec.structs.replace(
                one, reason=f"{' and '.join(missing)} not given, and no --pred {answerer.lower()}/{shown}=FILE"
            )
        vqa = request.settings.vqa.model_copy(update={"model": model, "inputs": tuple(shown.split("+"))})
        return self._run(one, request.frames, request.settings.model_copy(update={"vqa": vqa}))

    def embedded(self) -> AnswerSet:
        """Return what the pipeline measures."""
        one = AnswerSet(answerer=_EMBEDDED)
        request = self._request
        if request.frames is None:
            return msgspec.structs.replace(one, reason="--frames not given, and no --pred embedded=FILE")
        vqa = request.settings.vqa.model_copy(update={"answerer": _EMBEDDED})
        return self._run(one, request.frames, request.settings.model_copy(update={"vqa": vqa}))

    def _run(self, one: AnswerSet, frames: Path, settings: Settings) -> AnswerSet:
        name = f"{one.answerer}-{one.shown}" if one.shown else one.answerer
        note(f"{name}:")
        out = self._request.out / "answers" / f"{name.lower()}.jsonl"
        try:
            result = run_questions(self._questions, frames, out, settings, overwrite=self._request.overwrite)
        except UsageError:
            raise
        except MegcError as error:
            return self._failed(one, name, str(error))
        if result.out is None:
            if not result.failed:
                raise MegcError(
                    f"stopped with {result.answered} of {result.questions} questions answered by {name}; the same "
                    "command goes on from there"
                )
            video, problem = next(iter(result.failed.items()))
            return self._failed(one, name, f"{len(result.failed)} clips failed, the first: {video}: {problem}")
        return msgspec.structs.replace(
            one,
            answers=tuple(read_answers(out)),
            replaced=result.replaced if one.shown else None,
            repaired=result.repaired if one.shown else None,
        )

    def _failed(self, one: AnswerSet, name: str, problem: str) -> AnswerSet:
        self.problems.append(f"{name}: {problem}")
        return msgspec.structs.replace(one, reason=" ".join(problem.split()))


def _given(request: VqaTableRequest, seen: bool) -> dict[str, AnswerSet]:
    """Return the answers that were read from files, by the row that they belong to."""
    known = {_row_name(one, shown): (one, shown) for one in (_ZERO_SHOT, _LORA) for shown in request.inputs}
    found: dict[str, AnswerSet] = {}
    for row, file in request.given:
        name = row.strip()
        key = name.casefold()
        if key in found:
            raise UsageError(f"--pred {row}={file}: a second file for the row '{row}'")
        answerer, shown = known.get(key, (name, ""))
        found[key] = AnswerSet(
            answerer=answerer,
            shown=shown,
            model=file.name,
            answers=tuple(read_answers(file)),
            replaced=_replaced(file),
            seen=seen and answerer == _LORA,
        )
    return found


def _row_name(answerer: str, shown: str) -> str:
    """Return what ``--pred`` calls a row."""
    return f"{answerer}/{shown}".casefold()


def _replaced(file: Path) -> int | None:
    """Return how many answers of a file are embedded ones in place of served ones; None where that is not known."""
    details = file.with_name(f"{file.name}.details.jsonl")
    try:
        lines = details.read_bytes().splitlines()[1:]
        entries = {entry["row"]: entry["answer"] for entry in map(msgspec.json.decode, lines)}
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None
    return sum(bool(answer.get("fallback")) for answer in entries.values())


def _training(folder: Path | None) -> dict[str, Any] | None:
    if folder is None:
        return None
    file = folder / "train.json"
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); expected the --out of 'train vqa'") from error
    return facts


def _persons(training: dict[str, Any] | None) -> frozenset[str]:
    """Return the persons trained on, by the names of the data set ("samm") or its layout ("samm-lv") and their own."""
    return frozenset() if training is None else frozenset(_known(person) for person in training["trained_on"])


def _person(row: AnswerRow) -> str:
    return _known(f"{row.dataset}/{row.fields.get('subject') or row.video}")


def _known(person: str) -> str:
    """Return one spelling of a person: layouts and the challenge's files call data sets and subjects differently."""
    from megc_stream.training.vqa_questions import dataset_name

    dataset, _, name = person.partition("/")
    return f"{dataset_name(dataset).partition('_')[0].casefold()}/{name.casefold().lstrip('0')}"


def _without_answer(row: AnswerRow) -> AnswerRow:
    return msgspec.structs.replace(row, answer="", fields={**row.fields, "answer": ""})


def _command(request: VqaTableRequest, train: Path | None) -> str:
    """Return a command that makes the same table, without what has no bearing on the numbers."""
    words = ["megc-stream", "table", "vqa", "--truth", str(request.truth)]
    for option, value in (
        ("--train", train),
        ("--frames", request.frames),
        ("--server", request.settings.vqa.answerer),
        ("--model", request.model),
        ("--lora", request.lora),
        ("--trained", request.trained),
    ):
        words += [option, str(value)] if value is not None else []
    words += ["--inputs", ",".join(request.inputs)]
    for row, file in request.given:
        words += ["--pred", f"{row}={file}"]
    words += ["--redact-eyes"] if request.settings.vqa.redact_eyes else []
    return f"{shlex.join(words)} --out DIR"
