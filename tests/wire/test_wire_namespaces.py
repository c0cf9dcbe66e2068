"""A publisher and a subscriber on two hosts: network namespaces joined by a veth pair, CURVE on every socket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from wire_keys import Keys

PROGRAM = Path(__file__).with_name("two_hosts.py")
LIMIT_S = 40


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces; the first has the address 10.213.7.1, the second 10.213.7.2."""
    if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("two hosts need Linux, root and iproute2 (network namespaces)")
    names = (f"megc-a{os.getpid()}", f"megc-b{os.getpid()}")
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", "wire0", "netns", names[0], "type", "veth", "peer", "name", "wire0", "netns", names[1])
            for number, name in enumerate(names, 1):
                ip("-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", "wire0")
                ip("-n", name, "link", "set", "wire0", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=20)


class Program:
    """One of the two programs in its namespace; its lines are read on a thread."""

    def __init__(self, host: str, *words: object) -> None:
        command = ["ip", "netns", "exec", host, sys.executable, PROGRAM, *map(str, words)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: Queue[dict[str, Any]] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first line that meets the condition."""
        last: object = "nothing"
        for _ in range(10_000):
            try:
                last = line = self._lines.get(timeout=LIMIT_S)
            except Empty:
                break
            if condition(line):
                return line
        raise AssertionError(f"waited in vain; the last line was {last}")

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self._reader.join(20)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def begin(host: str, *words: object) -> Program:
        programs.append(Program(host, *words))
        return programs[-1]

    yield begin
    for program in programs:
        program.close()


def test_a_link_that_is_cut_and_restored(hosts: tuple[str, str], start: Callable[..., Program], tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.client("client", roles=("events", "frames", "control"))
    publisher = start(hosts[0], "publisher", "10.213.7.1", tmp_path)
    publisher.wait_for(lambda line: "endpoints" in line)
    subscriber = start(hosts[1], "subscriber", "10.213.7.1", tmp_path)
    before = subscriber.wait_for(lambda line: line["events"] > 100 and line["frames"] > 100)
    assert (before["problem"], before["event_gaps"]) == ("", 0)

    ip("-n", hosts[0], "link", "set", "wire0", "down")
    cut = subscriber.wait_for(lambda line: line["stale"] == "silent" and line["problem"])
    assert "tcp://10.213.7.1:5552: command status: no reply within 1 s" in cut["problem"]

    ip("-n", hosts[0], "link", "set", "wire0", "up")
    after = subscriber.wait_for(
        lambda line: (
            line["events"] > cut["events"] + 400
            and line["frame_gaps"] > 0
            and not line["problem"]
            and not line["stale"]  # "late" until the backlog is read
        )
    )
    # Small messages waited in the publisher's queue; of the frames the newest did not fit, and that was counted.
    assert after["event_gaps"] == 0
    assert after["frames"] > cut["frames"]

    subscriber.say("\n")
    sent = subscriber.wait_for(lambda line: "sent" in line)["sent"]
    assert sent >= after["frames"] + after["frame_gaps"]
    assert subscriber.process.wait(LIMIT_S) == 0
    assert publisher.process.wait(LIMIT_S) == 0
