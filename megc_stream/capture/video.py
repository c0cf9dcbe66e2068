"""Video files and network streams through PyAV: true time stamps, turned upright, grey without a detour over colour.

The decoder runs in one thread (``thread_count = 1``): a core is what a stream may cost, and errors in damaged files are
then concealed in the same way every time. Pictures that the decoder reports as damaged are left out; FFmpeg's decoders
report them for H.264, MPEG-1 and MJPEG, while those for HEVC and FFV1 conceal without a word.

The pictures of Motion JPEG stand each for itself: where grey is wanted, several threads decode them with libjpeg-turbo,
which takes two thirds of FFmpeg's time; FFmpeg judges those that it refuses.
"""

from __future__ import annotations

import errno
import re
import socket
import threading
import time
from collections.abc import Generator
from contextlib import closing
from itertools import chain
from typing import NamedTuple
from urllib.parse import urlsplit

import av
import av.error
import cv2
import numpy as np
import simplejpeg
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from megc_stream.capture.ahead import depth_of, map_ahead, read_ahead
from megc_stream.capture.jpeg import RegionDecoder, Whole
from megc_stream.capture.source import ASSUMED_FPS, Picture
from megc_stream.errors import CaptureError
from megc_stream.records import Region

__all__ = ["VideoReader"]

# Formats whose first plane is 8-bit luma, one byte per pixel: that plane is the grey picture.
# Without these, swscale rounds colours 2 to 4 levels down.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_LUMA_FIRST = re.compile(r"gray|yuvj?4(10|11|20|22|40|44)p|nv(12|16|21|24|42)")
_RANGE_LIMITED, _RANGE_FULL = 1, 2  # AVCOL_RANGE_MPEG and _JPEG; 0 is "not said"

# Limited-range luma to full range: black is 16, white is 235 (ITU-R BT.601).
_EXPAND = 255 / 219

# `VideoFrame.rotation` counts degrees counterclockwise.
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}

_FASTEST_FPS = 2000.0  # a rate above is a time base, handed out by a container that knows no rate

_OPEN_S = 10.0  # longest wait for a network stream to open


class _Decoded(NamedTuple):
    """What became of one picture: its time stamp, its (width, height) before it is turned, None where it is damaged."""

    pts: int | None
    size: tuple[int, int]
    image: NDArray[np.uint8] | None
    decode_s: float
    region: Region | None = None
    rest: Whole | None = None


