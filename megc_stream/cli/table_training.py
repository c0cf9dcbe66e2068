"""Training for ``megc-stream table str --train``: a network per left-out subject, and one on all subjects of a set."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from megc_stream.cli.progress import CountProgress
from megc_stream.comparison import Corpus
from megc_stream.datasets import read_dataset
from megc_stream.errors import UsageError

if TYPE_CHECKING:
    from megc_stream.training import DataOptions

__all__ = ["TrainedOn", "train_on", "training_facts", "training_options"]


class TrainedOn(msgspec.Struct, frozen=True, kw_only=True):
    """Networks trained on one data set: ``whole`` on all subjects, ``without`` on all but the one that it is under."""

    corpus: str
    whole: Path
    without: dict[str, Path]


def training_options(seed: int, augment: str) -> DataOptions:
    """Return the options of the training; ``augment`` are names separated by commas, or "none".

    Raises
    ------
    UsageError
        An augmentation is unknown.
    """
    from megc_stream.training import DataOptions
    from megc_stream.training.augmentation import AUGMENTATIONS

    names = [] if augment == "none" else [name.strip() for name in augment.split(",")]
    for name in names:
        if name not in AUGMENTATIONS:
            raise UsageError(f"--augment {name}: unknown; expected none, or some of {', '.join(AUGMENTATIONS)}")
    return DataOptions(seed=seed, augment=frozenset(one for one in AUGMENTATIONS if one in names))


def training_facts(options: DataOptions) -> dict[str, Any]:
    """Return the options of the training as plain data."""
    return {
        "protocol": "as published, leave one subject out; on all subjects where tested on another set",
        "classes": list(options.classes),
        "seed": options.seed,
        "augmentation": sorted(options.augment),
        "torch": importlib.metadata.version("torch"),
        "settings": asdict(options.settings),
    }


def train_on(
    corpora: Sequence[Corpus],
    folder: Path,
    options: DataOptions,
    *,
    cache: Path | None,
    jobs: int,
    overwrite: bool,
) -> list[TrainedOn]:
    """Train on each data set, or go on with what an earlier call left in ``folder``.

    Raises
    ------
    MissingExtraError
        torch is not installed.
    DataError
        A data set has micro-expressions of fewer than two subjects.
    """
    from megc_stream.training import train_on_data

    trained = []
    with CountProgress("training", "steps") as progress:
        for corpus in corpora:
            result = train_on_data(
                [read_dataset(corpus.layout, corpus.root)],
                folder / corpus.name,
                options,
                cache=cache,
                jobs=jobs,
                overwrite=overwrite,
                progress=progress.by_steps(f"{corpus.name}: "),
            )
            of_folds = {person: result.model.parent / fold.file for fold in result.folds for person in fold.test}
            trained.append(TrainedOn(corpus=corpus.name, whole=result.model, without=of_folds))
    return trained
