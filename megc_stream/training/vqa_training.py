"""From questions with answers to a LoRA adapter of a vision-language model: what ``megc-stream train vqa`` does."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megc_stream import __version__
from megc_stream.errors import ModelError, OutputError, UsageError
from megc_stream.training.cache import make_folder
from megc_stream.training.vqa_data import (
    AskedClips,
    Example,
    PromptLessons,
    link_frames,
    prepare_clips,
    split_persons,
)
from megc_stream.vqa.media import InputKind
from megc_stream.vqa.prompts import DEFAULT_PROMPTS, load_prompts
from megc_stream.vqa.questions import kind_of

if TYPE_CHECKING:
    from megc_stream.training.vqa_lora import LoraOptions

__all__ = ["TrainedAnswers", "VqaOptions", "train_vqa"]

_PACKAGES = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class VqaOptions:
    """What is learned from what; how is in :class:`megc_stream.training.vqa_lora.LoraOptions`.

    ``inputs`` are the combinations of media that each question is shown with; ``hold_out`` and ``seed`` say who is not
    trained on (:func:`megc_stream.training.vqa_data.split_persons`).
    """

    inputs: tuple[tuple[InputKind, ...], ...] = (("video",), ("oao",), ("flow",))
    hold_out: str = ""
    redact_eyes: bool = False
    prompts: str = DEFAULT_PROMPTS


@dataclass(frozen=True)
class TrainedAnswers:
    """The folder of the adapter, and what ``train.json`` says."""

    adapter: Path
    facts: dict[str, Any]
    notes: tuple[str, ...]


def train_vqa(
    asked: Sequence[AskedClips],
    model: Path,
    out: Path,
    options: VqaOptions,
    lora: LoraOptions,
    *,
    cache: Path | None = None,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> TrainedAnswers:
    """Train an adapter, and write it with all that is needed to serve and to test it.

    Writes ``adapter/`` (for the server), ``train.json`` (options, data, losses, versions), ``train.jsonl`` (the rows
    that were trained on), and, where persons are held out, ``held-out.jsonl`` with their rows and ``frames/`` with
    links to their clips, which ``megc-stream vqa run`` and ``table vqa`` take. ``clips/`` holds the prepared clips.

    Parameters
    ----------
    asked
        From :func:`~megc_stream.training.vqa_data.file_examples` and
        :func:`~megc_stream.training.vqa_data.annotated_examples`.
    model
        Folder of the base model.
    out
        Made if absent.
    options, lora
        What is learned, and how.
    cache
        Folder of the prepared clips, which hold face crops; None takes ``out/clips``.
    jobs
        Processes for preparing clips.
    resume, overwrite
        See :func:`megc_stream.training.vqa_lora.train_adapter`.
    progress
        Called with what is being done, and how much of it is done and is to do.

    Raises
    ------
    MissingExtraError
        torch, transformers or peft is not installed.
    UsageError
        Nothing is left to learn, or ``out`` holds results of another run.
    ModelError
        The base model cannot be loaded.
    CaptureError, DataError
        A clip cannot be read.
    OutputError
        Results cannot be written.
    """
    # Before an hour of preparing clips, not after it.
    from megc_stream.training import vqa_lora

    def say(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)

    base = _base_facts(model)
    examples = [example for one in asked for example in one.examples]
    training, held_out = split_persons(examples, options.hold_out, lora.seed)
    make_folder(out, "folder")
    folder = cache or out / "clips"
    clips = [example.clip for example in training]
    prepare_clips(clips, folder, jobs=jobs, progress=lambda done, total: say("clips", done, total))
    lessons = PromptLessons(training, options.inputs, folder, redact=options.redact_eyes, prompts=options.prompts)
    if not len(lessons):
        raise UsageError(f"nothing to learn: {'; '.join(lessons.notes) or 'no question has an answer'}")
    prompts = load_prompts(options.prompts)
    key = hashlib.sha256(json.dumps([lessons.key, prompts.sha256, base["sha256"]]).encode()).hexdigest()
    trained = vqa_lora.train_adapter(
        lessons, model, out, lora, key=key, resume=resume, overwrite=overwrite, progress=say
    )
    notes = [note for one in asked for note in one.notes] + list(lessons.notes)
    _write_rows(out / "train.jsonl", training)
    if held_out:
        _write_rows(out / "held-out.jsonl", held_out)
        if left_out := link_frames(held_out, out / "frames"):
            notes.append(f"{len(left_out)} clips in video files have no frames to link to, the first: {left_out[0]}")
    facts = {
        "megc_stream": __version__,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "model": base,
        "prompts": {"id": prompts.id, "sha256": prompts.sha256},
        "inputs": ["+".join(one) for one in options.inputs],
        "eyes_redacted": options.redact_eyes,
        "lora": asdict(lora),
        "targets": vqa_lora.TARGETS,
        "lessons": len(lessons),
        "questions": dict(sorted(Counter(kind_of(one.question) for one in training).items())),
        "trained_on": sorted({one.clip.person for one in training}),
        "held_out": sorted({one.clip.person for one in held_out}),
        "steps": trained.steps,
        "losses": trained.losses,
        "accuracies": trained.accuracies,
        "supervised_tokens": trained.supervised_tokens,
        "notes": notes,
    }
    _write(out / "train.json", json.dumps(facts, indent=2) + "\n")
    return TrainedAnswers(adapter=trained.folder, facts=facts, notes=tuple(notes))


def _base_facts(model: Path) -> dict[str, str]:
    """Return the name of the base model, and a checksum of its configuration and of what its weights are listed as."""
    config = model / "config.json"
    try:
        digest = hashlib.sha256(config.read_bytes())
        for file in sorted(model.glob("*.safetensors")):
            digest.update(f"{file.name} {file.stat().st_size}".encode())
    except OSError as error:
        raise ModelError(
            f"model {model}: {config.name} cannot be read ({error.strerror}); expected the folder of a checkpoint"
        ) from error
    return {"name": model.resolve().name, "sha256": digest.hexdigest()}


def _write_rows(file: Path, examples: Sequence[Example]) -> None:
    # Named as their links are.
    rows = (json.dumps({**one.row, "video": one.clip.name}, ensure_ascii=False) for one in examples)
    _write(file, "".join(f"{row}\n" for row in rows))


def _write(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror}); free space or change --out") from error
