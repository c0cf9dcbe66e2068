"""Webcams through OpenCV."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.capture.camera import Grab
from megc_stream.capture.opencv_log import quiet_opencv
from megc_stream.capture.v4l2 import webcams
from megc_stream.clock import Clock
from megc_stream.errors import CaptureError, UsageError
from megc_stream.settings import CaptureSettings

__all__ = ["VideoDevice", "WebcamDevice", "find_webcam", "webcam_opener"]

_GIVE_UP_AFTER = 10  # failed reads in a row: the camera is gone, not just one picture
_AUTOMATIC = (0.75, 3.0)  # what OpenCV calls automatic exposure: its own scale, and V4L2's "aperture priority"
_SLOW = 0.95  # a rate below this share of the one asked for is worth a warning


class VideoDevice(Protocol):
    """The part of ``cv2.VideoCapture`` that is used."""

    def isOpened(self) -> bool:
        """Return whether the device is there."""
        ...

    def set(self, property_id: int, value: float) -> bool:
        """Ask for a property; the device may do otherwise."""
        ...

    def get(self, property_id: int) -> float:
        """Return a property, 0 where unknown."""
        ...

    def grab(self) -> bool:
        """Wait for the next picture and take it from the device."""
        ...

    def retrieve(self) -> tuple[bool, Any]:
        """Decode the picture taken last, to a new BGR array."""
        ...

    def release(self) -> None:
        """Give the device back."""
        ...


class WebcamDevice:
    """A webcam, asked for MJPG (most cameras reach their full rate only with it); a :class:`.camera.CameraDevice`.

    Parameters
    ----------
    index
        Number of the camera, as in ``/dev/video0``.
    settings
        Requested size and rate; ``fps`` and the size of this object are what the camera says it gives, and ``warnings``
        tell where that is not what was asked for, or the exposure is automatic.
    clock
        Gives the arrival time of each picture.
    colour
        Whether pictures are BGR (H, W, 3) instead of grey (H, W).

    Raises
    ------
    CaptureError
        There is no such camera, or it delivers no picture.
    """

    tick_s = 1.0  # its pictures carry neither stamps nor numbers
    tick_bits = 64
    wraps16 = False

    def __init__(self, index: int, settings: CaptureSettings, *, clock: Clock, colour: bool = False) -> None:
        self.name = f"camera {index}"
        self._index = index
        self._clock = clock
        self._colour = colour
        self._device = open_device(index)
        self._failed = 0
        try:
            self._configure(settings)
        except BaseException:
            self._device.release()
            raise

    def start(self) -> None:
        """Do nothing: it has delivered since it was opened."""

    def trigger(self, timeout_s: float) -> bool:
        """Return that a picture will come: it has a pace of its own."""
        return True

    def fetch(self, timeout_s: float) -> Grab | None:
        """Return the next picture; the driver decides how long that may take (10 s on Linux), not ``timeout_s``."""
        grabbed = self._device.grab()
        arrival_s = self._clock.now_s()
        done, image = self._device.retrieve() if grabbed else (False, None)
        if done and image is not None:
            self._failed = 0
            return Grab(self._convert(image), arrival_s=arrival_s)
        self._failed += 1
        if self._failed == _GIVE_UP_AFTER:
            raise CaptureError(f"{self.name}: gave no more pictures; is it still connected?")
        return Grab(None) if grabbed else None

    def close(self) -> None:
        """Give the device back; may be called more than once."""
        self._device.release()

    def _configure(self, settings: CaptureSettings) -> None:
        device = self._device
        device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        device.set(cv2.CAP_PROP_FRAME_WIDTH, settings.webcam_width)
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.webcam_height)
        if settings.fps is not None:
            device.set(cv2.CAP_PROP_FPS, settings.fps)
        # What a camera says of its size is not always true, and some open but deliver nothing: look at one picture.
        done, image = device.retrieve() if device.grab() else (False, None)
        if not done or image is None:
            raise CaptureError(f"{self.name}: opens but gives no picture; is another program using it?")
        self.height, self.width = image.shape[:2]
        obtained = device.get(cv2.CAP_PROP_FPS)
        known = obtained if 0 < obtained <= 2000 else settings.fps  # 0 or nonsense where the driver does not know
        self.fps = known
        self.description = f"{self.name}, {self.width}x{self.height}"
        self.warnings = tuple(self._surprises(settings, known))
        asked = f"{settings.webcam_width}x{settings.webcam_height}"
        if settings.fps is not None:
            asked += f" at {settings.fps:g} fps"
        obtained_rate = f" at {known:g} fps" if known else ""
        self.description += f"{obtained_rate} (asked for {asked})"

    def _surprises(self, settings: CaptureSettings, known_fps: float | None) -> Iterator[str]:
        """Yield what differs from what was asked for, or will change by itself."""
        if settings.fps is not None and known_fps is not None and known_fps < _SLOW * settings.fps:
            yield (
                f"{self.name}: gives {known_fps:g} fps, {settings.fps:g} were asked for; 'megc-stream cameras' lists "
                "the sizes at which it is faster"
            )
        if (self.width, self.height) != (settings.webcam_width, settings.webcam_height):
            yield (
                f"{self.name}: gives {self.width}x{self.height} px, {settings.webcam_width}x{settings.webcam_height} "
                "were asked for; 'megc-stream cameras' lists its sizes"
            )
        if self._device.get(cv2.CAP_PROP_AUTO_EXPOSURE) in _AUTOMATIC:
            yield (
                f"{self.name}: automatic exposure is on: in the dark it halves the rate and blurs; add light or fix "
                f"it, e.g. v4l2-ctl -d /dev/video{self._index} -c auto_exposure=1"
            )

    def _convert(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._colour:
            return image
        if image.ndim == 2:  # monochrome cameras
            return image
        grey: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        return grey


def find_webcam(name: str) -> int:
    """Return the number of the webcam that the part after ``webcam:`` means.

    Parameters
    ----------
    name
        A number, or a name or part of one (case does not matter) as the system knows it; names only on Linux.

    Raises
    ------
    CaptureError
        No webcam is called so.
    UsageError
        The name is empty, or fits several webcams of different names.
    """
    if re.fullmatch(r"[0-9]{1,3}", name):
        return int(name)
    if not name:
        raise UsageError("webcam: names no camera; expected webcam:NUMBER or webcam:NAME")
    found = webcams()
    exact = [webcam for webcam in found if webcam.name.casefold() == name.casefold()]
    meant = exact or [webcam for webcam in found if name.casefold() in webcam.name.casefold()]
    names = ", ".join(f"{webcam.index} ({webcam.name})" for webcam in found) or "none"
    if not meant:
        raise CaptureError(f"webcam:{name}: no webcam of that name; found: {names}")
    # One camera may have several nodes of the same name; its first gives the pictures.
    if len({webcam.name for webcam in meant}) > 1:
        raise UsageError(f"webcam:{name}: fits several webcams; found: {names}")
    return meant[0].index


def webcam_opener(
    index: int, settings: CaptureSettings, *, clock: Clock, colour: bool = False
) -> Callable[[], WebcamDevice]:
    """Return what opens webcam ``index``, and the same webcam again when it was unplugged; as :class:`WebcamDevice`."""
    known = {webcam.index: webcam.name for webcam in webcams()}
    return lambda: WebcamDevice(_number_now(index, known), settings, clock=clock, colour=colour)


def _number_now(index: int, known: Mapping[int, str]) -> int:
    """Return the number that the webcam ``index`` has now: plugged in again, it may have got another one.

    ``known`` are the names of all webcams when it was opened. One that was there then is another camera, even where
    both are called the same.
    """
    name = known.get(index)
    now = {webcam.index: webcam.name for webcam in webcams()}
    if name is None or now.get(index) == name:
        return index
    for other, its_name in now.items():
        if its_name == name and known.get(other) != name:
            return other
    raise CaptureError(f"camera {index}: no webcam called {name}; connect it again")


def open_device(index: int) -> VideoDevice:
    """Open camera ``index`` through OpenCV, whose own warnings about a missing one are held back."""
    with quiet_opencv():
        device: VideoDevice = cv2.VideoCapture(index)
    if not device.isOpened():
        device.release()
        found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise CaptureError(
            f"camera {index}: cannot be opened; video devices found: {found}; connect one, or name a file"
        )
    return device
