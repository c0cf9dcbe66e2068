"""Webcams as Linux knows them (Video4Linux2): names, formats, sizes and rates, asked of the driver without streaming.

Numbers and layouts are those of ``linux/videodev2.h``, which is stable.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["Mode", "Webcam", "webcams"]

_NAMES = Path("/sys/class/video4linux")
_DEVICES = Path("/dev")

_QUERYCAP = struct.Struct("16s32s32sIII12x")  # driver, card, bus, version, capabilities, device capabilities
_FORMAT = struct.Struct("III32sII12x")  # index, buffer type, flags, description, pixel format, media bus code
_SIZE = struct.Struct("IIIIIIIII8x")  # index, pixel format, kind, then a size or three pairs of limits
_INTERVAL = struct.Struct("IIIIIIIIIII8x")  # index, pixel format, width, height, kind, then fractions of seconds
_CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, and V4L2_CAP_VIDEO_CAPTURE
_DEVICE_CAPS = 0x80000000  # V4L2_CAP_DEVICE_CAPS
_DISCRETE = 1
_MOST = 256  # entries read of one list: a driver that never ends its list must not hang us


@dataclass(frozen=True, slots=True)
class Mode:
    """What a webcam can give: four-character pixel format, size in px, rates in frames per second, fastest first."""

    pixel_format: str
    width: int
    height: int
    rates_fps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Webcam:
    """A webcam of this machine; ``modes`` is empty where it cannot be asked, ``problem`` then says why."""

    index: int
    name: str
    modes: tuple[Mode, ...] = ()
    problem: str = ""


def webcams() -> list[Webcam]:
    """Return the webcams in the order of their numbers; nodes that give no pictures (metadata) are left out."""
    nodes = {int(path.name[5:]): path for path in _NAMES.glob("video*") if re.fullmatch(r"video\d+", path.name)}
    found = []
    for index, path in sorted(nodes.items()):
        try:
            name = (path / "name").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue  # unplugged this moment
        webcam = _examine(index, name)
        if webcam is not None:
            found.append(webcam)
    return found


def _examine(index: int, name: str) -> Webcam | None:
    """Return the webcam with its modes, None where the node gives no pictures."""
    device = _DEVICES / f"video{index}"
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return Webcam(index, name, problem=f"{device}: {error.strerror}")
    try:
        fields = _QUERYCAP.unpack(_ask(descriptor, 0, _QUERYCAP.pack(b"", b"", b"", 0, 0, 0)))
        capabilities = fields[5] if fields[4] & _DEVICE_CAPS else fields[4]
        if not capabilities & _CAPTURE:
            return None
        return Webcam(index, name, tuple(_modes(descriptor)))
    except OSError as error:
        return Webcam(index, name, problem=f"{device}: {error.strerror}")
    finally:
        os.close(descriptor)


def _modes(descriptor: int) -> Iterator[Mode]:
    for entry in _list(descriptor, 2, _FORMAT, lambda n: (n, _CAPTURE, 0, b"", 0, 0)):
        code = entry[4]
        pixel_format = code.to_bytes(4, "little").decode("ascii", "replace").strip()
        for size in _list(descriptor, 74, _SIZE, partial(_of_format, code)):
            # A range of sizes (cameras behind a scaler) is told by its largest: minimum, maximum, step of both sides.
            width, height = (size[3], size[4]) if size[2] == _DISCRETE else (size[4], size[7])
            yield Mode(pixel_format, width, height, tuple(_rates(descriptor, code, width, height)))


def _of_format(code: int, n: int) -> tuple[int, ...]:
    return (n, code, 0, 0, 0, 0, 0, 0, 0)


def _rates(descriptor: int, code: int, width: int, height: int) -> list[float]:
    rates = set()
    for entry in _list(descriptor, 75, _INTERVAL, lambda n: (n, code, width, height, *[0] * 7)):
        numerator, denominator = entry[5], entry[6]  # of a range the shortest interval
        if numerator:
            rates.add(round(denominator / numerator, 3))
    return sorted(rates, reverse=True)


def _list(
    descriptor: int, number: int, layout: struct.Struct, request: Callable[[int], tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    for n in range(_MOST):
        try:
            yield layout.unpack(_ask(descriptor, number, layout.pack(*request(n))))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return  # the end of the list, or a list that this driver does not have
            raise


def _ask(descriptor: int, number: int, argument: bytes) -> bytes:
    """Do the read/write (number 2 and up) or read (0) request of the group ``V``."""
    import fcntl  # not on Windows

    direction = 2 if number == 0 else 3
    request = direction << 30 | len(argument) << 16 | ord("V") << 8 | number
    return fcntl.ioctl(descriptor, request, argument)
