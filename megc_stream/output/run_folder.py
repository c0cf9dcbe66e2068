"""The folder that one run writes into."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from megc_stream.errors import OutputError, UsageError
from megc_stream.output._files import writing
from megc_stream.settings import OutputSettings

__all__ = [
    "ANNOTATIONS",
    "EVENTS",
    "INTERVALS",
    "REPORT",
    "RESULT_FILES",
    "RUN",
    "SCORES",
    "folder_for",
    "prepare_folder",
]

EVENTS = "events.jsonl"
INTERVALS = "intervals.csv"
SCORES = "scores.parquet"
REPORT = "report.html"
RUN = "run.json"
ANNOTATIONS = "annotations.csv"
RESULT_FILES = (EVENTS, INTERVALS, SCORES, REPORT, RUN)
"""What every run leaves; annotations are there only where somebody made some."""


def folder_for(settings: OutputSettings, video: str, date: datetime) -> Path:
    """Return the path of the results: ``settings.folder``, or ``./megc-runs/<video>-<YYYYMMDD-HHMMSS>``."""
    if settings.folder is not None:
        return settings.folder
    stem = re.sub(r"[^\w.-]+", "_", video).strip(".") or "video"
    return Path("megc-runs") / f"{stem}-{date:%Y%m%d-%H%M%S}"


def prepare_folder(settings: OutputSettings, video: str, date: datetime) -> Path:
    """Return the folder of the results, made where it is missing and free of results.

    Parameters
    ----------
    settings
        ``folder`` None takes ``./megc-runs/<video>-<YYYYMMDD-HHMMSS>``. With ``overwrite`` the result files of an
        earlier run are removed; anything else in the folder stays.
    video
        Name of the video; characters that do not suit a file name become ``_``.
    date
        Start of the run, local time.

    Raises
    ------
    UsageError
        The folder holds results and ``overwrite`` is off.
    OutputError
        The folder cannot be made or written, or its parent does not exist.
    """
    folder = folder_for(settings, video, date)
    if settings.folder is None:
        with writing(folder):
            folder.parent.mkdir(exist_ok=True)
    elif not folder.parent.is_dir():
        raise OutputError(f"folder {folder}: its parent {folder.parent} is not a folder; make it or change --out")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, and a folder is needed for the results; change --out")
    with writing(folder):
        folder.mkdir(exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"folder {folder}: no permission to write; change its rights or --out")
    present = [name for name in (*RESULT_FILES, ANNOTATIONS) if (folder / name).exists()]
    if present and not settings.overwrite:
        names = ", ".join(present)
        raise UsageError(f"folder {folder}: holds results already ({names}); add --overwrite or change --out")
    for name in present:
        with writing(folder / name):
            (folder / name).unlink()
    return folder
