from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import find_vllm, make_tiny, serving_vllm


@pytest.fixture(scope="session")
def vllm() -> Path:
    """The vllm program of an environment of its own; skips without one."""
    return find_vllm()


@pytest.fixture(scope="session")
def tiny(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of the architecture Qwen2.5-VL, random weights."""
    return make_tiny(vllm, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def vllm_server(vllm: Path, tiny: Path) -> Iterator[str]:
    """The address of a vLLM server with the tiny checkpoint, adapters welcome."""
    with serving_vllm(vllm, tiny) as address:
        yield address
