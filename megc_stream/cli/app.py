"""All commands and their options; what they do lies in the modules they import when called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from megc_stream import __version__
from megc_stream.cli import (
    batch,
    bench,
    cameras,
    control,
    datasets,
    evaluate,
    keys,
    models,
    record,
    stage,
    submit,
    subscribe,
    table,
    train,
    vqa,
)
from megc_stream.cli.options import ConfigOption, JsonOption

__all__ = ["app"]

app = typer.Typer(
    name="megc-stream",
    help="Spot and name facial micro-expressions in cameras and files, while they happen.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_config = typer.Typer(help="Show the settings in force, or their schema.", no_args_is_help=True)
_synth = typer.Typer(help="Make clips with known micro-expressions.", no_args_is_help=True)
app.add_typer(_config, name="config")
app.add_typer(_synth, name="synth")
app.add_typer(train.app, name="train")
app.add_typer(bench.app, name="bench")
app.add_typer(datasets.app, name="datasets")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(submit.app, name="submit")
app.add_typer(table.app, name="table")
app.add_typer(models.app, name="models")
app.add_typer(batch.app)
app.add_typer(cameras.app)
app.add_typer(control.app)
app.add_typer(keys.app, name="keys")
app.add_typer(record.app)
app.add_typer(stage.app)
app.add_typer(subscribe.app)
app.add_typer(vqa.app, name="vqa")


class Spotting(StrEnum):
    """Modes of spotting."""

    causal = "causal"
    video = "video"


class Runner(StrEnum):
    """How stages are hosted."""

    embedded = "embedded"
    processes = "processes"
    hosts = "hosts"


class Face(StrEnum):
    """Face backends."""

    onnx = "onnx"
    mediapipe = "mediapipe"


def _version(value: bool) -> None:
    if value:
        typer.echo(f"megc-stream {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: megc-stream run clip.mp4 --out results --with-images")
def run(
    source: Annotated[
        str | None,
        typer.Argument(
            help="Camera number, webcam:NAME, pylon:SERIAL, genicam:SERIAL, video file, folder of images, rtsp:// or "
            "http:// address, a recording of a data set such as samm-lv:ROOT/006_1, or the .toml file of a graph."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results [./megc-runs/<stem>-<date>].")] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite/--no-overwrite", help="Replace results in that folder.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Pace of a file: native, max, or a factor such as 2x [max].")
    ] = None,
    spotting: Annotated[
        Spotting | None,
        typer.Option(help="causal: events while frames arrive; video: from the whole file, at its end."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Spotting network [mean-synthetic].")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, where the source is wrong or has none.")] = None,
    subject: Annotated[str | None, typer.Option(help="Subject in the results.")] = None,
    video: Annotated[str | None, typer.Option(help="Video name in the results.")] = None,
    face: Annotated[Face | None, typer.Option(help="Landmark models.")] = None,
    face_model: Annotated[
        Path | None, typer.Option(metavar="TASK", help="face_landmarker.task for --face mediapipe.")
    ] = None,
    face_index: Annotated[int | None, typer.Option(help="Which face, from the largest (0) down.")] = None,
    providers: Annotated[str | None, typer.Option(help="ONNX Runtime providers in order, e.g. cuda,cpu.")] = None,
    with_images: Annotated[
        bool | None, typer.Option("--with-images/--no-images", help="Put face crops into the report [no].")
    ] = None,
    publish: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="Publish events, e.g. tcp://127.0.0.1:5550.")
    ] = None,
    publish_frames: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="Publish face crops while somebody subscribes to them.")
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", metavar="ENDPOINT", help="Take commands, e.g. on tcp://127.0.0.1:5552.")
    ] = None,
    recordings: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="Let recorders fetch every message without loss.")
    ] = None,
    vqa: Annotated[
        str | None,
        typer.Option(metavar="URL|embedded", help="Answer questions about every event, by a served model or without."),
    ] = None,
    insecure_bind: Annotated[
        bool | None,
        typer.Option("--insecure-bind/--loopback-only", help="Allow endpoints outside loopback, unencrypted."),
    ] = None,
    runner: Annotated[
        Runner | None,
        typer.Option(help="Stages as threads, as processes, or started on several hosts with 'stage' [embedded]."),
    ] = None,
    open_report: Annotated[bool, typer.Option("--open", help="Open the report when done.")] = False,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Analyse a camera, a video file or a folder of images; write events, scores and a report."""
    from megc_stream.cli.inputs import is_settings_file
    from megc_stream.cli.run import parse_speed, run_command
    from megc_stream.settings import load_settings

    if source is not None and config is None and is_settings_file(source):
        config = Path(source)
        source = None
    overrides: dict[str, Any] = {
        "source": source,
        "subject": subject,
        "video": video,
        "capture": {"fps": fps, "speed": parse_speed(speed)},
        "face": {"backend": face, "mediapipe_model": face_model, "face_index": face_index},
        "model": {"name": model, "providers": None if providers is None else tuple(providers.split(","))},
        "spotting": {"mode": spotting},
        "wire": {
            "publish": publish,
            "publish_frames": publish_frames,
            "control": control,
            "recordings": recordings,
            "insecure_bind": insecure_bind,
        },
        "vqa": {"answerer": vqa},
        "pipeline": {"runner": runner},
        "output": {"folder": out, "overwrite": overwrite, "with_images": with_images},
    }
    run_command(load_settings(config, overrides), open_report=open_report, json_file=json_file)


