"""What the commands say: results on stdout, everything else on stderr, progress only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from megc_stream.errors import MegcError, OutputError

__all__ = ["fail", "listed", "note", "report_json", "say", "warn"]


def say(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line about the course of things."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """Print a warning line."""
    note(f"warning: {text}")


def listed(counts: Mapping[str, int]) -> str:
    """Return counts by reason in words: "3 damaged, 5 overrun"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def fail(error: MegcError) -> NoReturn:
    """Print the error as one line and exit with its code."""
    text = " ".join(str(error).split())
    note(f"error: {text}")
    for extra in getattr(error, "__notes__", []):
        note(f"note: {extra}")
    sys.exit(error.exit_code)


def report_json(target: str | None, data: Any) -> None:
    """Write ``data`` as JSON to a file, or to stdout for ``-``; nothing without a target."""
    if target is None:
        return
    text = json.dumps(data, indent=2, sort_keys=True, allow_nan=False)
    if target == "-":
        say(text)
        return
    try:
        Path(target).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"--json {target}: cannot be written ({error.strerror})") from error
