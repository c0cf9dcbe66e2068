"""``megc-stream vqa ask`` and ``vqa run``: material of files, answers, and a journal from which a run goes on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from megc_stream.cli.console import note, report_json, say, warn
from megc_stream.cli.progress import CountProgress
from megc_stream.clock import Clock, MonotonicClock
from megc_stream.datasets.question_clips import ClipIndex, native_fps
from megc_stream.errors import MegcError, OutputError, UsageError
from megc_stream.evaluation import AnswerRow, read_answers
from megc_stream.models import MeanModel, find_mean
from megc_stream.output.run_record import environment
from megc_stream.records import Answer
from megc_stream.settings import Settings
from megc_stream.submission import format_answer_file
from megc_stream.vqa.embedded import EmbeddedAnswerer
from megc_stream.vqa.evidence import evidence_in_words
from megc_stream.vqa.gathering import material_of_clip, material_of_video
from megc_stream.vqa.material import Material
from megc_stream.vqa.questions import LVQA_KINDS, kind_of
from megc_stream.vqa.served import ServedAnswerer

__all__ = ["RunResult", "ask_command", "run_command", "run_questions"]

Scope = Literal["event", "video"]

_EMBEDDED = "embedded"
# What is asked how many times and when, and with which key, has no bearing on an answer.
_BESIDE_THE_POINT = (
    *("questions", "concurrency", "waiting", "timeout_s", "retries", "breaker_failures", "breaker_pause_s", "drain_s"),
    "api_key_variable",
)
_RELEVANT = ("capture", "face", "flow", "model", "spotting")
_AHEAD = 4


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a file of questions was answered; ``out`` is None while answers are missing.

    ``answered`` of the ``questions`` have an answer now, ``skipped`` had one before; ``by`` counts who answered,
    ``replaced`` how many embedded answers stand where a served one was asked for, ``repaired`` how many served ones
    were of the form at the second attempt only. ``failed`` maps clips to what was wrong.
    """

    out: str | None
    details: str
    questions: int
    answered: int
    skipped: int
    by: dict[str, int]
    replaced: int
    repaired: int
    failed: dict[str, str]


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a journal: answers of other questions or settings do not go on from it."""

    questions_sha256: str
    version: str
    settings: dict[str, Any]


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a journal; ``row`` counts the lines of the question file from 1."""

    row: int
    video: str
    answer: Answer


class _Clip(msgspec.Struct, frozen=True, kw_only=True):
    """A clip, and the rows that ask about it."""

    video: str
    subject: str
    dataset: str
    scope: Scope
    rows: tuple[AnswerRow, ...]


def ask_command(clip: str, settings: Settings, *, dataset: str, json_file: str | None) -> None:
    """Answer and tell; see :func:`megc_stream.cli.vqa.ask`."""
    if dataset and native_fps(dataset) is None:
        raise UsageError(f"--dataset {dataset}: unknown; expected samm, casme2 or casme3")
    if not all(question.strip() for question in settings.vqa.questions):
        raise UsageError("--question: got no words; expected a question")
    clock = MonotonicClock()
    with ExitStack() as stack:
        served = _served(settings, clock, stack)
        model = _model(settings)
        materials: dict[Scope, Material] = {}
        answers = []
        for question in settings.vqa.questions:
            scope: Scope = "video" if kind_of(question) in LVQA_KINDS else "event"
            if scope not in materials:
                gather = material_of_video if scope == "video" else material_of_clip
                materials[scope] = gather(clip, settings, dataset=dataset, model=model, clock=clock)
            answers.append(_answer(question, materials[scope], served))
    longest_s = settings.spotting.longest_s
    for material in materials.values():
        if not material.images:
            warn(f"{clip}: no face was found; the answers are guesses")
        elif material.scope == "event" and (length_s := material.times_s[-1] - material.times_s[0]) > longest_s:
            warn(
                f"{clip}: all of its {length_s:.0f} s were taken as one expression; "
                f"'megc-stream run {clip} --vqa {settings.vqa.answerer or _EMBEDDED}' asks about each one in it"
            )
    report_json(json_file, {"clip": clip, "answers": [msgspec.to_builtins(answer) for answer in answers]})
    if json_file == "-":
        return
    for answer in answers:
        if len(answers) > 1:
            say(answer.question)
        say(answer.answer)
        note(f"  {_whose(answer)}")


