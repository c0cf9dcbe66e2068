"""``megc-stream batch``: the analysis of every recording of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from megc_stream.cli.datasets import LayoutOption
from megc_stream.cli.options import ConfigOption, JsonOption

__all__ = ["app"]

app = typer.Typer()


@app.command("batch", epilog="Example: megc-stream batch data/SAMMLV --layout samm-lv --jobs 4 --out samm-results")
def batch(
    root: Annotated[Path, typer.Argument(help="Folder of the data set; its parts may lie deeper.")],
    layout: LayoutOption,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results, one folder a video [./megc-runs/<layout>-<root>].")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Videos analysed at once, each in its own process.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(metavar="VIDEO", help="Analyse this video; repeatable [all].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace complete results of other settings.")] = False,
    spotting: Annotated[
        str | None, typer.Option(metavar="causal|video", help="causal: as if frames arrived; video: whole video.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Spotting network [mean-synthetic].")] = None,
    providers: Annotated[str | None, typer.Option(help="ONNX Runtime providers in order, e.g. cuda,cpu.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, instead of the data set's.")] = None,
    with_images: Annotated[
        bool | None, typer.Option("--with-images/--no-images", help="Put face crops into the reports [no].")
    ] = None,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Analyse all recordings of a data set; what is complete for the same settings is not done again.

    Each video gets a folder of its own, as 'run' writes it; intervals.csv beside them holds the events of all.
    """
    from megc_stream.cli.batch_runs import batch_command
    from megc_stream.settings import load_settings

    overrides: dict[str, Any] = {
        "capture": {"fps": fps},
        "model": {"name": model, "providers": None if providers is None else tuple(providers.split(","))},
        "spotting": {"mode": spotting},
        "output": {"with_images": with_images},
    }
    settings = load_settings(config, overrides)
    batch_command(root, layout, settings, out, jobs=jobs, only=only or [], overwrite=overwrite, json_file=json_file)
