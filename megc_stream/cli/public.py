"""What other programs see of a run and can do to it: the public stream, recordings, and control."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import zmq

from megc_stream.clock import Clock
from megc_stream.output.run_record import redacted
from megc_stream.pipeline import Sink
from megc_stream.pipeline.broadcast import Broadcaster, LogHandler, take_snapshot
from megc_stream.pipeline.commands import RunControl
from megc_stream.pipeline.orders import Command
from megc_stream.pipeline.statistics import Statistics
from megc_stream.records import Event, Record, StreamInfo
from megc_stream.settings import Settings
from megc_stream.wire import Publisher, Security
from megc_stream.wire.control import ControlServer
from megc_stream.wire.protocol import STATUS
from megc_stream.wire.tap import Tap

__all__ = ["PublicStream", "is_public"]

_TAP_WAIT_S = 5.0


def is_public(settings: Settings) -> bool:
    """Return whether anybody outside can see or do anything."""
    wire = settings.wire
    return any((wire.publish, wire.publish_frames, wire.control, wire.recordings))


class PublicStream:
    """Publisher, tap and control server of a run; belongs to one thread.

    Parameters
    ----------
    context
        With keys, it needs a running authenticator.
    names
        Of the sources in the graph.
    stages
        Names of the stages of each source.
    post
        Takes the commands of control clients.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        settings: Settings,
        security: Security,
        names: Sequence[str],
        stages: Sequence[str],
        post: Callable[[Command], None],
        clock: Clock,
    ) -> None:
        self.malformed_on_links = 0
        """Messages between stages that could not be understood, for the status."""
        self.muted = False
        """While set, nothing is published but what a source is: results are being rebuilt."""
        self._context = context
        self._settings = settings
        self._security = security
        self._stages = stages
        self._clock = clock
        self._broadcasters: dict[str, Broadcaster] = {}
        self._tap: Tap | None = None
        self._control: ControlServer | None = None
        self._closed = False
        self._stack = ExitStack()
        try:
            wire = settings.wire
            self._publisher = self._stack.enter_context(Publisher(context, wire, security, clock))
            self._statistics = Statistics(clock, insecure=wire.insecure_bind)
            self._statistics.malformed["links"] = lambda: self.malformed_on_links
            self._log_handler = LogHandler()
            logger = logging.getLogger("megc_stream")
            logger.addHandler(self._log_handler)
            self._stack.callback(logger.removeHandler, self._log_handler)
            # Speaks for all sources: the log, the status.
            self._voice = Broadcaster(self._publisher, self._statistics, stages=stages, log_handler=self._log_handler)
            self._run_control = RunControl(
                tuple(names),
                post,
                snapshot=lambda: take_snapshot([self._voice, *self._broadcasters.values()], clock),
                status=self._statistics.status,
                settings=redacted(settings.model_dump(mode="json")),
            )
            if wire.control is not None:
                self._control = self._stack.enter_context(
                    ControlServer(
                        context,
                        wire.control,
                        security,
                        self._run_control.handlers,
                        clock,
                        insecure=wire.insecure_bind,
                    )
                )
                self._publisher.announce("control", self._control.endpoint)
                counts = self._control.counts
                self._statistics.malformed["control"] = lambda: counts["malformed"]
        except BaseException:
            self._stack.close()
            raise

    def open_recordings(self, *, live: bool) -> None:
        """Offer recordings, once it is known whether there are live sources: only files wait for a recorder."""
        wire = self._settings.wire
        if wire.recordings is None or self._tap is not None:
            return
        self._tap = Tap.of(
            self._publisher,
            self._context,
            wire.recordings,
            security=self._security,
            insecure=wire.insecure_bind,
            wait_s=0.0 if live else _TAP_WAIT_S,
            on_alarm=lambda text: self._voice.alarm("recording", text),
        )
        tap = self._tap
        self._statistics.recorder = lambda: tap.status
        self._statistics.malformed["recordings"] = lambda: tap.malformed
        self._stack.callback(self._tap.close)

    def open_source(self, name: str, info: StreamInfo) -> Sink:
        """Return the sink that publishes the records of a source."""
        broadcaster = Broadcaster(self._publisher, self._statistics, stages=self._stages)
        self._broadcasters[info.source] = broadcaster
        self._run_control.names[info.source] = name
        return _Gate(self, broadcaster)

    def on_event(self, event: Event, *, again: bool) -> None:
        """Publish a revision in the order of the log, unless it was published ``again`` before this process began."""
        broadcaster = self._broadcasters[event.source]
        if not again:
            broadcaster.on_event(event)
        elif event.final or event.kind == "retracted":
            broadcaster.open_events.pop(event.event_id, None)
        else:
            broadcaster.open_events[event.event_id] = event

    def log(self, level: str, text: str) -> None:
        """Publish a line of the log."""
        self._voice.log(level, text)  # type: ignore[arg-type]

    def tick(self) -> None:
        """Serve everybody who asks for something; never blocks."""
        self._voice.tick()
        if self._tap is not None:
            self._tap.serve()
        if self._control is not None:
            self._control.serve()
            for source, broadcaster in self._broadcasters.items():
                broadcaster.source.paused = self._run_control.names[source] in self._run_control.paused

    def close(self) -> None:
        """Publish the last status, let the last messages leave, for some seconds at most, and close all sockets."""
        if not self._closed:
            self._closed = True
            self._publisher.publish(STATUS, "status", "", self._statistics.status())
        self._stack.close()


class _Gate(Sink):
    """Passes the records of one source on, unless the stream is muted."""

    def __init__(self, stream: PublicStream, broadcaster: Broadcaster) -> None:
        self._stream = stream
        self._broadcaster = broadcaster

    def write(self, record: Record) -> None:
        if not self._stream.muted or isinstance(record, StreamInfo):
            self._broadcaster.write(record)

    def advance(self, stage: str, frame: int) -> None:
        self._broadcaster.advance(stage, frame)

    def observe(self, stage: str, duration_s: float) -> None:
        if not self._stream.muted:
            self._broadcaster.observe(stage, duration_s)
