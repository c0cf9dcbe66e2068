"""The work of ``megc-stream table str``: the runs, which are kept from call to call, and the files of the table."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from megc_stream.cli.batch_runs import run_batch
from megc_stream.cli.console import note, report_json, say
from megc_stream.cli.table_files import write_whole, writing
from megc_stream.cli.table_training import TrainedOn, train_on, training_facts, training_options
from megc_stream.comparison import (
    Contender,
    Corpus,
    Detections,
    Expressions,
    ModelFacts,
    build_table,
    format_json,
    format_markdown,
    merge_detections,
    read_corpus,
    read_detections,
)
from megc_stream.datasets import LAYOUTS
from megc_stream.errors import MegcError, ModelError, OutputError, UsageError
from megc_stream.models import MeanModel, entries, find_mean, installed_models, sha256_of
from megc_stream.output.run_record import environment, redacted
from megc_stream.settings import Settings

if TYPE_CHECKING:
    from megc_stream.training import DataOptions

__all__ = ["TableRequest", "table_command"]

_SPOTTING = ("causal", "video")
_TRAINED = "MEAN, trained here"
_LEAVE_ONE_OUT = "same set, subject left out"
_TABLE, _MARKDOWN, _TIMINGS = "table.json", "table.md", "timings.json"
# What the published weights were trained on; the registry says it in words only.
_TRAINED_ON = {
    "mean-samm-lv": "samm-lv",
    "mean-casme-sq": "cas-me-2",
    "mean-casme2": "casme-ii",
    "mean-smic-hs": "smic-hs",
    "mean-smic-vis": "smic-vis",
    "mean-smic-nir": "smic-nir",
}
# Layouts that show the same persons.
_PERSONS = {"smic-vis": "smic-hs", "smic-nir": "smic-hs"}
# No bearing on the numbers, or given for each run.
_LEFT_OUT = ("source", "subject", "video", "pipeline", "output")


class TableRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; see :func:`megc_stream.cli.table.table_str`. ``sets`` are (layout, root)."""

    sets: tuple[tuple[str, Path], ...]
    out: Path
    spotting: tuple[str, ...]
    models: tuple[str, ...] | None
    train: bool
    augment: str
    expressions: Expressions
    jobs: int
    cache: Path | None
    resamples: int
    seed: int
    overwrite: bool
    json_file: str | None
    config: Path | None
    settings: Settings


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the table: as ``--model`` takes it, the name of its folders, and what is known of it.

    ``layout`` is that of the data set it was trained on, "" where it is none or not known.
    """

    name: str
    folder: str
    short: str
    layout: str
    facts: ModelFacts


class _Work:
    """Runs over data sets, and how long they took."""

    def __init__(self, request: TableRequest) -> None:
        self._request = request
        self.timings: list[dict[str, Any]] = []
        self.problems: list[str] = []

    def detections(
        self, corpus: Corpus, spotting: str, model: str, name: str, what: str, only: Sequence[str] = ()
    ) -> Detections:
        """Analyse the recordings of a data set that are not done yet, and read what was found.

        The runs lie under ``name`` in the folder of the data set; ``only`` has subject/video of those wanted.

        Raises
        ------
        MegcError
            Stopped early, or results of other settings are in the way.
        """
        request = self._request
        base = request.settings
        settings = base.model_copy(
            update={
                "model": base.model.model_copy(update={"name": model}),
                "spotting": base.spotting.model_copy(update={"mode": spotting}),
            }
        )
        folder = request.out / "runs" / corpus.name / name
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        note(f"{corpus.name}: {what}")
        began_s = time.monotonic()
        done = run_batch(
            corpus.root, corpus.layout, settings, folder, jobs=request.jobs, only=only, overwrite=request.overwrite
        )
        self.timings.append({"tested_on": corpus.name, "what": what, "wall_s": round(time.monotonic() - began_s, 3)})
        if done.complete + len(done.failed) < done.recordings:
            raise MegcError(
                f"stopped with {done.complete} of {done.recordings} recordings of {corpus.name} complete, before the "
                "table was; the same command goes on from there"
            )
        self.problems += [f"{corpus.name}, {what}: {run.video}: {run.error}" for run in done.failed]
        return read_detections(folder, corpus, sha256_of(find_mean(model)))


def table_command(request: TableRequest) -> None:
    """Make the table; see :func:`megc_stream.cli.table.table_str`."""
    began_s, started = time.monotonic(), datetime.now().astimezone()
    for mode in request.spotting:
        if mode not in _SPOTTING:
            raise UsageError(f"--spotting {mode}: unknown; expected {', '.join(_SPOTTING)}, or both")
    options = training_options(request.seed, request.augment) if request.train else None
    names = _set_names(request.sets)
    models = _models(request.models, request.settings)
    corpora = [
        read_corpus(layout, root, name=name, expressions=request.expressions)
        for name, (layout, root) in zip(names, request.sets, strict=True)
    ]
    _prepare(request.out)
    work = _Work(request)
    trained = _train(request, corpora, options, work) if options is not None else []
    contenders = []
    for mode in request.spotting:
        contenders += [_contender(work, mode, model, corpora) for model in models]
        contenders += _trained_contenders(work, mode, trained, corpora)
    facts = [model.facts for model in models]
    for one in trained:
        facts.append(_facts(one.whole, request.settings, f"trained on {one.corpus}"))
        facts += [
            _facts(path, request.settings, f"trained on {one.corpus} without {subject}")
            for subject, path in one.without.items()
        ]
    settings = redacted(request.settings.model_dump(mode="json"))
    table = build_table(
        corpora,
        contenders,
        facts,
        command=_command(request, models),
        environment=environment(),
        settings={key: value for key, value in settings.items() if key not in _LEFT_OUT},
        training=None if options is None else training_facts(options),
        resamples=request.resamples,
        seed=request.seed,
    )
    write_whole(request.out / _TABLE, format_json(table))
    write_whole(request.out / _MARKDOWN, format_markdown(table))
    timings = {
        "command": shlex.join(["megc-stream", *sys.argv[1:]]),
        "started": started.isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - began_s, 3),
        "runs": work.timings,
        "problems": work.problems,
    }
    write_whole(request.out / _TIMINGS, msgspec.json.format(msgspec.json.encode(timings), indent=2).decode() + "\n")
    report_json(request.json_file, msgspec.to_builtins(table))
    if request.json_file != "-":
        say(str(request.out / _MARKDOWN))
    for problem in work.problems:
        note(f"failed: {problem}")
    if work.problems:
        raise MegcError(
            f"{len(work.problems)} runs failed; {request.out / _MARKDOWN} counts their expressions as missed"
        )


def _contender(work: _Work, mode: str, model: _Model, corpora: Sequence[Corpus]) -> Contender:
    detections = {
        corpus.name: work.detections(
            corpus, mode, model.name, f"{mode}-{model.folder}", f"{mode} spotting with {model.facts.name}"
        )
        for corpus in corpora
    }
    return Contender(
        spotting=mode,
        model=model.facts.name,
        trained_on=model.short,
        seen=tuple(corpus.name for corpus in corpora if model.layout and _persons(corpus.layout) == model.layout),
        sha256=(model.facts.sha256,),
        detections=detections,
    )


def _train(request: TableRequest, corpora: Sequence[Corpus], options: DataOptions, work: _Work) -> list[TrainedOn]:
    folder = request.out / "training"
    with writing(folder):
        folder.mkdir(exist_ok=True)
    began_s = time.monotonic()
    trained = train_on(corpora, folder, options, cache=request.cache, jobs=request.jobs, overwrite=request.overwrite)
    work.timings.append({"what": "training", "wall_s": round(time.monotonic() - began_s, 3)})
    return trained


def _trained_contenders(
    work: _Work, mode: str, trained: Sequence[TrainedOn], corpora: Sequence[Corpus]
) -> list[Contender]:
    """Return the networks trained here: each subject by the one that left it out, then each set by that of another."""
    if not trained:
        return []
    by_name = {corpus.name: corpus for corpus in corpora}
    apart = {}
    for one in trained:
        corpus = by_name[one.corpus]
        parts = []
        for subject, path in one.without.items():
            videos = [f"{person}/{video}" for person, video in corpus.recordings if person == subject]
            folder = f"{mode}-trained-leave-one-out/{path.stem}"
            what = f"{mode} spotting, trained without {subject}"
            parts.append(work.detections(corpus, mode, str(path), folder, what, videos))
        apart[corpus.name] = merge_detections(corpus, parts)
    sums = tuple(sha256_of(path) for one in trained for path in one.without.values())
    contenders = [
        Contender(spotting=mode, model=_TRAINED, trained_on=_LEAVE_ONE_OUT, sha256=sums, detections=apart),
    ]
    for one in trained:
        others = [corpus for corpus in corpora if corpus.name != one.corpus]
        source = by_name[one.corpus]
        if others:
            detections = {
                corpus.name: work.detections(
                    corpus,
                    mode,
                    str(one.whole),
                    f"{mode}-trained-on-{one.corpus}",
                    f"{mode} spotting, trained on {one.corpus}",
                )
                for corpus in others
            }
            contenders.append(
                Contender(
                    spotting=mode,
                    model=_TRAINED,
                    trained_on=f"{one.corpus}, all subjects",
                    seen=tuple(corpus.name for corpus in others if _share_persons(source, corpus)),
                    sha256=(sha256_of(one.whole),),
                    detections=detections,
                )
            )
    return contenders


def _persons(layout: str) -> str:
    return _PERSONS.get(layout, layout)


def _share_persons(a: Corpus, b: Corpus) -> bool:
    return _persons(a.layout) == _persons(b.layout) and bool(set(a.subjects) & set(b.subjects))


def _set_names(sets: Sequence[tuple[str, Path]]) -> list[str]:
    """Return a name of each data set: its layout, with its folder where several have that layout."""
    for layout, _ in sets:
        if layout not in LAYOUTS:
            raise UsageError(f"layout '{layout}': unknown; expected one of {', '.join(LAYOUTS)}")
    layouts = Counter(layout for layout, _ in sets)
    names = [layout if layouts[layout] == 1 else f"{layout}-{_safe(root.absolute().name)}" for layout, root in sets]
    for name, count in Counter(names).items():
        if count > 1:
            raise UsageError(f"--pair: {count} data sets would be called {name}; give folders of different names")
    return names


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "data"


def _models(wanted: Sequence[str] | None, settings: Settings) -> list[_Model]:
    if wanted is None:
        wanted = sorted(name for name in installed_models() if name.startswith("mean-"))
    if not wanted:
        raise ModelError("no mean-* model is installed; 'megc-stream models list' says what can be fetched")
    models = []
    for name in wanted:
        path = find_mean(name)
        is_file = name.endswith(".onnx")
        facts = _facts(path, settings, path.stem if is_file else name)
        known = entries().get(name.partition("-fold-")[0])
        models.append(
            _Model(
                name=name,
                # Two files may have one name, and a file may be trained anew.
                folder=f"{path.stem}-{facts.sha256[:8]}" if is_file else name,
                short=facts.trained_on.partition(";")[0] if known is None else known.trained_on,
                layout="" if known is None else _persons(_TRAINED_ON.get(known.name, "")),
                facts=facts,
            )
        )
    return models


def _facts(path: Path, settings: Settings, name: str) -> ModelFacts:
    info = MeanModel(path, settings.model.providers, settings.model.threads).info
    return ModelFacts(
        name=name,
        sha256=info.sha256,
        classes=info.classes,
        k_s=info.k_s,
        k_prime_s=info.k_prime_s,
        trained_on=info.trained_on,
    )


def _prepare(out: Path) -> None:
    """Make the folder, and find out now whether it can be written, not after hours."""
    if not out.parent.is_dir():
        raise OutputError(f"folder {out}: its parent {out.parent} is not a folder; make it or change --out")
    with writing(out):
        out.mkdir(exist_ok=True)
        (out / "runs").mkdir(exist_ok=True)
    if not os.access(out, os.W_OK | os.X_OK):
        raise OutputError(f"folder {out}: no permission to write; change its rights or --out")


def _command(request: TableRequest, models: Sequence[_Model]) -> str:
    """Return a command that makes the same table: defaults spelt out, without what has no bearing on the numbers."""
    (layout, root), *pairs = request.sets
    words = ["megc-stream", "table", "str", str(root), "--layout", layout]
    for other, folder in pairs:
        words += ["--pair", f"{other}:{folder}"]
    words += ["--spotting", ",".join(request.spotting), "--models", ",".join(model.name for model in models)]
    words += ["--train", "--augment", request.augment] if request.train else []
    words += ["--expressions", request.expressions, "--bootstrap", str(request.resamples), "--seed", str(request.seed)]
    words += ["--providers", ",".join(request.settings.model.providers)]
    if request.config is not None:
        words += ["--config", str(request.config)]
    return f"{shlex.join(words)} --out DIR"
