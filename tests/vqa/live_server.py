"""A real vLLM server with the tiny checkpoint, for the tests marked ``vllm``.

``VLLM_BIN`` names the ``vllm`` program of an environment of its own (``make test-vllm`` makes one).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["MODEL", "find_vllm", "make_tiny", "serving_vllm"]

MODEL = "tiny"

_SHIM = Path(__file__).with_name("vllm_shim")
_MAKER = Path(__file__).with_name("tiny_checkpoint.py")
_MAKING_S = 240.0
_STARTING_S = 300.0
_ENDING_S = 30.0
_READY = "Application startup complete"


def find_vllm() -> Path:
    """Return the program, or skip the test."""
    named = os.environ.get("VLLM_BIN", "")
    if not named:
        pytest.skip("needs a vLLM environment: VLLM_BIN names its vllm program ('make test-vllm')")
    path = Path(named)
    if not path.is_file():
        pytest.fail(f"VLLM_BIN={named}: there is no such program")
    return path


def environment() -> dict[str, str]:
    """Return the variables of programs of the vLLM environment on a machine without a GPU."""
    return {
        **os.environ,
        "PYTHONPATH": str(_SHIM),
        "HF_HUB_OFFLINE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        # Without them start-up takes a minute, and the first questions half of one.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TORCHDYNAMO_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }


def make_tiny(vllm: Path, folder: Path) -> Path:
    """Write the tiny checkpoint, with the interpreter of the vLLM environment, and return its folder."""
    done = subprocess.run(
        [str(vllm.with_name("python")), str(_MAKER), str(folder)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_MAKING_S,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"the tiny checkpoint could not be made:\n{done.stderr[-4000:]}")
    return folder


@contextmanager
def serving_vllm(vllm: Path, checkpoint: Path, more: Sequence[str] = ()) -> Iterator[str]:
    """Serve a checkpoint through ``megc-stream vqa serve`` until the block ends; yields the address.

    ``more`` goes to ``megc-stream vqa serve``, before the options that make vLLM quick on a small machine.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "megc_stream", "vqa", "serve", "--vllm", str(vllm), "--model", str(checkpoint)),
        *("--name", MODEL, "--port", str(port), "--max-model-len", "6144", *more, "--"),
        *("--enforce-eager", "--dtype", "float32", "--max-num-seqs", "4", "--kv-cache-memory-bytes", "64M"),
        *("--distributed-executor-backend", "uni", "--enable-lora", "--max-lora-rank", "8"),
        # A tiny model would write blanks for ever.
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    ]
    server = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    lines: list[str] = []
    told = threading.Event()

    def listen() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            lines.append(line)
            if _READY in line:
                told.set()
        told.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        if not told.wait(_STARTING_S) or server.poll() is not None or not any(_READY in line for line in lines):
            pytest.fail(f"vLLM did not start:\n{''.join(lines[-60:])}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
        listener.join(_ENDING_S)
        if server.stdout is not None:
            server.stdout.close()
