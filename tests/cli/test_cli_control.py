from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from outcome import Command

from megc_stream.clock import MonotonicClock
from megc_stream.settings import SecuritySettings
from megc_stream.wire import ControlServer, authenticator, load_security


@pytest.fixture
def served(command: Command, tmp_path: Path) -> Iterator[str]:
    """A control endpoint with keys ``server`` and a client ``lab``, in the folder of the command."""
    assert command("keys", "new", "server").code == 0
    (tmp_path / "allowed").mkdir()
    made = command(
        "keys", "new", "lab", "--out", "allowed", "--roles", "control, events", "--commands", "annotate,clock"
    )
    assert made.code == 0, made.err
    security = load_security(SecuritySettings(secret_key=tmp_path / "server.key_secret", allowed=tmp_path / "allowed"))
    leaving = threading.Event()
    with zmq.Context() as context, authenticator(context, security):
        server = ControlServer(
            context,
            "tcp://127.0.0.1:*",
            security,
            {"annotate": lambda words, who: {**words, "by": who}},
            MonotonicClock(),
        )

        def serve() -> None:
            while not leaving.wait(0.001):
                server.serve()

        helper = threading.Thread(target=serve)
        helper.start()
        yield server.endpoint
        leaving.set()
        helper.join()
        server.close()


def test_keys_new_says_what_to_do_and_replaces_nothing(command: Command, tmp_path: Path) -> None:
    done = command("keys", "new", "lab")
    assert done.code == 0, done.err
    assert "lab.key: public. Hand it out" in done.out
    assert "lab.key_secret: secret. Keep it" in done.out
    assert stat.S_IMODE((tmp_path / "lab.key_secret").stat().st_mode) == 0o600
    again = command("keys", "new", "lab")
    assert again.code == 2
    assert "will not be replaced" in again.err
    for words, said in (
        (["--out", "gone"], "no such folder"),
        (["--roles", "king"], "role king: unknown"),
        (["--commands", "dance"], "dance: unknown; expected some of start"),
    ):
        wrong = command("keys", "new", "b", *words)
        assert wrong.code == 2
        assert said in wrong.err


def test_control_with_keys(command: Command, served: str) -> None:
    keys = ["--key", "allowed/lab.key_secret", "--server-key", "server.key"]
    done = command("control", served, "annotate", "text=1 smile", "source=cam0", "weight=2", *keys)
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"text": "1 smile", "source": "cam0", "weight": 2, "by": "lab"}
    refused = command("control", served, "annotate", "--timeout", "0.3")
    assert refused.code == 1
    assert "only one side has keys" in refused.err
    forbidden = command("control", served, "stop", *keys)
    assert forbidden.code == 1
    assert "command stop: not allowed for this key; allowed: annotate, clock" in forbidden.err
    clock = json.loads(command("control", served, "clock", *keys).out)
    assert abs(clock["offset_s"]) <= clock["bound_s"] < 1


def test_control_refuses_what_it_does_not_understand(command: Command) -> None:
    nobody = command("control", "tcp://127.0.0.1:1", "start", "--timeout", "0.1")
    assert nobody.code == 1
    assert "tcp://127.0.0.1:1: command start: nobody answered within 0.1 s" in nobody.err
    wrong = command("control", "tcp://127.0.0.1:1", "annotate", "smile")
    assert wrong.code == 2
    assert "expected KEY=VALUE" in wrong.err
    assert command("control", "tcp://127.0.0.1:1", "start", "--key", "gone").code == 2
