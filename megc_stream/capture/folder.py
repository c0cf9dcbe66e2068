"""Folders of numbered images, as the data sets come."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from megc_stream.capture.ahead import depth_of, map_ahead
from megc_stream.capture.jpeg import RegionDecoder, Whole
from megc_stream.capture.opencv_log import quiet_opencv
from megc_stream.capture.source import ASSUMED_FPS, Picture
from megc_stream.errors import CaptureError
from megc_stream.records import Region

__all__ = ["IMAGE_SUFFIXES", "FolderReader", "image_size", "numbered_images"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
"""Suffixes, in lower case, of the files that a folder of images is made of."""

# A sequence may have gaps, but numbers this much sparser than its images are dates or other names.
_MOST_GAPS = 20
_MOST_GAPS_LEAST = 10_000
_NUMBER = re.compile(r"(\d+)\D*\Z")  # the last run of digits


class _Decoded(NamedTuple):
    """What became of one file: the picture, None where it is damaged, and what there is of it."""

    image: NDArray[np.uint8] | None
    decode_s: float = 0.0
    region: Region | None = None
    rest: Whole | None = None


class FolderReader:
    """Reads the images of one folder in the order of the last number in their names.

    ``frame`` is the number minus the first number, so that gaps in the numbers stay gaps (reported as "missing").

    Parameters
    ----------
    folder
        Holds .jpg, .jpeg, .png, .bmp, .tif or .tiff files; files with other suffixes and hidden ones are passed over.
    colour
        Whether pictures are BGR (H, W, 3) instead of grey (H, W).
    fps
        The rate at which the images were taken; None assumes 30.
    images
        What :func:`numbered_images` said of the folder, where it was asked before; None lists the folder.

    Raises
    ------
    CaptureError
        The folder cannot be read, holds no image that can be decoded, an image without a number, or a number twice;
        while reading: an image of another size than the first.
    """

    def __init__(
        self,
        folder: Path,
        *,
        colour: bool = False,
        fps: float | None = None,
        images: Sequence[tuple[int, str]] | None = None,
    ) -> None:
        self._folder = folder
        self._colour = colour
        self._images = numbered_images(folder) if images is None else images
        self.fps = fps or ASSUMED_FPS
        self.assumed_fps = fps is None
        self.frames: int | None = len(self._images)
        self.lost: dict[str, int] = {}
        self._damaged: list[str] = []
        self._regions = RegionDecoder()
        for _, name in self._images:
            data = self._read(name)
            first = _decode(data, colour)
            if first is not None:
                break
        else:
            raise CaptureError(f"{folder}: none of its {len(self._images)} images can be decoded; they are damaged")
        self.height, self.width = first.shape[:2]
        self._picture_bytes = first.nbytes + len(data)
        suffixes = sorted({name[name.rindex(".") :].lower() for _, name in self._images})
        self.description = f"{len(self._images)} images ({', '.join(suffixes)}) {self.width}x{self.height}"

    @property
    def damage(self) -> str:
        """Return what was lost so far, in one line, or ""."""
        if not self._damaged:
            return ""
        return (
            f"{self._folder}: {len(self._damaged)} of {len(self._images)} images cannot be decoded and were left out, "
            f"the first is {self._damaged[0]}"
        )

    def look_at(self, region: Region | None) -> None:
        """Decode further grey JPEGs only there; None for all of them."""
        if not self._colour:
            self._regions.look_at(region)

    def pictures(self, threads: int = 0, ahead_bytes: int = 0) -> Generator[Picture, None, None]:
        """Yield the pictures; damaged ones are left out and counted.

        ``threads`` > 0 decode ahead, up to ``ahead_bytes``.
        """
        first_number = self._images[0][0]
        expected = 0  # the index that follows on the last image, damaged or not
        dropped: dict[str, int] = {}
        depth = depth_of(ahead_bytes, self._picture_bytes)
        with closing(map_ahead(self._decode, self._images, threads, depth)) as images:
            for (number, name), decoded in zip(self._images, images, strict=True):
                image = decoded.image
                frame = number - first_number
                if frame > expected:
                    dropped["missing"] = dropped.get("missing", 0) + frame - expected
                expected = frame + 1
                if image is None:
                    self._damaged.append(name)
                    dropped["damaged"] = dropped.get("damaged", 0) + 1
                    continue
                if image.shape[:2] != (self.height, self.width):
                    raise CaptureError(
                        f"{self._folder / name}: is {image.shape[1]}x{image.shape[0]} px, the images before it are "
                        f"{self.width}x{self.height}; a folder holds one recording"
                    )
                yield Picture(
                    frame=frame,
                    number=number,
                    image=image,
                    pts_s=frame / self.fps,
                    decode_s=decoded.decode_s,
                    dropped=dropped,
                    region=decoded.region,
                    rest=decoded.rest,
                )
                dropped = {}
        self.lost = dropped

    def close(self) -> None:
        """Do nothing: files are open only while they are read."""

    def _decode(self, image: tuple[int, str]) -> _Decoded:
        begin_s = time.perf_counter()
        data = self._read(image[1])
        part = self._regions.decode(data)
        if part is None:
            return _Decoded(_decode(data, self._colour), time.perf_counter() - begin_s)
        picture, region = part
        return _Decoded(picture, time.perf_counter() - begin_s, region, Whole(data))

    def _read(self, name: str) -> bytes:
        path = self._folder / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise CaptureError(f"{path}: cannot be read ({error.strerror})") from error


def numbered_images(folder: Path) -> list[tuple[int, str]]:
    """Return (number, file name) of the images of a folder, ascending by the last number in their names.

    The folder is listed once and no file is opened. Files with other suffixes and hidden ones are passed over.

    Raises
    ------
    CaptureError
        The folder cannot be read or holds no image; an image without a number, a number twice, or numbers so sparse
        that they are no frame numbers.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError as error:
        raise CaptureError(f"{folder}: the folder cannot be read ({error.strerror})") from error
    images: dict[int, str] = {}
    for name in names:
        if name.startswith(".") or not name.lower().endswith(IMAGE_SUFFIXES):
            continue
        stem = name[: name.rindex(".")]
        digits = stem[len(stem.rstrip("0123456789")) :]  # four times as fast as the expression
        if not digits:
            match = _NUMBER.search(stem)
            if match is None:
                raise CaptureError(f"{folder / name}: has no number in its name; expected names such as img0001.jpg")
            digits = match[1]
        number = int(digits)
        other = images.setdefault(number, name)
        if other is not name:
            a, b = sorted((other, name))
            raise CaptureError(f"{folder}: {a} and {b} have the same number {number}; a folder holds one recording")
    if not images:
        raise CaptureError(f"{folder}: no images ({len(names)} other files); expected {', '.join(IMAGE_SUFFIXES)}")
    ordered = sorted(images.items())
    span = ordered[-1][0] - ordered[0][0] + 1
    if span > _MOST_GAPS * len(ordered) + _MOST_GAPS_LEAST:
        widest = max(range(1, len(ordered)), key=lambda n: ordered[n][0] - ordered[n - 1][0])
        raise CaptureError(
            f"{folder}: {ordered[widest - 1][1]} is followed by {ordered[widest][1]}, {len(ordered)} images in {span} "
            "numbers; expected one recording numbered from frame to frame: move foreign images elsewhere"
        )
    return ordered


