from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcome import Command

from megc_stream.settings import Settings

GROUPS = [
    ["bench"],
    ["config"],
    ["datasets"],
    ["evaluate"],
    ["keys"],
    ["models"],
    ["submit"],
    ["synth"],
    ["table"],
    ["train"],
    ["vqa"],
]
COMMANDS = [
    ["batch"],
    ["bench", "flow"],
    ["bench", "latency"],
    ["bench", "throughput"],
    ["bench", "wire"],
    ["cameras"],
    ["config", "schema"],
    ["config", "show"],
    ["control"],
    ["datasets", "check"],
    ["demo"],
    ["doctor"],
    ["evaluate", "lvqa"],
    ["evaluate", "str"],
    ["evaluate", "vqa"],
    ["export"],
    ["keys", "new"],
    ["models", "fetch"],
    ["models", "import-mean"],
    ["models", "info"],
    ["models", "list"],
    ["models", "verify"],
    ["play"],
    ["record"],
    ["run"],
    ["stage"],
    ["submit", "lvqa"],
    ["submit", "str"],
    ["submit", "vqa"],
    ["subscribe"],
    ["synth", "clip"],
    ["synth", "inject"],
    ["table", "str"],
    ["table", "vqa"],
    ["train", "mean"],
    ["train", "synthetic"],
    ["train", "vqa"],
    ["vqa", "ask"],
    ["vqa", "run"],
    ["vqa", "serve"],
]


@pytest.mark.parametrize("words", COMMANDS, ids="-".join)
def test_every_command_has_help_with_an_example(command: Command, words: list[str]) -> None:
    done = command(*words, "--help")
    assert done.code == 0
    assert "Example: megc-stream " + " ".join(words) in done.out


@pytest.mark.parametrize("words", [[], *GROUPS], ids=lambda words: "-".join(words) or "top")
def test_every_group_lists_its_commands(command: Command, words: list[str]) -> None:
    done = command(*words, "--help")
    assert done.code == 0
    for inner in COMMANDS:
        if inner[: len(words)] == words:
            assert inner[len(words)] in done.out


def test_version(command: Command) -> None:
    assert command("--version").out.startswith("megc-stream 0.")


def test_doctor_finds_what_the_default_needs(command: Command) -> None:
    done = command("doctor")
    assert done.code == 0, done.err
    assert "everything that the default needs is here" in done.out
    found = json.loads(command("doctor", "--json", "-").out)
    assert found["problems"] == []
    assert "mean-synthetic" in found["models"]
    assert "CPUExecutionProvider" in found["providers"]
    assert found["cores"] >= 1


def test_config_show_and_schema_are_json(command: Command, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text("[spotting]\np = 0.6\n")
    shown = json.loads(command("config", "show", "--config", "lab.toml").out)
    assert shown["spotting"]["p"] == 0.6
    assert set(shown) == set(Settings.model_fields)
    assert "properties" in json.loads(command("config", "schema").out)
    (tmp_path / "wrong.toml").write_text("[spotting]\nbogus = 1\n")
    wrong = command("config", "show", "--config", "wrong.toml")
    assert wrong.code == 2
    assert "unknown setting 'spotting.bogus'" in wrong.err


def test_subscribe_without_a_publisher_fails_in_one_line(command: Command) -> None:
    done = command("subscribe", "tcp://127.0.0.1:1", "--timeout", "0.1")
    assert done.code == 1
    assert "no publisher answered" in done.err
    assert command("subscribe", "nonsense").code == 1


def test_the_demo_tells_what_it_found_missed_and_invented(command: Command, tmp_path: Path) -> None:
    done = command("demo", "--fps", "30", "--json", "demo.json")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "demo.json").read_text())
    assert summary["tp"] + summary["fn"] == 6
    assert summary["tp"] >= 3
    assert summary["fp"] <= 2
    assert f"found {summary['tp']}, missed {summary['fn']}; invented {summary['fp']}" in done.out
    report = tmp_path / "demo" / "results" / "report.html"
    assert f"report: {Path('demo') / 'results' / 'report.html'}" in done.out
    assert "data:image/png" in report.read_text()


def test_the_demo_overwrites_only_a_demo(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    done = command("demo", "--out", "mine")
    assert done.code == 2
    assert "holds other files" in done.err


def test_synth_refuses_what_it_cannot_do(command: Command, tmp_path: Path) -> None:
    (tmp_path / "there.mkv").touch()
    for arguments in (["clip.xyz"], ["there.mkv"], ["clip.mkv", "--seconds", "3", "--events", "50"]):
        done = command("synth", "clip", *arguments)
        assert done.code == 2, done
        assert done.err.startswith("error: ") or "error: " in done.err
    assert command("synth", "inject", "gone.mp4", "out.mkv").code == 1
