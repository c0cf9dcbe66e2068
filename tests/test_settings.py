from __future__ import annotations

from pathlib import Path

import pytest

from megc_stream.errors import SettingsError
from megc_stream.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("MEGC_")]:
        monkeypatch.delenv(name)


def test_defaults_are_valid_and_frozen() -> None:
    settings = load_settings()
    assert settings.spotting.p == 0.55
    with pytest.raises(ValueError, match="frozen"):
        settings.spotting.p = 0.1  # type: ignore[misc]


def test_flags_beat_variables_beat_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lab.toml"
    file.write_text('source = "clip.mp4"\n[spotting]\nmode = "video"\np = 0.6\nmacro_s = 0.4\n')
    monkeypatch.setenv("MEGC_SPOTTING__P", "0.7")
    monkeypatch.setenv("MEGC_SPOTTING__MACRO_S", "0.3")
    monkeypatch.setenv("MEGC_MODEL__PROVIDERS", '["cuda", "cpu"]')
    settings = load_settings(file, {"spotting": {"p": 0.8, "k_s": None}, "subject": None})
    assert settings.source == "clip.mp4"
    assert settings.model.providers == ("cuda", "cpu")
    assert (settings.spotting.mode, settings.spotting.p, settings.spotting.macro_s) == ("video", 0.8, 0.3)
    assert settings.spotting.k_s is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"face": {"bogus": 1}}, "unknown setting 'face.bogus'"),
        ({"bogus": 1}, "unknown setting 'bogus'"),
        ({"spotting": {"p": 3}}, "'spotting.p' = 3"),
        ({"face": 3}, "'face' = 3"),
        ({"capture": {"fps": -1}}, "'capture.fps' = -1"),
    ],
)
def test_wrong_overrides_are_named(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(None, overrides)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MEGC_FACE__BOGUS", "1", "unknown setting 'face.bogus'"),
        ("MEGC_BOGUS", "1", "MEGC_BOGUS: unknown setting 'bogus'"),
        ("MEGC_MODEL__PROVIDERS", "cuda,cpu", "lists are written as JSON"),
        ("MEGC_SPOTTING__P", "much", "'spotting.p' = 'much'"),
    ],
)
def test_wrong_variables_are_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=words):
        load_settings()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[spotting]\nbogus = 1\n", "unknown setting 'spotting.bogus'"),
        (b"[spotting\n", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        load_settings(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read"):
        load_settings(tmp_path / "none.toml")


def test_what_is_no_regular_file_is_refused_instead_of_read_as_empty(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no regular file"):
        load_settings(tmp_path)


def test_every_setting_is_described() -> None:
    schema = Settings.model_json_schema()
    for name, section in {**schema["$defs"], "Settings": schema}.items():
        for key, entry in section["properties"].items():
            assert "$ref" in entry or entry.get("description"), f"{name}.{key} has no description"
