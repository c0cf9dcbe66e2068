"""``megc-stream train``: networks from a lab's own recordings, or from portraits set in motion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megc_stream.cli.console import note, report_json, say
from megc_stream.cli.options import JsonOption
from megc_stream.cli.progress import CountProgress
from megc_stream.errors import UsageError

if TYPE_CHECKING:
    from megc_stream.datasets import DataSet
    from megc_stream.training.augmentation import Augmentation

__all__ = ["app"]

app = typer.Typer(help="Train models (extra 'train').", no_args_is_help=True)

CacheOption = Annotated[Path | None, typer.Option(help="Folder that keeps features between runs [the user's cache].")]
JobsOption = Annotated[int, typer.Option(min=1, help="Processes.")]


@app.command("mean", epilog="Example: megc-stream train mean --data samm-lv:data/SAMMLV --out mean-samm --jobs 4")
def mean_command(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="LAYOUT:ROOT", help="Annotated recordings, e.g. samm-lv:ROOT or plain:ROOT; repeatable, pooled."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the networks, results.json and the card.")],
    classes: Annotated[
        str,
        typer.Option(metavar="A,B,C", help="Emotion classes: as annotated, or the challenge's own."),
    ] = "negative,positive,surprise",
    augment: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="mirror: mirrored faces; scale: motion 0.7 to 1.5 times as strong; rate: pairs of lower frame rates; "
            "negatives: rendered blinks and speech; none: as published.",
        ),
    ] = "mirror,scale,rate,negatives",
    folds: Annotated[str, typer.Option(metavar="N|all", help="Train the first N folds only, for a trial.")] = "all",
    epochs_spot: Annotated[int, typer.Option(min=1, help="Epochs of spotting.")] = 10,
    epochs_recog: Annotated[int, typer.Option(min=1, help="Epochs of recognition.")] = 100,
    epoch_pairs: Annotated[
        int | None, typer.Option(min=32, help="Pairs that an epoch of spotting takes, drawn anew [all].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
    jobs: JobsOption = 1,
    cache: CacheOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other networks in --out.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Train MEAN on annotated recordings by the published protocol, leaving one subject out at a time.

    An interrupted run goes on where it stopped when the command is repeated.
    """
    import json

    from megc_stream.training import DataOptions, train_on_data
    from megc_stream.training.train import PUBLISHED

    options = DataOptions(
        classes=_names(classes),
        seed=seed,
        augment=_augmentations(augment),
        folds=_count(folds),
        settings=replace(PUBLISHED, spot_epochs=epochs_spot, recog_epochs=epochs_recog),
        epoch_pairs=epoch_pairs,
    )
    sets = [_read(text) for text in data]
    with CountProgress("training", "steps") as progress:
        result = train_on_data(
            sets, out, options, cache=cache, jobs=jobs, overwrite=overwrite, progress=progress.by_steps()
        )
    if result.kept:
        note(f"{result.kept} networks were there already")
    table = json.loads(result.results.read_text(encoding="utf-8"))
    report_json(json_file, table)
    if json_file == "-":
        return
    for mode, scopes in table["pooled"].items():
        for scope, scores in scopes.items():
            say(
                f"{mode:6} {scope}: {scores['events']} events, TP {scores['tp']}, FP {scores['fp']}, "
                f"FN {scores['fn']}, F1 {scores['f1']:.3f} (ceiling of recall {scores['length_ceiling']:.2f}), "
                f"STRS {scores['strs']:.3f}"
            )
    say(str(result.model))


@app.command("synthetic", epilog="Example: megc-stream train synthetic --portraits portraits --out mean-mine.onnx")
def synthetic_command(
    portraits: Annotated[Path, typer.Option(help="Folder of frontal portraits, one or more per person.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write; its card goes beside it as .md.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of clips, split and training.")] = 0,
    jobs: JobsOption = 1,
    cache: CacheOption = None,
) -> None:
    """Train MEAN on synthetic clips of portraits, score it on persons it never saw, write model and card."""
    from megc_stream.training import train_synthetic

    with CountProgress("training", "steps") as progress:
        train_synthetic(portraits, out, seed=seed, jobs=jobs, cache=cache, progress=progress.by_steps())
    say(str(out))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(","))
    if len(set(names)) != len(names) or not all(names) or len(names) < 2:
        raise UsageError(f"--classes {text}: expected two or more different names, separated by commas")
    return names


def _augmentations(text: str) -> frozenset[Augmentation]:
    from megc_stream.training.augmentation import AUGMENTATIONS

    names = {name.strip() for name in text.split(",")}
    if names == {"none"}:
        return frozenset()
    if unknown := sorted(names.difference(AUGMENTATIONS)):
        raise UsageError(f"--augment {unknown[0]}: unknown; expected none, or some of {', '.join(AUGMENTATIONS)}")
    return frozenset(one for one in AUGMENTATIONS if one in names)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise UsageError(f"--folds {text}: expected a number of folds, or all")
    return int(text)


def _read(text: str) -> DataSet:
    from megc_stream.datasets import read_dataset

    layout, colon, root = text.partition(":")
    if not colon or not root:
        raise UsageError(f"--data {text}: expected LAYOUT:ROOT, such as samm-lv:data/SAMMLV")
    data = read_dataset(layout, Path(root))
    errors = [finding for finding in data.findings if finding.level == "error"]
    if errors:
        note(
            f"{root}: {len(errors)} errors, the first in {errors[0].file}: {errors[0].message}; what is named there is "
            "left out, 'megc-stream datasets check' lists them"
        )
    return data
