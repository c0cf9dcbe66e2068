"""Recording a stream: what comes over the lossless link goes into a file, and what is safe there is acknowledged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import msgspec

from megc_stream import __version__
from megc_stream.errors import OutputError, WireError
from megc_stream.output.recording import (
    RecordingHeader,
    RecordingJoin,
    RecordingLoss,
    RecordingWriter,
)
from megc_stream.wire.tap import TapDropped, TapMessage, TapOver, TapReader, TapWelcome

__all__ = ["RecordingResult", "record_stream"]

_AT_ONCE = 500
_WAIT_S = 0.25


class RecordingResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a recording went.

    ``messages`` were written by this call and ``lost`` known to be missing; ``why`` it ended: "over", "stopped",
    "silent" (the publisher was gone).
    """

    messages: int
    lost: int
    sessions: int
    why: str


def record_stream(
    reader: TapReader,
    open_file: Callable[[RecordingHeader], RecordingWriter],
    recorder: str,
    *,
    topics: tuple[str, ...] = (),
    keep: bool = False,
    timeout_s: float = 10.0,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda messages: None,
    warn: Callable[[str], None] = lambda text: None,
) -> RecordingResult:
    """Record until the stream is over, the publisher is gone, or the user stops.

    A disk that is full, or fails, ends the recording: the publisher is told (and tells everybody, as an alarm), what
    was written stays valid.

    Parameters
    ----------
    reader
        Connected to the publisher. Not closed here.
    open_file
        Called once, on the first welcome, with the header of a new recording; a function that continues a recording
        leaves the header aside.
    recorder
        Identity of the recording, as given to the reader.
    topics
        As given to the reader; noted in the header.
    keep
        Go on when the stream is over, and record the next one of this endpoint into the same file.
    timeout_s
        How long the publisher may be silent, seconds; with ``keep`` it is only warned about.
    stopped
        Asked several times a second whether to end.
    progress
        Gets the number of messages written.
    warn
        Gets losses and silences, one line each.

    Raises
    ------
    WireError
        The publisher did not answer, or refuses the recorder.
    OutputError
        The file cannot be created or written.
    """
    run = _Run(reader, open_file, recorder, topics, warn)
    why = ""
    try:
        while not why:
            run.take(keep)
            progress(run.messages)
            if stopped():
                why = "stopped"
            elif run.over:
                why = "over"
            elif reader.silent_s > timeout_s:
                why = run.on_silence(timeout_s, keep)
        run.finish(why)
    except OutputError as error:
        reader.alarm(f"recording stopped: {error}")
        run.finish("disk failed")
        raise
    except BaseException:
        run.finish("failed")
        raise
    return RecordingResult(messages=run.messages, lost=run.lost, sessions=run.sessions, why=why)


class _Run:
    def __init__(
        self,
        reader: TapReader,
        open_file: Callable[[RecordingHeader], RecordingWriter],
        recorder: str,
        topics: tuple[str, ...],
        warn: Callable[[str], None],
    ) -> None:
        self.messages = self.lost = self.sessions = 0
        self.over = False
        self._reader = reader
        self._open_file = open_file
        self._recorder = recorder
        self._topics = topics
        self._warn = warn
        self._writer: RecordingWriter | None = None
        self._dropped = ""
        self._said_silent = False

    def take(self, keep: bool) -> None:
        """Write what came in, and acknowledge what is safe; waits for the first message, not for more."""
        wait_s = _WAIT_S if self._writer is None else max(0.0, min(_WAIT_S, self._writer.due_in_s()))
        for _ in range(_AT_ONCE):
            said = self._reader.receive(wait_s)
            if said is None:
                break
            wait_s = 0.0
            self._said_silent = False
            match said:
                case TapMessage() if self._writer is not None:
                    self._writer.append(said.n, said.after, said.parts)
                    self.messages += 1
                case TapWelcome():
                    self._welcome(said)
                case TapDropped():
                    self._on_dropped(said.why)
                case TapOver():
                    self._acknowledge(force=True)
                    self._reader.leave()
                    self.over = not keep
                    break
        self._acknowledge()

    def on_silence(self, timeout_s: float, keep: bool) -> str:
        """Return why to end when the publisher has been silent for too long, "" to go on."""
        if self._writer is None and not keep:
            problem = self._reader.problem or (
                f"no publisher answered within {timeout_s:g} s; is 'megc-stream run ... --recordings' running there?"
            )
            raise WireError(f"endpoint {self._reader.endpoint}: {problem}")
        if not self._said_silent:
            self._warn(
                f"endpoint {self._reader.endpoint}: nothing came for {timeout_s:g} s; "
                + ("waiting for it to come back" if keep else "the publisher is gone, the recording ends here")
            )
            self._said_silent = True
        return "" if keep else "silent"

    def finish(self, why: str) -> None:
        """Close the file, and take leave of the publisher with all that is safe."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        # After a failure the rest may fail as well; the first one is the one to report.
        with contextlib.suppress(*() if why in ("over", "stopped", "silent") else (OutputError,)):
            try:
                self._reader.acknowledge(writer.sync(force=True))
            finally:
                writer.close(why)
        self._reader.leave()

    def _acknowledge(self, *, force: bool = False) -> None:
        if self._writer is None:
            return
        # A full window would wait for the interval of fsync: half of it is enough to wait for.
        behind = self._writer.last_n - self._writer.durable_n
        self._reader.acknowledge(self._writer.sync(force=force or behind > self._reader.window // 2))

    def _welcome(self, welcome: TapWelcome) -> None:
        self._dropped = ""
        if self._writer is None:
            self._writer = self._open_file(
                RecordingHeader(
                    recorder=self._recorder,
                    session=welcome.session,
                    schema=welcome.schema,
                    numbering=welcome.numbering,
                    endpoint=self._reader.endpoint,
                    began_unix_s=time.time(),
                    unix_minus_clock_s=welcome.unix_minus_clock_s,
                    software=f"megc-stream {__version__}",
                    topics=self._topics,
                )
            )
            self.sessions = 1
        elif welcome.numbering != self._writer.numbering:
            self.sessions += 1
            self._warn(f"endpoint {self._reader.endpoint}: a new stream began (session {welcome.session[:8]})")
        writer = self._writer
        writer.sync(force=True)
        if welcome.numbering != writer.numbering or writer.last_n < 0:
            writer.note(
                RecordingJoin(
                    t_s=writer.now_s(),
                    session=welcome.session,
                    schema=welcome.schema,
                    numbering=welcome.numbering,
                    next_n=welcome.next_n,
                    why="joined",
                    unix_minus_clock_s=welcome.unix_minus_clock_s,
                )
            )
        elif welcome.lost:
            first_n = writer.last_n + 1
            self.lost += welcome.lost
            self._warn(f"endpoint {self._reader.endpoint}: {welcome.lost} messages are lost; the recording has a gap")
            writer.note(
                RecordingLoss(
                    t_s=writer.now_s(),
                    first_n=first_n,
                    last_n=first_n + welcome.lost - 1,
                    why=self._dropped or "no longer kept by the publisher",
                )
            )

    def _on_dropped(self, why: str) -> None:
        if self._writer is None:
            raise WireError(f"endpoint {self._reader.endpoint}: the publisher refuses this recorder: {why}")
        if not self._dropped:
            self._warn(f"endpoint {self._reader.endpoint}: given up by the publisher: {why}")
        self._dropped = why
