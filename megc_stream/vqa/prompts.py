"""The prompts of a served model: versioned files, filled in, the media between them, as messages of the OpenAI API.

A prompt file (``vqa/prompts/megc-1.toml``) is never changed once it was used: answers carry its name and SHA-256.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import msgspec

from megc_stream.errors import DataError, UsageError
from megc_stream.vocabulary import ACTION_UNIT_NAMES
from megc_stream.vqa.forms import answer_schema
from megc_stream.vqa.material import Material
from megc_stream.vqa.media import (
    FLOW_COLOURS,
    InputKind,
    flow_part,
    flow_scale_px,
    known_flow,
    pictures_part,
    sample_video,
    video_part,
)
from megc_stream.vqa.questions import COARSE, COUNT_KINDS, LVQA_KINDS, QuestionKind, fine_labels

__all__ = [
    "DEFAULT_PROMPTS",
    "Prompt",
    "PromptFile",
    "build_messages",
    "load_prompts",
    "repair_message",
    "shown_inputs",
]

DEFAULT_PROMPTS = "megc-1"

_FOLDER = Path(__file__).with_name("prompts")

_INPUT_TEXTS = ("video", "onset", "apex", "offset", "flow", "events", "no_events", "event")
_ANSWER_TEXTS = (
    *("coarse", "fine", "units_one", "units_several", "unit_shown", "unit_side", "combined_one", "combined_several"),
    *("analysis", "count", "unit_set", "event_type", "other"),
)


class PromptFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prompt file as read; ``id`` is its name without suffix, ``sha256`` that of its bytes.

    ``inputs`` is said before each input, ``answers`` tells how each kind of question is answered, ``repair`` what is
    said after an answer of the wrong form.
    """

    id: str = ""
    sha256: str = ""
    system: str
    inputs: dict[str, str]
    answers: dict[str, str]
    repair: dict[str, str]


class Prompt(NamedTuple):
    """A request's messages, the form of the answer (None for free text), and which prompt file they are from."""

    messages: list[dict[str, Any]]
    response_format: dict[str, Any] | None
    prompt_id: str
    prompt_sha256: str


