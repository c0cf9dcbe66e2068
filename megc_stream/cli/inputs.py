"""What ``run`` takes as SOURCE: a recording of a data set, or whatever the capture package knows."""

from __future__ import annotations

from pathlib import Path

import msgspec

from megc_stream.capture import Source, open_source
from megc_stream.clock import Clock
from megc_stream.datasets import LAYOUTS, Recording, find_recording, open_recording
from megc_stream.errors import DataError, UsageError
from megc_stream.settings import Settings

__all__ = ["is_settings_file", "open_input"]


def is_settings_file(source: str) -> bool:
    """Tell whether what was given as SOURCE is a settings file, which names the source or sources."""
    return source.endswith(".toml") and "://" not in source


def open_input(settings: Settings, clock: Clock) -> Source:
    """Open ``settings.source``; ``LAYOUT:ROOT/VIDEO`` or ``LAYOUT:ROOT/SUBJECT/VIDEO`` is a recording of a data set.

    Raises
    ------
    MegcError
        As :func:`megc_stream.datasets.find_recording` and :func:`megc_stream.capture.open_source`.
    """
    layout, colon, rest = settings.source.strip().partition(":")
    if not colon or layout not in LAYOUTS:
        return open_source(
            settings.source, settings.capture, clock=clock, subject=settings.subject, video=settings.video
        )
    recording = _find(layout, rest)
    named = msgspec.structs.replace(
        recording, subject=settings.subject or recording.subject, video=settings.video or recording.video
    )
    return open_recording(named, settings.capture, clock=clock)


def _find(layout: str, rest: str) -> Recording:
    path = Path(rest)
    if not path.name or path.parent == path:
        raise UsageError(f"source {layout}:{rest}: names no recording; expected {layout}:ROOT/VIDEO")
    try:
        return find_recording(layout, path.parent, path.name)
    except DataError:
        # The last two parts may be subject and video.
        # Only below a subject's folder that exists: the search goes deep, and a wrong ROOT must not send it through
        # everything beside that.
        if not path.parent.is_dir() or path.parent.parent == Path(path.anchor):
            raise
        try:
            return find_recording(layout, path.parent.parent, f"{path.parent.name}/{path.name}")
        except DataError:
            pass  # the first message speaks of the likelier reading
        raise
