"""What a vision-language model is trained on: questions with answers, and the clips that they are about.

They come from the challenge's files, and from any annotated data set, whose annotations answer all templates
(:mod:`megc_stream.training.vqa_questions`). Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from megc_stream import __version__
from megc_stream.clock import MonotonicClock
from megc_stream.datasets import Annotation, DataSet, Recording, open_recording
from megc_stream.datasets.question_clips import ClipIndex, native_fps
from megc_stream.errors import DataError, OutputError, UsageError, WireError
from megc_stream.evaluation.tables import AnswerRow
from megc_stream.face import FaceAnalyser
from megc_stream.flow import TVL1Solver
from megc_stream.packing import Unpacker, pack
from megc_stream.recognition.action_units import face_motion
from megc_stream.records import Crop
from megc_stream.settings import Settings, load_settings
from megc_stream.training.cache import in_processes, make_folder
from megc_stream.training.vqa_questions import dataset_name, event_questions, video_questions
from megc_stream.vqa.forms import structured_answer
from megc_stream.vqa.gathering import material_of_clip, material_of_video, solver_of
from megc_stream.vqa.material import KnownEvent, Material, material_of_event
from megc_stream.vqa.media import InputKind, redact_eyes
from megc_stream.vqa.prompts import DEFAULT_PROMPTS, build_messages, shown_inputs
from megc_stream.vqa.questions import LVQA_KINDS, fine_labels, kind_of

__all__ = [
    "AskedClips",
    "Clip",
    "Example",
    "PromptLessons",
    "annotated_examples",
    "file_examples",
    "link_frames",
    "load_material",
    "prepare_clips",
    "split_persons",
]

_MATERIAL_VERSION = 1
_CANDIDATES = 32
_unpack: Unpacker[Material] = Unpacker(Material)


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown: one expression, or a long video.

    Parameters
    ----------
    scope
        As in :class:`megc_stream.vqa.material.Material`.
    name
        As the rows call it; unique.
    dataset, person
        The data set as the challenge calls it, and who is seen, unique over all data sets.
    path
        Folder of images, or video file.
    fps
        Frames per second; None takes the file's own.
    recording
        The part of an annotated recording from onset to offset; None takes all of ``path``.
    onset, apex, offset
        Native frame numbers of an annotated expression; ``apex`` None where it is not known.
    type
        Of an annotated expression.
    """

    scope: Literal["event", "video"]
    name: str
    dataset: str
    person: str
    path: Path
    fps: float | None = None
    recording: Recording | None = None
    onset: int = 0
    apex: int | None = None
    offset: int = 0
    type: Literal["micro", "macro"] = "micro"

    @property
    def key(self) -> str:
        """Name of its material in the cache: a hash of all that it depends on."""
        numbers = None if self.recording is None else self.recording.numbers
        depends_on = [_MATERIAL_VERSION, __version__, self.scope, self.dataset, str(self.path), self.fps, self.type]
        points = [self.onset, self.apex, self.offset, numbers, self.path.stat().st_mtime_ns]
        return hashlib.sha256(json.dumps([depends_on, points]).encode()).hexdigest()[:24]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A question about a clip, with its true answer; ``row`` is the whole row, as in the challenge's files."""

    clip: Clip
    question: str
    answer: str
    row: dict[str, Any]


class AskedClips(msgspec.Struct, frozen=True, kw_only=True):
    """Examples, and what was left out of them, in words."""

    examples: tuple[Example, ...]
    notes: tuple[str, ...] = ()


