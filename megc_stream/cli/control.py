"""``megc-stream control``: one command to a running analysis."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from megc_stream.cli.options import ConfigOption, KeyOption, ServerKeyOption

__all__ = ["app"]

app = typer.Typer()


@app.command("control", epilog="Example: megc-stream control tcp://127.0.0.1:5551 annotate text='coughs' source=cam0")
def control(
    endpoint: Annotated[str, typer.Argument(help="Where 'run --control' takes commands.")],
    command: Annotated[
        str, typer.Argument(help="start, stop, pause, annotate, set_threshold, snapshot, shutdown, clock or status.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its arguments; JSON, or else text.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds to wait for the reply.")] = 10.0,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
    config: ConfigOption = None,
) -> None:
    """Give one command to a running analysis and print its reply as JSON.

    'clock' measures the offset between its clock and ours instead.
    """
    from megc_stream.cli.console import say
    from megc_stream.cli.options import security_from
    from megc_stream.wire import Control
    from megc_stream.wire.clock_sync import ClockSync

    words = dict(_argument(text) for text in arguments or ())
    with Control(endpoint, security=security_from(config, key, server_key), timeout_s=timeout) as client:
        reply: Any = ClockSync(client.probe).measure() if command == "clock" else client.request(command, **words)
        say(_json(reply))


def _argument(text: str) -> tuple[str, Any]:
    from megc_stream.errors import UsageError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"argument {text}: expected KEY=VALUE, such as text=smile or deviations=4")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _json(reply: Any) -> str:
    import msgspec

    return msgspec.json.encode(reply).decode()
