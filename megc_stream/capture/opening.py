"""From what the user wrote to an open source."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from megc_stream.capture.camera import CameraDevice, CameraReader
from megc_stream.capture.folder import FolderReader
from megc_stream.capture.genicam import GenicamDevice, find_genicam
from megc_stream.capture.live import LiveSource
from megc_stream.capture.pylon import PylonDevice, find_pylon
from megc_stream.capture.replay import ReplaySource
from megc_stream.capture.source import FileReader, Identity, Source
from megc_stream.capture.webcam import find_webcam, webcam_opener
from megc_stream.clock import Clock
from megc_stream.errors import CaptureError, UsageError
from megc_stream.settings import CameraSettings, CaptureSettings

__all__ = ["open_source"]

_LEAST_READ_S = 2.0  # a stream from far away may stop for that long without being gone
_STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https")
_KNOWN = (
    "a camera number, webcam:NAME, pylon:SERIAL, genicam:SERIAL, a video file, a folder of images, an rtsp:// or "
    "http:// address, or a recording of a data set such as samm-lv:ROOT/006_1"
)


def open_source(
    spec: str,
    settings: CaptureSettings,
    *,
    clock: Clock,
    subject: str | None = None,
    video: str | None = None,
    colour: bool = False,
) -> Source:
    """Open what ``spec`` names.

    Parameters
    ----------
    spec
        ``"0"`` or ``webcam:NAME``: webcam of that index or name; ``pylon:SERIAL``: Basler camera (index, user-defined
        name, or nothing where there is only one); ``genicam:SERIAL``, ``genicam:PRODUCER.cti?serial=SERIAL``: any
        GenICam camera; a folder of numbered images; a video file; an ``rtsp://`` or ``http://`` address
        (live; opened again when it breaks off). Digits mean a camera: write ``./0`` for a file of that name.
    settings
        Rate, pace, length, and the size of the live queue.
    clock
        Gives ``t_capture_s``, and paces the replay.
    subject, video
        Names in the records. ``video`` is by default the stem of the file, the name of the folder, ``camera0``, or the
        last part of the address; ``subject`` is the part of ``video`` before the first ``_``. ``video`` is also the
        ``source`` of the records.
    colour
        Whether frames are BGR (H, W, 3) instead of grey (H, W).

    Returns
    -------
    Source
        Open; to be closed by the caller (it is a context manager).

    Raises
    ------
    UsageError
        ``spec`` is none of the forms above.
    CaptureError
        What it names does not exist, cannot be opened, or holds no picture.
    MissingExtraError
        An industrial camera is named and its package is not installed.
    """
    spec = spec.strip()
    if not spec:
        raise UsageError(f"the source is empty; expected {_KNOWN}")
    kind, _, place = spec.partition(":")
    if kind in _CAMERAS and not place.startswith("//"):
        name, open_device = _CAMERAS[kind](place, settings)
        camera = CameraReader(open_device, settings, clock=clock, colour=colour)
        return LiveSource(camera, _identity(name, subject, video), settings, clock)
    if re.fullmatch(r"[0-9]{1,3}", spec) or kind == "webcam":
        index = find_webcam(place if kind == "webcam" else spec)
        # What is set for industrial cameras, triggers above all, does not concern a webcam.
        own = settings.model_copy(update={"camera": CameraSettings()})
        webcam = CameraReader(webcam_opener(index, own, clock=clock, colour=colour), own, clock=clock, colour=colour)
        return LiveSource(webcam, _identity(f"camera{index}", subject, video), settings, clock)
    if "://" in spec:
        from megc_stream.capture.network import NetworkReader
        from megc_stream.capture.video import VideoReader

        name, default_video = _stream_names(spec)
        timeout_s = max(settings.silence_s, _LEAST_READ_S)
        stream = NetworkReader(
            partial(VideoReader, spec, name=name, colour=colour, fps=settings.fps, network=True, timeout_s=timeout_s),
            name=name,
            clock=clock,
            reconnect_s=settings.reconnect_s,
        )
        return LiveSource(stream, _identity(default_video, subject, video), settings, clock)
    path = Path(spec)
    mode = _mode(path)
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise CaptureError(f"{path}: no permission to read; give yourself read rights, e.g. with chmod")
    reader: FileReader
    if stat.S_ISDIR(mode):
        reader = FolderReader(path, colour=colour, fps=settings.fps)
        default_video = path.resolve().name
    elif stat.S_ISREG(mode):
        # FFmpeg takes 0.1 s to load: not for a camera or a folder.
        from megc_stream.capture.video import VideoReader

        reader = VideoReader(str(path), name=str(path), colour=colour, fps=settings.fps)
        default_video = path.stem
    else:
        raise CaptureError(f"{path}: is neither a file nor a folder; expected {_KNOWN}")
    return ReplaySource(reader, _identity(default_video, subject, video), settings, clock)


def _pylon(place: str, settings: CaptureSettings) -> tuple[str, Callable[[], CameraDevice]]:
    serial = find_pylon(place)
    return f"pylon-{serial}", partial(PylonDevice, serial, settings)


def _genicam(place: str, settings: CaptureSettings) -> tuple[str, Callable[[], CameraDevice]]:
    file, serial = find_genicam(place, settings)
    return f"genicam-{serial}", partial(GenicamDevice, file, serial, settings)


# Industrial cameras: the video's name, and what opens the camera, now and when it has to be reached again.
_CAMERAS = {"pylon": _pylon, "genicam": _genicam}


def _identity(default_video: str, subject: str | None, video: str | None) -> Identity:
    video = video or default_video
    return Identity(source=video, subject=subject or video.partition("_")[0] or video, video=video)


def _stream_names(spec: str) -> tuple[str, str]:
    """Return what messages call a stream, without user and password, and the video name it gets."""
    try:
        parts = urlsplit(spec)
        host = parts.hostname
    except ValueError:  # its text may show a password
        raise UsageError(
            f"the source is not a valid address, because of brackets or rare characters; expected {_KNOWN}"
        ) from None
    if parts.scheme.lower() not in _STREAM_SCHEMES or not host:
        raise UsageError(f"source scheme '{parts.scheme}://' is not known or names no host; expected {_KNOWN}")
    try:
        port = 0 if parts.netloc.endswith(":") else parts.port
    except ValueError:
        port = 0
    if port == 0:
        # Not shown: the "port" may be a part of the password.
        raise UsageError(
            "the source's address has a port that is no number from 1 to 65535; expected "
            f"{parts.scheme}://HOST:PORT/..., and %23 for # and %2F for / in a password"
        )
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    return f"{parts.scheme}://{place}{parts.path}", Path(parts.path).stem or host


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        if re.match(r"[A-Za-z][\w-]+:", str(path)):
            raise UsageError(
                f"source '{path}': neither a file nor a known kind of source; expected {_KNOWN}"
            ) from error
        raise CaptureError(f"{path}: no such file or folder; expected {_KNOWN}") from error
    except OSError as error:
        raise CaptureError(
            f"{path}: cannot be opened ({error.strerror}); check its rights and those above it"
        ) from error
    except ValueError as error:
        raise UsageError(f"source {str(path)!r}: not a possible file name ({error}); expected {_KNOWN}") from error
