"""Mutated messages against everything that receives: nothing but counted or typed errors, and nobody blocks.

    python benchmarks/wire_fuzz.py --messages 1000000 --seed 0

Valid messages of every kind are damaged (bits, bytes, lengths, parts, nesting, and values of another type in valid
msgpack) and handed to the decoders, and through sockets to the receivers. What is not a MegcError, takes longer than
--slow seconds, or leaves a receiver without an answer to a valid message afterwards is a failure and printed with the
bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from megc_stream.clock import MonotonicClock
from megc_stream.errors import MegcError, WireError
from megc_stream.output.recording import RecordingHeader, RecordingReader, RecordingWriter
from megc_stream.packing import Unpacker, pack
from megc_stream.pipeline.feeding import Feed
from megc_stream.pipeline.hosting import Header, StageHost, unpack_header
from megc_stream.pipeline.orders import Beat, Begin, Orders, Stored, unpack_from_coordinator, unpack_from_stage
from megc_stream.pipeline.stage import Sink
from megc_stream.records import Crop, Event, EventPoint, Record, Score, StreamEnd, StreamInfo, Trace
from megc_stream.settings import WireSettings
from megc_stream.wire import PLAIN, Aborted, ControlServer, Publisher, Subscriber
from megc_stream.wire.protocol import FaceFrame, LogEntry, decode, topic_of
from megc_stream.wire.tap import Tap, TapReader, TapWelcome

BATCH = 200
SILENCE_S = 10.0

Parts = list[bytes]
Taker = Callable[[Parts], None]
"""Takes one mutated message; a MegcError says that it was refused. ``counted`` are those that raise nothing."""


class Target:
    """One receiver: valid messages, where to put mutated ones, and how to see that it still works."""

    def __init__(
        self,
        seeds: Sequence[Parts],
        feed: Taker,
        check: Callable[[], None] = lambda: None,
        counted: Callable[[], int] = lambda: 0,
    ) -> None:
        self.seeds = list(seeds)
        self.feed = feed
        self.check = check
        self.counted = counted


# --- Mutations


def mutated(generator: random.Random, seeds: Sequence[Parts]) -> Parts:
    """Return a damaged copy of one of the seeds."""
    parts = list(generator.choice(seeds))
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        if not parts or generator.random() < 0.06:
            parts = _other_parts(generator, parts, seeds)
            continue
        which = generator.randrange(len(parts))
        parts[which] = generator.choice(_MUTATIONS)(generator, parts[which])
    return parts


def _other_parts(generator: random.Random, parts: Parts, seeds: Sequence[Parts]) -> Parts:
    match generator.randrange(5):
        case 0:
            return parts[1:]
        case 1:
            return [*parts, generator.randbytes(generator.randrange(20))]
        case 2:
            return parts[::-1]
        case 3:
            return [*parts, *generator.choice(seeds)]
        case _:
            return [b"", *parts]


def _bits(generator: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(generator.randrange(1, 5) if data else 0):
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def _bytes(generator: random.Random, data: bytes) -> bytes:
    at = generator.randrange(len(data) + 1)
    return data[:at] + generator.randbytes(generator.randrange(1, 9)) + data[at + generator.randrange(9) :]


def _cut(generator: random.Random, data: bytes) -> bytes:
    return data[: generator.randrange(len(data) + 1)]


def _repeat(generator: random.Random, data: bytes) -> bytes:
    start, end = sorted(generator.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * generator.randrange(1, 4) + data[end:]


def _length(generator: random.Random, data: bytes) -> bytes:
    """Claim more than there is: the msgpack heads of long texts, bytes, arrays, maps and extensions."""
    head = generator.choice((0xC6, 0xC9, 0xDB, 0xDD, 0xDF, 0xC4, 0xD9, 0xDC, 0xDE, 0xC7))
    at = generator.randrange(len(data) + 1)
    return data[:at] + bytes([head]) + generator.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\1\0")) + data[at:]


def _nest(generator: random.Random, data: bytes) -> bytes:
    at = generator.randrange(len(data) + 1)
    return data[:at] + generator.choice((b"\x91", b"\x81\xa0")) * generator.choice((10, 500, 5000)) + data[at:]


def _noise(generator: random.Random, data: bytes) -> bytes:
    return generator.randbytes(generator.randrange(60))


def _values(generator: random.Random, data: bytes) -> bytes:
    """Put values of another type, or far out of range, into a valid map."""
    try:
        value = msgpack.unpackb(data, strict_map_key=False)
        return bytes(msgpack.packb(_changed(generator, value)))
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException):
        return data  # damaged already


_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63 - 1, 2**64 - 1, -(2**63), 1e308, float("nan"), float("inf"), "", "x" * 300, b"",
    b"\0" * 300, [], {}, [[]], {"": None}, "é\0", msgpack.ExtType(5, b"x"), msgpack.Timestamp(0, 1),
)  # fmt: skip


def _changed(generator: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and generator.random() < 0.9:
        key = generator.choice(list(value))
        if generator.random() < 0.15:
            return {other: one for other, one in value.items() if other != key}
        return {**value, key: _changed(generator, value[key])}
    if isinstance(value, list) and value and generator.random() < 0.9:
        at = generator.randrange(len(value))
        return [*value[:at], _changed(generator, value[at]), *value[at + 1 :]]
    return generator.choice(_ODD)


_MUTATIONS = (_bits, _bits, _bytes, _bytes, _cut, _repeat, _length, _nest, _noise, _values, _values, _values)


# --- Valid messages


def event(source: str = "cam0") -> Event:
    """Return a label with everything in it."""
    point = EventPoint(frame=10, number=11, t_s=0.4)
    return Event(
        event_id=f"{source}-0001", event_number=1, rev=3, kind="label", final=True, source=source, subject="s",
        video="v", decision_frame=20, onset=point, apex=point, offset=point, type="micro", emotion="surprise",
        probabilities={"surprise": 0.9, "negative": 0.1}, aus=("AU1",), score=1.0, threshold=0.5, model="m",
        model_sha256="0", k=4, k_prime=8, lookahead_s=0.1, run={"cost_ms": 3.5},
    )  # fmt: skip


def records() -> list[Record]:
    """Return one record of each kind that travels between stages."""
    crop = Crop(
        source="cam0", frame=7, number=8, t_capture_s=1.5, segment=1, image=np.zeros((128, 128), np.uint8),
        landmarks68=np.ones((68, 2), np.float32), similarity=np.eye(2, 3), interocular_px=80.0, flags=("blink",),
        dropped={"late": 2},
    )  # fmt: skip
    return [
        StreamInfo(source="cam0", subject="s", video="v", fps=200, width=640, height=480),
        crop,
        Score(source="cam0", frame=1, number=1, frame_to=5, t_capture_s=1.0, t_score_s=1.1, spot=0.4, recog=(0.1, 0.9)),
        Trace(source="cam0", frame=3, smoothed=0.5, threshold=0.4),
        event(),
        StreamEnd(source="cam0", frames=9, reason="end"),
    ]


class _Tapped(list[Parts]):
    """Collects the messages that a publisher hands to its listeners."""

    def __call__(self, parts: Parts) -> None:
        self.append(list(parts))


def published(context: zmq.Context[Any]) -> list[Parts]:
    """Return public messages of several kinds, as the publisher makes them."""
    tapped = _Tapped()
    with Publisher(context, WireSettings()) as publisher:
        publisher.listeners.append(tapped)
        frame = FaceFrame(
            frame=1, number=1, segment=0, format="gray", width=4, height=4, landmarks68=((1.0, 2.0),) * 68, flags=(),
            pts_s=None,
        )  # fmt: skip
        publisher.publish(topic_of("event", "label", "cam0"), "event", "cam0", event(), 1.0)
        publisher.publish(topic_of("metric", "score", "cam0"), "score", "cam0", records()[2], 1.0)
        publisher.publish(topic_of("frame", "face", "cam0"), "frame", "cam0", frame, 1.0, [bytes(16)])
        publisher.publish(topic_of("log", "warning"), "log", "", LogEntry(level="warning", text="x"))
        publisher.greet()
    return tapped


# --- Receivers


@contextlib.contextmanager
def public_messages(context: zmq.Context[Any]) -> Iterator[Target]:
    """Let the decoder of the public stream have them."""

    def feed(parts: Parts) -> None:
        decode(parts)

    yield Target(published(context), feed)


@contextlib.contextmanager
def packed_records(context: zmq.Context[Any]) -> Iterator[Target]:
    """Let the unpackers of the links between stages have them: headers, records, words of the coordinator."""
    unpack = Unpacker[Record](Record)
    words: list[tuple[Callable[[bytes], object], list[bytes]]] = [
        (unpack, [pack(record) for record in records()]),
        (unpack_header, [pack(Header("cam0", "spotter", 5, 100, {"spotter": 0.1}, "running"))]),
        (
            unpack_from_stage,
            [
                pack(Beat(source="cam0", stage="spotter", instance="a", n=4, taken={"cam0/spotter": 2})),
                pack(Stored(source="cam0", stage="spotter", instance="a", mark=2, snapshot=b"123")),
            ],
        ),
        (
            unpack_from_coordinator,
            [
                pack(Begin(n=3, snapshot=b"123", sources={"cam0": {"a": 1}})),
                pack(Orders(resend={"next": (1, 2)}, log=((1, "info", "x"),))),
            ],
        ),
    ]  # fmt: skip
    seeds = [[bytes([number]), one] for number, (_, ones) in enumerate(words) for one in ones]

    def feed(parts: Parts) -> None:
        number = parts[0][0] if parts and parts[0] else 0
        words[number % len(words)][0](parts[-1] if parts else b"")

    yield Target(seeds, feed)


class _Inlet(deque[Parts]):
    """An inlet whose messages are put in by hand."""

    def receive(self) -> Parts:
        if not self:
            raise Aborted("nothing more")
        return self.popleft()


class _Sender(list[Parts]):
    """The sending side of a link that leads nowhere."""

    def put(self, n: int, parts: Parts) -> None:
        self[:] = [parts]

    def flush(self) -> None:
        return


class _PassingOn:
    """A stage that hands on what it gets."""

    def process(self, record: Record) -> list[Record]:
        return [record]

    def flush(self) -> list[Record]:
        return []

    def snapshot(self) -> bytes:
        return b""


class _Sink(Sink):
    """A sink that drops everything."""


@contextlib.contextmanager
def stage_links(context: zmq.Context[Any]) -> Iterator[Target]:
    """Hand them to the host of a stage and to the feed of the sinks, as links from other processes would."""
    inlet, sender = _Inlet(), _Sender()
    hosts: list[StageHost] = []
    malformed = [0]

    def renew() -> None:
        hosts[:] = [StageHost("cam0", "spotter", _PassingOn(), inlet, sender, sender, tolerant=True)]  # type: ignore[arg-type]

    feed_of_sinks = Feed({"cam0": [_Sink()]}, {"cam0": ["reader", "spotter"]}, tolerant=True)
    renew()

    def feed(parts: Parts) -> None:
        if not parts:
            return
        inlet.append(parts)
        with contextlib.suppress(Aborted):
            hosts[0].run()
        if hosts[0].ended or hosts[0].n > 2**32:
            malformed[0] += hosts[0].malformed
            renew()
        feed_of_sinks.take(parts)

    def check() -> None:
        n = hosts[0].n + 1
        feed([pack(Header("cam0", "reader", n)), pack(records()[3])])
        if hosts[0].n != n or len(sender[0]) != 2:
            raise RuntimeError("the stage does not take messages any more")

    seeds = [[pack(Header("cam0", "reader", n, 100, {"face": 0.1}, "jump")), *map(pack, records())] for n in (0, 7)]
    seeds.append([pack(Header("cam0", "spotter", 2, 100, {}, "mark")), pack(event())])
    yield Target(seeds, feed, check, lambda: malformed[0] + hosts[0].malformed)


@contextlib.contextmanager
def control_server(context: zmq.Context[Any]) -> Iterator[Target]:
    """Send them to a control server; it has to answer valid commands in between."""
    handlers = {word: lambda arguments, client: {"arguments": arguments} for word in ("start", "annotate", "snapshot")}
    server = ControlServer(context, f"inproc://control-{id(handlers)}", PLAIN, handlers, MonotonicClock())
    socket = context.socket(zmq.DEALER)
    socket.connect(server.endpoint)
    numbers = iter(range(sys.maxsize))

    def feed(parts: Parts) -> None:
        if parts:
            socket.send_multipart(parts)
        server.serve()
        while socket.poll(0):
            socket.recv_multipart()

    def check() -> None:
        marker = f"check-{next(numbers)}"
        socket.send(msgpack.packb({"id": marker, "cmd": "start", "client": "checker"}))
        deadline_s = time.monotonic() + SILENCE_S
        while time.monotonic() < deadline_s:
            server.serve()
            if socket.poll(5) and msgpack.unpackb(socket.recv_multipart()[-1], strict_map_key=False)["id"] == marker:
                return
        raise TimeoutError("the control server does not answer any more")

    requests = [
        {"id": "1", "cmd": "start", "args": {"source": "cam0"}, "client": "me"},
        {"id": "2", "cmd": "annotate", "args": {"text": "x", "deep": {"a": [1, 2.5, None]}}},
        {"id": "3", "cmd": "clock", "args": {"t0_s": 1.5}},
        {"id": "4", "cmd": "unknown"},
    ]
    seeds = [[msgpack.packb(request)] for request in requests]
    yield Target(
        [*seeds, [b"", seeds[0][0]]],
        feed,
        check,
        lambda: server.counts.total() - server.counts["done"] - server.counts["repeated"],
    )
    socket.close(0)
    server.close()


@contextlib.contextmanager
def subscriber(context: zmq.Context[Any]) -> Iterator[Target]:
    """Publish them to a subscriber; it has to receive valid messages in between."""
    fake = context.socket(zmq.PUB)
    fake.bind(endpoint := f"inproc://stream-{id(fake)}")
    seeds = published(context)
    with Subscriber(endpoint, ("",), context=context, warn=lambda text: None, stale_after_s=3600) as reader:

        def feed(parts: Parts) -> None:
            if parts:
                fake.send_multipart(parts)
            reader.receive(0)

        def check() -> None:
            deadline_s = time.monotonic() + SILENCE_S
            fake.send_multipart(seeds[3])
            while time.monotonic() < deadline_s:
                with contextlib.suppress(WireError):
                    message = reader.receive(0.01)
                    if message is not None and message.topic == seeds[3][0].decode():
                        return
            raise TimeoutError("the subscriber does not receive any more")

        yield Target(seeds, feed, check)
    fake.close(0)


@contextlib.contextmanager
def publisher(context: zmq.Context[Any]) -> Iterator[Target]:
    """Send them upstream to the publisher's socket; it has to greet new subscribers in between."""
    endpoint = f"inproc://publisher-{time.monotonic_ns()}"
    with Publisher(context, WireSettings(publish=endpoint)) as stream:
        socket = context.socket(zmq.XSUB)
        socket.connect(endpoint)

        def feed(parts: Parts) -> None:
            if parts and max(map(len, parts)) <= 512:  # inproc does not know the limit that disconnects the others
                socket.send_multipart(parts)
            stream.serve()
            while socket.poll(0):
                socket.recv_multipart()

        def check() -> None:
            with context.socket(zmq.SUB) as new:
                new.setsockopt(zmq.SUBSCRIBE, b"meta.hello.")
                new.connect(endpoint)
                deadline_s = time.monotonic() + SILENCE_S
                while time.monotonic() < deadline_s:
                    stream.serve()
                    if new.poll(5):
                        return
            raise TimeoutError("the publisher does not greet any more")

        yield Target(
            [[b"\x01event."], [b"\x00event."], [b"\x01"], [b"\x01meta.hello."]],
            feed,
            check,
            lambda: stream.malformed["events"],
        )
        socket.close(0)


