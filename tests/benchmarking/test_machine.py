from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from megc_stream.benchmarking import machine


def test_stolen_time_is_that_of_the_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    stat = tmp_path / "stat"
    monkeypatch.setattr(machine, "Path", lambda _: stat)
    assert machine.stolen_s() is None
    stat.write_text("cpu  11 22 33 44 55 66 77 250 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    assert machine.stolen_s() == 250 / os.sysconf("SC_CLK_TCK")
    stat.write_text("cpu  11 22 33 44\n")  # kernels before 2.6.11
    assert machine.stolen_s() is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert machine.stolen_s() is None


def test_the_loop_beside_a_run_is_a_hundredth_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    instants_s = iter([1.0, 1.0001])
    monkeypatch.setattr(machine.time, "thread_time", lambda: next(instants_s))
    assert machine.calibration_beside_ms() == pytest.approx(10.0)
