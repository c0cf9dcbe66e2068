"""Delivery of recorded media: nothing is lost, the consumer sets the pace unless a speed is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from megc_stream.capture.pacing import Pacer
from megc_stream.capture.source import FileReader, Identity, Picture, SourceBase
from megc_stream.clock import Clock
from megc_stream.records import Frame, Region
from megc_stream.settings import CaptureSettings

__all__ = ["ReplaySource"]


class ReplaySource(SourceBase):
    """Plays a recorded medium as fast as it is read, or at ``settings.speed`` times its own rate."""

    live = False

    def __init__(self, reader: FileReader, identity: Identity, settings: CaptureSettings, clock: Clock) -> None:
        super().__init__(reader, identity)
        self._file = reader
        self._pacer = Pacer(clock, settings.speed or None)
        self._max_seconds = settings.max_seconds
        self._threads = settings.decode_threads
        self._ahead_bytes = int(settings.ahead_mb * 2**20)

    @property
    def late(self) -> int:
        """Return how many frames were released more than 50 ms after their deadline."""
        return self._pacer.late

    @property
    def late_by_reason(self) -> dict[str, int]:
        """Return the same by reason; see :class:`megc_stream.capture.pacing.Pacer`."""
        return dict(sorted(self._pacer.late_by_reason.items()))

    def look_at(self, region: Region | None) -> None:
        """Say where the pictures to come are looked at; see :meth:`Source.look_at`."""
        self._file.look_at(region)

    def _delivery(self) -> Iterator[Frame]:
        with closing(self._file.pictures(self._threads, self._ahead_bytes)) as pictures:
            yield from self._paced(pictures)

    def _paced(self, pictures: Iterator[Picture]) -> Iterator[Frame]:
        self._pacer.ask()
        for picture in pictures:
            pts_s = picture.frame / self._reader.fps if picture.pts_s is None else picture.pts_s
            if self._max_seconds is not None and pts_s >= self._max_seconds:
                return
            if picture.frame <= self._skipped_to:
                self._delivered += 1
                continue
            self._pacer.pause(lambda: self._held == "paused" and not self._stopped)
            t_capture_s = self._pacer.release(pts_s, lambda: self._stopped)
            yield Frame(
                source=self.info.source,
                frame=picture.frame,
                number=picture.number,
                image=picture.image,
                t_capture_s=t_capture_s,
                pts_s=pts_s,
                decode_s=picture.decode_s,
                dropped=picture.dropped,
                region=picture.region,
                rest=picture.rest,
            )
            if self._stopped:
                return
            self._pacer.ask()