@cache
def load_prompts(name: str = DEFAULT_PROMPTS) -> PromptFile:
    """Return the prompts of a shipped version ("megc-1"), or of a file of one's own (a path that ends in .toml).

    Raises
    ------
    UsageError
        There is no such version.
    DataError
        The file cannot be read, or a text is missing from it.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if path.parent == _FOLDER and not path.is_file():
        known = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.toml")))
        raise UsageError(f"prompts '{name}': unknown version; expected {known}, or a .toml file")
    try:
        data = path.read_bytes()
        read = msgspec.convert(tomllib.loads(data.decode("utf-8")), PromptFile)
    except OSError as error:
        raise DataError(f"prompts {path}: cannot be read ({error.strerror}); expected a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise DataError(f"prompts {path}: not a prompt file ({error}); {DEFAULT_PROMPTS}.toml is an example") from error
    for table, texts, needed in (
        ("inputs", read.inputs, _INPUT_TEXTS),
        ("answers", read.answers, _ANSWER_TEXTS),
        ("repair", read.repair, ("again",)),
    ):
        for text in needed:
            if text not in texts:
                raise DataError(f"prompts {path}: '{text}' is missing from [{table}]; {DEFAULT_PROMPTS}.toml has it")
    return msgspec.structs.replace(read, id=path.stem, sha256=hashlib.sha256(data).hexdigest())


def build_messages(
    question: str,
    kind: QuestionKind,
    inputs: Sequence[InputKind],
    material: Material,
    prompts: str = DEFAULT_PROMPTS,
) -> Prompt:
    """Return the messages that ask a question about an event or a video, media included, and the form of the answer.

    The question stands as it is, after the media and before how to answer it. About a long video the model is told
    which expressions were measured in it, and shown what :func:`shown_inputs` leaves.

    Parameters
    ----------
    question, kind
        The question, and what it asks for (:func:`megc_stream.vqa.questions.kind_of`).
    inputs
        Media to show, from :func:`megc_stream.vqa.media.parse_inputs`.
    material
        What the media are made of; ``material.dataset`` decides which fine-grained classes may be answered. Redacted
        beforehand where that is wanted.
    prompts
        See :func:`load_prompts`.

    Raises
    ------
    DataError
        An input cannot be made of the material, or a prompt text names a value that there is not.
    """
    texts = load_prompts(prompts)
    content: list[dict[str, Any]] = []
    if material.scope == "video" and kind in (*LVQA_KINDS, "other"):
        content.append(_text(_events(texts, material)))
    for one in shown_inputs(inputs, material):
        content += _media(texts, one, material)
    fine = fine_labels(material.dataset)
    values = {
        "coarse": ", ".join(COARSE),
        "fine": ", ".join(fine),
        "units": ", ".join(ACTION_UNIT_NAMES.values()),
    }
    how = _filled(texts, "answers", "count" if kind in COUNT_KINDS else kind, values)
    content.append(_text(f"{question.strip()}\n{how}"))
    schema = answer_schema(kind, fine)
    form = {"type": "json_schema", "json_schema": {"name": kind, "schema": schema, "strict": True}}
    return Prompt(
        messages=[
            {"role": "system", "content": texts.system.strip()},
            {"role": "user", "content": content},
        ],
        response_format=None if schema is None else form,
        prompt_id=texts.id,
        prompt_sha256=texts.sha256,
    )


def shown_inputs(inputs: Sequence[InputKind], material: Material) -> tuple[InputKind, ...]:
    """Return the media that can be shown: all of an event; of a long video, which has no onset and apex, its video."""
    if material.scope == "event":
        return tuple(inputs)
    return tuple(one for one in inputs if one == "video" and material.images)


def repair_message(problem: str, prompts: str = DEFAULT_PROMPTS) -> dict[str, Any]:
    """Return the message that asks for another answer, after one of the wrong form; ``problem`` says what was wrong."""
    return {"role": "user", "content": _filled(load_prompts(prompts), "repair", "again", {"problem": problem})}


def _media(texts: PromptFile, kind: InputKind, material: Material) -> list[dict[str, Any]]:
    if kind == "video":
        part = video_part(material)
        times_s = sample_video(material).times_s
        said = _filled(texts, "inputs", "video", {"frames": len(times_s), "duration_ms": _ms(times_s[-1])})
        return [_text(said), part]
    after_ms = {
        name: _ms(material.times_s[index] - material.times_s[material.onset]) if material.times_s else 0
        for name, index in (("onset", material.onset), ("apex", material.apex), ("offset", material.offset))
    }
    if kind == "oao":
        content = []
        for part, (name, ms) in zip(pictures_part(material), after_ms.items(), strict=True):
            content += [_text(_filled(texts, "inputs", name, {"ms": ms})), part]
        return content
    scale = f"{flow_scale_px(known_flow(material)):g}"
    values = {"ms": after_ms["apex"], "colours": FLOW_COLOURS, "scale_px": scale}
    return [_text(_filled(texts, "inputs", "flow", values)), flow_part(material)]


def _events(texts: PromptFile, material: Material) -> str:
    if not material.events:
        return _filled(texts, "inputs", "no_events", {})
    lines = []
    for event in material.events:
        units = ", ".join(unit.name for unit in event.units)
        values = {
            "number": event.order,
            "type": f"{event.type}-expression",
            "duration_ms": _ms((event.offset - event.onset) / material.fps),
            "units": f": {units}" if units else "",
        }
        lines.append(_filled(texts, "inputs", "event", values))
    return _filled(texts, "inputs", "events", {"events": "\n".join(lines)})


def _filled(texts: PromptFile, table: str, name: str, values: Mapping[str, object]) -> str:
    text: str = getattr(texts, table)[name]
    try:
        return Template(text.strip()).substitute(values)
    except (KeyError, ValueError) as error:
        raise DataError(
            f"prompts {texts.id}, [{table}] {name}: cannot be filled in ({error}); expected names among "
            f"{', '.join(f'${value}' for value in values) or 'none'}"
        ) from error


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
