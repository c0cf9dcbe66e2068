"""What is known of models: those that are shipped, and the published weights that can be fetched."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from megc_stream.errors import ModelError, OutputError
from megc_stream.models.session import fetched_models, model_path, shipped_models

__all__ = [
    "ModelEntry",
    "PublishedScore",
    "card_text",
    "entries",
    "expected_sha256",
    "installed_models",
    "record_checksum",
    "recorded_checksums",
]

_DATA = Path(__file__).with_name("registry.toml")
_RECORD = "checksums.json"


class PublishedScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores as published, leave-one-subject-out, on a data set: spotting F1 at IoU 0.5, recognition F1, STRS."""

    data: str
    spotting_f1: float
    recognition_f1: float
    strs: float


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the registry.

    Parameters
    ----------
    name
        As ``--model`` takes it.
    task
        What it does.
    origin
        "shipped" with the package, or "published" elsewhere and fetched on request.
    source
        Where it comes from: an address, or the command that makes it.
    licence, trained_on, paper
        As far as known; ``paper`` may be empty.
    sha256
        Of the .onnx file; None where nobody recorded it.
    classes
        Emotions in the order of the outputs; empty for other tasks.
    k_s, k_prime_s
        Seconds between the frames of a pair, and half an expected expression; None where not known or not of use.
    folds
        Number of published weight files ``s1.hdf5`` ... ``sN.hdf5`` below ``address``, one per left-out person; 0 for
        a model that is not made of such files.
    address
        Folder of the weight files, without a slash at the end.
    fold_sha256
        Checksums of weight files by stem, where known.
    scores
        As published.
    """

    name: str
    task: str
    origin: Literal["shipped", "published"]
    source: str
    licence: str
    trained_on: str
    paper: str = ""
    sha256: str | None = None
    classes: tuple[str, ...] = ()
    k_s: float | None = None
    k_prime_s: float | None = None
    folds: int = 0
    address: str = ""
    fold_sha256: dict[str, str] = {}
    scores: tuple[PublishedScore, ...] = ()

    def addresses(self) -> dict[str, str]:
        """Return the addresses of the weight files by stem."""
        return {f"s{number}": f"{self.address}/s{number}.hdf5" for number in range(1, self.folds + 1)}


class _Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[ModelEntry, ...]


@cache
def entries() -> dict[str, ModelEntry]:
    """Return all models of the registry by name, in its order."""
    registry = msgspec.convert(tomllib.loads(_DATA.read_text(encoding="utf-8")), _Registry)
    return {entry.name: entry for entry in registry.model}


def installed_models() -> dict[str, Path]:
    """Return the files of all shipped and all fetched models by name."""
    return {name: model_path(f"{name}.onnx") for name in shipped_models()} | {
        name: path for name, path in fetched_models().items() if name not in shipped_models()
    }


def card_text(path: Path) -> str | None:
    """Return the card beside a model file; None where there is none."""
    card = path.with_suffix(".md")
    return card.read_text(encoding="utf-8") if card.is_file() else None


def expected_sha256(name: str, path: Path) -> str | None:
    """Return the checksum that a model's file should have: from the registry, its card, or the day it was fetched."""
    entry = entries().get(name)
    if entry is not None and entry.sha256 is not None:
        return entry.sha256
    stated = re.search(rf"SHA-256 of `{re.escape(path.name)}`: `([0-9a-f]{{64}})`", card_text(path) or "")
    if stated is not None:
        return stated[1]
    return recorded_checksums(path.parent).get(path.name)


def recorded_checksums(folder: Path) -> dict[str, str]:
    """Return the checksums recorded when files were fetched into ``folder``, by name relative to it.

    Raises
    ------
    ModelError
        The record is damaged.
    """
    record = folder / _RECORD
    if not record.is_file():
        return {}
    try:
        return msgspec.json.decode(record.read_bytes(), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise ModelError(f"{record}: cannot be read ({error}); delete it and fetch the models again") from error


def record_checksum(folder: Path, name: str, sha256: str) -> None:
    """Record the checksum of a file fetched into ``folder``.

    Raises
    ------
    OutputError
        The record cannot be written.
    """
    known = recorded_checksums(folder) | {name: sha256}
    record = folder / _RECORD
    part = record.with_suffix(".part")
    try:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(dict(sorted(known.items())))))
        part.replace(record)
    except OSError as error:
        raise OutputError(f"{record}: cannot be written ({error.strerror or error}); check rights and space") from error