def run_command(
    questions: Path, frames: Path, out: Path, settings: Settings, *, overwrite: bool, json_file: str | None
) -> None:
    """Answer the file and tell; see :func:`megc_stream.cli.vqa.run`."""
    result = run_questions(questions, frames, out, settings, overwrite=overwrite)
    report_json(json_file, msgspec.to_builtins(result))
    whose = ", ".join(f"{count} {by}" for by, count in result.by.items())
    note(f"{result.answered} of {result.questions} questions answered{f': {whose}' if whose else ''}")
    if result.replaced:
        note(f"{result.replaced} embedded answers stand where a served one was asked for; run again to ask once more")
    for video, problem in result.failed.items():
        note(f"failed: {video}: {problem}")
    if result.failed:
        raise MegcError(f"{len(result.failed)} clips failed, the first: {next(iter(result.failed))}; no {out} written")
    if result.out is None:
        raise MegcError(
            f"stopped with {result.answered} of {result.questions} questions answered; "
            "the same command goes on from there"
        )
    if json_file != "-":
        say(result.out)


def run_questions(questions: Path, frames: Path, out: Path, settings: Settings, *, overwrite: bool) -> RunResult:
    """Answer a file of questions, clip by clip; what the journal holds is not asked again.

    Answers that the embedded answerer gave instead of the server are asked for again.

    Raises
    ------
    MegcError
        The questions or the folder cannot be read, the server is not there or has no such model, results of other
        settings are in the way, or a file cannot be written. Clips that fail are in the result.
    """
    rows = read_answers(questions)
    index = ClipIndex(frames)
    clock = MonotonicClock()
    header = _Header(
        questions_sha256=hashlib.sha256(questions.read_bytes()).hexdigest(),
        version=environment().megc_stream,
        settings=_relevant(settings),
    )
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        served = _served(settings, clock, stack)
        journal = stack.enter_context(_Journal(_details(out), header, overwrite=overwrite))
        done = {
            row: entry.answer for row, entry in journal.entries.items() if served is None or not entry.answer.fallback
        }
        skipped = len(done)
        to_do = [clip for clip in _clips(rows) if any(row.row not in done for row in clip.rows)]
        if skipped:
            note(f"{skipped} of {len(rows)} questions are answered already")
        if to_do:
            work = _Work(settings, index, served, clock)
            with CountProgress("answering", "questions") as progress:
                try:
                    for entry in work.answers(to_do, set(done)):
                        if isinstance(entry, _Entry):
                            journal.add(entry)
                            done[entry.row] = entry.answer
                            progress(len(done), len(rows))
                        else:
                            failed[entry[0]] = entry[1]
                            progress.line(f"{entry[0]}: failed: {entry[1]}")
                except KeyboardInterrupt:
                    pass  # what is answered is kept, and the caller says that it is not all
    complete = all(row.row in done for row in rows)
    if complete:
        _write(out, [_filled(row, done[row.row].answer) for row in rows])
    return RunResult(
        out=str(out) if complete else None,
        details=str(_details(out)),
        questions=len(rows),
        answered=len(done),
        skipped=skipped,
        by=dict(sorted(Counter(answer.by for answer in done.values()).items())),
        replaced=sum(bool(answer.fallback) for answer in done.values()),
        repaired=sum(bool(answer.evidence.get("repaired")) for answer in done.values() if answer.by == "served"),
        failed=failed,
    )