@app.command(epilog="Example: megc-stream demo --open")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the clip and the results.")] = Path("demo"),
    fps: Annotated[float, typer.Option(help="Frames per second of the clip.")] = 60.0,
    seconds: Annotated[float, typer.Option(help="Length of the clip, seconds.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of the clip.")] = 0,
    open_report: Annotated[bool, typer.Option("--open", help="Open the report when done.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Make a clip with known micro-expressions, analyse it, and say what was found, missed and invented."""
    from megc_stream.cli.demo import demo_command

    demo_command(out, fps=fps, seconds=seconds, seed=seed, open_report=open_report, json_file=json_file)


@app.command(epilog="Example: megc-stream doctor --json -")
def doctor(json_file: JsonOption = None) -> None:
    """Say what is installed: versions, cores, providers, cameras, models; what is missing and how to get it."""
    from megc_stream.cli.doctor import doctor_command

    doctor_command(json_file)


@_config.command("show", epilog="Example: megc-stream config show --config lab.toml")
def config_show(config: ConfigOption = None) -> None:
    """Print the settings in force as JSON: defaults, file, MEGC_* variables."""
    from megc_stream.cli.console import say
    from megc_stream.settings import load_settings

    say(load_settings(config).model_dump_json(indent=2))


@_config.command("schema", epilog="Example: megc-stream config schema > schema.json")
def config_schema() -> None:
    """Print the JSON schema of the settings: every key, its meaning, unit and range."""
    import json

    from megc_stream.cli.console import say
    from megc_stream.settings import Settings

    say(json.dumps(Settings.model_json_schema(), indent=2))


@_synth.command("clip", epilog="Example: megc-stream synth clip clip.mkv --fps 200 --seconds 20 --seed 1")
def synth_clip(
    out: Annotated[Path, typer.Argument(help=".mkv (lossless), .mp4 or a folder; the truth goes beside it as .csv.")],
    portrait: Annotated[Path | None, typer.Option(help="Frontal portrait [scikit-image's astronaut].")] = None,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 200.0,
    seconds: Annotated[float, typer.Option(help="Length, seconds.")] = 20.0,
    events: Annotated[int, typer.Option(help="Micro-expressions to plant.")] = 6,
    seed: Annotated[int, typer.Option(help="Same seed, same clip.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing clip.")] = False,
) -> None:
    """Warp a portrait into a clip with known micro-expressions."""
    from megc_stream.cli.synth import clip_command

    clip_command(out, portrait, fps=fps, seconds=seconds, events=events, seed=seed, overwrite=overwrite)


@_synth.command("inject", epilog="Example: megc-stream synth inject interview.mp4 planted.mkv --events 4")
def synth_inject(
    source: Annotated[str, typer.Argument(help="Video file or folder of images with one face.")],
    out: Annotated[Path, typer.Argument(help=".mkv (lossless), .mp4 or a folder; the truth goes beside it as .csv.")],
    events: Annotated[int, typer.Option(help="Micro-expressions to plant.")] = 6,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 0,
    fps: Annotated[float | None, typer.Option(help="Frames per second of a folder of images [30].")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing clip.")] = False,
) -> None:
    """Plant known micro-expressions into real footage."""
    from megc_stream.cli.synth import inject_command

    inject_command(source, out, events=events, seed=seed, fps=fps, overwrite=overwrite)
