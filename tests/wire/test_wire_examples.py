"""The programs in examples/, run as their readers run them, against a real publisher."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import zmq
from wire_messages import LOOPBACK, PAYLOADS, event

from megc_stream import __version__
from megc_stream.settings import WireSettings
from megc_stream.wire import Publisher

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_LIMIT_S = 60
_NPM_LIMIT_S = 120

Follow = Callable[[Sequence[str | Path]], list[str]]


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Run a program on a stream of a few messages, sent once it has subscribed; return its lines."""
    started: list[subprocess.Popen[str]] = []

    def run(words: Sequence[str | Path]) -> list[str]:
        with zmq.Context() as context, Publisher(context, WireSettings(publish=LOOPBACK)) as publisher:
            process = subprocess.Popen(
                [*map(str, words), publisher.endpoints["events"], "--once"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=EXAMPLES,
            )
            started.append(process)
            ended = threading.Event()
            watch = threading.Timer(_LIMIT_S, process.kill)
            watch.start()
            waiting = threading.Thread(target=lambda: (process.wait(), ended.set()))
            waiting.start()
            # The bare one tells nobody when it is ready: repeat the stream until it has what it wants.
            rev = 0
            while not ended.wait(0.1):
                publisher.serve()
                publisher.publish("status.", "status", "", PAYLOADS["status"])
                for kind in ("onset", "label"):
                    final = kind == "label"
                    publisher.publish(f"event.{kind}.cam0.", "event", "cam0", event(rev, kind, final=final))
                    rev += 1
                publisher.publish("meta.end.cam0.", "end", "cam0", PAYLOADS["end"])
            watch.cancel()
            waiting.join()
            out, err = process.communicate(timeout=10)
        assert process.returncode == 0, err
        assert err == ""
        return out.splitlines()

    yield run
    for process in started:
        process.kill()
        process.wait(10)


def test_bare_pyzmq_and_msgpack_in_twenty_lines(follow: Follow) -> None:
    file = EXAMPLES / "bare_subscriber.py"
    code = file.read_text().partition('"""\n\n')[2].splitlines()
    assert sum(bool(line.strip()) for line in code) <= 20
    assert "megc_stream" not in "".join(code)
    assert follow([sys.executable, file]) == ["cam0-0001 None positive 0.100 s"]


def test_asyncio(follow: Follow) -> None:
    lines = follow([sys.executable, EXAMPLES / "async_subscriber.py"])
    assert lines[0] == f"connected to megc-stream {__version__}"
    assert lines[-1] == "cam0 ended after 10 frames, 0 messages lost"
    assert "198 scores/s, dropped {'queue': 2}" in lines
    assert any(line.endswith(": label positive") for line in lines)


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JavaScript example with its packages installed, in a folder of its own."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    asked = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, timeout=60, check=False)
    registry = urllib.parse.urlsplit(asked.stdout.strip())
    try:
        socket.create_connection((registry.hostname or "", registry.port or 443), timeout=5).close()
    except OSError as error:
        if not any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY")):
            pytest.skip(f"the npm registry is out of reach ({error})")
    folder = tmp_path_factory.mktemp("javascript")
    shutil.copytree(EXAMPLES / "javascript", folder, dirs_exist_ok=True)
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_NPM_LIMIT_S,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    return folder


@pytest.mark.network
def test_javascript(follow: Follow, javascript: Path) -> None:
    lines = follow(["node", javascript / "subscriber.js"])
    assert lines[0] == f"connected to megc-stream {__version__}"
    assert lines[-1] == "cam0 ended after 10 frames"
    assert set(lines[1:-1]) <= {"cam0-0001 null positive 0.100 s"}
