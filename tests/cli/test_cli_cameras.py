from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from outcome import Command


@pytest.fixture(autouse=True)
def no_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYLON_CAMEMU", raising=False)
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)


def test_cameras_are_listed_with_the_source_that_opens_them(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("harvesters")
    genicam = pytest.importorskip("genicam")
    producer = Path(genicam.__file__).with_name("viky.cti")
    (tmp_path / "lab.toml").write_text(f'[capture.camera]\ncti = "{producer}"\n')
    done = command("cameras", "--config", "lab.toml")
    assert done.code == 0, done.err
    assert f"genicam:{producer}?serial=1  Machine Vision Games Ltd. Viky" in done.out
    assert "100..800x100..800 px" in done.out
    assert "1..200 fps" in done.out
    assert "RGBa8, Mono8" in done.out


def test_emulated_cameras_as_json(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYLON_CAMEMU", "2")
    done = command("cameras", "--json", "-")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    if any("pypylon is not installed" in hint for hint in found["hints"]):
        pytest.skip("pypylon is not installed (extra 'pylon')")
    emulated = [camera for camera in found["cameras"] if camera["kind"] == "pylon"]
    assert [camera["source"] for camera in emulated] == ["pylon:0815-0000", "pylon:0815-0001"]
    assert emulated[0]["rates"] == "0.01..5000 fps"
    assert "Mono8" in emulated[0]["pixel_formats"]
    assert json.loads(command("doctor", "--json", "-").out)["cameras"] == found["cameras"]
    examined = command("doctor").out
    assert "cameras    pylon:0815-0000  " in examined
    assert re.search(r"exposure \S+\.\.\S+ s, gain \S+\.\.\S+\n +trigger .*Software", examined)


def test_nothing_found_says_what_could_be_done(command: Command) -> None:
    done = command("cameras")
    assert done.code == 0
    if "/dev/video" not in done.out:
        assert done.out == "no camera found\n"
    assert "GENICAM_GENTL64_PATH" in done.err or "pip install '.[genicam]'" in done.err


def test_a_producer_that_is_none_is_a_hint(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("harvesters")
    (tmp_path / "lab.toml").write_text('[capture.camera]\ncti = "gone.cti"\n')
    done = command("cameras", "--config", "lab.toml")
    assert done.code == 0
    assert "gone.cti: no such GenTL producer" in done.err
