"""Training of MEAN in two steps: the streams and the spotting head, then the recognition head on frozen streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from megc_stream.training.network import MeanNetwork

__all__ = ["PUBLISHED", "EpochLoss", "Examples", "Lesson", "TrainSettings", "TrainedMean", "train_mean"]


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast MEAN is trained; the optimiser is Adam (epsilon 1e-7, Keras' default).

    Parameters
    ----------
    spot_epochs, recog_epochs
        Epochs of the two steps.
    batch
        Pairs per batch.
    learning_rate, cosine
        The rate, and whether it falls to 0 along a cosine in each step.
    stream_decay, head_decay
        Multiply the sums of the squared convolution kernels that are added to the loss.
    stream_dropout, head_dropout
        Shares left out after the streams and before the dense layers, in [0, 1).
    """

    spot_epochs: int = 24
    recog_epochs: int = 8
    batch: int = 64
    learning_rate: float = 1e-3
    cosine: bool = True
    stream_decay: float = 1e-4
    head_decay: float = 1e-3
    stream_dropout: float = 0.1
    head_dropout: float = 0.1


PUBLISHED = TrainSettings(
    spot_epochs=10,
    recog_epochs=100,
    batch=32,
    learning_rate=5e-4,
    cosine=False,
    stream_decay=1e-3,
    head_decay=0.1,
    stream_dropout=0.3,
    head_dropout=0.2,
)
"""As in the published training code of MEAN (Liong, See and Chan 2023)."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Pairs and what is wanted of them.

    ``features`` (N, 42, 42, 3) float16 in [0, 1]; ``wanted`` (N,): float32 scores for the spotting head, int64 classes
    for the recognition head.
    """

    features: NDArray[np.float16]
    wanted: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one head learns.

    Parameters
    ----------
    fit
        The pairs to learn from.
    draw
        Returns the rows of ``fit`` that an epoch takes, in order.
    check
        Pairs of other persons: the epoch with the least loss on them is kept. None keeps the last epoch.
    change
        Returns a changed copy of a batch of features (B, 42, 42, 3) float32: augmentation, anew in each epoch.
    """

    fit: Examples
    draw: Callable[[np.random.Generator], NDArray[np.int64]]
    check: Examples | None = None
    change: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class EpochLoss:
    """Mean losses of one epoch; ``step`` is "spot" (squared error) or "recog" (cross-entropy).

    ``validation`` is None where no epoch is chosen.
    """

    step: str
    epoch: int
    training: float
    validation: float | None


@dataclass(frozen=True, eq=False)
class TrainedMean:
    """The network, the losses of all epochs, and which epoch of each step was kept (-1: the step was left out)."""

    network: MeanNetwork
    epochs: tuple[EpochLoss, ...]
    spot_epoch: int
    recog_epoch: int


def train_mean(
    spot: Lesson,
    recog: Lesson | None,
    *,
    classes: int = 3,
    seed: int = 0,
    settings: TrainSettings = TrainSettings(),
    progress: Callable[[EpochLoss], None] | None = None,
) -> TrainedMean:
    """Train MEAN from scratch.

    Step 1 fits the streams and the spotting head by squared error, step 2 the recognition head alone by cross-entropy:
    streams and their batch normalisation are frozen then, so recognition cannot disturb spotting. One seed gives one
    network on one type of CPU.

    Parameters
    ----------
    spot
        Lesson of the spotting head.
    recog
        Lesson of the recognition head; None leaves its initial weights.
    classes
        Number of emotion classes.
    seed
        Seed of the initial weights, of dropout, and of whatever the lessons draw.
    settings
        Epochs, batch size, rate, decay and dropout.
    progress
        Called after each epoch.

    Raises
    ------
    MissingExtraError
        torch is not installed.
    """
    from megc_stream.training.network import MeanNetwork

    epochs: list[EpochLoss] = []

    def note(loss: EpochLoss) -> None:
        epochs.append(loss)
        if progress is not None:
            progress(loss)

    with _deterministic(seed) as torch:
        rng = np.random.default_rng(seed)
        network = MeanNetwork(classes, settings.stream_dropout, settings.head_dropout)

        def spot_loss(features: Any, wanted: Any) -> Any:
            return torch.nn.functional.mse_loss(network.spot(network.trunk(features))[:, 0], wanted)

        def recog_loss(features: Any, wanted: Any) -> Any:
            return torch.nn.functional.cross_entropy(network.recog(network.trunk(features)), wanted)

        first = _Step("spot", settings.spot_epochs, (network.streams, network.spot), spot_loss)
        second = _Step("recog", settings.recog_epochs, (network.recog,), recog_loss)
        spot_epoch = _run(first, spot, network, settings, rng, note)
        recog_epoch = -1 if recog is None else _run(second, recog, network, settings, rng, note)
        network.eval()
    return TrainedMean(network, tuple(epochs), spot_epoch, recog_epoch)


@dataclass(frozen=True, eq=False)
class _Step:
    """One step of the training: the modules it changes, and the loss of some pairs."""

    name: str
    epochs: int
    modules: tuple[Any, ...]
    loss: Callable[[Any, Any], Any]


def _run(
    step: _Step,
    lesson: Lesson,
    network: MeanNetwork,
    settings: TrainSettings,
    rng: np.random.Generator,
    note: Callable[[EpochLoss], None],
) -> int:
    """Run one step, leave the network as it was at the epoch kept and return that epoch's number."""
    import torch

    optimiser = torch.optim.Adam(
        [value for module in step.modules for value in module.parameters()], lr=settings.learning_rate, eps=1e-7
    )
    decays = [
        (settings.stream_decay if module is network.streams else settings.head_decay, part.weight)
        for module in step.modules
        for part in module.modules()
        if isinstance(part, torch.nn.Conv2d)
    ]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, step.epochs) if settings.cosine else None
    best, least, kept = step.epochs - 1, float("inf"), None
    for epoch in range(step.epochs):
        network.eval()
        for module in step.modules:
            module.train()
        total = 0.0
        rows = lesson.draw(rng)
        for batch in _split(rows, settings.batch):
            features, wanted = _tensors(lesson.fit, batch, lesson.change, rng)
            optimiser.zero_grad()
            loss = step.loss(features, wanted)
            total += loss.item() * len(batch)
            (loss + sum(decay * weight.square().sum() for decay, weight in decays)).backward()
            optimiser.step()
        if schedule is not None:
            schedule.step()
        checked = None if lesson.check is None else _checked(step, lesson.check, network)
        note(EpochLoss(step.name, epoch, total / len(rows), checked))
        if checked is not None and checked < least:
            best, least = epoch, checked
            kept = {name: value.clone() for name, value in network.state_dict().items()}
    if kept is not None:
        network.load_state_dict(kept)
    return best


def _checked(step: _Step, examples: Examples, network: MeanNetwork) -> float:
    import torch

    network.eval()
    total = 0.0
    with torch.no_grad():
        for batch in _split(np.arange(len(examples.wanted)), 512):
            total += step.loss(*_tensors(examples, batch)).item() * len(batch)
    return total / len(examples.wanted)


def _tensors(
    examples: Examples,
    rows: NDArray[np.int64],
    change: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]] | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Any, Any]:
    import torch

    features = examples.features[rows].astype(np.float32)
    if change is not None and rng is not None:
        features = change(features, rng)
    return torch.from_numpy(features), torch.from_numpy(examples.wanted[rows])


def _split(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


@contextmanager
def _deterministic(seed: int) -> Iterator[Any]:
    """Yield torch: seeded, on one thread, with deterministic algorithms; put it back as it was afterwards."""
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield torch
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)
