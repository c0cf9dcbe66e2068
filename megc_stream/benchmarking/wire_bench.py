"""What the public stream costs: latency from publisher to subscriber and CPU per message, by transport.

The real publisher sends score messages of some cameras, evenly spread in time, to the real subscriber in another
process (over ``inproc`` in another thread), while a second subscriber takes one message in 20 ms and falls behind.
Latency is the time of arrival, decoded, minus ``t_publish_s``; both read the host's monotonic clock.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
import zmq

from megc_stream.benchmarking.machine import processor
from megc_stream.clock import MonotonicClock
from megc_stream.errors import MegcError, UsageError, WireError
from megc_stream.output.run_record import environment
from megc_stream.records import Score, StreamEnd
from megc_stream.settings import SecuritySettings, WireSettings
from megc_stream.wire import PLAIN, Publisher, Security, Subscriber, authenticator, load_security
from megc_stream.wire.keys import make_keys
from megc_stream.wire.protocol import topic_of

__all__ = ["Transport", "WireBench", "WireBenchSettings", "WireFigures", "bench_wire"]

Transport: TypeAlias = Literal["inproc", "ipc", "tcp", "tcp+curve"]
_GOAL_P99_MS = 2.0
_WARM_UP_S = 0.5
_SLOW_PAUSE_S = 0.02
_SERVE_EVERY_S = 0.1
_LIMIT_S = 30.0
_START_LIMIT_S = 120.0
_LEAVE = b"leave"


class WireBenchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``streams`` are numbers of cameras, each with ``rate_hz`` messages per second for ``seconds`` s."""

    transports: tuple[Transport, ...] = get_args(Transport)
    streams: tuple[int, ...] = (1, 4, 16)
    rate_hz: float = 200.0
    seconds: float = 5.0


class WireFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One transport with one number of streams.

    Latencies in ms, CPU in us per message. Over ``inproc`` both ends, and the slow subscriber, are one process:
    ``cpu_publisher_us`` is that of all of it, ``cpu_subscriber_us`` None. ``slow_received`` is how many messages the
    slow subscriber had taken in the end.
    """

    transport: Transport
    streams: int
    sent: int
    received: int
    lost: int
    latency_ms_p50: float
    latency_ms_p99: float
    latency_ms_max: float
    cpu_publisher_us: float
    cpu_subscriber_us: float | None
    slow_received: int


class WireBench(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of all cases; ``tcp_p99_ms`` is the worst p99 over plain TCP, to be at most ``goal_ms`` (``met``)."""

    machine: str
    cores: int
    versions: dict[str, str]
    settings: WireBenchSettings
    message_bytes: int
    figures: tuple[WireFigures, ...]
    tcp_p99_ms: float | None
    goal_ms: float
    met: bool | None


class _Reading(msgspec.Struct):
    """What one subscriber saw."""

    latencies_s: list[float] = []
    received: int = 0
    lost: int = 0
    cpu_s: float = 0.0
    problem: str = ""


def bench_wire(settings: WireBenchSettings, progress: Callable[[str], None] | None = None) -> WireBench:
    """Measure every transport with every number of streams.

    Parameters
    ----------
    settings
        What to measure.
    progress
        Called with a line of text before each case.

    Raises
    ------
    UsageError
        A number of streams < 1, a rate <= 0, or less than 1 s.
    WireError
        A subscriber does not answer.
    """
    if not settings.streams or min(settings.streams) < 1 or settings.rate_hz <= 0 or settings.seconds < 1:
        raise UsageError(
            f"bench wire: got streams {settings.streams}, {settings.rate_hz:g} messages/s, {settings.seconds:g} s; "
            "expected at least 1 stream, 1 s and a rate > 0"
        )
    figures = []
    message_bytes = 0
    with (
        tempfile.TemporaryDirectory(prefix="megc-bench-") as folder,
        contextlib.closing(_Processes()) as processes,
    ):
        for transport in settings.transports:
            for streams in settings.streams:
                if progress is not None:
                    progress(f"{transport}, {streams} x {settings.rate_hz:g}/s, {settings.seconds:g} s")
                case = _Case(transport, streams, settings, Path(folder), processes)
                figures.append(case.run())
                message_bytes = case.message_bytes
    tcp = [one.latency_ms_p99 for one in figures if one.transport == "tcp"]
    here = environment()
    return WireBench(
        machine=f"{processor()}, {here.platform}",
        cores=here.cpu_count,
        versions={
            "megc_stream": here.megc_stream,
            "python": here.python,
            "pyzmq": zmq.pyzmq_version(),
            "libzmq": zmq.zmq_version(),
        },
        settings=settings,
        message_bytes=message_bytes,
        figures=tuple(figures),
        tcp_p99_ms=max(tcp) if tcp else None,
        goal_ms=_GOAL_P99_MS,
        met=max(tcp) <= _GOAL_P99_MS if tcp else None,
    )


