"""What a command loads before it does its work: nothing that takes long and is of no use to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_TIMEOUT_S = 60

_RUN = """
import json, sys
from pathlib import Path

from megc_stream.cli.analysis import analyse
from megc_stream.pipeline.stage import Sink
from megc_stream.records import Score
from megc_stream.settings import load_settings


class Probe(Sink):
    seen = False

    def write(self, record):
        if not self.seen and isinstance(record, Score) and record.spot is not None:
            self.seen = True
            print(json.dumps(list(sys.modules)))


source, out = sys.argv[1:]
settings = load_settings(None, {"source": source, "capture": {"max_seconds": 1}, "output": {"folder": out}})
analyse(settings, sinks=[Probe()])
"""


def _loaded(code: str, *arguments: object) -> set[str]:
    """Return the names of the modules that a program has loaded, as it prints them."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_a_run_loads_no_more_than_it_needs_before_its_first_score(clip: Path, tmp_path: Path) -> None:
    loaded = _loaded(_RUN, clip, tmp_path / "out")
    assert {"numba", "onnxruntime", "megc_stream.output.writer"} <= loaded
    unwanted = {"matplotlib", "onnx", "pandas", "rich", "scipy.ndimage", "scipy.signal", "torch"}
    assert not unwanted & loaded


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("megc_stream.cli.app", {"numpy", "pydantic", "zmq", "rich"}),
        ("megc_stream.cli.record_runs", {"cv2", "numba", "onnxruntime", "pyarrow", "megc_stream.output.writer"}),
        ("megc_stream.cli.bench_runs", {"megc_stream.benchmarking.flow_bench", "megc_stream.synthesis"}),
        ("megc_stream.capture.opening", {"av"}),
        ("megc_stream.datasets", {"av"}),
    ],
)
def test_modules_load_no_more_than_they_need(module: str, unwanted: set[str]) -> None:
    assert not unwanted & _loaded(f"import json, sys, {module}; print(json.dumps(list(sys.modules)))")
