"""Kill the stages of a replay again and again; its event log must be that of a replay left alone.

    python benchmarks/kill_stages.py CLIP [--kills 20] [--seed 0] [--stages reader,spotter,...] [--vqa]

For each stage the clip is replayed with one process a stage, and that stage's process gets SIGKILL at random moments:
some while it works, some while it starts. The replay is repeated until the stage has been killed often enough. Printed
is a table: kills, replays, wall time against that of the undisturbed replay, and whether the event logs are equal (the
key ``run`` aside).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_LIMIT_S = 1800.0


def events_of(folder: Path) -> list[str]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [json.dumps({key: value for key, value in json.loads(line).items() if key != "run"}) for line in lines]


def pid_of(parent: int, stage: str) -> int | None:
    """Return the process of a stage that ``parent`` started, from /proc."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z" and b"stage" in words and stage.encode() in words:
            return int(entry.name)
    return None


def replay(clip: Path, out: Path, options: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "MEGC_PIPELINE__RESTARTS": "100"}
    command = [sys.executable, "-m", "megc_stream", "run", str(clip), "--out", str(out), "--runner", "processes"]
    return subprocess.Popen([*command, *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def disturbed(clip: Path, out: Path, options: list[str], stage: str, most: int, chance: random.Random) -> int:
    """Replay while killing; return the number of kills."""
    process = replay(clip, out, options)
    kills = 0
    deadline_s = time.monotonic() + _LIMIT_S
    next_s = time.monotonic() + chance.uniform(2.0, 8.0)
    last: int | None = None
    while process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.02)
        if kills == most or time.monotonic() < next_s:
            continue
        pid = pid_of(process.pid, stage)
        if pid is None or pid == last:
            continue
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        last = pid
        kills += 1
        next_s = time.monotonic() + chance.uniform(0.5, 10.0)
    _, told = process.communicate(timeout=60)
    if process.returncode:
        raise SystemExit(f"the replay failed after {kills} kills of {stage}:\n{told.decode()}")
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", default="reader,spotter,recogniser,publisher")
    parser.add_argument("--vqa", action="store_true", help="with questions, answered by the embedded answerer")
    arguments = parser.parse_args()
    options = ["--vqa", "embedded"] if arguments.vqa else []
    stages = arguments.stages.split(",") + (["vqa"] if arguments.vqa else [])
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        begin_s = time.monotonic()
        if replay(arguments.clip, Path(scratch) / "left-alone", options).wait(_LIMIT_S):
            raise SystemExit("the undisturbed replay failed")
        undisturbed_s = time.monotonic() - begin_s
        expected = events_of(Path(scratch) / "left-alone")
        print(f"undisturbed: {len(expected)} revisions, {undisturbed_s:.0f} s\n")
        print("| stage | kills | replays | wall, s | event log |\n| --- | --- | --- | --- | --- |")
        unequal = 0
        for stage in stages:
            kills = replays = 0
            equal = True
            begin_s = time.monotonic()
            while kills < arguments.kills:
                out = Path(scratch) / f"{stage}-{replays}"
                kills += disturbed(arguments.clip, out, options, stage, arguments.kills - kills, chance)
                replays += 1
                equal = equal and events_of(out) == expected
            unequal += not equal
            wall_s = time.monotonic() - begin_s
            print(f"| {stage} | {kills} | {replays} | {wall_s:.0f} | {'equal' if equal else 'DIFFERS'} |", flush=True)
    sys.exit(unequal > 0)


if __name__ == "__main__":
    main()
