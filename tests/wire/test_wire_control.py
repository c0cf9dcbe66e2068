from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from wire_keys import Keys

from megc_stream.clock import ManualClock
from megc_stream.errors import OutputError, UsageError, WireError
from megc_stream.wire import PLAIN, AsyncControl, CommandError, Control, ControlServer, Security, authenticator

LOOPBACK = "tcp://127.0.0.1:*"


class Served:
    """A control server whose commands are done on a thread; ``done`` lists them."""

    def __init__(self, context: zmq.Context, security: Security = PLAIN, endpoint: str = LOOPBACK) -> None:
        self.done: list[tuple[str, dict[str, Any], str]] = []
        self.server = ControlServer(
            context,
            endpoint,
            security,
            {word: self._handler(word) for word in ("start", "stop", "annotate", "snapshot", "status", "shutdown")},
            ManualClock(7.0),
        )
        self.endpoint = self.server.endpoint
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _handler(self, word: str) -> Callable[[dict[str, Any], str], dict[str, Any]]:
        def handle(arguments: dict[str, Any], client: str) -> dict[str, Any]:
            if arguments.get("text") == "wrong":
                raise UsageError("text wrong: expected another")
            if arguments.get("text") == "fails":
                raise OutputError("disk full")
            if arguments.get("text") == "bug":
                raise KeyError("bug")
            if arguments.get("text") == "unencodable":
                return {"object": object()}
            self.done.append((word, arguments, client))
            return {"command": word, "times": len(self.done)}

        return handle

    def _serve(self) -> None:
        while not self._leaving.wait(0.001):
            self.server.serve()

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()
        self.server.close()


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


def test_commands_are_done_and_answered(context: zmq.Context) -> None:
    with Served(context) as served, Control(served.endpoint, context=context) as control:
        assert control.start() == {"command": "start", "times": 1}
        assert control.annotate("smile", source="cam0")["times"] == 2
        assert control.stop("cam0")["times"] == 3
        assert control.snapshot()["times"] == 4
        assert control.status()["times"] == 5
        assert control.shutdown()["times"] == 6
    assert served.done[:3] == [
        ("start", {"source": ""}, ""),
        ("annotate", {"text": "smile", "source": "cam0"}, ""),
        ("stop", {"source": "cam0"}, ""),
    ]
    assert served.server.counts == {"done": 6}


def test_commands_over_ipc(context: zmq.Context, tmp_path: Path) -> None:
    with (
        Served(context, endpoint=f"ipc://{tmp_path}/control") as served,
        Control(served.endpoint, context=context) as control,
    ):
        assert control.start()["times"] == 1


@pytest.mark.parametrize(
    ("command", "text", "code", "words"),
    [
        ("annotate", "wrong", "bad_arguments", "expected another"),
        ("annotate", "fails", "failed", "disk full"),
        ("annotate", "bug", "internal", "report this as a bug"),
        ("annotate", "unencodable", "internal", "report this as a bug"),
        ("reset", "", "unknown_command", "command reset: unknown; expected start, stop"),
        ("s", "", "unknown_command", "command s: unknown"),
    ],
)
def test_problems_have_codes(context: zmq.Context, command: str, text: str, code: str, words: str) -> None:
    with Served(context) as served, Control(served.endpoint, context=context) as control:
        with pytest.raises(CommandError, match=words) as caught:
            control.request(command, text=text)
        assert caught.value.code == code
        assert control.start()["times"] == 1
    assert served.server.counts == {code: 1, "done": 1}


