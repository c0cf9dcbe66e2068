"""``megc-stream cameras``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from megc_stream.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from megc_stream.capture.listing import Camera

__all__ = ["app", "lines_of"]

app = typer.Typer()


@app.command("cameras", epilog="Example: megc-stream cameras --json -")
def cameras(config: ConfigOption = None, json_file: JsonOption = None) -> None:
    """List the cameras found, what they can do, and the SOURCE that opens each."""
    from megc_stream.capture.listing import list_cameras
    from megc_stream.cli.console import note, report_json, say
    from megc_stream.settings import load_settings

    found = list_cameras(cti=load_settings(config).capture.camera.cti)
    report_json(json_file, dataclasses.asdict(found))
    if json_file != "-":
        for camera in found.cameras:
            for line in lines_of(camera):
                say(line)
        if not found.cameras:
            say("no camera found")
    for hint in found.hints:
        note(f"note: {hint}")


def lines_of(camera: Camera) -> list[str]:
    """Return what to say of a camera: its SOURCE and name, then what it can do."""
    lines = [f"{camera.source}  {camera.name}"]
    if camera.problem:
        return [*lines, f"    cannot be asked: {camera.problem}"]
    if camera.sizes:
        lines += [f"    {size} px" if camera.kind != "webcam" else f"    {size}" for size in camera.sizes]
    if camera.rates:
        lines.append(f"    {camera.rates}")
    if camera.pixel_formats:
        lines.append(f"    {', '.join(camera.pixel_formats)}")
    levels = [f"{name} {text}" for name, text in (("exposure", camera.exposure), ("gain", camera.gain)) if text]
    if levels:
        lines.append(f"    {', '.join(levels)}")
    if camera.triggers:
        lines.append(f"    trigger {', '.join(camera.triggers)}")
    return lines