class _Work:
    """Gathers the material of one clip after the other and has its questions answered."""

    def __init__(self, settings: Settings, index: ClipIndex, served: ServedAnswerer | None, clock: Clock) -> None:
        self._settings = settings
        self._index = index
        self._served = served
        self._clock = clock
        self._model = _model(settings)

    def answers(self, clips: Sequence[_Clip], done: set[int]) -> Iterator[_Entry | tuple[str, str]]:
        """Yield an entry for each row that is not done, in any order, and (clip, problem) for each clip that fails.

        While the server is asked about a clip, the next ones are gathered.
        """
        at_once = self._settings.vqa.concurrency if self._served is not None else 1
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="vqa")
        out: set[Future[_Entry]] = set()
        try:
            for clip in clips:
                try:
                    material = self._gather(clip)
                except MegcError as error:
                    yield clip.video, " ".join(str(error).split())
                    continue
                out |= {pool.submit(self._one, row, material) for row in clip.rows if row.row not in done}
                while len(out) > _AHEAD * at_once:
                    finished, out = wait(out, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            while out:
                finished, out = wait(out, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _gather(self, clip: _Clip) -> Material:
        path = self._index.find(clip.video, clip.subject, clip.dataset)
        settings = self._settings
        fps = settings.capture.fps or (native_fps(clip.dataset) if path.is_dir() else None)
        capture = settings.capture.model_copy(update={"fps": fps})
        gather = material_of_video if clip.scope == "video" else material_of_clip
        return gather(
            path,
            settings.model_copy(update={"capture": capture}),
            dataset=clip.dataset,
            model=self._model,
            clock=self._clock,
        )

    def _one(self, row: AnswerRow, material: Material) -> _Entry:
        return _Entry(row=row.row, video=row.video, answer=_answer(row.question, material, self._served))


class _Journal:
    """The file of answers given so far: a header and one line an answer, the newest of a row counting.

    Raises
    ------
    UsageError
        It is there, of other questions, settings or another version, and is not to be overwritten.
    OutputError
        It cannot be read or written.
    """

    def __init__(self, path: Path, header: _Header, *, overwrite: bool) -> None:
        self._path = path
        self.entries: dict[int, _Entry] = {}
        whole = b"" if overwrite else self._read(header)
        try:
            # A torn last line, from a kill in the middle of it, goes.
            self._file = path.open("r+b" if whole else "wb", buffering=0)
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); change --out") from error
        if not whole:
            self._write(header)

    def add(self, entry: _Entry) -> None:
        """Append an answer; it is on its way to the disk when this returns."""
        self._write(entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read(self, header: _Header) -> bytes:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be read ({error.strerror}); change --out") from error
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.splitlines()
        try:
            if lines and msgspec.json.decode(lines[0], type=_Header) != _through_json(header):
                raise UsageError(
                    f"{self._path}: holds answers to other questions, or of other settings or another version; "
                    "choose another --out, or give --overwrite"
                )
            for line in lines[1:]:
                entry = msgspec.json.decode(line, type=_Entry)
                self.entries[entry.row] = entry
        except msgspec.DecodeError as error:
            raise UsageError(
                f"{self._path}: is no journal of answers ({error}); choose another --out, or give --overwrite"
            ) from error
        return whole

    def _write(self, line: _Header | _Entry) -> None:
        try:
            self._file.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({error.strerror}); free space") from error


def _clips(rows: Iterable[AnswerRow]) -> list[_Clip]:
    """Return the clips in the order of their first row; one with a question about many events is a long video."""
    by_clip: dict[tuple[str, str, str], list[AnswerRow]] = {}
    for row in rows:
        subject = row.fields.get("subject")
        by_clip.setdefault((row.video, str(subject or ""), row.dataset), []).append(row)
    return [
        _Clip(
            video=video,
            subject=subject,
            dataset=dataset,
            scope="video" if any(kind_of(row.question) in LVQA_KINDS for row in asked) else "event",
            rows=tuple(asked),
        )
        for (video, subject, dataset), asked in by_clip.items()
    ]


def _served(settings: Settings, clock: Clock, stack: ExitStack) -> ServedAnswerer | None:
    """Return who asks the server, having made sure that it is there and has the model; None without a server."""
    if settings.vqa.answerer in (None, _EMBEDDED):
        return None
    served = ServedAnswerer(settings.vqa, clock)
    stack.callback(served.close)
    note(f"asking {served.check()} at {settings.vqa.answerer}")
    return served


def _answer(question: str, material: Material, served: ServedAnswerer | None) -> Answer:
    embedded = EmbeddedAnswerer().answer(question, material)
    return embedded if served is None else served.answer(question, material, embedded)


def _model(settings: Settings) -> MeanModel:
    return MeanModel(find_mean(settings.model.name), settings.model.providers, settings.model.threads)


def _whose(answer: Answer) -> str:
    if answer.by == "served":
        evidence = answer.evidence
        tokens = f"{evidence['prompt_tokens']} + {evidence['completion_tokens']} tokens"
        return f"written by {evidence['lora'] or evidence['model']} ({tokens}); measured: {evidence['embedded']}"
    instead = f"the server gave no answer: {answer.fallback}" if answer.fallback else ""
    return "; ".join(part for part in ("measured", evidence_in_words(answer.evidence), instead) if part)


def _relevant(settings: Settings) -> dict[str, Any]:
    everything = settings.model_dump(mode="json")
    vqa = {key: value for key, value in everything["vqa"].items() if key not in _BESIDE_THE_POINT}
    if settings.vqa.answerer in (None, _EMBEDDED):
        vqa = {"answerer": _EMBEDDED}
    return {**{section: everything[section] for section in _RELEVANT}, "vqa": vqa}


def _through_json(header: _Header) -> _Header:
    return msgspec.json.decode(msgspec.json.encode(header), type=_Header)


def _details(out: Path) -> Path:
    return out.with_name(f"{out.name}.details.jsonl")


def _filled(row: AnswerRow, answer: str) -> AnswerRow:
    return msgspec.structs.replace(row, answer=answer, fields={**row.fields, "answer": answer})


def _write(out: Path, rows: Sequence[AnswerRow]) -> None:
    partial = out.with_name(f".{out.name}.part")
    try:
        try:
            partial.write_text(format_answer_file(rows), encoding="utf-8")
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"--out {out}: cannot be written ({error.strerror}); free space or change it") from error
