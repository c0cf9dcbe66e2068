"""``run.json``: how the results of a run came about."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from megc_stream import __version__
from megc_stream.output._files import write_text
from megc_stream.pipeline.statistics import DurationSummary
from megc_stream.records import StreamEnd, StreamInfo

__all__ = ["Environment", "RunRecord", "RunStatus", "environment", "redacted", "without_password", "write_run_record"]

RunStatus = Literal["complete", "stopped", "failed"]

_PACKAGES = (
    "av",
    "mediapipe",
    "msgspec",
    "numba",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-contrib-python-headless",
    "pyarrow",
    "pydantic",
    "pyzmq",
    "scipy",
    "torch",
)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the run ran on: versions of the packages that are installed, of Python, and the machine."""

    megc_stream: str
    python: str
    platform: str
    machine: str
    cpu_count: int
    packages: dict[str, str]


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in ``run.json``.

    ``counts`` holds frames, crops with a face, scores, events and so on; ``dropped`` lost frames by reason; ``late``
    the frames released more than 50 ms after their deadline (None where nothing was paced); ``timings`` the stages'
    durations; ``fps_out`` scores per second between the first and the last score; ``checksums`` SHA-256 by model file.
    """

    status: RunStatus
    error: str
    started: str
    wall_s: float
    environment: Environment
    settings: dict[str, Any]
    source: StreamInfo | None
    end: StreamEnd | None
    model: str
    checksums: dict[str, str]
    k: int | None
    k_prime: int | None
    counts: dict[str, int]
    flags: dict[str, int]
    dropped: dict[str, int]
    late: int | None
    fps_out: float | None
    timings: dict[str, DurationSummary]
    notes: tuple[str, ...] = ()


def environment() -> Environment:
    """Return the versions and the machine of this process."""
    return Environment(
        megc_stream=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        machine=platform.machine(),
        cpu_count=os.cpu_count() or 1,
        packages={name: version for name in _PACKAGES if (version := _version(name)) is not None},
    )


def without_password(url: str) -> str:
    """Return ``url`` without its secrets: ``user:password@`` and what follows a ``?`` are replaced by ``***``."""
    if "://" not in url:
        return url
    return re.sub(r"\?.*", "?***", re.sub(r"(\w+://)[^/\s]*@", r"\1***@", url))


def write_run_record(path: Path, record: RunRecord) -> None:
    """Write the record as indented JSON.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    write_text(path, msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n")


def redacted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with the passwords of URLs removed."""
    return {
        key: redacted(value)
        if isinstance(value, Mapping)
        else without_password(value)
        if isinstance(value, str)
        else value
        for key, value in settings.items()
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
