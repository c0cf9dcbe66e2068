"""``megc-stream record``, ``play`` and ``export``: recordings of a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megc_stream.cli.options import ConfigOption, JsonOption, KeyOption, ServerKeyOption

__all__ = ["app"]

app = typer.Typer()

RecordingArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A recording, whole, unfinished or damaged.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


@app.command("record", epilog="Example: megc-stream record tcp://127.0.0.1:5550 session.megc")
def record(
    endpoint: Annotated[
        str, typer.Argument(help="Where 'run --publish' publishes; it names the address to record from.")
    ],
    out: Annotated[Path, typer.Argument(help="The recording, e.g. session.megc; its index goes beside it.")],
    direct: Annotated[
        bool, typer.Option("--direct", help="ENDPOINT is the address for recordings itself ('run --recordings').")
    ] = False,
    topics: Annotated[
        list[str] | None,
        typer.Option("--topics", metavar="PREFIX", help="Only topics that begin so; repeatable [everything]."),
    ] = None,
    fsync: Annotated[
        str,
        typer.Option(
            metavar="always|never|MS",
            help="Force messages onto the disk, before they are acknowledged: each, never, or every so many ms.",
        ),
    ] = "500",
    keep: Annotated[
        bool, typer.Option("--keep", help="When the stream is over, wait for the next one of this endpoint.")
    ] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Go on with an existing recording, from its last message if still kept.")
    ] = False,
    overwrite: OverwriteOption = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds of silence before the publisher counts as gone.")
    ] = 10,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Record every message of a running analysis, without loss, from now on until it is over or Ctrl-C.

    What was published before is in the recording only where it joins in the first 10 s of the run. Exit code 1 where
    messages are known to be missing.
    """
    from megc_stream.cli.options import security_from
    from megc_stream.cli.record_runs import record_command
    from megc_stream.output.recording import parse_fsync

    record_command(
        endpoint,
        out,
        direct=direct,
        topics=tuple(topics or ()),
        fsync=parse_fsync(fsync),
        keep=keep,
        append=append,
        overwrite=overwrite,
        timeout_s=timeout,
        security=security_from(config, key, server_key),
        json_file=json_file,
    )


@app.command("play", epilog="Example: megc-stream play session.megc --publish tcp://127.0.0.1:5550 --wait")
def play(
    file: RecordingArgument,
    publish: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="Publish the messages there, e.g. tcp://127.0.0.1:5550.")
    ] = None,
    speed: Annotated[str, typer.Option(help="Pace: native, max, or a factor such as 2x.")] = "native",
    start: Annotated[float, typer.Option(min=0.0, help="Begin so many seconds after the beginning.")] = 0.0,
    wait: Annotated[bool, typer.Option("--wait", help="Begin when somebody has subscribed.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that --wait waits.")] = 60,
    info: Annotated[bool, typer.Option("--info", help="Say what the recording holds instead.")] = False,
    insecure_bind: Annotated[
        bool, typer.Option("--insecure-bind", help="Allow --publish outside loopback, unencrypted.")
    ] = False,
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Publish a recording again as it was, for subscribers to work with; or say what it holds."""
    from megc_stream.cli.record_runs import info_command, play_command
    from megc_stream.cli.run import parse_speed
    from megc_stream.errors import UsageError

    if info:
        info_command(file, json_file)
        return
    if publish is None:
        raise UsageError("play: say --publish ENDPOINT, e.g. tcp://127.0.0.1:5550, or --info")
    play_command(
        file,
        publish,
        speed=parse_speed(speed) or 0.0,
        start_s=start,
        wait_s=timeout if wait else None,
        insecure=insecure_bind,
        config=config,
        json_file=json_file,
    )


@app.command("export", epilog="Example: megc-stream export session.megc events.eaf --media clip.mp4")
def export(
    file: RecordingArgument,
    out: Annotated[
        Path,
        typer.Argument(
            help="By suffix: .jsonl (all revisions), .csv (intervals), .parquet (events), .eaf (ELAN) or .vtt (WebVTT)."
        ),
    ],
    media: Annotated[str, typer.Option(metavar="FILE|URL", help="The video that an .eaf belongs to.")] = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Write the events of a recording in a form that other programs read."""
    from megc_stream.cli.record_runs import export_command

    export_command(file, out, media=media, overwrite=overwrite)
