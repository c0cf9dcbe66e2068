"""``megc-stream table``: spotters and models compared over data sets, with published results beside them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from megc_stream.cli.datasets import LayoutOption
from megc_stream.cli.options import ConfigOption, JsonOption

__all__ = ["app"]

app = typer.Typer(help="Make reproducible tables of scores.", no_args_is_help=True)


class CountedExpressions(StrEnum):
    """Which annotated expressions count."""

    micro = "micro"
    all = "all"


@app.callback()
def _table() -> None:
    pass


@app.command("str", epilog="Example: megc-stream table str data/SAMMLV --layout samm-lv --out samm-table --jobs 4")
def table_str(
    root: Annotated[Path, typer.Argument(help="Folder of the data set; its parts may lie deeper.")],
    layout: LayoutOption,
    out: Annotated[Path, typer.Option(help="Folder of table.md, table.json, and of all runs.")],
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:ROOT", help="A further data set, its layout before the colon; repeatable."),
    ] = None,
    spotting: Annotated[str, typer.Option(metavar="MODES", help="Modes of spotting.")] = "causal,video",
    models: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Models or .onnx files [all installed mean-* models].")
    ] = None,
    train: Annotated[
        bool,
        typer.Option("--train", help="Train MEAN too: leaving one subject out; with --pair, on one set for another."),
    ] = False,
    augment: Annotated[
        str, typer.Option(metavar="A,B", help="With --train: as for 'train mean'; none: as published.")
    ] = "mirror,scale,rate,negatives",
    expressions: Annotated[
        CountedExpressions, typer.Option(help="Which annotated expressions count.")
    ] = CountedExpressions.micro,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Videos analysed at once, each in its own process.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps features to train on between calls.")] = None,
    resamples: Annotated[
        int, typer.Option("--bootstrap", min=0, max=1_000_000, help="Resamples of the confidence intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples and of the training.")] = 0,
    providers: Annotated[str | None, typer.Option(help="ONNX Runtime providers in order, e.g. cuda,cpu.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace complete results of other settings.")] = False,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run every mode of spotting with every model over data sets and score it by both rules.

    Writes table.md and table.json; a second call goes on where the first stopped. Published results of the same data
    sets stand beside ours. Videos that fail are named, and their expressions count as missed.
    """
    from megc_stream.cli.table_runs import TableRequest, table_command
    from megc_stream.settings import load_settings

    overrides: dict[str, Any] = {"model": {"providers": None if providers is None else tuple(providers.split(","))}}
    request = TableRequest(
        sets=((layout, root), *(_pair(text) for text in pair or ())),
        out=out,
        spotting=_listed("--spotting", spotting),
        models=None if models is None else _listed("--models", models),
        train=train,
        augment=augment,
        expressions=expressions.value,
        jobs=jobs,
        cache=cache,
        resamples=resamples,
        seed=seed,
        overwrite=overwrite,
        json_file=json_file,
        config=config,
        settings=load_settings(config, overrides),
    )
    table_command(request)


def _pair(text: str) -> tuple[str, Path]:
    from megc_stream.errors import UsageError

    layout, colon, root = text.partition(":")
    if not colon or not layout or not root:
        raise UsageError(f"--pair {text}: expected LAYOUT:ROOT, such as cas-me-2:data/CASME2")
    return layout, Path(root)


def _listed(option: str, text: str) -> tuple[str, ...]:
    from megc_stream.errors import UsageError

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise UsageError(f"{option} {text}: expected names separated by commas")
    return names
