"""Live media that are lost and found again: growing pauses, what was missed meanwhile, and how that is told.

The same for industrial cameras, webcams and network streams. Every wait is a sequence of short ones between which the
flag that :meth:`Reconnection.stop` sets is looked at; that flag is plain, so a signal handler may set it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from megc_stream.clock import Clock
from megc_stream.errors import CaptureError

__all__ = ["SLICE_S", "Reconnection"]

SLICE_S = 0.1
"""Longest wait without looking at the stop flag."""
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.25, 5.0  # pauses between two attempts


class _Medium(Protocol):
    width: int
    height: int

    def close(self) -> None: ...


_M = TypeVar("_M", bound=_Medium)


class Reconnection(Generic[_M]):
    """Keeps hold of a medium: opens it again after it was lost, and counts what was missed by time and rate.

    Parameters
    ----------
    medium
        Opened, as :attr:`medium` is at all times.
    open_again
        Opens it anew, delivering; a CaptureError means not yet.
    name
        What messages call it.
    fps
        Its rate.
    clock
        Tells arrivals, and waits.
    reconnect_s
        How long to try, from the loss until a picture comes, seconds; 0 never tries.
    tell
        Gets one line when the medium is lost and looked for, and one when it is back.
    """

    def __init__(
        self,
        medium: _M,
        open_again: Callable[[], _M],
        *,
        name: str,
        fps: float,
        clock: Clock,
        reconnect_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self.medium = medium
        self._stopped = False
        self._open_again = open_again
        self._size = (medium.width, medium.height)
        self._name = name
        self._fps = fps
        self._clock = clock
        self._reconnect_s = reconnect_s
        self._tell = tell
        self._gone = ""  # why going on is impossible
        self._missed_at_end = 0
        self._last_s = clock.now_s()  # arrival of the last picture, or the start
        self._lost_s: float | None = None  # since when it is away; being reached again is not enough to end that
        self._any = self._away = False
        self._disconnections = self._missed = 0

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        if self._gone:
            return self._gone
        missing = self._missing()
        disconnections = self._disconnections + (missing > 0)
        if not disconnections:
            return ""
        times = "once" if disconnections == 1 else f"{disconnections} times"
        return f"{self._name}: was disconnected {times}, about {self._missed + missing} frames were missed"

    @property
    def lost(self) -> dict[str, int]:
        """Return the frames missed since the last picture, by reason, while the medium is away or gone for good."""
        missing = self._missing()
        return {"disconnected": missing} if missing else {}

    def forget(self) -> None:
        """Note that the stream begins with the picture that came last: losses before it are none of its."""
        self._disconnections = self._missed = 0

    def stop(self) -> None:
        """Make every wait end within 0.1 s; safe from a signal handler."""
        self._stopped = True

    def wanted(self) -> bool:
        """Return whether to go on: :meth:`stop` was not called."""
        return not self._stopped

    def begin(self) -> None:
        """Note that pictures are expected from now on."""
        self._last_s = self._clock.now_s()

    def arrived(self, arrival_s: float) -> int | None:
        """Note a picture; return how many were missed if it is the first after a loss, else None."""
        missed = None
        if self._away and self._any:
            missed = max(0, round((arrival_s - self._last_s) * self._fps) - 1)
            self._missed += missed
            self._disconnections += 1
        if self._away:
            frames = f", {missed} frames missed" if missed else ""
            self._tell(f"{self._name}: is back after {arrival_s - self._last_s:.1f} s{frames}")
        self._any, self._away = True, False
        self._last_s, self._lost_s = arrival_s, None
        return missed

    def come_back(self, why: str) -> bool:
        """Leave the medium and open it again, with growing pauses; False where that is hopeless or no longer wanted.

        Parameters
        ----------
        why
            What happened, told at once and if it does not come back.

        Raises
        ------
        CaptureError
            It came back with another picture size.
        """
        self.medium.close()
        if self._lost_s is None:
            self._lost_s = self._clock.now_s()
            if self._reconnect_s and self.wanted():
                self._tell(f"{why}; looking for it again for {self._reconnect_s:g} s")
        give_up_s = self._lost_s + self._reconnect_s
        pause_s = _FIRST_RETRY_S
        last = ""
        while (now_s := self._clock.now_s()) < give_up_s and self.wait_until_s(min(now_s + pause_s, give_up_s)):
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
            try:
                medium = self._open_again()
            except CaptureError as error:
                last = f", the last time because of: {error}"
                continue
            if (medium.width, medium.height) != self._size:
                medium.close()
                raise CaptureError(
                    f"{self._name}: came back with {medium.width}x{medium.height} px, expected "
                    f"{self._size[0]}x{self._size[1]}; keep its size, in the settings or in the camera, while it is "
                    "watched"
                )
            self.medium = medium
            self._away = True
            return True
        if self.wanted():
            self._missed_at_end = max(1, self._due())
            tried = f"; not reached again within {self._reconnect_s:g} s (capture.reconnect_s)"
            self._gone = why + (tried + last if self._reconnect_s else "")
        return False

    def _missing(self) -> int:
        """Return how many frames are missing now, 0 where pictures come or none ever came."""
        if self._gone:
            return self._missed_at_end
        return self._due() if self._any and self._lost_s is not None else 0

    def _due(self) -> int:
        return round((self._clock.now_s() - self._last_s) * self._fps)

    def wait_until_s(self, deadline_s: float) -> bool:
        """Wait; return :meth:`wanted`."""
        while (now_s := self._clock.now_s()) < deadline_s and self.wanted():
            self._clock.wait_until_s(min(deadline_s, now_s + SLICE_S))
        return self.wanted()