def image_size(path: Path, *, whole: bool = False) -> tuple[int, int] | None:
    """Return width and height of an image file in px; None where it is damaged.

    Of a JPEG only the header is looked at, unless ``whole`` asks for all of it to be decoded.

    Raises
    ------
    CaptureError
        The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror})") from error
    if not whole and data[:2] == b"\xff\xd8" and b"Exif\0" not in data[:64]:
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            pass
        else:
            return width, height
    image = _decode(data, colour=False)
    return None if image is None else (image.shape[1], image.shape[0])


def _decode(data: bytes, colour: bool) -> NDArray[np.uint8] | None:
    # simplejpeg refuses damaged data, which OpenCV fills up with grey; it ignores the orientation that Exif may hold.
    if data[:2] == b"\xff\xd8" and b"Exif\0" not in data[:64]:
        try:
            simplejpeg.decode_jpeg_header(data)
        except ValueError:
            pass  # an uncommon kind of JPEG: OpenCV may know it
        else:
            try:
                image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="BGR" if colour else "GRAY")
            except ValueError:
                return None
            return image if colour else image[:, :, 0]
    if not data or (data[:4] == b"\x89PNG" and b"IEND" not in data[-64:]):
        return None
    with quiet_opencv():
        decoded: NDArray[np.uint8] | None = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
        )
    return decoded
