"""What ``megc-stream record``, ``play`` and ``export`` do."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import zmq

from megc_stream.cli.console import note, report_json, say, warn
from megc_stream.cli.progress import CountProgress
from megc_stream.cli.signals import stopping_on_signals
from megc_stream.errors import OutputError, UsageError
from megc_stream.output.player import Player
from megc_stream.output.recorder import record_stream
from megc_stream.output.recording import Fsync, RecordingHeader, RecordingReader, RecordingWriter
from megc_stream.output.recording_summary import RecordingSummary, summarise
from megc_stream.settings import load_settings
from megc_stream.wire import Security, Subscriber, authenticator, load_security
from megc_stream.wire.tap import TapReader

__all__ = ["export_command", "info_command", "play_command", "record_command"]

_DAMAGE_SHOWN = 10
_ASK_AGAIN_S = 0.25


def record_command(
    endpoint: str,
    out: Path,
    *,
    direct: bool,
    topics: tuple[str, ...],
    fsync: Fsync,
    keep: bool,
    append: bool,
    overwrite: bool,
    timeout_s: float,
    security: Security,
    json_file: str | None,
) -> None:
    """Record a stream; see :func:`megc_stream.cli.record.record`."""
    if append and overwrite:
        raise UsageError("--append and --overwrite contradict each other: go on with the recording, or replace it")
    recorder, numbering, last_n, earlier = uuid.uuid4().hex, "", -1, None
    if append and out.exists():
        earlier = RecordingWriter(out, None, fsync=fsync)
        recorder, numbering, last_n = earlier.header.recorder, earlier.numbering, earlier.last_n
    elif out.exists() and not overwrite:
        raise UsageError(f"{out}: is there already; choose another name, --append or --overwrite")

    def open_file(header: RecordingHeader) -> RecordingWriter:
        return earlier or RecordingWriter(out, header, fsync=fsync, overwrite=overwrite)

    asked = threading.Event()
    with zmq.Context() as context, stopping_on_signals(asked.set), contextlib.ExitStack() as stack:
        if earlier is not None:
            stack.callback(earlier.close)
        address = endpoint if direct else _address(context, endpoint, security, timeout_s, asked)
        progress = stack.enter_context(CountProgress("recording", "messages"))
        reader = stack.enter_context(
            TapReader(
                context, address, recorder=recorder, numbering=numbering, after=last_n, topics=topics, security=security
            )
        )
        result = record_stream(
            reader,
            open_file,
            recorder,
            topics=topics,
            keep=keep,
            timeout_s=timeout_s,
            stopped=asked.is_set,
            progress=lambda messages: progress(messages, None),
            warn=lambda text: progress.line(f"warning: {text}"),
        )
    report_json(json_file, {"file": str(out), **msgspec.to_builtins(result)})
    if json_file != "-":
        say(str(out))
    ended = {"over": "the stream is over", "stopped": "stopped", "silent": "the publisher is gone"}[result.why]
    note(f"{result.messages} messages recorded; {ended}")
    if result.lost or result.why == "silent":
        missing = f"{result.lost} messages are missing" if result.lost else "the publisher did not say that it was over"
        raise OutputError(
            f"{out}: the recording is not complete: {missing}; 'megc-stream play {out} --info' says where"
        )


def _address(
    context: zmq.Context[Any], endpoint: str, security: Security, timeout_s: float, asked: threading.Event
) -> str:
    """Ask the publisher of events where recordings are to be had; a run that is starting may not know yet."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        with Subscriber(endpoint, (), context=context, security=security) as subscriber:
            hello = subscriber.wait_for_welcome(timeout_s)
            if "recordings" in hello.endpoints or time.monotonic() >= deadline_s or asked.wait(_ASK_AGAIN_S):
                return subscriber.endpoint_of("recordings")


def play_command(
    file: Path,
    endpoint: str,
    *,
    speed: float,
    start_s: float,
    wait_s: float | None,
    insecure: bool,
    config: Path | None,
    json_file: str | None,
) -> None:
    """Publish a recording; see :func:`megc_stream.cli.record.play`."""
    security = load_security(load_settings(config).security)
    asked = threading.Event()
    with (
        RecordingReader(file) as reader,
        zmq.Context() as context,
        authenticator(context, security),
        stopping_on_signals(asked.set),
        CountProgress("playing", "messages") as progress,
    ):
        player = Player(
            context,
            reader,
            endpoint,
            security=security,
            insecure=insecure,
            warn=lambda text: progress.line(f"warning: {text}"),
        )
        try:
            progress.line(f"publishing on {player.endpoint}; Ctrl-C ends")
            if wait_s is not None:
                player.wait_for_subscriber(wait_s, asked.is_set)
            result = player.play(
                speed=speed,
                start_s=start_s,
                stopped=asked.is_set,
                progress=lambda messages: progress(messages, None),
            )
        finally:
            player.close(at_once=asked.is_set())
    report_json(json_file, {"file": str(file), **msgspec.to_builtins(result)})
    note(f"{result.messages} messages played in {result.seconds:.1f} s")


def info_command(file: Path, json_file: str | None) -> None:
    """Say what a recording holds; see :func:`megc_stream.cli.record.play`."""
    with RecordingReader(file) as reader:
        summary = summarise(reader)
    report_json(json_file, msgspec.to_builtins(summary))
    if json_file != "-":
        for line in _lines(summary):
            say(line)


def _lines(summary: RecordingSummary) -> Iterator[str]:
    yield f"{summary.file}: {summary.bytes} bytes, {summary.messages} messages in {summary.duration_s:.1f} s"
    yield f"begun {summary.began or '(header damaged)'} from {summary.endpoint} by {summary.software}"
    yield f"ended: {summary.ended or 'without a word (the recorder was killed, had no room left, or is still at work)'}"
    for session in summary.sessions:
        yield f"session {session.session}: {session.messages} messages, {session.lost} lost"
    if summary.topics:
        yield f"{'messages':>10}{'gaps':>7}{'bytes':>13}{'first s':>10}{'last s':>10}  topic"
    for name, topic in summary.topics.items():
        yield (f"{topic.messages:10}{topic.gaps:7}{topic.bytes:13}{topic.first_s:10.2f}{topic.last_s:10.2f}  {name}")
    if summary.malformed:
        yield f"{summary.malformed} messages without a readable envelope"
    for damage in summary.damage[:_DAMAGE_SHOWN]:
        yield f"damaged: {damage.length} bytes from {damage.offset}: {damage.why}"
    if len(summary.damage) > _DAMAGE_SHOWN:
        yield f"damaged: {len(summary.damage) - _DAMAGE_SHOWN} more places"
    if summary.torn_bytes:
        yield f"the last record was cut off: {summary.torn_bytes} bytes"


def export_command(file: Path, out: Path, *, media: str, overwrite: bool) -> None:
    """Export the events of a recording; see :func:`megc_stream.cli.record.export`."""
    from megc_stream.output.exports import export_recording

    with RecordingReader(file) as reader:
        count = export_recording(reader, out, overwrite=overwrite, media=media)
    note(f"{count} {'revisions' if out.suffix == '.jsonl' else 'events'}")
    if not count:
        warn(f"{file}: no finished event in this recording; {out} holds none")
    say(str(out))