def test_a_repeated_request_is_done_once(context: zmq.Context) -> None:
    with Served(context) as served, context.socket(zmq.DEALER) as raw:
        raw.connect(served.endpoint)
        request = msgpack.packb({"id": "1", "cmd": "start", "client": "me"})
        replies = []
        for _ in range(3):
            raw.send(request)
            replies.append(msgpack.unpackb(raw.recv()))
        assert replies == [{"id": "1", "ok": {"command": "start", "times": 1}}] * 3
        # A connection made anew gets the old reply, too.
        with context.socket(zmq.DEALER) as again:
            again.connect(served.endpoint)
            again.send(request)
            assert msgpack.unpackb(again.recv()) == replies[0]
            again.send(msgpack.packb({"id": "1", "cmd": "stop", "client": "me"}))
            assert msgpack.unpackb(again.recv())["error"]["code"] == "malformed"
            again.send(msgpack.packb({"id": "1", "cmd": "start", "client": "somebody else"}))
            assert msgpack.unpackb(again.recv())["ok"]["times"] == 2
    assert [word for word, _, _ in served.done] == ["start", "start"]


def test_a_request_repeated_while_it_waits_is_answered_once_on_the_newest_connection(context: zmq.Context) -> None:
    server = ControlServer(context, LOOPBACK, PLAIN, {"start": lambda *_: {}}, ManualClock())
    with context.socket(zmq.DEALER) as old, context.socket(zmq.DEALER) as new:
        for raw in (old, new):
            raw.connect(server.endpoint)
            raw.send(msgpack.packb({"id": "1", "cmd": "start", "client": "me"}))
            raw.send(msgpack.packb({"id": "2", "cmd": "clock", "client": "me"}))
            assert msgpack.unpackb(raw.recv())["id"] == "2"
        server.serve()
        assert msgpack.unpackb(new.recv()) == {"id": "1", "ok": {}}
        assert not old.poll(0)
    server.close()
    assert server.counts == {"done": 3, "repeated": 1}


def test_a_lost_reply_wedges_nobody(context: zmq.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megc_stream.wire.control._RETRY_S", 0.02)
    with Served(context) as served, context.socket(zmq.ROUTER) as front, context.socket(zmq.DEALER) as back:
        port = front.bind_to_random_port("tcp://127.0.0.1")
        back.connect(served.endpoint)

        def relay() -> None:
            for lost in (True, True, False):
                peer, request = front.recv_multipart()
                back.send(request)
                reply = back.recv()
                if not lost:
                    front.send_multipart([peer, reply])

        helper = threading.Thread(target=relay)
        helper.start()
        with Control(f"tcp://127.0.0.1:{port}", context=context) as control:
            assert control.start() == {"command": "start", "times": 1}
        helper.join()
    assert served.server.counts == {"done": 1, "repeated": 2}


def test_nobody_there_and_silence_are_told_apart(context: zmq.Context) -> None:
    with (
        Control("tcp://127.0.0.1:1", context=context, timeout_s=0.2) as control,
        pytest.raises(WireError, match=r"tcp://127\.0\.0\.1:1: command start: nobody answered within 0.2 s"),
    ):
        control.start()
    with context.socket(zmq.ROUTER) as silent:
        port = silent.bind_to_random_port("tcp://127.0.0.1")
        with (
            Control(f"tcp://127.0.0.1:{port}", context=context, timeout_s=0.5) as control,
            pytest.raises(WireError, match=f"{port}: command start: no reply within 0.5 s"),
        ):
            silent.poll(0)
            control.start()


def test_a_req_socket_works_as_well(context: zmq.Context) -> None:
    with Served(context) as served, context.socket(zmq.REQ) as bare:
        bare.connect(served.endpoint)
        bare.send(msgpack.packb({"id": "a", "cmd": "start", "args": {}}))
        assert msgpack.unpackb(bare.recv()) == {"id": "a", "ok": {"command": "start", "times": 1}}


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"", b""],
        [b"a", b"b", b"c"],
        [b"\xc1"],
        [msgpack.packb({"id": "1"})],
        [msgpack.packb({"id": 1, "cmd": "start"})],
        [msgpack.packb({"id": "1", "cmd": "start", "args": [1]})],
        [msgpack.packb({"id": "1" * 65, "cmd": "start"})],
        [msgpack.packb({"id": "", "cmd": "start"})],
        [msgpack.packb(["1", "start"])],
        [b"\x91" * 60_000],
    ],
    ids=lambda parts: f"{len(parts)}-{parts[0][:8].hex()}",
)
def test_malformed_requests_are_answered_and_counted(context: zmq.Context, parts: list[bytes]) -> None:
    with Served(context) as served, context.socket(zmq.DEALER) as raw:
        raw.connect(served.endpoint)
        raw.send_multipart(parts)
        assert msgpack.unpackb(raw.recv_multipart()[-1])["error"]["code"] == "malformed"
        raw.send(msgpack.packb({"id": "1", "cmd": "start"}))
        assert msgpack.unpackb(raw.recv())["ok"]["times"] == 1
    assert served.server.counts == {"malformed": 1, "done": 1}


