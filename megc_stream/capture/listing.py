"""The cameras of this machine: what each can do, and the SOURCE text that opens it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from megc_stream.capture.features import Capabilities, capabilities
from megc_stream.capture.genicam import camera_features as genicam_features
from megc_stream.capture.genicam import genicam_devices, producers
from megc_stream.capture.pylon import camera_features as pylon_features
from megc_stream.capture.pylon import pylon_devices
from megc_stream.capture.v4l2 import Webcam, webcams
from megc_stream.errors import CaptureError

__all__ = ["Camera", "Cameras", "list_cameras"]


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera: ``source`` opens it; sizes (px), rates (frames per second), exposures (s) and gains in words, pixel
    formats and trigger inputs by name.

    ``problem`` says why it could not be asked, e.g. another program using it.
    """

    source: str
    kind: str
    name: str
    sizes: tuple[str, ...] = ()
    rates: str = ""
    pixel_formats: tuple[str, ...] = ()
    exposure: str = ""
    gain: str = ""
    triggers: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Cameras:
    """The cameras found, and what keeps others from being found, with what to do about it."""

    cameras: tuple[Camera, ...]
    hints: tuple[str, ...]


def list_cameras(*, cti: Path | None = None) -> Cameras:
    """Look for Basler cameras, GenICam cameras and webcams; open every one for a moment to ask what it can do.

    Parameters
    ----------
    cti
        GenTL producer beside those that GENICAM_GENTL64_PATH names.
    """
    found: list[Camera] = []
    hints: list[str] = []
    if _installed("pypylon"):
        try:
            found += [_pylon(serial, name) for serial, name, _ in pylon_devices()]
        except CaptureError as error:
            hints.append(str(error))
    else:
        hints.append("Basler cameras: pypylon is not installed; pip install '.[pylon]' in a checkout")
    files = producers(None) if cti is None else [cti, *(file for file in producers(None) if file != cti)]
    if not _installed("harvesters"):
        hints.append("GenICam cameras: harvesters is not installed; pip install '.[genicam]' in a checkout")
    elif not files:
        hints.append(
            "GenICam cameras: no GenTL producer known; set GENICAM_GENTL64_PATH to the folder of the maker's .cti "
            "file, or capture.camera.cti"
        )
    else:
        for file in files:
            try:
                found += [_genicam(file, *device) for device in genicam_devices(file)]
            except CaptureError as error:
                hints.append(str(error))
    if sys.platform == "linux":
        seen: set[str] = set()
        for webcam in webcams():
            found.append(_webcam(webcam, named=webcam.name not in seen))
            seen.add(webcam.name)
    else:
        hints.append("webcams: listed on Linux only; try the numbers 0, 1, 2 as SOURCE")
    return Cameras(tuple(found), tuple(hints))


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _pylon(serial: str, name: str) -> Camera:
    source = f"pylon:{serial}"
    try:
        with pylon_features(serial) as features:
            return _asked(source, "pylon", name, capabilities(features))
    except CaptureError as error:
        return Camera(source, "pylon", name, problem=str(error))


def _genicam(file: Path, serial: str, name: str) -> Camera:
    source = f"genicam:{file}?serial={serial}"
    try:
        with genicam_features(file, serial) as features:
            return _asked(source, "genicam", name, capabilities(features))
    except CaptureError as error:
        return Camera(source, "genicam", name, problem=str(error))


def _asked(source: str, kind: str, name: str, can: Capabilities) -> Camera:
    return Camera(
        source,
        kind,
        name,
        sizes=(can.size,),
        rates=can.rates,
        pixel_formats=can.pixel_formats,
        exposure=can.exposure,
        gain=can.gain,
        triggers=can.triggers,
    )


def _webcam(webcam: Webcam, *, named: bool) -> Camera:
    formats = tuple(dict.fromkeys(mode.pixel_format for mode in webcam.modes))
    rates = [rate for mode in webcam.modes for rate in mode.rates_fps]
    return Camera(
        source=f"webcam:{webcam.name}" if named and webcam.name else str(webcam.index),
        kind="webcam",
        name=f"{webcam.name} (/dev/video{webcam.index})",
        sizes=tuple(
            f"{mode.pixel_format} {mode.width}x{mode.height}"
            + (f" at {', '.join(f'{rate:g}' for rate in mode.rates_fps)} fps" if mode.rates_fps else "")
            for mode in webcam.modes
        ),
        rates=f"{min(rates):g}..{max(rates):g} fps" if rates else "",
        pixel_formats=formats,
        problem=webcam.problem,
    )