def file_examples(rows: Sequence[AnswerRow], frames: Path) -> AskedClips:
    """Return the rows of question files with answers; a row whose clip is not below ``frames`` is left out and noted.

    Raises
    ------
    DataError
        A row has no answer, ``frames`` is no folder, or there is no clip of any row below it.
    """
    index = ClipIndex(frames)
    clips: dict[tuple[str, str, str], Clip | None] = {}
    examples: list[Example] = []
    absent: dict[str, str] = {}
    # As in `vqa run`: a clip with a question about many events is a long video.
    long = {_named(row) for row in rows if kind_of(row.question) in LVQA_KINDS}
    for row in rows:
        if not row.answer:
            raise DataError(f"{row.file}, row {row.row}, field answer: there is none; expected an answer to train on")
        key = _named(row)
        subject = key[1]
        if key not in clips:
            try:
                path = index.find(row.video, subject, row.dataset)
            except DataError as error:
                clips[key] = None
                absent[row.video] = str(error)
            else:
                clips[key] = Clip(
                    scope="video" if key in long else "event",
                    name=f"{row.dataset}_{subject}_{row.video}" if subject else f"{row.dataset}_{row.video}",
                    dataset=row.dataset,
                    person=f"{row.dataset}/{subject or row.video}",
                    path=path,
                    fps=native_fps(row.dataset),
                )
        clip = clips[key]
        if clip is not None:
            examples.append(Example(clip=clip, question=row.question, answer=row.answer, row=row.fields))
    if not examples:
        raise DataError(next(iter(absent.values()), f"{frames}: no question to train on"))
    notes = [f"{len(absent)} clips are left out, the first: {next(iter(absent.values()))}"] if absent else []
    return AskedClips(examples=tuple(examples), notes=tuple(notes))


def annotated_examples(data: DataSet, *, long_videos: bool = True, seed: int = 0) -> AskedClips:
    """Return the questions that the annotations of a data set answer, about each expression and each whole video.

    Expressions without onset or offset in their recording are left out and noted; so are those that no question can be
    asked about.

    Parameters
    ----------
    data
        From :func:`megc_stream.datasets.read_dataset`.
    long_videos
        Ask about whole videos too: counts, types, the set of action units.
    seed
        Draws which units and events are asked for.
    """
    dataset = dataset_name(data.layout)
    recordings = {(one.subject, one.video): one for one in data.recordings}
    by_video: dict[tuple[str, str], list[Annotation]] = {}
    for one in data.annotations:
        by_video.setdefault((one.subject, one.video), []).append(one)
    rng = np.random.default_rng(seed)
    examples: list[Example] = []
    left_out = 0
    for (subject, video), events in by_video.items():
        recording = recordings.get((subject, video))
        if recording is None:
            left_out += len(events)
            continue
        person = f"{data.layout}/{subject}"
        for count, event in enumerate(events, start=1):
            asked = event_questions(event, data.layout, rng)
            part = _part(recording, event)
            if part is None or not asked:
                left_out += 1
                continue
            clip = Clip(
                scope="event",
                name=f"{dataset}_{subject}_{video}_{event.event or count}",
                dataset=dataset,
                person=person,
                path=recording.path,
                fps=recording.fps,
                recording=part,
                onset=event.onset,
                apex=event.apex,
                offset=event.offset,
                type=event.type,
            )
            examples += _examples(clip, subject, asked)
        if long_videos:
            whole = Clip(
                scope="video",
                name=f"{dataset}_{subject}_{video}",
                dataset=dataset,
                person=person,
                path=recording.path,
                fps=recording.fps,
            )
            examples += _examples(whole, subject, video_questions(events, rng))
    if not examples:
        raise DataError(
            f"{data.root}: no annotated expression of the layout {data.layout} lies in a recording and can be asked "
            "about; 'megc-stream datasets check' says what is missing"
        )
    notes = [f"{data.root}: {left_out} annotated expressions are left out"] if left_out else []
    return AskedClips(examples=tuple(examples), notes=tuple(notes))


