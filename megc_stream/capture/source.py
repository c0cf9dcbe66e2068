"""What a source of frames is, and what the sources of this package are made of.

A :class:`Reader` knows one kind of medium (a video container, a folder, a device) and yields :class:`Picture`; it knows
nothing of clocks, pace or threads. :class:`SourceBase` turns the pictures of a reader into the frames of a
:class:`Source`, and is completed by the two ways of delivering them: replay (``replay.py``) and live (``live.py``).
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from megc_stream.capture.device_clock import ClockFit
from megc_stream.errors import CaptureError, UsageError
from megc_stream.records import Frame, Region, StreamEnd, StreamInfo

__all__ = ["ASSUMED_FPS", "FileReader", "Identity", "LiveReader", "Picture", "Reader", "Source", "SourceBase"]

ASSUMED_FPS = 30.0
"""Rate in frames per second taken where neither the medium nor the settings name one."""


class Source(Protocol):
    """A stream of frames that is read once, from its beginning to its end.

    Attributes
    ----------
    info
        What the stream is; known as soon as the source is open.
    assumed_fps
        True where neither the medium nor the settings named a rate and :data:`ASSUMED_FPS` was taken.
    warnings
        What the user should know before the first frame, one line each.
    tell
        To be set by whoever wants to know at once that a live source is away or back: called with one line, from the
        thread that takes the pictures. It must not raise.
    """

    info: StreamInfo
    assumed_fps: bool
    warnings: tuple[str, ...]
    tell: Callable[[str], None]

    @property
    def clock_fit(self) -> ClockFit | None:
        """Return how the clock behind ``t_device_s`` runs against the host's; None where frames have no such stamp."""
        ...

    @property
    def late(self) -> int:
        """Return how many frames were released more than 50 ms after their deadline; 0 without a pace."""
        ...

    @property
    def late_by_reason(self) -> dict[str, int]:
        """Return the same by reason: "decoding" where a frame had to be waited for, else "analysis"."""
        ...

    @property
    def end(self) -> StreamEnd:
        """Return how the stream ended; raises UsageError while it has not."""
        ...

    def look_at(self, region: Region | None) -> None:
        """Say where the pictures to come are looked at, None for everywhere; the source may leave out the rest.

        A hint: which frames have a ``region``, and which one, depends on how far ahead they were decoded. Pixels inside
        it, frames and drops do not. Safe from any thread.
        """
        ...

    def drain(self) -> None:
        """Take what a live source delivers and throw it away, until the first frame is asked for; a file just waits.

        For whoever needs time between opening a source and reading it: drivers and sockets keep pictures, which would
        come late and all at once. The stream begins, as frame 0, with what comes once it is asked for.
        """
        ...

    def frames(self) -> Iterator[Frame]:
        """Return the iterator over the frames; raises UsageError when called a second time or after :meth:`close`."""
        ...

    def stop(self) -> None:
        """Make the iterator end soon; safe from any thread and from a signal handler."""
        ...

    def hold(self, reason: str | None) -> None:
        """Pause ("paused") or go on (None); any other reason names the drops of a live source that is too slow.

        A paused file waits, and its deadlines are put off; a paused live source drops its frames, counted as "paused".
        Safe from any thread.
        """
        ...

    def skip(self, frame: int) -> None:
        """Leave out the frames up to ``frame``, before the first is read; a live source has none to leave out."""
        ...

    def close(self) -> None:
        """Release the medium; may be called more than once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """What a stream is called in records: source id, subject and video."""

    source: str
    subject: str
    video: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture: uint8 (H, W) grey or (H, W, 3) BGR, contiguous, in memory of its own.

    ``frame`` is the 0-based index in the medium, ``pts_s`` the time since its first picture, ``t_capture_s`` the
    arrival (only from a reader that knows it better than its caller), ``decode_s`` what reading and decoding took,
    ``t_device_s`` the time on the camera's own clock, ``dropped`` the frames lost directly before, by reason: a reader
    lets ``frame`` jump by their sum. ``region`` and ``rest`` are those of :class:`megc_stream.records.Frame`.
    """

    frame: int
    number: int
    image: NDArray[np.uint8]
    pts_s: float | None = None
    t_capture_s: float | None = None
    t_device_s: float | None = None
    decode_s: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)
    region: Region | None = None
    rest: Callable[[], NDArray[np.uint8]] | None = None