@contextlib.contextmanager
def tap(context: zmq.Context[Any]) -> Iterator[Target]:
    """Send them to the lossless link's end at the publisher; it has to welcome recorders in between."""
    server = Tap(context, f"inproc://tap-{time.monotonic_ns()}", session="s", schema="x", keep_bytes=2**16)
    socket = context.socket(zmq.DEALER)
    socket.connect(server.endpoint)
    message = [b"log.info.", b"\x80"]

    def feed(parts: Parts) -> None:
        if parts:
            socket.send_multipart(parts)
        server.serve()
        server(message)
        while socket.poll(0):
            socket.recv_multipart()

    def check() -> None:
        with TapReader(context, server.endpoint, recorder=f"r{time.monotonic_ns()}") as reader:
            deadline_s = time.monotonic() + SILENCE_S
            while time.monotonic() < deadline_s:
                server.serve()
                if isinstance(reader.receive(0.01), TapWelcome):
                    reader.leave()
                    server.serve()
                    return
        raise TimeoutError("the tap does not welcome any more")

    words: list[dict[str, Any]] = [
        {"tap": "join", "protocol": 1, "token": 5, "session": "s", "after": -1, "window": 10, "topics": ["event."]},
        {"tap": "ack", "n": 3},
        {"tap": "alarm", "text": "disk full"},
        {"tap": "leave", "n": 3},
    ]
    yield Target([[msgpack.packb(word)] for word in words], feed, check, lambda: server.malformed)
    socket.close(0)
    server.close(0.1)


