from __future__ import annotations

import sys
from pathlib import Path

import pytest
from outcome import Command, Outcome

from megc_stream.cli import main
from megc_stream.synthesis import synth_clip


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run ``megc-stream`` with arguments, in an empty folder, and return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["megc-stream", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic clip of 8 s at 50 fps with two planted events; its truth lies beside it as .csv."""
    out = tmp_path_factory.mktemp("clips") / "ada_1.mkv"
    synth_clip(out, None, fps=50, seconds=8, events=2, seed=3)
    return out
