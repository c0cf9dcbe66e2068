"""``megc-stream table``: spotters, models and answerers compared, with published results beside them."""

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


@app.command(
    "vqa",
    epilog="Example: megc-stream table vqa --truth lora/held-out.jsonl --frames lora/frames --trained lora --server "
    "http://127.0.0.1:8000/v1 --model Qwen/Qwen2.5-VL-3B-Instruct --lora megc --out vqa-table",
)
def table_vqa(
    truth: Annotated[Path, typer.Option(help="Questions with their true answers, ME-VQA or ME-LVQA.")],
    out: Annotated[Path, typer.Option(help="Folder of table.md, table.json, and of all answers.")],
    frames: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="Folder that holds the clips, to have them asked about.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible server of the model [rows not measured].")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The base model on the server: zero-shot.")] = None,
    lora: Annotated[str | None, typer.Option(metavar="NAME", help="The adapter on the server.")] = None,
    inputs: Annotated[
        str, typer.Option(metavar="A,B", help="Media that models are shown, e.g. video,oao,flow,oao+flow.")
    ] = "video,oao,flow",
    pred: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW=FILE",
            help="Answers of a file, instead of asking: zero-shot/oao=FILE, lora/video=FILE, embedded=FILE, or a row "
            "of another name; repeatable.",
        ),
    ] = None,
    train: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where prior answers are counted [the truth, leaving one out].")
    ] = None,
    trained: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The --out of 'train vqa': says who was trained on.")
    ] = None,
    redact_eyes: Annotated[bool, typer.Option("--redact-eyes", help="Black out the eyes in all media.")] = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="What the server has for a question [30].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Ask anew what is answered already.")] = False,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Score {zero-shot, LoRA} x {video, oao, flow}, the embedded answerer and the prior-only baseline.

    Writes table.md and table.json; published results stand beside ours, and rows that were not measured say so. A
    second call goes on where the first stopped.
    """
    from megc_stream.cli.table_vqa import VqaTableRequest, vqa_table_command
    from megc_stream.settings import load_settings
    from megc_stream.vqa.media import parse_inputs

    overrides: dict[str, Any] = {
        "vqa": {"answerer": server, "redact_eyes": redact_eyes or None, "timeout_s": timeout_s},
    }
    request = VqaTableRequest(
        truth=truth,
        out=out,
        train=train,
        frames=frames,
        model=model,
        lora=lora,
        inputs=tuple("+".join(parse_inputs(one)) for one in _listed("--inputs", inputs)),
        given=tuple(_row_file(text) for text in pred or ()),
        trained=trained,
        overwrite=overwrite,
        json_file=json_file,
        settings=load_settings(config, overrides),
    )
    vqa_table_command(request)


def _row_file(text: str) -> tuple[str, Path]:
    from megc_stream.errors import UsageError

    row, equals, file = text.partition("=")
    if not equals or not row.strip() or not file:
        raise UsageError(f"--pred {text}: expected ROW=FILE, such as lora/oao=pred.jsonl")
    return row, Path(file)


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
