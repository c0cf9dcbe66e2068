"""``megc-stream stage``: one stage of a graph in a process of its own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from megc_stream.cli.options import ConfigOption

__all__ = ["app"]

app = typer.Typer()


class StageName(StrEnum):
    """What runs in a process of its own."""

    reader = "reader"
    spotter = "spotter"
    recogniser = "recogniser"
    vqa = "vqa"
    publisher = "publisher"


@app.command("stage", epilog="Example: megc-stream stage spotter --config graph.toml --source cam0")
def stage(
    name: Annotated[StageName, typer.Argument(help="Which stage.")],
    config: ConfigOption = None,
    source: Annotated[
        str | None, typer.Option(help="Name of its source in the graph, where there are several.")
    ] = None,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
) -> None:
    """Run one stage of a graph across hosts; 'megc-stream run --config FILE' with the same file coordinates them."""
    from megc_stream.cli.stage_runs import child_command, stage_command

    if child:
        child_command(name)
    else:
        stage_command(name, _required(config), source)


def _required(config: Path | None) -> Path:
    from megc_stream.errors import UsageError

    if config is None:
        raise UsageError("--config is missing: expected the TOML file of the whole graph")
    return config
