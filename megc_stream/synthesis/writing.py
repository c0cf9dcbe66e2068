"""Writing a clip as lossless video, as compressed video, or as a folder of images."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from megc_stream.errors import OutputError, UsageError
from megc_stream.synthesis.truth import truth_path

__all__ = ["check_target", "write_clip"]

_CODECS = {".mkv": ("ffv1", "matroska"), ".mp4": ("libx264", "mp4")}
_OPTIONS: dict[str, dict[str, str]] = {
    ".mkv": {"level": "3", "slices": "4", "slicecrc": "1"},
    ".mp4": {"crf": "10", "preset": "veryfast"},
}
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def check_target(out: Path, overwrite: bool = False) -> None:
    """Refuse a place that a clip cannot be written to, before any work is done.

    Raises
    ------
    UsageError
        A suffix other than .mkv, .mp4 or none, something in the way, or a folder that holds more than such a clip.
    """
    suffix = out.suffix.lower()
    if suffix and suffix not in _CODECS:
        raise UsageError(
            f"{out}: suffix '{out.suffix}'; expected .mkv (lossless), .mp4, or no suffix (folder of images)"
        )
    if not out.name:
        raise UsageError(f"{out}: expected the name of a new file or folder")
    for path in (out, truth_path(out)):
        if path.exists() and not overwrite:
            raise UsageError(f"{path}: exists already; choose another name or give --overwrite")
        if path.is_dir() and (suffix or path != out):
            raise UsageError(f"{path}: is a folder; expected the name of a file")
    if out.is_dir() and not suffix:
        # Replacing a folder removes all of it, so it must hold a clip and nothing else.
        foreign = [file.name for file in out.iterdir() if file.suffix != ".png" or not file.stem.isdigit()]
        if foreign:
            raise UsageError(
                f"{out}: holds '{foreign[0]}', so it is no clip and will not be replaced; choose another name"
            )
    elif out.exists() and not suffix:
        raise UsageError(f"{out}: is a file; expected the name of a folder (or the suffix .mkv or .mp4)")


def write_clip(
    out: Path, frames: Iterable[NDArray[np.uint8]], fps: float, colour: bool = False, overwrite: bool = False
) -> int:
    """Write frames as a clip; what is there stays until the new clip is complete.

    Parameters
    ----------
    out
        ``.mkv``: FFV1, lossless; ``.mp4``: H.264, crf 10, yuv420p; no suffix: a folder of ``00000.png`` and so on.
    frames
        uint8, all of one size: (H, W) grey, or (H, W, 3) BGR where ``colour``.
    fps
        Frames per second; a folder of images does not hold it.
    colour
        Whether frames are BGR.
    overwrite
        Replace a clip that is there.

    Returns
    -------
    Number of frames written.

    Raises
    ------
    UsageError
        As :func:`check_target`; no frame at all; a frame of another size or kind; an odd size for .mp4.
    OutputError
        The clip cannot be written, the disk being full for example; partial files are removed.
    """
    check_target(out, overwrite)
    partial = out.with_name(f".{out.stem}.part{out.suffix}")
    write = _write_video if out.suffix else _write_images
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            count = write(partial, _checked(frames, colour), fps)
            if count == 0:
                raise UsageError(f"{out}: no frames to write")
            if out.is_dir():
                _remove(out)
            partial.replace(out)
        finally:
            _remove(partial)
    except (OSError, av.error.FFmpegError) as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{out}: cannot be written ({reason}); free space or choose another folder") from error
    return count


def _checked(frames: Iterable[NDArray[np.uint8]], colour: bool) -> Iterable[NDArray[np.uint8]]:
    shape: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.ndim != (3 if colour else 2) or frame.shape != shape:
            expected = f"uint8 {shape if number else '(H, W, 3) BGR' if colour else '(H, W) grey'}"
            raise UsageError(f"frame {number}: got {frame.dtype} {frame.shape}, expected {expected}")
        yield np.ascontiguousarray(frame)


def _write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> int:
    suffix = path.suffix.lower()
    codec, container_format = _CODECS[suffix]
    rate = Fraction(fps).limit_denominator(1001)
    reformatter = VideoReformatter()
    count = 0
    # "bitexact" leaves out random identifiers: the same frames give the same bytes.
    with av.open(str(path), "w", format=container_format, container_options={"fflags": "+bitexact"}) as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                stream = _add_stream(container, codec, rate, suffix, frame)
            picture = av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "bgr24")
            picture = reformatter.reformat(
                picture,
                format=stream.pix_fmt,
                dst_colorspace=Colorspace.ITU709 if suffix == ".mp4" else None,
                dst_color_range=ColorRange.MPEG if suffix == ".mp4" else None,
                interpolation=_EXACT,
                threads=1,  # several do not always give the same picture
            )
            picture.pts = count
            picture.time_base = 1 / rate
            container.mux(stream.encode(picture))
            count += 1
        if stream is not None:
            container.mux(stream.encode(None))
    return count


def _add_stream(container: Any, codec: str, rate: Fraction, suffix: str, first: NDArray[np.uint8]) -> Any:
    height, width = first.shape[:2]
    if suffix == ".mp4" and (height % 2 or width % 2):
        raise UsageError(f"picture of {width}x{height} px: .mp4 needs even width and height; choose .mkv")
    stream = container.add_stream(codec, rate=rate, options={"flags": "+bitexact", **_OPTIONS[suffix]})
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv420p" if suffix == ".mp4" else "gray" if first.ndim == 2 else "bgr0"
    stream.codec_context.time_base = 1 / rate
    if suffix == ".mp4":
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
    # The number of threads decides how the encoders slice the picture: fixed, so that all machines write the same.
    stream.codec_context.thread_count = 2
    return stream


def _write_images(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> int:
    path.mkdir()
    count = 0
    for frame in frames:
        encoded, data = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not encoded:
            raise OutputError(f"frame {count}: cannot be encoded as PNG")
        (path / f"{count:05d}.png").write_bytes(data.tobytes())
        count += 1
    return count


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
