"""Features on the disk: made once, by any number of processes, kept from run to run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pooch
from numpy.typing import NDArray

from megc_stream.errors import OutputError
from megc_stream.settings import FaceSettings, FlowSettings

__all__ = ["Arrays", "Work", "cache_key", "default_cache", "fill_cache", "in_processes", "load_cached", "make_folder"]

Arrays = dict[str, NDArray[Any]]

# Grows when the chain changes in a way that the cached features must follow.
_CHAIN_VERSION = 2
_FEATURES = "features"


@dataclass(frozen=True)
class Work:
    """One entry of the cache: ``make(*arguments)`` returns its arrays, among them ``features``."""

    file: Path
    make: Callable[..., Arrays]
    arguments: tuple[Any, ...]


def default_cache() -> Path:
    """Return the user's folder of features; it may not exist."""
    return Path(pooch.os_cache("megc-stream")) / "training"


def cache_key(depends_on: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of everything that features depend on: the chain, its settings and ``depends_on``.

    ``depends_on`` must be representable as JSON.
    """
    everything = {
        "chain": _CHAIN_VERSION,
        "face": FaceSettings().model_dump(mode="json"),
        "flow": FlowSettings().model_dump(mode="json"),
        **depends_on,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]


def fill_cache(
    folder: Path, work: Sequence[Work], *, jobs: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Make what is not in the cache yet; an interrupted call can be repeated and goes on.

    Parameters
    ----------
    folder
        Made if absent.
    work
        The entries wanted, files in ``folder``.
    jobs
        Processes to use.
    progress
        Called at the start and after each entry with the number of entries done and in all.

    Raises
    ------
    OutputError
        The cache cannot be written.
    """
    make_folder(folder, "cache")
    missing = [entry for entry in work if not entry.file.is_file()]
    done = len(work) - len(missing)
    if progress is not None:
        progress(done, len(work))
    for _ in in_processes(_make_and_store, missing, jobs):
        done += 1
        if progress is not None:
            progress(done, len(work))


def load_cached(file: Path) -> Arrays:
    """Return the arrays of an entry; ``features`` stays on the disk until its rows are asked for."""
    with np.load(file) as stored:
        arrays: Arrays = dict(stored)
    arrays[_FEATURES] = np.load(_features_file(file), mmap_mode="r")
    return arrays


def in_processes(function: Callable[[Any], Any], tasks: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Yield ``function(task)`` for each task in order, worked on by up to ``jobs`` new processes of one thread each."""
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    with ProcessPoolExecutor(
        min(jobs, len(tasks)), mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from pool.map(function, tasks)


def make_folder(folder: Path, what: str) -> None:
    """Make a folder and its parents.

    Raises
    ------
    OutputError
        It cannot be made; names ``what`` it is for.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{what} {folder}: cannot be made ({error.strerror}); expected a writable folder") from error


def _make_and_store(work: Work) -> None:
    arrays = work.make(*work.arguments)
    unfinished = work.file.with_suffix(".part")
    try:
        # The entry counts as there when its last file is: features first.
        with unfinished.open("wb") as stream:
            np.save(stream, arrays.pop(_FEATURES))
        unfinished.replace(_features_file(work.file))
        with unfinished.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        unfinished.replace(work.file)
    except OSError as error:
        raise OutputError(
            f"cache {work.file}: cannot be written ({error.strerror}); free space or change --cache"
        ) from error


def _features_file(file: Path) -> Path:
    return file.with_suffix(".npy")