def test_the_clock_is_answered_while_the_analysis_is_busy(context: zmq.Context) -> None:
    server = ControlServer(context, LOOPBACK, PLAIN, {}, ManualClock(7.0))  # nobody calls serve()
    with Control(server.endpoint, context=context) as control:
        assert control.request("clock", t0_s=1.5) == {"t0_s": 1.5, "t1_s": 7.0, "t2_s": 7.0}
    server.close()


def test_too_many_waiting_commands_are_refused(context: zmq.Context) -> None:
    server = ControlServer(context, LOOPBACK, PLAIN, {"start": lambda *_: {}}, ManualClock())
    with context.socket(zmq.DEALER) as raw:
        raw.connect(server.endpoint)
        for number in range(65):
            raw.send(msgpack.packb({"id": str(number), "cmd": "start"}))
        assert msgpack.unpackb(raw.recv())["error"]["code"] == "busy"
        server.serve()
        assert [msgpack.unpackb(raw.recv())["id"] for _ in range(64)] == [str(number) for number in range(64)]
    server.close()


def test_keys_decide_who_may_say_what(context: zmq.Context, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    boss = keys.client("boss", roles=("control",))
    guest = keys.client("guest", roles=("control", "events"), commands=("status",))
    viewer = keys.client("viewer", roles=("events",))
    with authenticator(context, keys.server), Served(context, keys.server) as served:
        with Control(served.endpoint, security=boss, context=context) as control:
            assert control.start()["times"] == 1
            (keys.allowed / "boss.key").unlink()
            with pytest.raises(CommandError, match="command stop: not allowed for this key") as caught:
                control.stop()
            assert caught.value.code == "not_allowed"
        with Control(served.endpoint, security=guest, context=context) as control:
            assert control.status()["times"] == 2
            with pytest.raises(CommandError, match="command start: not allowed for this key; allowed: status"):
                control.start()
            with pytest.raises(CommandError, match="not allowed"):
                control.request("clock")
        with (
            Control(served.endpoint, security=viewer, context=context) as control,
            pytest.raises(WireError, match="refused: our key is not on the server's list for this socket"),
        ):
            control.status()
    assert [(word, client) for word, _, client in served.done] == [("start", "boss"), ("status", "guest")]
    assert served.server.counts == {"done": 2, "not_allowed": 3}


def test_asyncio(context: zmq.Context) -> None:
    async def talk(endpoint: str) -> list[Any]:
        async with AsyncControl(endpoint, context=context) as control:
            first = await control.start()
            both = await asyncio.gather(control.status(), control.annotate("x"))
            with pytest.raises(CommandError, match="unknown"):
                await control.pause()
            return [first, *both]

    with Served(context) as served:
        replies = asyncio.run(talk(served.endpoint))
    assert [reply["times"] for reply in replies] == [1, 2, 3]


def test_the_reply_to_shutdown_leaves_before_the_server_goes(context: zmq.Context) -> None:
    done = []
    server = ControlServer(context, LOOPBACK, PLAIN, {"shutdown": lambda *_: done.append(1) or {}}, ManualClock())
    with context.socket(zmq.DEALER) as raw:
        raw.connect(server.endpoint)
        raw.send(msgpack.packb({"id": "1", "cmd": "shutdown"}))
        while not done:
            server.serve()
        server.close()
        assert raw.poll(10_000)
        assert msgpack.unpackb(raw.recv()) == {"id": "1", "ok": {}}