class _Case:
    def __init__(
        self, transport: Transport, streams: int, settings: WireBenchSettings, folder: Path, processes: _Processes
    ) -> None:
        self._transport = transport
        self._streams = streams
        self._settings = settings
        self._folder = folder
        self._processes = processes
        self._clock = MonotonicClock()
        self.message_bytes = 0

    def run(self) -> WireFigures:
        server, client = _keys(self._folder) if self._transport == "tcp+curve" else (PLAIN, PLAIN)
        name = uuid.uuid4().hex[:12]
        endpoint = {"inproc": f"inproc://{name}", "ipc": f"ipc://{self._folder}/{name}"}.get(
            self._transport, "tcp://127.0.0.1:*"
        )
        with (
            zmq.Context() as context,
            authenticator(context, server),
            Publisher(context, WireSettings(publish=endpoint), server, self._clock) as publisher,
        ):
            publisher.listeners.append(self._note_size)
            address = publisher.endpoints["events"]
            start = _threads if self._transport == "inproc" else self._processes
            with start(context, address, client) as subscribers:
                self._until(publisher, lambda: all(one.is_ready() for one in subscribers), "join", _START_LIMIT_S)
                sent, cpu_s = self._send(publisher)
                fast, slow = subscribers
                self._until(publisher, fast.is_done, "finish", _LIMIT_S)
                reading, slow_reading = fast.reading(), slow.reading()
        p50, p99, most = np.percentile(np.array(reading.latencies_s) * 1e3, (50, 99, 100))
        alone = self._transport != "inproc"
        return WireFigures(
            transport=self._transport,
            streams=self._streams,
            sent=sent,
            received=reading.received,
            lost=reading.lost,
            latency_ms_p50=float(p50),
            latency_ms_p99=float(p99),
            latency_ms_max=float(most),
            cpu_publisher_us=cpu_s / sent * 1e6,
            cpu_subscriber_us=reading.cpu_s / reading.received * 1e6 if alone else None,
            slow_received=slow_reading.received,
        )

    def _note_size(self, parts: list[bytes]) -> None:
        self.message_bytes = max(self.message_bytes, sum(map(len, parts)))

    def _until(self, publisher: Publisher, done: Callable[[], bool], what: str, limit_s: float) -> None:
        deadline_s = self._clock.now_s() + limit_s
        while not done():
            if self._clock.now_s() > deadline_s:
                raise WireError(f"bench wire, {self._transport}: a subscriber did not {what} within {limit_s:g} s")
            publisher.serve()
            self._clock.wait_until_s(self._clock.now_s() + 0.005)

    def _send(self, publisher: Publisher) -> tuple[int, float]:
        """Publish at the rate asked for; return the number of messages and the CPU time of this process, s."""
        names = [f"cam{number}" for number in range(self._streams)]
        topics = [topic_of("metric", "score", name) for name in names]
        period_s = 1 / (self._settings.rate_hz * self._streams)
        count = round(self._settings.seconds / period_s)
        serve_every = max(1, round(_SERVE_EVERY_S / period_s))
        cpu_s, begin_s = time.process_time(), self._clock.now_s()
        for number in range(count):
            frame, stream = divmod(number, self._streams)
            self._clock.wait_until_s(begin_s + number * period_s)
            now_s = self._clock.now_s()
            score = Score(
                source=names[stream],
                frame=frame,
                number=frame,
                frame_to=frame + 20,
                t_capture_s=now_s,
                t_score_s=now_s,
                spot=0.5,
                recog=(0.2, 0.3, 0.5),
            )
            publisher.publish(topics[stream], "score", names[stream], score, now_s)
            if number % serve_every == 0:
                publisher.serve()
        cpu_s = time.process_time() - cpu_s
        publisher.publish(
            topic_of("meta", "end", "bench"), "end", "bench", StreamEnd(source="bench", frames=count, reason="end")
        )
        return count, cpu_s


def _keys(folder: Path) -> tuple[Security, Security]:
    """Make a server's and a client's keys; return what each side needs."""
    here = Path(tempfile.mkdtemp(dir=folder))
    allowed = here / "allowed"
    allowed.mkdir()
    server, server_secret = make_keys("server", here)
    _, client_secret = make_keys("client", allowed)
    return (
        load_security(SecuritySettings(secret_key=server_secret, allowed=allowed)),
        load_security(SecuritySettings(secret_key=client_secret, server_key=server)),
    )