@contextlib.contextmanager
def tap_reader(context: zmq.Context[Any]) -> Iterator[Target]:
    """Send them to a recorder, as its publisher would."""
    server = context.socket(zmq.ROUTER)
    server.bind(endpoint := f"inproc://tapped-{time.monotonic_ns()}")
    with TapReader(context, endpoint, recorder="r") as reader:

        def feed(parts: Parts) -> None:
            if parts:
                server.send_multipart([b"r", *parts])
            reader.receive(0)
            while server.poll(0):
                server.recv_multipart()

        words: list[dict[str, Any]] = [
            {
                "tap": "welcome", "protocol": 1, "token": 5, "session": "s", "schema": "x", "next_n": 0,
                "unix_minus_clock_s": 1.0, "lost": 0,
            },
            {"tap": "message", "n": 1, "after": 0},
            {"tap": "beat", "last_n": 0},
            {"tap": "dropped", "why": "slow"},
            {"tap": "over", "last_n": 1},
        ]  # fmt: skip
        yield Target(
            [[msgpack.packb(word), b"topic.", b"\x80"] for word in words], feed, counted=lambda: reader.malformed
        )
    server.close(0)


@contextlib.contextmanager
def recordings(context: zmq.Context[Any]) -> Iterator[Target]:
    """Read them as recordings, and continue every tenth."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fuzzed.megc"
        header = RecordingHeader(recorder="0" * 32, session="s", schema="x", began_unix_s=time.time())
        with RecordingWriter(file, header, fsync="never") as writer:
            for number, parts in enumerate(published(context)):
                writer.append(number, number - 1, tuple(parts))
        seeds = [[file.read_bytes()]]
        numbers = iter(range(sys.maxsize))

        def feed(parts: Parts) -> None:
            file.write_bytes(b"".join(parts))
            with RecordingReader(file) as reader:
                for _ in reader.entries():
                    pass
                for _ in reader.messages(0.0001):
                    pass
            if next(numbers) % 10 == 0:
                RecordingWriter(file, None, fsync="never").close()

        yield Target(seeds, feed)


TARGETS: dict[str, tuple[Callable[[zmq.Context[Any]], contextlib.AbstractContextManager[Target]], float]] = {
    "public messages": (public_messages, 0.24),
    "records and orders": (packed_records, 0.2),
    "links between stages": (stage_links, 0.1),
    "control server": (control_server, 0.2),
    "subscriber": (subscriber, 0.1),
    "publisher": (publisher, 0.03),
    "tap": (tap, 0.07),
    "tap reader": (tap_reader, 0.05),
    "recordings": (recordings, 0.01),
}
"""Receivers, and the share of the messages that each gets."""


def fuzz(name: str, messages: int, seed: int, slow_s: float) -> tuple[int, list[str]]:
    """Feed one target; return how many messages were refused, and the failures."""
    generator = random.Random(f"{seed} {name}")
    refused = 0
    failures: list[str] = []
    with zmq.Context() as context, TARGETS[name][0](context) as target:
        for number in range(messages):
            parts = mutated(generator, target.seeds)
            begin_s = time.perf_counter()
            try:
                target.feed(parts)
            except MegcError:
                refused += 1
            except Exception as error:  # noqa: BLE001  the very thing looked for
                failures.append(f"{error!r} on {[part[:200].hex() for part in parts]}")
            took_s = time.perf_counter() - begin_s
            if took_s > slow_s:
                failures.append(f"{took_s:.1f} s on {[part[:200].hex() for part in parts]}")
            if number % BATCH == BATCH - 1:
                try:
                    target.check()
                except Exception as error:  # noqa: BLE001
                    failures.append(f"{error!r} after message {number}")
            if len(failures) >= 5:
                break
        refused += target.counted()
    return refused, failures


def main() -> int:
    """Run all targets; print a table; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=1_000_000, help="mutated messages in all")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same messages")
    parser.add_argument("--slow", type=float, default=1.0, help="seconds that one message may take")
    parser.add_argument("--only", choices=list(TARGETS), help="one receiver")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    died: list[str] = []
    threading.excepthook = lambda what: died.append(f"thread {what.thread}: {what.exc_value!r}")
    total = failed = 0
    print(f"{'receiver':24}{'messages':>10}{'refused':>10}{'failures':>10}{'us each':>10}")
    for name, (_, share) in TARGETS.items():
        if arguments.only not in (None, name):
            continue
        count = arguments.messages if arguments.only else max(1, round(arguments.messages * share))
        begin_s = time.perf_counter()
        refused, failures = fuzz(name, count, arguments.seed, arguments.slow)
        failures += died
        died.clear()
        each_us = (time.perf_counter() - begin_s) / count * 1e6
        print(f"{name:24}{count:10}{refused:10}{len(failures):10}{each_us:10.1f}", flush=True)
        for failure in failures:
            print(f"  FAILED {failure}")
        total += count
        failed += len(failures)
    print(f"{total} mutated messages, {failed} failures")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
