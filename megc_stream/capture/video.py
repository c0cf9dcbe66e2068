"""Video files and network streams through PyAV: true time stamps, turned upright, grey without a detour over colour.

The decoder runs in one thread (``thread_count = 1``): a core is what a stream may cost, and errors in damaged files are
then concealed in the same way every time. Pictures that the decoder reports as damaged are left out; FFmpeg's decoders
report them for H.264, MPEG-1 and MJPEG, while those for HEVC and FFV1 conceal without a word.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from megc_stream.capture.source import ASSUMED_FPS, Picture
from megc_stream.errors import CaptureError

__all__ = ["VideoReader"]

# Formats whose first plane is 8-bit luma, one byte per pixel: that plane is the grey picture.
# Without these, swscale rounds colours 2 to 4 levels down.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_LUMA_FIRST = re.compile(r"gray|yuvj?4(10|11|20|22|40|44)p|nv(12|16|21|24|42)")
_RANGE_LIMITED, _RANGE_FULL = 1, 2  # AVCOL_RANGE_MPEG and _JPEG; 0 is "not said"

# Limited-range luma to full range: black is 16, white is 235 (ITU-R BT.601).
_EXPAND = np.round((np.clip(np.arange(256.0), 16, 235) - 16) * (255 / 219)).astype(np.uint8)

# `VideoFrame.rotation` counts degrees counterclockwise.
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}

_FASTEST_FPS = 2000.0  # a rate above is a time base, handed out by a container that knows no rate

_TIMEOUT_S = 10.0  # for opening a network stream, and for each read from it


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

    Raises
    ------
    CaptureError
        The location cannot be opened, is no video, or holds no frame that can be decoded.
    """

    def __init__(
        self, location: str, *, name: str, colour: bool = False, fps: float | None = None, network: bool = False
    ) -> None:
        self._name = name
        self._colour = colour
        self._container = _open(location, name, network)
        try:
            self._stream = _video_stream(self._container, name)
            own_fps = _rate(self._stream)
            self.fps = fps or own_fps or ASSUMED_FPS
            self.assumed_fps = fps is None and own_fps is None
            self._own_times = fps is None
            self.frames = _expected_frames(self._container, self._stream, own_fps)
            self.lost: dict[str, int] = {}
            self._reformatter = VideoReformatter()
            self._packets = 0
            self._damaged: list[int | None] = []  # time stamps of damaged packets and frames not yet accounted for
            self._left_out = 0
            self._delivered = 0
            self._origin: int | None = None  # time stamp of the first frame, damaged or not
            self._trouble = ""  # why decoding ended before the end
            self._decoder = self._decode()
            first = next(self._decoder, None)
            if first is None:
                raise CaptureError(f"{name}: no video frame can be decoded, the file is damaged or has none")
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

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        if self._trouble:
            of = f" of about {self.frames}" if self.frames else ""
            return f"{self._name}: {self._delivered}{of} frames decoded, {self._trouble}"
        if self._left_out:
            return f"{self._name}: {self._delivered} frames decoded, {self._left_out} more left out as damaged"
        return ""

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures; damaged ones are left out and counted."""
        last_s: float | None = None
        for frame in self._frames():
            if (frame.width, frame.height) != self._size:
                self._trouble = f"then the picture changes from {self._size} to {(frame.width, frame.height)} px"
                break
            lost = self._damaged_before(frame)
            self._left_out += lost
            index = self._delivered + self._left_out
            pts_s = self._pts_s(frame) if self._own_times else index / self.fps
            if last_s is not None and (pts_s is None or pts_s <= last_s):
                pts_s = last_s + 1 / self.fps  # files with missing or repeated stamps exist; time grows all the same
            last_s = pts_s or 0.0
            dropped = {"damaged": lost} if lost else {}
            self._delivered += 1
            yield Picture(frame=index, number=index, image=self._image(frame), pts_s=last_s, dropped=dropped)
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

    def _frames(self) -> Iterator[VideoFrame]:
        yield self._first
        yield from self._decoder

    def _decode(self) -> Generator[VideoFrame, None, None]:
        # Packet by packet: the generator of container.decode() cannot go on after a packet that is damaged.
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self._trouble = f"then reading fails ({error.strerror})"
                packet = None
            at_end = packet is None or (packet.dts is None and packet.size == 0)
            try:
                frames = self._stream.codec_context.decode(None if at_end else packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                frames = []
                self._damaged.append(None if packet is None else packet.pts)
            self._packets += not at_end
            for frame in frames:
                if self._origin is None:
                    self._origin = frame.pts
                if frame.is_corrupt:
                    self._damaged.append(frame.pts)
                else:
                    yield frame
            if at_end:
                return

    def _damaged_before(self, frame: VideoFrame) -> int:
        """Take the damage that belongs before ``frame`` in the order of display, and return its amount."""
        later: list[int | None] = []
        if (now := frame.pts) is not None:
            later = [pts for pts in self._damaged if pts is not None and pts > now]
        before = len(self._damaged) - len(later)
        self._damaged = later
        return before

    def _tolerance(self) -> int:
        """Return by how many frames a container's promise may exceed what it holds without being damage."""
        # A duration times a rate is less exact than a count.
        return 1 if self._stream.frames else max(2, (self.frames or 0) // 50)

    def _pts_s(self, frame: VideoFrame) -> float | None:
        if frame.pts is None or self._origin is None or self._stream.time_base is None:
            return None
        return float((frame.pts - self._origin) * self._stream.time_base)

    def _image(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the upright picture as a contiguous array of its own."""
        if not self._colour and _LUMA_FIRST.fullmatch(frame.format.name) and frame.planes[0].line_size > 0:
            image = _luma(frame)
        else:
            # One thread: with several, swscale now and then gives wrong pixels where their parts of the picture meet.
            wanted = "bgr24" if self._colour else "gray"
            view = self._reformatter.reformat(frame, format=wanted, interpolation=_EXACT, threads=1).to_ndarray()
            image = np.array(view, np.uint8, order="C")  # the view may be padded, and FFmpeg's own buffer
        if self._turn is not None:
            image = cv2.rotate(image, self._turn)
        return image


def _luma(frame: VideoFrame) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    padded = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    luma = padded[: frame.height, : frame.width]
    name = frame.format.name
    full = frame.color_range == _RANGE_FULL or (
        frame.color_range != _RANGE_LIMITED and (name == "gray" or name.startswith("yuvj"))
    )
    if full:
        return luma.copy()
    expanded: NDArray[np.uint8] = cv2.LUT(luma, _EXPAND)
    return expanded


def _open(location: str, name: str, network: bool) -> InputContainer:
    try:
        if network:
            options = {"rtsp_transport": "tcp"} if location.lower().startswith("rtsp") else {}
            return av.open(location, options=options, timeout=_TIMEOUT_S, metadata_errors="replace")
        # A playlist or reference inside a local file must not reach out; "file:" keeps colons in names harmless.
        options = {"protocol_whitelist": "file,crypto,data"}
        return av.open(f"file:{location}", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        expected = "a live stream" if network else "a video file such as .mp4, .mkv, .avi or .mpg, not cut off"
        raise CaptureError(f"{name}: cannot be opened as a video ({error.strerror}); expected {expected}") from error


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
