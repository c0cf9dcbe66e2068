"""Frames that a camera counted and the host never saw, found by the block ids of those that came."""

from __future__ import annotations

__all__ = ["BlockIds"]

_BITS16 = 1 << 16


class BlockIds:
    """Counts the frames missing between two block ids.

    Parameters
    ----------
    wraps16
        Whether ids may have 16 bits (GigE Vision without extended ids: 1..65535, then 1 again). An id above 65535 shows
        that they have not.
    skips_zero
        Whether 0 is left out when 16-bit ids wrap, as GigE Vision says.
    """

    def __init__(self, *, wraps16: bool, skips_zero: bool = True) -> None:
        self._wraps16 = wraps16
        self._period = _BITS16 - 1 if skips_zero else _BITS16
        self._last: int | None = None

    def restart(self) -> None:
        """Forget the last id: the next one may be any."""
        self._last = None

    def missing_before(self, block_id: int) -> int | None:
        """Return how many ids are missing between the last one and this one, None where the count began anew.

        A 16-bit id is taken to have wrapped where that makes less than half a round (163 s at 200 fps).
        """
        last, self._last = self._last, block_id
        if block_id >= _BITS16:
            self._wraps16 = False
        if last is None:
            return None
        step = block_id - last
        if step <= 0 and self._wraps16:
            step += self._period
            if step > self._period // 2:
                return None
        return step - 1 if step > 0 else None
