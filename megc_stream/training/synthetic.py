"""From a folder of portraits to a model file and its card: what ``megc-stream train synthetic`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from megc_stream.errors import OutputError
from megc_stream.models import MeanModel, sha256_of
from megc_stream.training.cache import default_cache
from megc_stream.training.card import LONDON_SET, ModelFacts, model_card
from megc_stream.training.corpus import (
    ClipPairs,
    ClipSpec,
    find_portraits,
    plan_scored,
    plan_training,
    prepare_corpus,
    split_persons,
)
from megc_stream.training.export import export_onnx, mean_metadata
from megc_stream.training.pairs import CLASSES, K_S
from megc_stream.training.scoring import ClipScore, Mode, score_clips
from megc_stream.training.targets import synthetic_lessons
from megc_stream.training.train import EpochLoss, TrainSettings, train_mean

__all__ = ["K_PRIME_S", "Progress", "TrainedFile", "train_synthetic"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how much of it is done and is to do."""

K_PRIME_S = 0.135
"""k' of the model, seconds: makes intervals of 0.28 to 0.3 s, the mean length of the planted events, at all rates."""

_EPOCH_PAIRS = 12288
_VALIDATION_PAIRS = 4096
# Frames per second, seconds, events.
_VALIDATION_CLIPS = ((30.0, 20.0, 6), (200.0, 10.0, 5))
_TEST_CLIPS = ((30.0, 20.0, 6), (200.0, 20.0, 6))


@dataclass(frozen=True)
class TrainedFile:
    """The model file, its card, and the scores per clip of the test persons in both modes."""

    model: Path
    card: Path
    test: dict[Mode, list[ClipScore]]


def train_synthetic(
    portraits: Path,
    out: Path,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
    *,
    cache: Path | None = None,
    trained_on: str | None = None,
    settings: TrainSettings = TrainSettings(),  # noqa: B008  frozen
    epoch_pairs: int = _EPOCH_PAIRS,
) -> TrainedFile:
    """Train MEAN on clips made from portraits, write it as ONNX with a card beside it, and score it on new persons.

    Takes about an hour on one core, most of it for the clips; an interrupted call goes on from the clips in the cache.

    Parameters
    ----------
    portraits
        Folder of portraits, see :func:`megc_stream.training.corpus.find_portraits`.
    out
        The .onnx file to write; the card gets the suffix .md. The model is named after the file.
    seed
        Decides the split of persons, the clips, and the training.
    jobs
        Processes for rendering and flow.
    progress
        Called at the start of each part of the work and after each clip and epoch.
    cache
        Folder of features that are kept from run to run; None takes the user's cache folder.
    trained_on
        Source and licence of the portraits, for the card; None knows the London Set by its names ``frll_*``.
    settings
        Of the training.
    epoch_pairs
        Pairs that an epoch draws.

    Raises
    ------
    MissingExtraError
        torch or onnx is not installed.
    DataError
        The portraits are too few or unusable.
    OutputError
        The model or the cache cannot be written.
    """
    # Before an hour of rendering, not after it.
    from megc_stream.training import network as _  # noqa: F401

    files = find_portraits(portraits)
    split = split_persons(files, seed)
    cache = cache or default_cache()
    if trained_on is None:
        london = all(person.startswith("frll_") for person in files)
        trained_on = LONDON_SET if london else "Portraits whose source was not stated"

    def say(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)

    def corpus(what: str, specs: Sequence[ClipSpec]) -> list[ClipPairs]:
        return prepare_corpus(specs, files, cache, jobs=jobs, progress=lambda done, total: say(what, done, total))

    specs = plan_training(split.training, seed)
    training = corpus("clips to train on", specs)
    validation = corpus("clips to choose on", plan_scored(split.validation, seed + 1, _VALIDATION_CLIPS))
    test = corpus("clips to score", plan_scored(split.test, seed + 2, _TEST_CLIPS))

    epochs = {"spot": settings.spot_epochs, "recog": settings.recog_epochs}

    def note(loss: EpochLoss) -> None:
        say(f"training ({loss.step})", loss.epoch + 1, epochs[loss.step])

    say("training (spot)", 0, epochs["spot"])
    spot, recog = synthetic_lessons(training, validation, seed, epoch_pairs, _VALIDATION_PAIRS)
    trained = train_mean(spot, recog, classes=len(CLASSES), seed=seed, settings=settings, progress=note)
    metadata = mean_metadata(
        out.stem, CLASSES, K_PRIME_S, trained_on=f"synthetic clips; {trained_on}", licence="Apache-2.0", seed=seed
    )
    card = out.with_suffix(".md")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(trained.network, out, metadata)
        scores: dict[Mode, list[ClipScore]] = {
            mode: score_clips(MeanModel(out).score, test, mode, K_PRIME_S) for mode in ("video", "causal")
        }
        facts = ModelFacts(
            name=out.stem,
            sha256=sha256_of(out),
            trained_on=trained_on,
            split=split,
            training=specs,
            training_pairs=sum(len(clip.frames) for clip in training),
            settings=_stated(seed, settings, epoch_pairs, trained.spot_epoch, trained.recog_epoch),
            test=scores,
        )
        card.write_text(model_card(facts), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"model {out}: cannot be written ({error.strerror}); expected a writable folder") from error
    return TrainedFile(out, card, scores)


def _stated(
    seed: int, settings: TrainSettings, epoch_pairs: int, spot_epoch: int, recog_epoch: int
) -> list[tuple[str, str]]:
    return [
        ("k", f"{K_S:g} s"),
        ("k'", f"{K_PRIME_S:g} s"),
        (
            "seeds",
            f"{seed} (split, training clips, training), {seed + 1} (clips to choose on), {seed + 2} (test clips)",
        ),
        ("spotting", f"squared error; epoch {spot_epoch + 1} of {settings.spot_epochs} kept"),
        ("recognition", f"cross-entropy, streams frozen; epoch {recog_epoch + 1} of {settings.recog_epochs} kept"),
        ("pairs per epoch", f"{epoch_pairs}, equally many of each case"),
        ("optimiser", f"Adam, rate {settings.learning_rate:g}, batches of {settings.batch}"),
        ("decay of kernels", f"{settings.stream_decay:g} (streams), {settings.head_decay:g} (heads)"),
        ("licence of the weights", "Apache-2.0"),
    ]
