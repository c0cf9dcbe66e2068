"""``megc-stream subscribe``."""

from __future__ import annotations

import contextlib

import msgspec

from megc_stream.cli.console import note, say
from megc_stream.wire import Subscriber

__all__ = ["subscribe_command"]


def subscribe_command(
    endpoint: str, topics: tuple[str, ...], *, latest: bool, count: int | None, timeout_s: float
) -> None:
    """Print messages as JSON lines until Ctrl-C or ``count``."""
    with Subscriber(endpoint, topics) as subscriber, contextlib.suppress(KeyboardInterrupt):
        subscriber.wait_for_welcome(timeout_s)
        note(f"connected to {endpoint}; Ctrl-C ends")
        seen = gaps = 0
        for message in subscriber:
            while latest and (newer := subscriber.receive(0)) is not None:
                message = newer
            if message.topic.startswith(topics):
                say(msgspec.json.encode(message).decode())
                seen += 1
            if subscriber.gaps > gaps:
                gaps = subscriber.gaps
                note(f"warning: {gaps} messages missed so far: this reader is too slow")
            if count is not None and seen >= count:
                break