def split_persons(
    examples: Sequence[Example], hold_out: str, seed: int = 0
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the examples to train on, and those of the persons held out; nobody is in both.

    Parameters
    ----------
    examples
        All of them.
    hold_out
        "" for nobody, a number of persons to draw, or names separated by commas ("006,sub01", "samm-lv/006").
    seed
        Of the draw.

    Raises
    ------
    UsageError
        A name is nobody's, or nobody is left to train on.
    """
    persons = sorted({example.clip.person for example in examples})
    if not hold_out:
        return tuple(examples), ()
    if hold_out.isdecimal() and int(hold_out) < len(persons) and hold_out not in {_short(one) for one in persons}:
        drawn = np.random.default_rng(seed).permutation(len(persons))[: int(hold_out)]
        out = {persons[index] for index in drawn}
    else:
        names = [name.strip() for name in hold_out.split(",")]
        out = {person for person in persons if person in names or _short(person) in names}
        for name in names:
            if not any(name in (person, _short(person)) for person in out):
                known = ", ".join(persons[:5])
                raise UsageError(
                    f"--hold-out {hold_out}: '{name}' is nobody's name; there are {len(persons)} persons, {known} ..."
                )
    training = tuple(example for example in examples if example.clip.person not in out)
    if not training:
        raise UsageError(f"--hold-out {hold_out}: nobody of {len(persons)} persons is left to train on")
    return training, tuple(example for example in examples if example.clip.person in out)


def prepare_clips(
    clips: Iterable[Clip],
    folder: Path,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Take the clips through face and flow, and long videos through the spotter, where that is not done yet.

    Writes one file each into ``folder``, named by :attr:`Clip.key`; they hold face crops. An interrupted call can be
    repeated.

    Raises
    ------
    CaptureError
        A clip cannot be read.
    OutputError
        The folder cannot be written.
    """
    make_folder(folder, "folder")
    wanted = {clip.key: clip for clip in clips}
    missing = [(clip, folder / key) for key, clip in wanted.items() if not (folder / key).is_file()]
    done = len(wanted) - len(missing)
    if progress is not None:
        progress(done, len(wanted))
    for _ in in_processes(_make, missing, jobs):
        done += 1
        if progress is not None:
            progress(done, len(wanted))


def load_material(clip: Clip, folder: Path) -> Material:
    """Return what :func:`prepare_clips` made of a clip.

    Raises
    ------
    DataError
        The file is damaged.
    """
    file = folder / clip.key
    try:
        return _unpack(file.read_bytes())
    except (OSError, WireError) as error:
        raise DataError(f"{file}: is no prepared clip ({error}); remove it and repeat the command") from error


class PromptLessons:
    """The lessons of examples: each with each of the inputs, prompts as a server gets them, answers in their form.

    An answer that its form cannot hold is left out and noted; so is an input that cannot be made of a clip.

    Parameters
    ----------
    examples
        What to learn.
    inputs
        Combinations of media; each example is shown with each of them.
    folder
        Where :func:`prepare_clips` put the clips.
    redact
        Black out the eyes.
    prompts
        As in :func:`megc_stream.vqa.prompts.load_prompts`.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        inputs: Sequence[tuple[InputKind, ...]],
        folder: Path,
        *,
        redact: bool = False,
        prompts: str = DEFAULT_PROMPTS,
    ) -> None:
        self._folder = folder
        self._redact = redact
        self._prompts = prompts
        self._lessons: list[tuple[Example, tuple[InputKind, ...], str]] = []
        self._material = lru_cache(maxsize=64)(self._load)
        reasons: Counter[str] = Counter()
        first: dict[str, str] = {}
        for example in examples:
            clip = example.clip
            try:
                answer = structured_answer(kind_of(example.question), example.answer, fine_labels(clip.dataset))
            except DataError as error:
                reasons["answers have no form of their question"] += 1
                first.setdefault("answers have no form of their question", str(error))
                continue
            material = self._material(clip)
            for combination in inputs:
                lacks_flow = "flow" in combination and material.flow is None
                if clip.scope == "event" and (not material.images or lacks_flow):
                    what = "questions with an input are left out, no face or no motion was found"
                    reasons[what] += 1
                    first.setdefault(what, clip.name)
                    continue
                self._lessons.append((example, shown_inputs(combination, material), answer))
        # Combinations that differ by what a long video cannot show are one lesson.
        self._lessons = list({(id(one), shown): (one, shown, text) for one, shown, text in self._lessons}.values())
        self.notes = tuple(f"{count} {what}, the first: {first[what]}" for what, count in reasons.items())

    def __len__(self) -> int:
        return len(self._lessons)

    def __getitem__(self, index: int, /) -> tuple[list[dict[str, Any]], str]:
        """Return messages and answer."""
        example, inputs, answer = self._lessons[index]
        kind = kind_of(example.question)
        prompt = build_messages(example.question, kind, inputs, self._material(example.clip), self._prompts)
        return prompt.messages, answer

    @property
    def key(self) -> str:
        """A hash of everything that the lessons depend on."""
        digest = hashlib.sha256(json.dumps([self._redact, self._prompts]).encode())
        for example, inputs, answer in self._lessons:
            digest.update(json.dumps([example.clip.key, example.question, inputs, answer]).encode())
        return digest.hexdigest()

    def _load(self, clip: Clip) -> Material:
        material = load_material(clip, self._folder)
        return redact_eyes(material) if self._redact else material


def link_frames(examples: Sequence[Example], folder: Path) -> list[str]:
    """Make a folder of links to the frames of each clip, for ``vqa run --frames``; return names of clips left out.

    Left out are expressions in video files, which cannot be linked to in part.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    left_out = []
    for clip in {example.clip.name: example.clip for example in examples}.values():
        place = folder / clip.dataset / clip.name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if clip.recording is None:
                link = place if clip.path.is_dir() else place.with_name(place.name + clip.path.suffix)
                link.unlink(missing_ok=True)
                link.symlink_to(clip.path.absolute())
            elif clip.recording.files:
                place.mkdir(exist_ok=True)
                for name in clip.recording.files:
                    (place / name).unlink(missing_ok=True)
                    (place / name).symlink_to((clip.path / name).absolute())
            else:
                left_out.append(clip.name)
        except OSError as error:
            raise OutputError(f"{place}: cannot be written ({error.strerror}); free space or change --out") from error
    return left_out


def _examples(clip: Clip, subject: str, asked: Sequence[tuple[str, str]]) -> list[Example]:
    examples = []
    for number, (question, answer) in enumerate(asked, start=1):
        row = {
            "id": f"{clip.name}_{number}",
            "dataset": clip.dataset,
            "subject": subject,
            "video": clip.name,
            "question": question,
            "answer": answer,
        }
        examples.append(Example(clip=clip, question=question, answer=answer, row=row))
    return examples


def _named(row: AnswerRow) -> tuple[str, str, str]:
    return row.dataset, str(row.fields.get("subject") or ""), row.video


def _part(recording: Recording, event: Annotation) -> Recording | None:
    """Return the recording from onset to offset; None where it has no such frames."""
    if event.onset_index is None or event.offset_index is None:
        return None
    if not recording.files:
        return recording
    span = slice(event.onset_index, event.offset_index + 1)
    return msgspec.structs.replace(recording, numbers=recording.numbers[span], files=recording.files[span])


def _short(person: str) -> str:
    return person.partition("/")[2]


def _make(task: tuple[Clip, Path]) -> None:
    clip, file = task
    settings = load_settings(None, {"capture": {"fps": clip.fps}})
    if clip.recording is not None:
        material = _annotated_material(clip, clip.recording, settings)
    elif clip.scope == "video":
        material = material_of_video(clip.path, settings, dataset=clip.dataset)
    else:
        material = material_of_clip(clip.path, settings, dataset=clip.dataset)
    part = file.with_suffix(".part")
    try:
        part.write_bytes(pack(material))
        part.replace(file)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror}); free space or change --cache") from error


