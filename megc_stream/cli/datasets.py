"""``megc-stream datasets``: what a data set holds, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from megc_stream.cli.options import JsonOption

if TYPE_CHECKING:
    from megc_stream.datasets import Finding
    from megc_stream.datasets.check import Summary

__all__ = ["LayoutOption", "app"]

LayoutOption = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="samm-lv, samm-challenge, cas-me-3, cas-me-3-challenge, cas-me-2, casme-ii, smic-hs, smic-vis, smic-nir, "
        "4dme, megc-vqa, or plain.",
    ),
]

_SHOWN = 20

app = typer.Typer(help="Look into data sets of recordings and annotations.", no_args_is_help=True)


@app.callback()
def _datasets() -> None:
    pass


@app.command("check", epilog="Example: megc-stream datasets check data/SAMMLV --layout samm-lv")
def check(
    root: Annotated[Path, typer.Argument(help="Folder of the data set; its parts may lie deeper.")],
    layout: LayoutOption,
    images: Annotated[bool, typer.Option("--images", help="Decode every image to find damaged ones (slow).")] = False,
    show_all: Annotated[bool, typer.Option("--all", help=f"Show all findings [the first {_SHOWN} of a kind].")] = False,
    json_file: JsonOption = None,
) -> None:
    """Say what is there, what is missing or damaged, and count subjects, videos, events; exit code 1 if unusable."""
    import msgspec

    from megc_stream.cli.console import report_json
    from megc_stream.cli.progress import CountProgress
    from megc_stream.datasets import read_dataset
    from megc_stream.datasets.check import damaged_images, summarise
    from megc_stream.errors import DataError

    data = read_dataset(layout, root)
    if images:
        with CountProgress("decoding", "images") as progress:
            damaged = tuple(damaged_images(data, progress))
        data = msgspec.structs.replace(data, findings=data.findings + damaged)
    summary = summarise(data)
    report: dict[str, Any] = msgspec.to_builtins(summary)
    report["findings"] = msgspec.to_builtins(data.findings)
    report_json(json_file, report)
    if json_file != "-":
        _say_summary(summary)
        for level in ("error", "warning", "note"):
            _say_findings(level, [finding for finding in data.findings if finding.level == level], show_all)
    if summary.problem:
        raise DataError(f"{root}: unusable as {summary.title}: {summary.problem}; docs/datasets.md shows the layout")


def _say_summary(summary: Summary) -> None:
    from megc_stream.cli.console import say

    def counts(values: dict[str, int]) -> str:
        return ", ".join(f"{count} {name}" for name, count in values.items()) or "none"

    say(f"{summary.title} in {summary.root}")
    say(f"  subjects       {summary.subjects}")
    say(f"  videos         {summary.videos}, {summary.annotated_videos} of them with events")
    say(f"  frames         {summary.frames}, {summary.seconds / 60:.1f} min")
    say(f"  fps            {', '.join(summary.rates_fps) or 'none'}")
    say(f"  frame size     {counts(summary.sizes)}")
    say(f"  events         {summary.events}, {summary.placed_events} of them within a recording")
    say(f"  types          {counts(summary.types)}")
    say(f"  classes        {counts(summary.classes)}")
    say(f"  emotions       {counts(summary.emotions)}")
    for kind, durations in summary.durations.items():
        span = f"{durations.least_s:.3f} to {durations.greatest_s:.3f} s"
        say(f"  {kind:14s} {span} long, median {durations.median_s:.3f} s")


def _say_findings(level: str, findings: list[Finding], show_all: bool) -> None:
    from megc_stream.cli.console import say

    shown = findings if show_all else findings[:_SHOWN]
    for finding in shown:
        row = "" if finding.row is None else f", row {finding.row}"
        column = "" if finding.column is None else f", column {finding.column}"
        say(f"{level}: {finding.file}{row}{column}: {' '.join(finding.message.split())}")
    if len(findings) > len(shown):
        say(f"{level}: and {len(findings) - len(shown)} more; --all shows them")
