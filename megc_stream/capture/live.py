"""Delivery of live media: a thread takes every picture as it comes, and the oldest is dropped when nobody keeps up."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace

from megc_stream.capture.device_clock import ClockFit
from megc_stream.capture.source import Identity, LiveReader, Picture, SourceBase
from megc_stream.clock import Clock
from megc_stream.records import Frame, frames_of
from megc_stream.settings import CaptureSettings

__all__ = ["LiveBuffer", "LiveSource"]

_SETTLING_S = 1.0  # finding a face takes longer than following it, and all sources do it at once when they begin
_SETTLING_BYTES = 128 * 2**20
_POLL_S = 0.05  # longest wait without looking at the stop flag
_JOIN_S = 2.0  # longest wait for a device that is in the middle of a read when the source is closed


class LiveBuffer:
    """A bounded queue of pictures between one grabbing thread and one consumer.

    When more than ``capacity`` wait the oldest go; ``dropped`` of the next picture out counts them under ``reason``. Of
    the first ``settling`` pictures, as far as they fit into 128 MiB, none goes. What then waits beyond ``capacity``
    shrinks by one with each picture that comes: all at once would be a gap too long to follow a face across.
    """

    reason = "overrun"

    def __init__(self, capacity: int, settling: int = 0) -> None:
        self._capacity = capacity
        self._settling = settling
        self._settling_bytes = _SETTLING_BYTES
        self._pictures: deque[Picture] = deque()
        self._lost: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._finished = False
        self._error: BaseException | None = None

    def put(self, picture: Picture) -> None:
        """Add the newest picture; never blocks."""
        with self._changed:
            most = max(self._capacity, len(self._pictures) - 1)
            self._pictures.append(picture)
            self._settling_bytes -= picture.image.nbytes
            if self._settling and self._settling_bytes >= 0:
                self._settling -= 1
            else:
                self._settling = 0
                while len(self._pictures) > most:
                    oldest = self._pictures.popleft()
                    self._lost.update(oldest.dropped)
                    self._lost[self.reason] += 1
            self._changed.notify()

    def drop(self, picture: Picture) -> None:
        """Count the newest picture as lost."""
        with self._changed:
            self._lost.update(picture.dropped)
            self._lost[self.reason] += 1

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no picture follows, and why if it was an error."""
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify()

    def get(self, timeout_s: float) -> Picture | None:
        """Return the oldest picture, or None when there is none within ``timeout_s`` or none to come.

        Raises
        ------
        BaseException
            What the grabbing thread handed to :meth:`finish`, once the pictures before it are out.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._pictures or self._finished, timeout_s)
            if self._pictures:
                picture = self._pictures.popleft()
                if self._lost:
                    picture = replace(picture, dropped=dict(self._lost + Counter(picture.dropped)))
                    self._lost.clear()
                return picture
            if self._error is not None:
                raise self._error
            return None

    @property
    def lost(self) -> dict[str, int]:
        """Return the frames lost after the last picture given out, by reason; those that wait are not lost."""
        with self._changed:
            lost = sum((Counter(picture.dropped) for picture in self._pictures), self._lost)
            return {reason: count for reason, count in lost.items() if count}

    @property
    def exhausted(self) -> bool:
        """Return whether the grabbing thread has finished and every picture is out."""
        with self._changed:
            return self._finished and not self._pictures


class LiveSource(SourceBase):
    """Delivers a device or network stream; ``t_capture_s`` is the arrival, ``pts_s`` is None.

    At most ``settings.live_queue_s`` seconds of pictures wait for the consumer; at the beginning 1 s (at most 128 MiB),
    which then shrinks to that. Reading starts when the first frame is asked for, or with :meth:`drain`, in a thread
    that owns the reader from then on.
    """

    live = True

    def __init__(self, reader: LiveReader, identity: Identity, settings: CaptureSettings, clock: Clock) -> None:
        super().__init__(reader, identity)
        self.warnings = reader.warnings
        self._device = reader
        self._clock = clock
        self._max_seconds = settings.max_seconds
        reader.tell = lambda text: self.tell(text)  # whoever it is set to by then
        self._buffer = LiveBuffer(frames_of(settings.live_queue_s, reader.fps), frames_of(_SETTLING_S, reader.fps))
        self._thread: threading.Thread | None = None
        self._wanted = False
        self._begun = False
        self._full = False
        self._leave = False

    @property
    def clock_fit(self) -> ClockFit | None:
        """Return how the camera's clock runs against the host's; None where it stamps no frames."""
        return self._device.clock_fit

    def drain(self) -> None:
        """Throw away what comes until the first frame is asked for; see :meth:`megc_stream.capture.Source.drain`."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._grab, name="megc-capture", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Make the iterator end soon; safe from any thread and from a signal handler."""
        super().stop()
        self._device.stop()

    def hold(self, reason: str | None) -> None:
        """Drop every frame ("paused") or go on (None); see :meth:`megc_stream.capture.Source.hold`."""
        super().hold(reason)
        self._buffer.reason = reason or "overrun"

    def _damage(self) -> str:
        # What was lost before the first frame is no loss of this stream, unless it is why there is none.
        return super()._damage() if self._begun or not self._stopped else ""

    def _lost(self, *, stopped: bool) -> dict[str, int]:
        # A stop loses nothing, but what was lost before it is: the medium may have been away for long.
        if self._full or (stopped and not self._begun):
            return {}
        return dict(Counter(self._buffer.lost) + Counter(self._reader.lost))

    def _delivery(self) -> Iterator[Frame]:
        self._wanted = True
        self.drain()
        first_s: float | None = None
        while not self._stopped:
            picture = self._buffer.get(_POLL_S)
            if picture is None:
                if self._buffer.exhausted:
                    return
                continue
            assert picture.t_capture_s is not None
            first_s = picture.t_capture_s if first_s is None else first_s
            if self._max_seconds is not None and picture.t_capture_s - first_s >= self._max_seconds:
                self._full = True
                return
            yield Frame(
                source=self.info.source,
                frame=picture.frame,
                number=picture.number,
                image=picture.image,
                t_capture_s=picture.t_capture_s,
                t_device_s=picture.t_device_s,
                dropped=picture.dropped,
            )

    def _release(self) -> None:
        self._leave = True
        self._device.stop()
        if self._thread is None:
            self._reader.close()
        else:
            self._thread.join(_JOIN_S)

    def _grab(self) -> None:
        error: BaseException | None = None
        drained = not self._wanted
        offset = 0
        try:
            for picture in self._reader.pictures():
                if self._leave:
                    break
                if not self._wanted:
                    continue
                if drained and not self._begun:
                    offset = picture.frame
                    picture = replace(picture, dropped={})
                    self._device.forget()
                self._begun = True
                if offset:
                    picture = replace(picture, frame=picture.frame - offset, number=picture.number - offset)
                if picture.t_capture_s is None:
                    picture = replace(picture, t_capture_s=self._clock.now_s())
                if self._held == "paused":
                    self._buffer.drop(picture)
                else:
                    self._buffer.put(picture)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, the consumer has to see it
            error = raised
        finally:
            self._reader.close()
            self._buffer.finish(error)