def _annotated_material(clip: Clip, recording: Recording, settings: Settings) -> Material:
    """Return the material of an annotated expression: its own onset, apex and offset."""
    with open_recording(recording, settings.capture, clock=MonotonicClock()) as source:
        info = source.info
        # A folder's first frame is 0 whatever its number; a video file is read from its beginning.
        first = recording.numbers[0] if recording.numbers else 0
        onset, offset = clip.onset - first, clip.offset - first
        analyser = FaceAnalyser(settings.face, info.fps, settings.model.providers)
        crops = []
        for frame in source.frames():
            if frame.frame > offset:
                break
            crop = analyser.process(frame)
            if frame.frame >= onset:
                crops.append(crop)
    solver = solver_of(settings.flow)
    apex = _strongest(crops, onset, solver) if clip.apex is None else clip.apex - first
    event = KnownEvent(order=1, type=clip.type, onset=onset, apex=apex, offset=offset)
    return material_of_event(info, crops, event, solver, clip.dataset)


def _strongest(crops: Sequence[Crop], onset: int, solver: TVL1Solver) -> int:
    """Return the frame in which the face has moved most since the first one with a face."""
    faces = [crop for crop in crops if crop.image is not None and crop.landmarks68 is not None]
    same = [crop for crop in faces[1:] if crop.segment == faces[0].segment]
    if not same:
        return onset
    image, landmarks = faces[0].image, faces[0].landmarks68
    assert image is not None
    assert landmarks is not None
    chosen = np.unique(np.linspace(0, len(same) - 1, min(len(same), _CANDIDATES)).round().astype(int)).tolist()
    moved = []
    for index in chosen:
        other = same[index].image
        assert other is not None
        moved.append(face_motion(solver.solve(image, other, warm=False), landmarks).strength_px)
    strongest: Crop = same[chosen[int(np.argmax(moved))]]
    return strongest.frame
