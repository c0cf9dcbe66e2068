"""Industrial cameras: what is done with the pictures of any SDK: gaps, device time, triggering, getting back.

An SDK is behind :class:`CameraDevice` (``pylon.py``, ``genicam.py``). Every wait is a sequence of short ones between
which the flag that :meth:`CameraReader.stop` sets is looked at; that flag is plain, so a signal handler may set it.
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
from megc_stream.capture.source import ASSUMED_FPS, Picture
from megc_stream.clock import Clock
from megc_stream.errors import CaptureError
from megc_stream.settings import CaptureSettings

__all__ = ["CameraDevice", "CameraReader", "Grab"]

_SLICE_S = 0.1  # longest wait without looking at the stop flag
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.25, 5.0  # back-off between two attempts to reach a camera again
_SLOW_FRAMES = 4  # a camera is silent only when at least so many frames are missing


@dataclass(frozen=True, slots=True)
class Grab:
    """What a camera delivered: an (H, W) uint8 image, or None where the picture arrived incomplete.

    ``block_id`` is the camera's count of frames and ``tick`` its time stamp, None where it has none.
    """

    image: NDArray[np.uint8] | None
    block_id: int | None = None
    tick: int | None = None


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
    """Takes pictures from an industrial camera and, should it be disconnected, from the same camera when it is back.

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
        self._reconnect_s = settings.reconnect_s
        self._device = open_device()
        device = self._device
        self.width, self.height = device.width, device.height
        self.fps = device.fps or ASSUMED_FPS
        self.assumed_fps = device.fps is None
        self.warnings = device.warnings
        self.description = device.description
        self._silence_s = max(settings.silence_s, _SLOW_FRAMES / self.fps)
        self._ids = BlockIds(wraps16=device.wraps16)
        self._ticks = DeviceClock(device.tick_s, device.tick_bits)
        self._stopped = False
        self._gone = ""  # why going on is impossible
        self._disconnections = 0
        self._missed = 0
        self.lost: dict[str, int] = {}
        # The state of one connection.
        self._last_s = 0.0  # arrival of the last picture, or the start
        self._heard_s = 0.0  # the same, or when the camera was reached again
        self._lost_s: float | None = None  # since when it is away; being reached again is not enough to end that
        self._due_s: float | None = None
        self._triggered = False
        self._incomplete = 0
        self._away = False

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        if self._gone:
            return self._gone
        if self._disconnections:
            times = "once" if self._disconnections == 1 else f"{self._disconnections} times"
            return f"{self._device.name}: was disconnected {times}, about {self._missed} frames were missed"
        return ""

    @property
    def clock_fit(self) -> ClockFit | None:
        """Return how the camera's clock runs against the host's, None where it stamps no frames."""
        return self._ticks.fit

    def stop(self) -> None:
        """Make :meth:`pictures` end within 0.1 s or the camera's own shortest wait; safe from a signal handler."""
        self._stopped = True

    def close(self) -> None:
        """Give the camera back; may be called more than once."""
        self._device.close()

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures as they come; ends when the camera is gone for good, or is stopped.

        Raises
        ------
        CaptureError
            The camera cannot start, or came back with another picture size.
        """
        frame = -1
        self._device.start()
        self._last_s = self._heard_s = self._clock.now_s()
        while not self._stopped:
            try:
                grab = self._next()
            except CaptureError as error:
                if not self._come_back(error):
                    return
                continue
            if grab is None or (image := grab.image) is None:
                continue
            arrival_s = self._clock.now_s()
            dropped = self._dropped_before(grab, arrival_s, first=frame < 0)
            self._lost_s = None
            self._last_s = self._heard_s = arrival_s
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
        grab = self._device.fetch(_SLICE_S)
        if grab is not None:
            self._triggered = False
            if grab.image is not None:
                return grab
            self._incomplete += 1
        silent_s = self._clock.now_s() - self._heard_s
        if silent_s > self._silence_s and not self._waits_for_pulses:
            what = f"only incomplete pictures ({self._incomplete})" if self._incomplete else "no picture"
            raise CaptureError(f"{self._device.name}: gave {what} for {silent_s:.1f} s; check cable and connection")
        return grab

    def _trigger(self) -> bool:
        now_s = self._clock.now_s()
        due_s = now_s if self._due_s is None else self._due_s
        while now_s < due_s and not self._stopped:
            self._clock.wait_until_s(min(due_s, now_s + _SLICE_S))
            now_s = self._clock.now_s()
        # A trigger that comes late does not make the later ones hurry: the camera could not follow.
        self._due_s = max(due_s + 1 / self.fps, now_s - 1 / self.fps)
        return not self._stopped and self._device.trigger(_SLICE_S)

    def _dropped_before(self, grab: Grab, arrival_s: float, *, first: bool) -> dict[str, int]:
        """Return the frames lost before ``grab`` by reason."""
        missing = None if grab.block_id is None else self._ids.missing_before(grab.block_id)
        incomplete, self._incomplete = self._incomplete, 0
        if first:
            self._away = False
            return {}
        dropped: dict[str, int] = {}
        if self._away:
            self._away = False
            self._disconnections += 1
            missed = max(0, round((arrival_s - self._last_s) * self.fps) - 1)
            self._missed += missed
            dropped["disconnected"] = missed
        elif missing is not None:
            dropped["skipped"] = max(0, missing - incomplete)
            dropped["incomplete"] = incomplete
        else:
            dropped["incomplete"] = incomplete
        return {reason: count for reason, count in dropped.items() if count}

    def _checked(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if image.shape != (self.height, self.width):
            raise CaptureError(
                f"{self._device.name}: gave a picture of {image.shape[1]}x{image.shape[0]} px, expected "
                f"{self.width}x{self.height}; does another program change its settings?"
            )
        if not self._colour:
            return image
        bgr: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return bgr

    def _come_back(self, why: CaptureError) -> bool:
        """Try to open the camera again with growing pauses; False where that is hopeless or no longer wanted."""
        self._device.close()
        if self._lost_s is None:
            self._lost_s = self._clock.now_s()
        pause_s = _FIRST_RETRY_S
        while self._clock.now_s() < self._lost_s + self._reconnect_s and self._wait(pause_s):
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
            try:
                device = self._open()
            except CaptureError:
                continue
            self._device = device
            try:
                device.start()
            except CaptureError:
                device.close()
                continue
            if (device.width, device.height) != (self.width, self.height):
                device.close()
                raise CaptureError(
                    f"{device.name}: came back with {device.width}x{device.height} px, expected "
                    f"{self.width}x{self.height}; set capture.camera.width and height"
                )
            self._begin_again()
            return True
        if not self._stopped:
            missed = max(1, round((self._clock.now_s() - self._last_s) * self.fps))
            self.lost = {"disconnected": missed}
            self._gone = str(why)
            if self._reconnect_s:
                self._gone += f"; not reached again within {self._reconnect_s:g} s (capture.reconnect_s)"
        return False

    def _begin_again(self) -> None:
        self._heard_s = self._clock.now_s()
        self._ids.restart()
        self._ticks.restart()
        self._due_s = None
        self._triggered = False
        self._incomplete = 0
        self._away = True

    def _wait(self, duration_s: float) -> bool:
        """Wait; False where :meth:`stop` was called."""
        end_s = self._clock.now_s() + duration_s
        while (now_s := self._clock.now_s()) < end_s and not self._stopped:
            self._clock.wait_until_s(min(end_s, now_s + _SLICE_S))
        return not self._stopped
