"""Training of MEAN in two steps: the streams and the spotting head, then the recognition head on frozen streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import DataError
from megc_stream.training.corpus import ClipPairs
from megc_stream.training.targets import recognition_labels, spotting_targets

if TYPE_CHECKING:
    from megc_stream.training.network import MeanNetwork

__all__ = ["EpochLoss", "TrainSettings", "TrainedMean", "train_mean"]


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast MEAN is trained; the optimiser is Adam, its rate falls to 0 along a cosine in each step.

    Each epoch draws ``pairs_per_epoch`` pairs anew, equally many of each case. ``stream_decay`` and ``head_decay``
    multiply the sums of the squared convolution kernels that are added to the loss.
    """

    spot_epochs: int = 24
    recog_epochs: int = 8
    pairs_per_epoch: int = 12288
    validation_pairs: int = 4096
    batch: int = 64
    learning_rate: float = 1e-3
    stream_decay: float = 1e-4
    head_decay: float = 1e-3


@dataclass(frozen=True)
class EpochLoss:
    """Mean losses of one epoch; ``step`` is "spot" (squared error) or "recog" (cross-entropy)."""

    step: str
    epoch: int
    training: float
    validation: float


@dataclass(frozen=True, eq=False)
class TrainedMean:
    """The network as it was at its best epochs, and the losses of all epochs."""

    network: MeanNetwork
    epochs: tuple[EpochLoss, ...]
    spot_epoch: int
    recog_epoch: int


def train_mean(
    training: Sequence[ClipPairs],
    validation: Sequence[ClipPairs],
    *,
    classes: int = 3,
    seed: int = 0,
    settings: TrainSettings = TrainSettings(),
    progress: Callable[[EpochLoss], None] | None = None,
) -> TrainedMean:
    """Train MEAN on pairs of known content and keep the epochs that do best on other persons.

    Step 1 fits the streams and the spotting head by squared error, step 2 the recognition head alone, by cross-entropy
    on the pairs in which an event rises, so recognition cannot disturb spotting. Both steps give equal weight to rare
    and frequent cases: pairs with and without motion, and the classes. One seed gives one network on one type of CPU.

    Parameters
    ----------
    training, validation
        Clips of different persons. The validation clips choose the epoch of each step (least loss) and nothing else.
    classes
        Number of emotion classes.
    seed
        Seed of the initial weights, of dropout and of the pairs drawn.
    settings
        Epochs, pairs, batch size, rate and decay.
    progress
        Called after each epoch.

    Raises
    ------
    MissingExtraError
        torch is not installed.
    DataError
        The training or the validation clips hold no pair of one of the cases.
    """
    from megc_stream.training.network import MeanNetwork

    fit = _Rows(training, classes, "training")
    check = _Rows(validation, classes, "validation")
    epochs: list[EpochLoss] = []

    def note(loss: EpochLoss) -> None:
        epochs.append(loss)
        if progress is not None:
            progress(loss)

    with _deterministic(seed) as torch:
        rng = np.random.default_rng(seed)
        network = MeanNetwork(classes)

        def spot_loss(rows: _Rows, index: Any) -> Any:
            score = network.spot(network.trunk(rows.features[index].float()))
            return torch.nn.functional.mse_loss(score[:, 0], rows.target[index])

        def recog_loss(rows: _Rows, index: Any) -> Any:
            logits = network.recog(network.trunk(rows.features[index].float()))
            return torch.nn.functional.cross_entropy(logits, rows.label[index])

        spot = _Step("spot", settings.spot_epochs, (network.streams, network.spot), spot_loss)
        recog = _Step("recog", settings.recog_epochs, (network.recog,), recog_loss)
        spot_epoch, recog_epoch = (_run(step, network, fit, check, settings, rng, note) for step in (spot, recog))
        network.eval()
    return TrainedMean(network, tuple(epochs), spot_epoch, recog_epoch)


class _Rows:
    """All pairs of some clips as torch tensors, with their targets and the rows of each case."""

    def __init__(self, clips: Sequence[ClipPairs], classes: int, what: str) -> None:
        import torch

        if not clips:
            raise DataError(f"{what} clips: none; expected at least one")
        target = np.concatenate([spotting_targets(clip) for clip in clips])
        label = np.concatenate([recognition_labels(clip) for clip in clips])
        self.features = torch.from_numpy(np.concatenate([clip.features for clip in clips]))
        self.target, self.label = torch.from_numpy(target), torch.from_numpy(label)
        self.cases = {
            "spot": [np.flatnonzero(target >= 0.5), np.flatnonzero(target < 0.5)],
            "recog": [np.flatnonzero(label == number) for number in range(classes)],
        }
        for step, cases in self.cases.items():
            sizes = [case.size for case in cases]
            if 0 in sizes:
                raise DataError(
                    f"{what} clips: {sizes} pairs of the cases of the {step} head; expected some of each (with and "
                    f"without motion, {classes} classes); plan more clips or events"
                )

    def draw(self, step: str, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``count`` rows in random order, equally many of each case, repeated where a case has too few."""
        share = -(-count // len(self.cases[step]))
        rows = [np.resize(rng.permutation(case), share) for case in self.cases[step]]
        return rng.permutation(np.concatenate(rows))[:count]


@dataclass(frozen=True, eq=False)
class _Step:
    """One step of the training: the modules it changes, and the loss of some rows."""

    name: str
    epochs: int
    modules: tuple[Any, ...]
    loss: Callable[[_Rows, Any], Any]


def _run(
    step: _Step,
    network: MeanNetwork,
    fit: _Rows,
    check: _Rows,
    settings: TrainSettings,
    rng: np.random.Generator,
    note: Callable[[EpochLoss], None],
) -> int:
    """Run one step, leave the network as it was at the best epoch and return that epoch's number."""
    import torch

    optimiser = torch.optim.Adam(
        [value for module in step.modules for value in module.parameters()], lr=settings.learning_rate
    )
    decays = [
        (settings.stream_decay if module is network.streams else settings.head_decay, part.weight)
        for module in step.modules
        for part in module.modules()
        if isinstance(part, torch.nn.Conv2d)
    ]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, step.epochs)
    validation_rows = check.draw(step.name, settings.validation_pairs, rng)
    best, least, kept = 0, float("inf"), {}
    for epoch in range(step.epochs):
        network.eval()
        for module in step.modules:
            module.train()
        total = 0.0
        rows = fit.draw(step.name, settings.pairs_per_epoch, rng)
        for index in _batches(rows, settings.batch):
            optimiser.zero_grad()
            loss = step.loss(fit, index)
            total += loss.item() * len(index)
            (loss + sum(decay * weight.square().sum() for decay, weight in decays)).backward()
            optimiser.step()
        schedule.step()
        network.eval()
        with torch.no_grad():
            checked = sum(step.loss(check, index).item() * len(index) for index in _batches(validation_rows, 512))
        checked /= len(validation_rows)
        note(EpochLoss(step.name, epoch, total / len(rows), checked))
        if checked < least:
            best, least = epoch, checked
            kept = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(kept)
    return best


def _batches(rows: NDArray[np.int64], size: int) -> Iterator[Any]:
    import torch

    return iter(torch.from_numpy(rows).split(size))


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
