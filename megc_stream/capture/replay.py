"""Delivery of recorded media: nothing is lost, the consumer sets the pace unless a speed is given."""

from __future__ import annotations

from collections.abc import Iterator

from megc_stream.capture.pacing import Pacer
from megc_stream.capture.source import Identity, Reader, SourceBase
from megc_stream.clock import Clock
from megc_stream.records import Frame
from megc_stream.settings import CaptureSettings

__all__ = ["ReplaySource"]


class ReplaySource(SourceBase):
    """Plays a recorded medium as fast as it is read, or at ``settings.speed`` times its own rate."""

    live = False

    def __init__(self, reader: Reader, identity: Identity, settings: CaptureSettings, clock: Clock) -> None:
        super().__init__(reader, identity)
        self._pacer = Pacer(clock, settings.speed or None)
        self._max_seconds = settings.max_seconds

    @property
    def late(self) -> int:
        """Return how many frames were released more than 50 ms after their deadline."""
        return self._pacer.late

    def _delivery(self) -> Iterator[Frame]:
        for picture in self._reader.pictures():
            pts_s = picture.frame / self._reader.fps if picture.pts_s is None else picture.pts_s
            if self._max_seconds is not None and pts_s >= self._max_seconds:
                return
            t_capture_s = self._pacer.release(pts_s, lambda: self._stopped)
            yield Frame(
                source=self.info.source,
                frame=picture.frame,
                number=picture.number,
                image=picture.image,
                t_capture_s=t_capture_s,
                pts_s=pts_s,
                dropped=picture.dropped,
            )
            if self._stopped:
                return
