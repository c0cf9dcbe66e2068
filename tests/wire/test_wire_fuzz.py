"""Malformed messages: random bytes and structures, and a short run of benchmarks/wire_fuzz.py."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import megc_stream
from megc_stream.clock import ManualClock
from megc_stream.errors import WireError
from megc_stream.wire import PLAIN, ControlServer
from megc_stream.wire.protocol import PROTOCOL_VERSION, decode

ROOT = Path(__file__).parents[2]
PACKAGE = Path(megc_stream.__file__).parent

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_maps = st.dictionaries(st.sampled_from(["v", "topic", "type", "session", "seq", "event", "hello", "status"]), _values)


@given(st.lists(st.binary(max_size=100), max_size=4))
def test_random_parts_are_wire_errors_and_nothing_else(parts: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(parts)


@given(_maps, st.sampled_from(["event", "hello", "status", "score", "unheard-of"]))
def test_random_maps_are_messages_or_wire_errors(fields: dict[str, object], kind: str) -> None:
    envelope = {
        "v": PROTOCOL_VERSION, "topic": "t.", "type": kind, "session": "s", "source": "", "seq": 0, "t_capture_s": None,
        "t_publish_s": 0.0, "clock": "c",
    }  # fmt: skip
    with contextlib.suppress(WireError):
        assert decode([b"t.", msgpack.packb({**envelope, **fields})]).topic == "t."


@pytest.fixture(scope="module")
def talk() -> Iterator[tuple[ControlServer, zmq.Socket]]:
    """A control server that knows the command start, and a socket connected to it."""
    with zmq.Context() as context:
        server = ControlServer(
            context, "inproc://fuzzed", PLAIN, {"start": lambda arguments, client: arguments}, ManualClock()
        )
        with context.socket(zmq.DEALER) as socket:
            socket.connect(server.endpoint)
            yield server, socket
        server.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.binary(max_size=50), min_size=1, max_size=3)
    | st.builds(lambda value: [msgpack.packb(value)], _values)
    | st.builds(
        lambda args: [msgpack.packb({"id": "1", "cmd": "clock", "args": args})], st.dictionaries(st.text(), _values)
    )
)
def test_every_request_is_answered(talk: tuple[ControlServer, zmq.Socket], parts: list[bytes]) -> None:
    server, socket = talk
    socket.send_multipart(parts)
    assert socket.poll(10_000)
    reply = msgpack.unpackb(socket.recv_multipart()[-1])
    assert ("ok" in reply) != ("error" in reply)
    socket.send(msgpack.packb({"id": "next", "cmd": "clock"}))
    assert socket.poll(10_000)
    assert "ok" in msgpack.unpackb(socket.recv())
    assert server.counts["internal"] == 0


def test_a_run_of_the_fuzzer_finds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "wire_fuzz.py", "--messages", "4000", "--seed", "1", "--slow", "60"],
        capture_output=True, text=True, timeout=150, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4000 mutated messages, 0 failures" in done.stdout


def test_nothing_is_ever_unpickled() -> None:
    """Neither by an import, nor through pyzmq, NumPy or torch."""
    unsafe = re.compile(
        r"^\s*(?:import|from)\s+(?:pickle|cPickle|dill|cloudpickle|marshal|shelve|joblib)\b"
        r"|\b(?:recv|send)_pyobj\b|\ballow_pickle\s*=\s*True|\bweights_only\s*=\s*False",
        re.MULTILINE,
    )
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    assert [str(file) for file in files if unsafe.search(file.read_text(encoding="utf-8"))] == []
