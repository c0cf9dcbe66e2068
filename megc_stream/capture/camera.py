"""Cameras: what is done with the pictures of any of them: gaps, device time, triggering, getting back.

An SDK is behind :class:`CameraDevice` (``pylon.py``, ``genicam.py``, ``webcam.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.capture.block_ids import BlockIds
from megc_stream.capture.device_clock import ClockFit, DeviceClock
from megc_stream.capture.reconnection import SLICE_S, Reconnection
from megc_stream.capture.source import ASSUMED_FPS, Picture
from megc_stream.clock import Clock
from megc_stream.errors import CaptureError
from megc_stream.settings import CaptureSettings

__all__ = ["CameraDevice", "CameraReader", "Grab"]

_SLOW_FRAMES = 4  # a camera is silent only when at least so many frames are missing


@dataclass(frozen=True, slots=True)
class Grab:
    """What a camera delivered: an (H, W) uint8 image, or None where the picture arrived incomplete.

    A camera that has colours gives (H, W, 3) BGR where they are wanted. ``block_id`` is the camera's count of frames,
    ``tick`` its time stamp, None where it has none; ``arrival_s`` is when the picture came, None for this moment;
    ``why`` is what the SDK says of an incomplete one.
    """

    image: NDArray[np.uint8] | None
    block_id: int | None = None
    tick: int | None = None
    arrival_s: float | None = None
    why: str = ""


class CameraDevice(Protocol):
    """One opened and configured camera of an SDK; its errors come out as CaptureError.

    ``fps`` is None where neither camera nor settings know the rate; ``tick_s`` is the unit of the time stamps and
    ``tick_bits`` their width; ``wraps16`` tells that block ids may have 16 bits (of which GigE Vision skips 0).
    """

    name: str
    width: int
    height: int
    fps: float | None
    description: str
    warnings: tuple[str, ...]
    tick_s: float
    tick_bits: int
    wraps16: bool

    def start(self) -> None:
        """Start delivering pictures."""
        ...

    def trigger(self, timeout_s: float) -> bool:
        """Trigger one picture by software; False where the camera is not ready for that within ``timeout_s``."""
        ...

    def fetch(self, timeout_s: float) -> Grab | None:
        """Return the next picture, None where there is none within ``timeout_s``; raises where the camera is gone."""
        ...

    def close(self) -> None:
        """Give the camera back; may be called more than once and never raises."""
        ...


class CameraReader:
    """Takes pictures from a camera and, should it be disconnected, from the same camera when it is back.

    Frames that the camera counted and nobody saw are "skipped" in ``dropped``, those that arrived incomplete
    "incomplete", those missed while it was away (by time and rate) "disconnected".

    Parameters
    ----------
    open_device
        Opens and configures the camera; called again after it was lost.
    settings
        Rate, trigger, time-outs.
    clock
        Gives the arrival time of each picture, and paces software triggers.
    colour
        Whether pictures are BGR (H, W, 3) instead of grey (H, W).

    Raises
    ------
    CaptureError
        From ``open_device``.
    """

    frames: int | None = None

    def __init__(
        self, open_device: Callable[[], CameraDevice], settings: CaptureSettings, *, clock: Clock, colour: bool = False
    ) -> None:
        self._open = open_device
        self._clock = clock
        self._colour = colour
        self._triggers = settings.camera.trigger == "software"
        self._waits_for_pulses = settings.camera.trigger not in ("off", "software")
        device = open_device()
        self.width, self.height = device.width, device.height
        self.fps = device.fps or ASSUMED_FPS
        self.assumed_fps = device.fps is None
        self.warnings = device.warnings
        self.description = device.description
        self.tell: Callable[[str], None] = lambda text: None
        self._silence_s = max(settings.silence_s, _SLOW_FRAMES / self.fps)
        self._ids = BlockIds(wraps16=device.wraps16)
        self._ticks = DeviceClock(device.tick_s, device.tick_bits)
        self._connection = Reconnection(
            device,
            self._open_started,
            name=device.name,
            fps=self.fps,
            clock=clock,
            reconnect_s=settings.reconnect_s,
            tell=lambda text: self.tell(text),
        )
        # The state since the camera was reached.
        self._heard_s = 0.0  # arrival of the last picture, or the beginning
        self._due_s: float | None = None
        self._triggered = False
        self._incomplete = 0
        self._why = ""

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        return self._connection.damage

    @property
    def lost(self) -> dict[str, int]:
        """Return the frames lost after the last picture, by reason."""
        return self._connection.lost

    @property
    def clock_fit(self) -> ClockFit | None:
        """Return how the camera's clock runs against the host's, None where it stamps no frames."""
        return self._ticks.fit

    def stop(self) -> None:
        """Make :meth:`pictures` end within 0.1 s or the camera's own shortest wait; safe from a signal handler."""
        self._connection.stop()

    def forget(self) -> None:
        """Note that the stream begins with the picture yielded last."""
        self._connection.forget()

    def close(self) -> None:
        """Give the camera back; may be called more than once."""
        self._device.close()

    @property
    def _device(self) -> CameraDevice:
        return self._connection.medium

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures as they come; ends when the camera is gone for good, or is stopped.

        Raises
        ------
        CaptureError
            The camera cannot start, or came back with another picture size.
        """
        frame = -1
        self._device.start()
        self._connection.begin()
        self._heard_s = self._clock.now_s()
        while self._connection.wanted():
            try:
                grab = self._next()
            except CaptureError as error:
                if not self._connection.come_back(str(error)):
                    return
                self._begin_again()
                continue
            if grab is None or (image := grab.image) is None:
                continue
            arrival_s = self._clock.now_s() if grab.arrival_s is None else grab.arrival_s
            dropped = self._dropped_before(grab, arrival_s, first=frame < 0)
            self._heard_s = arrival_s
            frame += 1 + sum(dropped.values())
            t_device_s = None if grab.tick is None else self._ticks.observe(grab.tick, arrival_s)
            yield Picture(
                frame=frame,
                number=frame,
                image=self._checked(image),
                t_capture_s=arrival_s,
                t_device_s=t_device_s,
                dropped=dropped,
            )

    def _next(self) -> Grab | None:
        """Return what arrived within one short wait; raises CaptureError where the camera is gone or gives nothing."""
        if self._triggers and not self._triggered:
            self._triggered = self._trigger()
        grab = self._device.fetch(SLICE_S)
        if grab is not None:
            self._triggered = False
            if grab.image is not None:
                return grab
            self._incomplete += 1
            self._why = grab.why
        silent_s = self._clock.now_s() - self._heard_s
        if silent_s > self._silence_s and not self._waits_for_pulses:
            what = f"only incomplete pictures ({self._incomplete})" if self._incomplete else "no picture"
            why = f" ({self._why})" if self._incomplete and self._why else ""
            raise CaptureError(
                f"{self._device.name}: gave {what} for {silent_s:.1f} s{why}; check cable and connection"
            )
        return grab

    def _trigger(self) -> bool:
        due_s = self._clock.now_s() if self._due_s is None else self._due_s
        wanted = self._connection.wait_until_s(due_s)
        # A trigger that comes late does not make the later ones hurry: the camera could not follow.
        self._due_s = max(due_s + 1 / self.fps, self._clock.now_s() - 1 / self.fps)
        return wanted and self._device.trigger(SLICE_S)

    def _dropped_before(self, grab: Grab, arrival_s: float, *, first: bool) -> dict[str, int]:
        """Return the frames lost before ``grab`` by reason."""
        missing = None if grab.block_id is None else self._ids.missing_before(grab.block_id)
        incomplete, self._incomplete = self._incomplete, 0
        disconnected = self._connection.arrived(arrival_s)
        if first:
            return {}
        dropped: dict[str, int] = {}
        if disconnected is not None:
            dropped["disconnected"] = disconnected
        elif missing is not None:
            dropped["skipped"] = max(0, missing - incomplete)
            dropped["incomplete"] = incomplete
        else:
            dropped["incomplete"] = incomplete
        return {reason: count for reason, count in dropped.items() if count}

    def _checked(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if image.shape[:2] != (self.height, self.width):
            raise CaptureError(
                f"{self._device.name}: gave a picture of {image.shape[1]}x{image.shape[0]} px, expected "
                f"{self.width}x{self.height}; does another program change its settings?"
            )
        if not self._colour or image.ndim == 3:
            return image
        bgr: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return bgr

    def _open_started(self) -> CameraDevice:
        device = self._open()
        try:
            device.start()
        except CaptureError:
            device.close()
            raise
        return device

    def _begin_again(self) -> None:
        self._heard_s = self._clock.now_s()
        self._ids.restart()
        self._ticks.restart()
        self._due_s = None
        self._triggered = False
        self._incomplete = 0
