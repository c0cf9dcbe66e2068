"""The files of ``deploy/`` as texts: no container engine is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from megc_stream.cli import vqa_serving
from megc_stream.cli.vqa_serving import ServeOptions, serve_plan
from megc_stream.settings import VqaSettings

_ROOT = Path(__file__).resolve().parents[2]
_DEPLOY = _ROOT / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs pyyaml")
    loaded: dict[str, Any] = yaml.safe_load((_DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def test_the_server_is_started_as_vqa_serve_would(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vqa_serving, "_binary", lambda given: Path("vllm"))
    monkeypatch.setattr(vqa_serving, "_device", lambda: ("", None))
    monkeypatch.setenv("VQA_API_KEY", "a key")
    options = ServeOptions(
        model="Qwen/Qwen2.5-VL-3B-Instruct", host="0.0.0.0", name="qwen2.5-vl", revision="abc", offline=True
    )
    plan = serve_plan(options, VqaSettings())
    command = [re.sub(r"\$\{MODEL:-(.*)\}", r"\1", word) for word in compose["services"]["vllm"]["command"]]
    command = [re.sub(r"\$\{MODEL_REVISION:.*\}", "abc", word) for word in command]

    def options_of(words: list[str]) -> set[tuple[str, ...]]:
        text = "\0".join(words)
        return {tuple(part.split("\0")) for part in re.split(r"\0(?=--)", text)}

    assert options_of(command) == options_of(list(plan.command[2:]))
    variables = compose["services"]["vllm"]["environment"]
    assert {name: variables[name] for name in plan.variables} == plan.variables


def test_ports_are_published_on_loopback_alone(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert compose["networks"]["questions"]["internal"] is True
    assert compose["services"]["pipeline"]["networks"] == ["questions"]


def test_the_pipeline_waits_for_a_healthy_server(compose: dict[str, Any]) -> None:
    assert compose["services"]["pipeline"]["depends_on"]["vllm"]["condition"] == "service_healthy"
    health = compose["services"]["vllm"]["healthcheck"]
    assert health["test"][0] == "CMD"
    compile(health["test"][-1], "healthcheck", "exec")
    assert {"interval", "timeout", "retries", "start_period"} <= set(health)


def test_the_server_gets_a_gpu_a_pinned_image_and_a_pinned_model(compose: dict[str, Any]) -> None:
    server = compose["services"]["vllm"]
    assert server["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert re.search(r":v[0-9.]+\}$", server["image"])
    assert "latest" not in server["image"]
    assert any("MODEL_REVISION:?" in word for word in server["command"])


def test_no_key_stands_in_a_file() -> None:
    for file in _DEPLOY.iterdir():
        for line in file.read_text(encoding="utf-8").splitlines():
            for name, value in re.findall(r"(\w*API_KEY)\s*[:=]\s*(\S+)", line):
                assert value.startswith(("${VQA_API_KEY:?", "$(openssl")), (file.name, name)


def test_the_image_is_built_of_files_that_are_there() -> None:
    lines = (_DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("COPY "):
            for name in line.split()[1:-1]:
                assert (_ROOT / name).exists(), name