def _read(
    context: zmq.Context[Any],
    endpoint: str,
    security: Security,
    pause_s: float,
    reading: _Reading,
    ready: Callable[[], None],
    leave: Callable[[], bool],
) -> None:
    """Read until the end of the stream, ``leave()``, or silence for a long time; fill ``reading``."""
    topics = ("metric.", "meta.end.")
    with Subscriber(endpoint, topics, context=context, security=security, warn=lambda text: None) as subscriber:
        subscriber.wait_for_welcome(_LIMIT_S)
        ready()
        cpu_s = time.process_time()
        first_s = None
        heard_s = time.monotonic()
        while time.monotonic() - heard_s < _LIMIT_S:
            message = subscriber.receive(0.1)
            if (message is None or pause_s) and leave():
                break
            if message is None:
                continue
            heard_s = time.monotonic()
            if message.topic.startswith("meta.end."):
                break
            first_s = message.t_publish_s if first_s is None else first_s
            reading.received += 1
            if message.t_publish_s >= first_s + _WARM_UP_S:
                reading.latencies_s.append(heard_s - message.t_publish_s)
            if pause_s:
                time.sleep(pause_s)
        reading.cpu_s = time.process_time() - cpu_s
        reading.lost = subscriber.gaps


class _Thread:
    """A subscriber on a thread of this process."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, security: Security, pause_s: float) -> None:
        self._reading = _Reading(latencies_s=[])
        self._ready = threading.Event()
        self._leaving = threading.Event()
        self._thread = threading.Thread(
            target=_read,
            args=(context, endpoint, security, pause_s, self._reading, self._ready.set, self._leaving.is_set),
            daemon=True,
        )
        self._thread.start()

    def is_ready(self) -> bool:
        return self._ready.is_set()

    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def reading(self) -> _Reading:
        return self._reading

    def close(self) -> None:
        self._leaving.set()
        self._thread.join(_LIMIT_S)


class _Job(msgspec.Struct, frozen=True):
    """What a process is to read."""

    endpoint: str
    keys: tuple[bytes | None, bytes | None, bytes | None]
    pause_s: float


class _Process:
    """A process with a subscriber, used for one case after the other."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._ready = False
        self._reading: _Reading | None = None

    def begin(self, endpoint: str, security: Security, pause_s: float) -> None:
        self._ready, self._reading = False, None
        keys = (security.public_key, security.secret_key, security.server_key)
        self._pipe.send_bytes(msgspec.msgpack.encode(_Job(endpoint, keys, pause_s)))

    def _listen(self) -> None:
        while self._reading is None and self._pipe.poll():
            try:
                said = self._pipe.recv_bytes()
            except EOFError:
                raise WireError("bench wire: the process of a subscriber was ended by somebody else") from None
            if said:
                self._reading = msgspec.msgpack.decode(said, type=_Reading)
                if self._reading.problem:
                    raise WireError(self._reading.problem)
            self._ready = True

    def is_ready(self) -> bool:
        self._listen()
        return self._ready

    def is_done(self) -> bool:
        self._listen()
        return self._reading is not None

    def reading(self) -> _Reading:
        """Return what it saw; have it stop where it is not done yet."""
        deadline_s = time.monotonic() + _LIMIT_S
        if not self.is_done():
            self._pipe.send_bytes(_LEAVE)
        while not self.is_done() and time.monotonic() < deadline_s:
            self._pipe.poll(0.1)
        return self._reading or _Reading()

    def close(self) -> None:
        self._process.kill()
        self._process.join(_LIMIT_S)
        self._process.close()
        self._pipe.close()


def _work(pipe: Connection) -> None:
    """Do jobs until the pipe is closed: say b"" when ready, the reading when done."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            said = pipe.recv_bytes()
            if said == _LEAVE:
                continue  # it came when the job was done
            job = msgspec.msgpack.decode(said, type=_Job)
            public, secret, server = job.keys
            security = Security(public_key=public, secret_key=secret, server_key=server)
            reading = _Reading(latencies_s=[])
            try:
                with zmq.Context() as context:
                    _read(
                        context, job.endpoint, security, job.pause_s, reading, lambda: pipe.send_bytes(b""), pipe.poll
                    )
            except MegcError as error:
                reading.problem = str(error)
            pipe.send_bytes(msgspec.msgpack.encode(reading))


@contextlib.contextmanager
def _threads(context: zmq.Context[Any], endpoint: str, security: Security) -> Iterator[tuple[_Thread, _Thread]]:
    fast, slow = (_Thread(context, endpoint, security, pause_s) for pause_s in (0.0, _SLOW_PAUSE_S))
    try:
        yield fast, slow
    finally:
        fast.close()
        slow.close()


class _Processes:
    """Two processes for all cases, started when first needed: importing the package takes longer than measuring."""

    def __init__(self) -> None:
        self._pair: tuple[_Process, _Process] | None = None

    @contextlib.contextmanager
    def __call__(
        self, context: zmq.Context[Any], endpoint: str, security: Security
    ) -> Iterator[tuple[_Process, _Process]]:
        if self._pair is None:
            self._pair = _Process(), _Process()
        for process, pause_s in zip(self._pair, (0.0, _SLOW_PAUSE_S), strict=True):
            process.begin(endpoint, security, pause_s)
        yield self._pair

    def close(self) -> None:
        for process in self._pair or ():
            process.close()