class Reader(Protocol):
    """One kind of medium, opened; all sizes are in px after rotation."""

    fps: float
    assumed_fps: bool
    width: int
    height: int
    frames: int | None
    description: str

    @property
    def lost(self) -> dict[str, int]:
        """Return the frames lost after the last picture, by reason; of a live medium, up to this moment."""
        ...

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        ...

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures in order; ends at the end of the medium or where going on is impossible."""
        ...

    def close(self) -> None:
        """Release the medium; may be called more than once."""
        ...


class FileReader(Reader, Protocol):
    """A reader of a recorded medium, which can be decoded ahead of time."""

    def look_at(self, region: Region | None) -> None:
        """As :meth:`Source.look_at`."""
        ...

    def pictures(self, threads: int = 0, ahead_bytes: int = 0) -> Generator[Picture, None, None]:
        """As :meth:`Reader.pictures`; ``threads`` > 0 decode ahead, pictures of at most ``ahead_bytes`` in all."""
        ...


class LiveReader(Reader, Protocol):
    """A reader of a device or network stream.

    ``warnings``, ``tell`` and ``clock_fit`` are those of :class:`Source`.
    """

    warnings: tuple[str, ...]
    tell: Callable[[str], None]

    @property
    def clock_fit(self) -> ClockFit | None:
        """Return how the device's clock runs against the host's, or None."""
        ...

    def forget(self) -> None:
        """Note that the stream begins with the picture yielded last: ``damage`` tells nothing from before it."""
        ...

    def stop(self) -> None:
        """Make :meth:`pictures`, running in another thread, end soon; takes no lock."""
        ...


class SourceBase(ABC):
    """The part of a :class:`Source` that replay and live have in common: used once, stopped, ended, closed."""

    live: bool

    def __init__(self, reader: Reader, identity: Identity) -> None:
        self._reader = reader
        self.info = StreamInfo(
            source=identity.source,
            subject=identity.subject,
            video=identity.video,
            fps=reader.fps,
            width=reader.width,
            height=reader.height,
            frames=None if self.live else reader.frames,
            live=self.live,
            description=reader.description + (", rate assumed" if reader.assumed_fps else ""),
        )
        self.assumed_fps = reader.assumed_fps
        self.warnings: tuple[str, ...] = ()
        self.tell: Callable[[str], None] = lambda text: None
        # A plain flag: setting it takes no lock, so a signal handler may do it at any moment.
        self._stopped = False
        self._held: str | None = None
        self._skipped_to = -1
        self._closed = False
        self._delivered = 0
        self._end: StreamEnd | None = None
        self._iterator: Generator[Frame, None, None] | None = None

    @property
    def late(self) -> int:
        """Return 0: only replay with a pace has deadlines."""
        return 0

    @property
    def late_by_reason(self) -> dict[str, int]:
        """Return nothing; see :attr:`late`."""
        return {}

    @property
    def clock_fit(self) -> ClockFit | None:
        """Return None: a medium has no clock of its own."""
        return None

    @property
    def end(self) -> StreamEnd:
        """Return how the stream ended.

        Raises
        ------
        UsageError
            The iterator of :meth:`frames` is not exhausted yet.
        """
        if self._end is None:
            raise UsageError(f"{self.info.source}: the end of the stream was asked for before its last frame was read")
        return self._end

    def frames(self) -> Iterator[Frame]:
        """Return the iterator over the frames.

        Raises
        ------
        UsageError
            The frames were asked for before, or the source is closed.
        CaptureError
            While iterating: the medium cannot be read on for a reason that is not damage.
        """
        if self._closed:
            raise UsageError(f"{self.info.source}: the source is closed; open it again to read its frames")
        if self._iterator is not None:
            raise UsageError(f"{self.info.source}: frames() was called before; a source is read once, open it again")
        self._iterator = self._run()
        return self._iterator

    def look_at(self, region: Region | None) -> None:
        """Do nothing: pictures come whole; see :meth:`Source.look_at`."""
        return

    def drain(self) -> None:
        """Do nothing: a medium waits; see :meth:`Source.drain`."""
        return

    def stop(self) -> None:
        """Make the iterator end soon; safe from any thread and from a signal handler."""
        self._stopped = True

    def hold(self, reason: str | None) -> None:
        """Pause, or go on; see :meth:`Source.hold`."""
        self._held = reason

    def skip(self, frame: int) -> None:
        """Leave out the frames up to ``frame``; see :meth:`Source.skip`."""
        self._skipped_to = frame

    def close(self) -> None:
        """End the iterator and release the medium; may be called more than once."""
        self.stop()
        self._closed = True
        if self._iterator is not None:
            if inspect.getgeneratorstate(self._iterator) == inspect.GEN_RUNNING:
                return  # another thread is inside: the flag ends its iteration, which releases the medium itself
            self._iterator.close()
        if self._end is None:
            self._finish("stopped")
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _delivery(self) -> Iterator[Frame]:
        """Yield frames until the medium ends or ``_stopped`` is set."""

    def _release(self) -> None:
        self._reader.close()

    def _run(self) -> Generator[Frame, None, None]:
        try:
            for frame in self._delivery():
                if self._stopped:
                    break
                self._delivered += 1
                yield frame
            self._finish("stopped" if self._stopped else "damaged" if self._damage() else "end")
        except CaptureError as error:
            self._finish("damaged", str(error))
            raise
        finally:
            if self._end is None:  # the consumer broke off, or something unforeseen is on its way to it
                self._finish("stopped")
            self._release()

    def _damage(self) -> str:
        """Return what was lost of the stream, in one line, or ""."""
        return self._reader.damage

    def _lost(self, *, stopped: bool) -> dict[str, int]:
        """Return the frames lost after the last one delivered, by reason: of a medium that waits, a stop loses none."""
        return {} if stopped else dict(self._reader.lost)

    def _finish(self, reason: Literal["end", "stopped", "damaged"], message: str = "") -> None:
        self._end = StreamEnd(
            source=self.info.source,
            frames=self._delivered,
            reason=reason,
            message=message or self._damage(),
            dropped=self._lost(stopped=reason == "stopped"),
        )