class VideoReader:
    """Decodes the first video stream of a file or URL.

    Parameters
    ----------
    location
        Path of a file, or URL of a stream.
    name
        What messages call it.
    colour
        Whether pictures are BGR (H, W, 3) instead of grey (H, W).
    fps
        Rate in place of the container's; time stamps are then ``frame / fps``.
    network
        Whether ``location`` is a URL; only then is anything but a local file opened.
    timeout_s
        Longest wait for a read from a network stream, seconds; it may take 10 s to open.

    Raises
    ------
    CaptureError
        The location cannot be opened, is no video, or holds no frame that can be decoded.
    """

    def __init__(
        self,
        location: str,
        *,
        name: str,
        colour: bool = False,
        fps: float | None = None,
        network: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        self._name = name
        self._colour = colour
        self._timeout_s = timeout_s
        self._container = _open(location, name, timeout_s if network else None)
        try:
            self._stream = _video_stream(self._container, name)
            own_fps = _rate(self._stream)
            self.fps = fps or own_fps or ASSUMED_FPS
            self.assumed_fps = fps is None and own_fps is None
            self._own_times = fps is None
            self.finite = bool(self._container.duration)
            """Whether the medium has a length, as a file has and a live stream has not."""
            self.frames = _expected_frames(self._container, self._stream, own_fps)
            self.lost: dict[str, int] = {}
            self._reformatter = VideoReformatter()
            self._packets = 0
            self._damaged: list[int | None] = []  # time stamps of damaged packets and frames not yet accounted for
            self._left_out = 0
            self._delivered = 0
            self._origin: int | None = None  # time stamp of the first frame, damaged or not
            self._trouble = ""  # why decoding ended before the end
            self._demuxed = self._container.demux(self._stream)
            self._decoder = self._decode()
            first = next(self._decoder, None)
            if first is None:
                medium = "stream" if network else "file"
                why = self._trouble or f"the {medium} is damaged or has none"
                raise CaptureError(f"{name}: no video frame can be decoded, {why}")
            self._first = first
        except BaseException:
            self._container.close()
            raise
        self._size = (first.width, first.height)
        self._turn = _TURNS.get(round(first.rotation) % 360)
        quarter = self._turn in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE)
        self.width, self.height = (first.height, first.width) if quarter else self._size
        self.description = f"{self._stream.codec_context.name} {first.format.name} {self.width}x{self.height}"
        if self._turn is not None:
            self.description += f", turned by {-round(first.rotation) % 360} degrees clockwise"
        self._jpeg = not colour and self._stream.codec_context.name == "mjpeg" and _has_luma(first) and _full(first)
        self._judging = threading.Lock()
        self._regions = RegionDecoder()

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        if self._trouble:
            of = f" of about {self.frames}" if self.frames else ""
            return f"{self._name}: {self._delivered}{of} frames decoded, then {self._trouble}"
        if self._left_out:
            return f"{self._name}: {self._delivered} frames decoded, {self._left_out} more left out as damaged"
        return ""

    @property
    def trouble(self) -> str:
        """Return why decoding ended before the end, in one line, or ""."""
        return self._trouble and f"{self._name}: {self._trouble}"

    def look_at(self, region: Region | None) -> None:
        """Decode further pictures of a grey Motion JPEG, if it is upright, only there; None for all of them."""
        if self._jpeg and self._turn is None:
            self._regions.look_at(region)

    def pictures(self, threads: int = 0, ahead_bytes: int = 0) -> Generator[Picture, None, None]:
        """Yield the pictures; damaged ones are left out and counted.

        ``threads`` > 0 lets one thread decode ahead, up to ``ahead_bytes``: the pictures of a video need each other.
        Those of Motion JPEG do not, and so many threads decode them.
        """
        depth = depth_of(ahead_bytes, self.width * self.height * (3 if self._colour else 1))
        if self._jpeg:
            return self._pictures(self._jpegs(threads, depth))
        pictures = self._pictures(self._frames())
        return read_ahead(pictures, depth) if threads else pictures

    def _pictures(self, decoded: Generator[_Decoded, None, None]) -> Generator[Picture, None, None]:
        last_s: float | None = None
        with closing(decoded):
            for pts, size, image, decode_s, region, rest in decoded:
                if image is None:
                    self._damaged.append(pts)
                    continue
                if size != self._size:
                    self._trouble = f"the picture changes from {self._size} to {size} px"
                    break
                lost = self._damaged_before(pts)
                self._left_out += lost
                index = self._delivered + self._left_out
                pts_s = self._pts_s(pts) if self._own_times else index / self.fps
                if last_s is not None and (pts_s is None or pts_s <= last_s):
                    pts_s = (
                        last_s + 1 / self.fps
                    )  # files with missing or repeated stamps exist; time grows all the same
                last_s = pts_s or 0.0
                dropped = {"damaged": lost} if lost else {}
                self._delivered += 1
                yield Picture(
                    frame=index,
                    number=index,
                    image=image,
                    pts_s=last_s,
                    decode_s=decode_s,
                    dropped=dropped,
                    region=region,
                    rest=rest,
                )
        missing = len(self._damaged)
        self._left_out += missing
        if self.frames is not None and not self._trouble and self._packets < self.frames - self._tolerance():
            self._trouble = "the file ends early"
            missing += self.frames - self._packets
        self.lost = {"damaged": missing} if missing else {}

    def close(self) -> None:
        """Release the container; may be called more than once."""
        self._decoder.close()
        self._container.close()

    def _frames(self) -> Generator[_Decoded, None, None]:
        begin_s = time.perf_counter()
        for frame in chain([self._first], self._decoder):
            image = self._image(frame)
            yield _Decoded(frame.pts, (frame.width, frame.height), image, time.perf_counter() - begin_s)
            begin_s = time.perf_counter()

    def _jpegs(self, threads: int, depth: int) -> Generator[_Decoded, None, None]:
        begin_s = time.perf_counter()
        image = self._image(self._first)
        yield _Decoded(self._first.pts, self._size, image, time.perf_counter() - begin_s)
        with closing(map_ahead(self._decode_jpeg, iter(self._packet, None), threads, depth)) as decoded:
            yield from decoded

    def _decode_jpeg(self, packet: Packet[VideoStream]) -> _Decoded:
        begin_s = time.perf_counter()
        pts = packet.dts if packet.pts is None else packet.pts
        data, size = bytes(packet), self._size
        part = self._regions.decode(data)
        if part is not None and part[0].shape[::-1] == size:
            return _Decoded(pts, size, part[0], time.perf_counter() - begin_s, part[1], Whole(data))
        image = _decode_grey(data, size, strict=True)
        if image is not None:
            image = self._upright(image)
        else:  # damaged, of another size, or of a kind that libjpeg-turbo does not know, such as two fields in a packet
            image, size = self._judge(packet, data)
        return _Decoded(pts, size, image, time.perf_counter() - begin_s)

    def _judge(self, packet: Packet[VideoStream], data: bytes) -> tuple[NDArray[np.uint8] | None, tuple[int, int]]:
        """Return what becomes of a JPEG that is not in order, and its size; FFmpeg says whether it counts as damaged.

        FFmpeg leaves what it could not decode of a picture as it was in the memory; libjpeg-turbo fills it, where it
        can. Where it cannot, the memory is that of the first picture, so that the same file gives the same pictures.
        """
        with self._judging:
            self._stream.codec_context.decode(self._first_packet)
            try:
                frame = next(iter(self._stream.codec_context.decode(packet)), None)
            except av.error.FFmpegError:
                frame = None
            if frame is None or frame.is_corrupt:
                return None, self._size
            size = (frame.width, frame.height)
            filled = _decode_grey(data, size, strict=False)
            return self._image(frame) if filled is None else self._upright(filled), size

    def _packet(self) -> Packet[VideoStream] | None:
        """Return the next packet; None at the end, or where reading on fails."""
        try:
            packet = next(self._demuxed, None)
        except av.error.FFmpegError as error:
            silent = isinstance(error, av.error.ExitError)  # only a time-out makes FFmpeg leave
            why = f"nothing came for {self._timeout_s:g} s" if silent else error.strerror
            self._trouble = f"reading fails ({why})"
            return None
        if packet is None or (packet.dts is None and packet.size == 0):
            return None
        self._packets += 1
        return packet

    def _decode(self) -> Generator[VideoFrame, None, None]:
        # Packet by packet: the generator of container.decode() cannot go on after a packet that is damaged.
        while True:
            packet = self._packet()
            if self._origin is None:
                self._first_packet = packet
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                frames = []
                self._damaged.append(None if packet is None else packet.pts)
            for frame in frames:
                if self._origin is None:
                    self._origin = frame.pts
                if frame.is_corrupt:
                    self._damaged.append(frame.pts)
                else:
                    yield frame
            if packet is None:
                return

    def _damaged_before(self, now: int | None) -> int:
        """Take the damage that belongs before ``now`` in the order of display, and return its amount."""
        later: list[int | None] = []
        if now is not None:
            later = [pts for pts in self._damaged if pts is not None and pts > now]
        before = len(self._damaged) - len(later)
        self._damaged = later
        return before

    def _tolerance(self) -> int:
        """Return by how many frames a container's promise may exceed what it holds without being damage."""
        # A duration times a rate is less exact than a count.
        return 1 if self._stream.frames else max(2, (self.frames or 0) // 50)

    def _pts_s(self, pts: int | None) -> float | None:
        if pts is None or self._origin is None or self._stream.time_base is None:
            return None
        return float((pts - self._origin) * self._stream.time_base)

    def _image(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the upright picture as a contiguous array of its own."""
        if not self._colour and _has_luma(frame):
            image = _luma(frame)
        else:
            # One thread: with several, swscale now and then gives wrong pixels where their parts of the picture meet.
            wanted = "bgr24" if self._colour else "gray"
            view = self._reformatter.reformat(frame, format=wanted, interpolation=_EXACT, threads=1).to_ndarray()
            image = np.array(view, np.uint8, order="C")  # the view may be padded, and FFmpeg's own buffer
        return self._upright(image)

    def _upright(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image if self._turn is None else cv2.rotate(image, self._turn)


def _has_luma(frame: VideoFrame) -> bool:
    return _LUMA_FIRST.fullmatch(frame.format.name) is not None and frame.planes[0].line_size > 0


def _full(frame: VideoFrame) -> bool:
    """Return whether black is 0 and white is 255."""
    name = frame.format.name
    return frame.color_range == _RANGE_FULL or (
        frame.color_range != _RANGE_LIMITED and (name == "gray" or name.startswith("yuvj"))
    )


def _luma(frame: VideoFrame) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    padded = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    luma = padded[: frame.height, : frame.width]
    if _full(frame):
        return luma.copy()
    # Rounded and clipped, as by a table, and faster; no value lies near a half.
    expanded: NDArray[np.uint8] = cv2.addWeighted(luma, _EXPAND, luma, 0.0, -16 * _EXPAND)
    return expanded


def _decode_grey(data: bytes, size: tuple[int, int], *, strict: bool) -> NDArray[np.uint8] | None:
    """Return the luma of a JPEG of this (width, height), or None; without ``strict`` what is damaged is filled."""
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=strict)[:, :, 0]
    except ValueError:
        return None
    return image if image.shape[::-1] == size else None


def _open(location: str, name: str, timeout_s: float | None) -> InputContainer:
    begin_s = time.perf_counter()
    try:
        if timeout_s is not None:
            options = {"fflags": "nobuffer"}  # FFmpeg otherwise keeps what it read while it guessed the format
            if location.lower().startswith("rtsp"):
                options["rtsp_transport"] = "tcp"
            return av.open(location, options=options, timeout=(_OPEN_S, timeout_s), metadata_errors="replace")
        # A playlist or reference inside a local file must not reach out; "file:" keeps colons in names harmless.
        options = {"protocol_whitelist": "file,crypto,data"}
        return av.open(f"file:{location}", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        expected = (
            "a live stream" if timeout_s is not None else "a video file such as .mp4, .mkv, .avi or .mpg, not cut off"
        )
        # FFmpeg has several names for a time-out: to leave at once, or, for RTSP, invalid data.
        silent = timeout_s is not None and time.perf_counter() - begin_s >= _OPEN_S
        why = f"no answer within {_OPEN_S:g} s" if silent else error.strerror
        if (
            timeout_s is not None
            and not silent
            and error.errno == errno.EIO
            and _is_unknown(urlsplit(location).hostname)
        ):
            why, expected = "its host is not known", "a name that can be resolved, or an address"
        elif isinstance(error, av.error.HTTPNotFoundError):
            expected += "; check the path in the address"
        elif isinstance(error, av.error.HTTPUnauthorizedError):
            expected += "; give the right user and password, as in rtsp://USER:PASSWORD@HOST/..."
        raise CaptureError(f"{name}: cannot be opened as a video ({why}); expected {expected}") from error


def _is_unknown(host: str | None) -> bool:
    """Return whether a name cannot be resolved: FFmpeg calls that an error of input and output."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return True
    return False


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    kind = container.format.name
    if kind == "tty" or kind == "image2" or kind.endswith("_pipe"):
        # To FFmpeg single pictures and text are videos too; nobody means them.
        what = "a text file" if kind == "tty" else "a single picture"
        raise CaptureError(f"{name}: is {what}; expected a video file, or a folder of numbered images")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise CaptureError(f"{name}: has no video stream (streams: {kinds}); expected a video file")
    stream = streams[0]
    stream.codec_context.thread_count = 1
    return stream


def _rate(stream: VideoStream) -> float | None:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and 0 < rate <= _FASTEST_FPS:
            return float(rate)
    return None


def _expected_frames(container: InputContainer, stream: VideoStream, fps: float | None) -> int | None:
    """Return the number of frames that the header promises, or None where it promises nothing."""
    if stream.frames:
        return stream.frames
    if "matroska" not in container.format.name or fps is None:
        return None  # durations of other containers are estimated from the part of the file that is there
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if tag is not None:
        duration_s = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    elif container.duration is not None and len(container.streams) == 1:
        duration_s = container.duration / av.time_base
    else:
        return None
    return round(duration_s * fps) or None
