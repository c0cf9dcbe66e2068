"""``megc-stream subscribe``: prints any part of a running stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from megc_stream.cli.options import ConfigOption, KeyOption, ServerKeyOption

if TYPE_CHECKING:
    from megc_stream.wire.intake import Mode
    from megc_stream.wire.protocol import Message

__all__ = ["app"]

app = typer.Typer()


@app.command("subscribe", epilog="Example: megc-stream subscribe tcp://127.0.0.1:5550 --topic event.label.")
def subscribe(
    endpoint: Annotated[str, typer.Argument(help="Where 'run --publish' or '--publish-frames' publishes.")],
    topic: Annotated[
        list[str] | None,
        typer.Option(help="Prefix of the topics wanted, '' for all; repeatable [event.]. docs/protocol.md has them."),
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Only the newest message of each topic when this reader is slow.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many messages.")] = None,
    timeout: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for the publisher.")] = 10.0,
    stale: Annotated[
        float, typer.Option(min=0.1, help="Warn when nothing came for this many seconds, or what comes is that old.")
    ] = 3.0,
    key: KeyOption = None,
    server_key: ServerKeyOption = None,
    config: ConfigOption = None,
) -> None:
    """Print the messages of a running analysis, one JSON object a line, until Ctrl-C; pictures are left out.

    Lost messages, silence and lateness are told on stderr.
    """
    import contextlib
    from itertools import islice

    from megc_stream.cli.console import note, say, warn
    from megc_stream.cli.options import security_from
    from megc_stream.wire import Subscriber

    security = security_from(config, key, server_key)
    topics = tuple(topic or ("event.",))
    mode: Mode = "latest" if latest else "all"
    with (
        contextlib.suppress(KeyboardInterrupt),
        Subscriber(endpoint, topics, mode=mode, security=security, stale_after_s=stale, warn=warn) as subscriber,
    ):
        hello = subscriber.wait_for_welcome(timeout)
        note(f"connected to {endpoint} ({hello.software}); Ctrl-C ends")
        for message in islice(subscriber, count):
            say(_json(message))


def _json(message: Message) -> str:
    import msgspec

    from megc_stream.wire.protocol import OtherMessage

    if isinstance(message, OtherMessage):
        return msgspec.json.encode(message.fields).decode()
    return msgspec.json.encode(msgspec.structs.replace(message, raw=())).decode()
