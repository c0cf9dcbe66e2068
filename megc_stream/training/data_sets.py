"""From annotated data sets to model files, scores and a card: what ``megc-stream train mean`` does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from megc_stream import __version__
from megc_stream.datasets import DataSet
from megc_stream.errors import DataError, OutputError, UsageError
from megc_stream.models import MeanModel, sha256_of
from megc_stream.training.augmentation import Augmentation
from megc_stream.training.cache import default_cache, in_processes, make_folder
from megc_stream.training.export import export_onnx, mean_metadata
from megc_stream.training.folds import Fold, leave_one_out, of_persons
from megc_stream.training.pairs import CLASSES, K_S
from megc_stream.training.protocol import class_of, half_length_s, recognition_lesson, spotting_lesson
from megc_stream.training.recordings import (
    KnownRecording,
    RecordingPairs,
    StoredPairs,
    known_recordings,
    prepare_recordings,
)
from megc_stream.training.results import DataFacts, FoldResult, data_card, summary
from megc_stream.training.scoring import Scorer, score_clips
from megc_stream.training.train import PUBLISHED, TrainSettings, train_mean

__all__ = ["DataOptions", "TrainedFolder", "train_on_data"]

_FINAL = "mean"
_LICENCE = "that of the recordings it was trained on"


@dataclass(frozen=True)
class DataOptions:
    """How to train; the defaults are the published protocol with augmentation.

    Parameters
    ----------
    classes
        Emotion classes: names as annotated, or negative, positive, surprise, others. Events of other emotions are
        spotted and not named.
    seed
        Of weights, dropout, order, negatives and augmentation; the same for all folds.
    augment
        See :data:`megc_stream.training.augmentation.AUGMENTATIONS`; empty for none, as published.
    folds
        How many folds to train at most, in the order of the subjects; None for all.
    settings
        Epochs, rate and so on.
    epoch_pairs
        Pairs that an epoch of spotting takes at most; None for all, as published.
    """

    classes: tuple[str, ...] = CLASSES
    seed: int = 0
    augment: frozenset[Augmentation] = frozenset()
    folds: int | None = None
    settings: TrainSettings = PUBLISHED
    epoch_pairs: int | None = None


@dataclass(frozen=True)
class TrainedFolder:
    """The network trained on all subjects, its card, the scores (also in ``results``), and folds that were there."""

    model: Path
    card: Path
    results: Path
    folds: tuple[FoldResult, ...]
    kept: int


@dataclass(frozen=True)
class _Task:
    """One network to train: everything that the process needs which does it."""

    fold: str
    out: Path
    training: tuple[StoredPairs, ...]
    test: tuple[StoredPairs, ...]
    options: DataOptions
    trained_on: str
    key: str

    @property
    def record(self) -> Path:
        return self.out.with_suffix(".json")


def train_on_data(
    sets: Sequence[DataSet],
    out: Path,
    options: DataOptions,
    *,
    cache: Path | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> TrainedFolder:
    """Train MEAN on annotated recordings, leaving one subject out at a time, and once on all.

    Writes ``fold-SUBJECT.onnx`` and a record ``fold-SUBJECT.json`` per fold, ``mean.onnx`` (all subjects) with its card
    ``mean.md``, and ``results.json``. A call that was interrupted goes on with the features and the folds that are
    missing, if it is repeated.

    No test subject has a part in its network: a :class:`~megc_stream.training.folds.Fold` with a subject on both sides
    cannot be made, a network is handed recordings by the persons of its fold alone, negatives made from a subject's
    face count as this subject's, k' is that of the training subjects, and the last epoch is kept.

    Parameters
    ----------
    sets
        From :func:`megc_stream.datasets.read_dataset`.
    out
        Folder of the results, made if absent.
    options
        Classes, seed, augmentation, folds, epochs.
    cache
        Folder of features that are kept from run to run; None takes the user's cache folder.
    jobs
        Processes for features, and then for folds.
    overwrite
        Replace folds of other settings or data in ``out``.
    progress
        Called with what is being done, and how much of it is done and is to do.

    Raises
    ------
    MissingExtraError
        torch is not installed.
    UsageError
        ``out`` holds folds of other settings or data.
    DataError
        Fewer than two subjects with micro-expressions, no micro-expression, no face.
    CaptureError
        A recording cannot be read.
    OutputError
        Results or cache cannot be written.
    """
    # Before hours of flow, not after them.
    from megc_stream.training import network as _  # noqa: F401

    def say(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)

    recordings = known_recordings(sets)
    folds = leave_one_out(known.person for known in recordings)
    files = _file_names([fold.name for fold in folds])
    with_events = {known.person for known in recordings if known.events}
    if len(with_events) < 2:
        raise DataError(
            f"training recordings: {len(with_events)} of {len(folds)} subjects have annotated micro-expressions; "
            "expected at least 2, one to leave out"
        )
    make_folder(out, "folder")
    stored = prepare_recordings(
        recordings,
        cache or default_cache(),
        rates="rate" in options.augment,
        negatives="negatives" in options.augment,
        seed=options.seed,
        jobs=jobs,
        progress=lambda done, total: say("features of recordings", done, total),
    )
    facts = _facts(sets, recordings, options)
    everyone = tuple(fold.name for fold in folds)
    wanted = folds[: options.folds]
    tasks = {fold.name: _task(fold, out / f"fold-{files[fold.name]}.onnx", stored, options, facts) for fold in folds}
    final = _task(Fold(_FINAL, everyone, ()), out / f"{_FINAL}.onnx", stored, options, facts)
    planned = [tasks[fold.name] for fold in wanted] + [final]
    _check_folder(out, [*tasks.values(), final], overwrite)
    missing = [task for task in planned if _result(task) is None]
    done = len(planned) - len(missing)
    say("networks", done, len(planned))
    for _done in in_processes(_train, missing, jobs):
        done += 1
        say("networks", done, len(planned))
    results = [result for task in tasks.values() if (result := _result(task)) is not None]
    last = _result(final)
    assert last is not None
    card, table = out / f"{_FINAL}.md", out / "results.json"
    try:
        table.write_text(
            json.dumps(summary(facts, results, last), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        card.write_text(data_card(facts, results, last, len(folds)), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"folder {out}: cannot be written ({error.strerror}); free space or change --out") from error
    return TrainedFolder(final.out, card, table, tuple(results), len(planned) - len(missing))


def _task(fold: Fold, out: Path, stored: Sequence[StoredPairs], options: DataOptions, facts: DataFacts) -> _Task:
    training, test = of_persons(stored, fold.training), of_persons(stored, fold.test)
    depends_on = {
        "version": __version__,
        "fold": fold.name,
        "options": [
            options.classes,
            options.seed,
            sorted(options.augment),
            options.epoch_pairs,
            asdict(options.settings),
        ],
        "training": [one.key for one in training],
        "test": [one.key for one in test],
    }
    return _Task(
        fold=fold.name,
        out=out,
        training=tuple(training),
        test=tuple(one for one in test if not one.synthetic),
        options=options,
        trained_on="; ".join(facts.data) + (f"; without subject {fold.name}" if test else ""),
        key=hashlib.sha256(json.dumps(depends_on).encode()).hexdigest(),
    )


def _train(task: _Task) -> None:
    """Train one network, score it on the recordings that it has not seen, and write model and record."""
    options = task.options
    training = [one.load() for one in task.training]
    k_prime_s = half_length_s(training)
    spot = spotting_lesson(training, k_prime_s, options.seed, options.augment, options.epoch_pairs)
    recog = recognition_lesson(training, options.classes, options.augment)
    trained = train_mean(spot, recog, classes=len(options.classes), seed=options.seed, settings=options.settings)
    metadata = mean_metadata(
        task.out.stem,
        options.classes,
        k_prime_s,
        trained_on=task.trained_on,
        licence=_LICENCE,
        seed=options.seed,
    )
    part = task.out.with_name(f".{task.out.stem}.part.onnx")
    try:
        export_onnx(trained.network, part, metadata)
        scorer = MeanModel(part).score
        test = [one.load() for one in task.test]
        result = FoldResult(
            key=task.key,
            fold=task.fold,
            file=task.out.name,
            sha256=sha256_of(part),
            training=_persons(task.training),
            test=_persons(task.test),
            k_prime_s=k_prime_s,
            positives=int(spot.fit.wanted.sum()),
            negatives=int((spot.fit.wanted == 0).sum()),
            named=0 if recog is None else len(recog.fit.wanted),
            scores={
                "video": tuple(score_clips(scorer, test, "video", k_prime_s, options.classes)),
                "causal": tuple(score_clips(scorer, test, "causal", k_prime_s, options.classes)),
            },
            recognised=tuple(pair for one in test for pair in _recognised(scorer, one, options.classes)),
        )
        part.replace(task.out)
        # The fold counts as trained when its record is there.
        unfinished = task.record.with_suffix(".part")
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
        unfinished.replace(task.record)
    except OSError as error:
        raise OutputError(f"{task.out}: cannot be written ({error.strerror}); free space or change --out") from error


def _recognised(scorer: Scorer, one: RecordingPairs, classes: Sequence[str]) -> list[tuple[str, str]]:
    if not len(one.apex_events):
        return []
    _, probabilities = scorer(one.apex_features.astype("float32"))
    pairs = []
    for index, best in zip(one.apex_events.tolist(), probabilities.argmax(axis=1).tolist(), strict=True):
        true = class_of(one.events[index].emotion, classes)
        if true is not None:
            pairs.append((classes[true], classes[best]))
    return pairs


def _persons(stored: Collection[StoredPairs]) -> tuple[str, ...]:
    return tuple(sorted({one.person for one in stored}))


def _result(task: _Task) -> FoldResult | None:
    """Return the record of a network that is there, by the same settings and data; None where it is not."""
    result = _record(task)
    return result if task.out.is_file() else None


def _record(task: _Task) -> FoldResult | None:
    try:
        result = msgspec.json.decode(task.record.read_bytes(), type=FoldResult)
    except (OSError, msgspec.DecodeError):
        return None
    return result if result.key == task.key else None


def _check_folder(out: Path, tasks: Sequence[_Task], overwrite: bool) -> None:
    """Refuse, or remove, networks that this call would not make."""
    own = {task.record for task in tasks if _record(task) is not None}
    foreign = [file for file in sorted([*out.glob("fold-*.json"), *out.glob(f"{_FINAL}.json")]) if file not in own]
    if foreign and not overwrite:
        raise UsageError(
            f"{foreign[0]}: is of other settings, data or another version; choose another --out, or give --overwrite"
        )
    for file in foreign:
        file.unlink()
        file.with_suffix(".onnx").unlink(missing_ok=True)


def _file_names(persons: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for person in persons:
        stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in person)
        while stem in names.values():
            stem += "-"
        names[person] = stem
    return names


def _facts(sets: Sequence[DataSet], recordings: Sequence[KnownRecording], options: DataOptions) -> DataFacts:
    settings = options.settings
    lines = []
    for data in sets:
        subjects = {recording.subject for recording in data.recordings}
        events = [one for one in data.annotations if one.type == "micro"]
        lines.append(
            f"{data.layout}: {len(subjects)} subjects, {len(data.recordings)} recordings, "
            f"{len(events)} micro-expressions"
        )
    return DataFacts(
        data=tuple(lines),
        classes=options.classes,
        settings=(
            ("k", f"{K_S:g} s"),
            ("seed", str(options.seed)),
            ("pseudo-labels", "1 where [i, i + k') overlaps a micro-expression, else 0; 5 negatives per positive"),
            ("spotting", f"squared error, {settings.spot_epochs} epochs of {options.epoch_pairs or 'all'} pairs"),
            ("recognition", f"cross-entropy on onset-apex pairs, streams frozen, {settings.recog_epochs} epochs"),
            ("optimiser", f"Adam, rate {settings.learning_rate:g}, batches of {settings.batch}"),
            ("dropout", f"{settings.stream_dropout:g} (streams), {settings.head_dropout:g} (heads)"),
            ("decay of kernels", f"{settings.stream_decay:g} (streams), {settings.head_decay:g} (heads)"),
            ("augmentation", ", ".join(sorted(options.augment)) or "none"),
        ),
    )
