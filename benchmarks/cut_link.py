"""A graph across two hosts with CURVE keys, whose link is cut for some seconds: nothing may be missing afterwards.

    python benchmarks/cut_link.py CLIP [--cut 5] [--cuts 1] [--seed 0]

Needs Linux, root and iproute2: the hosts are two network namespaces, joined by a pair of virtual interfaces. Reader,
publisher and coordinator run in one, spotter and recogniser in the other. Compared is the event log with that of one
process on this host (the key ``run`` aside).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_MEGC = [sys.executable, "-m", "megc_stream"]
_LIMIT_S = 600.0
_GRAPH = """
[pipeline]
runner = "hosts"
coordinator = "tcp://10.213.0.1:5600"
publisher = "tcp://10.213.0.1:5601"

[[sources]]
name = "cam"
source = "{clip}"
video = "{video}"
links = {{ spotter = "tcp://10.213.0.2:5610", recogniser = "tcp://10.213.0.2:5611" }}

[security]
secret_key = "{keys}/graph.key_secret"
server_key = "{keys}/graph.key"
allowed = "{keys}"

[output]
folder = "{out}"
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Make two network namespaces that see each other; yield their names."""
    first, second = (f"megc{os.getpid()}{letter}" for letter in "ab")
    try:
        for name in (first, second):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "megc0", "netns", first, "type", "veth", "peer", "name", "megc0", "netns", second)
        for name, address in ((first, "10.213.0.1/24"), (second, "10.213.0.2/24")):
            ip("-n", name, "addr", "add", address, "dev", "megc0")
            ip("-n", name, "link", "set", "megc0", "up")
        yield first, second
    finally:
        for name in (first, second):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=10)


def events_of(folder: Path) -> list[str]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [json.dumps({key: value for key, value in json.loads(line).items() if key != "run"}) for line in lines]


def size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def wait_for(growth: Path, least: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + _LIMIT_S
    while size_of(growth) < least and process.poll() is None:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{growth} did not grow to {least} bytes within {_LIMIT_S:.0f} s")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--cut", type=float, default=5.0, help="seconds")
    parser.add_argument("--cuts", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    clip = arguments.clip.resolve()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        alone = [*_MEGC, "run", str(clip), "--out", str(folder / "alone")]
        subprocess.run(alone, check=True, capture_output=True, timeout=_LIMIT_S)
        (folder / "keys").mkdir()
        make = [*_MEGC, "keys", "new", "graph", "--out", str(folder / "keys"), "--roles", "links"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, timeout=60)
        config = folder / "graph.toml"
        config.write_text(
            _GRAPH.format(clip=clip, video=clip.stem, keys=folder / "keys", out=folder / "hosts"), encoding="utf-8"
        )
        first, second = stack.enter_context(two_hosts())

        def start(host: str, *words: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(["ip", "netns", "exec", host, *_MEGC, *words, "--config", str(config)])
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        stages = [start(second, "stage", "spotter"), start(second, "stage", "recogniser")]
        stages += [start(first, "stage", "reader"), start(first, "stage", "publisher")]
        run = start(first, "run")
        spool = folder / "hosts" / "cam" / ".spool"
        grown = 0
        for _ in range(arguments.cuts):
            wait_for(spool, grown + chance.randint(60_000, 120_000), run)
            ip("-n", second, "link", "set", "megc0", "down")
            time.sleep(1.0)
            before = size_of(spool)
            time.sleep(max(arguments.cut - 1.0, 0.0))
            grown = size_of(spool)
            ip("-n", second, "link", "set", "megc0", "up")
            print(f"link cut for {arguments.cut:g} s; results grew by {grown - before} bytes meanwhile", flush=True)
        if run.wait(_LIMIT_S):
            raise SystemExit("the run across hosts failed")
        for process in stages:
            process.wait(30)
        equal = events_of(folder / "hosts" / "cam") == events_of(folder / "alone")
        print(f"event logs of {len(events_of(folder / 'alone'))} revisions: {'equal' if equal else 'DIFFER'}")
        sys.exit(not equal)


if __name__ == "__main__":
    main()
