"""The folder that one run writes into."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from megc_stream.errors import OutputError, UsageError
from megc_stream.output._files import writing
from megc_stream.settings import OutputSettings

__all__ = ["EVENTS", "INTERVALS", "REPORT", "RESULT_FILES", "RUN", "SCORES", "prepare_folder"]

EVENTS = "events.jsonl"
INTERVALS = "intervals.csv"
SCORES = "scores.parquet"
REPORT = "report.html"
RUN = "run.json"
RESULT_FILES = (EVENTS, INTERVALS, SCORES, REPORT, RUN)


def prepare_folder(settings: OutputSettings, video: str, date: datetime) -> Path:
    """Return the folder of the results, made where it is missing and free of results.

    Parameters
    ----------
    settings
        ``folder`` None takes ``./megc-runs/<video>-<YYYYMMDD-HHMMSS>``. With ``overwrite`` the five result files of an
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
    if settings.folder is None:
        stem = re.sub(r"[^\w.-]+", "_", video).strip(".") or "video"
        folder = Path("megc-runs") / f"{stem}-{date:%Y%m%d-%H%M%S}"
        with writing(folder):
            folder.parent.mkdir(exist_ok=True)
    else:
        folder = settings.folder
        if not folder.parent.is_dir():
            raise OutputError(f"folder {folder}: its parent {folder.parent} is not a folder; make it or change --out")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, and a folder is needed for the results; change --out")
    with writing(folder):
        folder.mkdir(exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"folder {folder}: no permission to write; change its rights or --out")
    present = [name for name in RESULT_FILES if (folder / name).exists()]
    if present and not settings.overwrite:
        names = ", ".join(present)
        raise UsageError(f"folder {folder}: holds results already ({names}); add --overwrite or change --out")
    for name in present:
        with writing(folder / name):
            (folder / name).unlink()
    return folder
