"""Grey JPEG, drawn only where it is looked at.

The analysis looks at the face, a small part of a picture, while libjpeg-turbo decodes all of it. Here the entropy-coded
data is read over to its end, most of it several symbols at a time, and only the blocks of a region are put together,
to the very pixels of libjpeg-turbo (its default, the accurate integer transform).

Done here is what cameras and data sets have: baseline JPEG of 8 bits, grey or YCbCr, in one scan. Everything else, and
whatever is not in order, is refused; the caller decodes it, and judges damage, as if this module did not exist. All of
the data is read, so this judgement does not depend on the region.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from megc_stream.records import Region

__all__ = ["RegionDecoder", "Whole", "decode_region", "load_kernels"]

_BASELINE, _HUFFMAN, _SCAN, _QUANTISATION, _INTERVAL = 0xC0, 0xC4, 0xDA, 0xDB, 0xDD
_JFIF, _EXIF, _ADOBE, _COMMENT = 0xE0, 0xE1, 0xEE, 0xFE
_loading = threading.Lock()
_LUMA_BLOCKS = {(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)}
"""Luma blocks for one of each colour, across and down: 4:4:4, 4:2:2, 4:4:0, 4:2:0, 4:1:1."""


_LAST_TABLE = 3
_MOST_SYMBOLS = 256


class _Unusual(Exception):
    """The header is damaged, or of a kind that is left to others."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a header says; ``blocks``, ``interval`` and ``tables`` (luma, blue, red) are those of ``decode_scan``."""

    width: int
    height: int
    blocks: NDArray[np.int64]
    interval: int
    tables: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


class RegionDecoder:
    """Decodes the pictures of a recording where they are looked at.

    It refuses all of them while nothing is looked at in particular, and until the kernels are loaded, which begins on a
    thread beside when it is first told where to look: compiled for the first time, they take longer than the pictures
    can wait. Where they cannot be loaded it refuses for good.
    """

    def __init__(self) -> None:
        self._region: Region | None = None

    def look_at(self, region: Region | None) -> None:
        """Set the region of the pictures decoded from now on, None for all of them; safe from any thread."""
        if region is not None:
            load_kernels()
        self._region = region

    def decode(self, data: bytes) -> tuple[NDArray[np.uint8], Region] | None:
        """Decode as :func:`decode_region`; None also where there is no region yet."""
        region = self._region
        if region is None or not load_kernels().usable:
            return None
        return decode_region(data, region)


class _Loader(threading.Thread):
    """Loads the kernels, or compiles them; ``usable`` once that has worked."""

    def __init__(self) -> None:
        super().__init__(name="megc-jpeg", daemon=True)
        self.usable = False

    def run(self) -> None:
        # Whatever numba makes of this machine, pictures can still be decoded whole.
        with contextlib.suppress(Exception):
            decode_region(simplejpeg.encode_jpeg(np.zeros((8, 8, 1), np.uint8), colorspace="GRAY"), None)
            self.usable = True


def load_kernels() -> _Loader:
    """Begin to load the kernels, or to compile them, on a thread; return that thread, the same one every time."""
    with _loading:
        return _loader()


@functools.cache
def _loader() -> _Loader:
    loader = _Loader()
    loader.start()
    return loader


class Whole:
    """The whole of a picture of which :func:`decode_region` gave a part: decoded when first called, then kept."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._image: NDArray[np.uint8] | None = None

    def __call__(self) -> NDArray[np.uint8]:
        """Return the picture, (H, W) uint8; safe from any thread."""
        with self._lock:
            if self._image is None:
                self._image = self._decode()
            return self._image

    def _decode(self) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(self._data, colorspace="GRAY")[:, :, 0]
        return image


def decode_region(data: bytes, region: Region | None) -> tuple[NDArray[np.uint8], Region] | None:
    """Decode the luma of a JPEG in a region of it.

    Parameters
    ----------
    data
        The file.
    region
        (x_low, y_low, x_high, y_high) in px, the highs exclusive; it may reach beyond the picture. None is all of it.

    Returns
    -------
    tuple or None
        The picture, (H, W) uint8, and the region that is valid in it: the one asked for, grown to whole blocks. None
        where the data is not a JPEG of the usual kind, is not in order, or has nothing in the region.
    """
    from megc_stream.capture.jpeg_kernels import decode_scan  # numba is loaded where it is needed

    begin = _scan_begin(data)
    if begin is None:
        return None
    layout = _layout(data[:begin])
    if layout is None:
        return None
    width, height = layout.width, layout.height
    steps = 8 * layout.blocks[0]
    step_x, step_y = int(steps[0]), int(steps[1])
    mcus = -(-width // step_x), -(-height // step_y)
    if 4 * len(data) < mcus[0] * mcus[1]:  # no block has fewer than 2 bits
        return None
    x_low, y_low, x_high, y_high = (0, 0, width, height) if region is None else region
    x_low, y_low, x_high, y_high = max(x_low, 0), max(y_low, 0), min(x_high, width), min(y_high, height)
    if x_low >= x_high or y_low >= y_high:
        return None
    drawn = x_low // step_x, y_low // step_y, -(-x_high // step_x), -(-y_high // step_y)
    picture = np.empty((height, width), np.uint8)
    if not decode_scan(
        np.frombuffer(data, np.uint8),
        begin,
        *layout.tables,
        layout.blocks,
        mcus,
        layout.interval or mcus[0] * mcus[1],
        drawn,
        (width, height),
        picture.reshape(-1),
    ):
        return None
    valid = drawn[0] * step_x, drawn[1] * step_y, min(drawn[2] * step_x, width), min(drawn[3] * step_y, height)
    return picture, valid


def _scan_begin(data: bytes) -> int | None:
    """Return where the entropy-coded data of the first scan begins; None where there is none."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == _SCAN:
            return at + 2 + length if at + 2 + length < len(data) else None
        at += 2 + length
    return None


@functools.lru_cache(maxsize=4)  # the pictures of a recording usually have one and the same header
def _layout(header: bytes) -> _Layout | None:
    try:
        return _read_header(header)
    except (_Unusual, IndexError, KeyError, ValueError):
        return None


def _read_header(header: bytes) -> _Layout:
    quants: dict[int, bytes] = {}
    codes: dict[int, bytes] = {}
    frame = scan = b""
    interval = 0
    at = 2
    while not scan:
        marker, length = header[at + 1], int.from_bytes(header[at + 2 : at + 4], "big")
        part = header[at + 4 : at + 2 + length]
        at += 2 + length
        if header[at : at + 1] not in (b"\xff", b"") or len(part) != length - 2:
            raise _Unusual
        if marker == _QUANTISATION:
            quants |= _quants(part)
        elif marker == _HUFFMAN:
            codes |= _codes(part)
        elif marker == _BASELINE and not frame:
            frame = part
        elif marker == _INTERVAL and length == 4:
            interval = int.from_bytes(part, "big")
        elif marker == _SCAN:
            scan = part
        elif marker == _JFIF and part[:5] == b"JFIF\0" and part[5] != 1:
            raise _Unusual  # libjpeg warns
        elif marker == _EXIF and part[:5] == b"Exif\0":
            raise _Unusual  # the picture may have to be turned
        elif marker == _ADOBE or not (marker == _COMMENT or 0xE0 <= marker < 0xF0):
            raise _Unusual
    height, width, count = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
    components = [frame[n : n + 3] for n in range(6, len(frame), 3)]
    wanted = [component for component, _ in zip(scan[1::2], range(count), strict=False)]
    if (
        (frame[0], len(frame), len(scan)) != (8, 6 + 3 * count, 4 + 2 * count)
        or not height * width
        or scan[0] != count
        or scan[-3:] != b"\x00\x3f\x00"
        or wanted != [component[0] for component in components]
    ):
        raise _Unusual
    blocks = [(component[1] >> 4, component[1] & 15) for component in components]
    if count == 1:
        if not all(1 <= n <= 4 for n in blocks[0]):
            raise _Unusual
        blocks = [(1, 1)]  # the blocks of one component stand row by row, whatever else is said
    elif count != 3 or wanted != [1, 2, 3] or blocks[0] not in _LUMA_BLOCKS or blocks[1:] != [(1, 1), (1, 1)]:
        raise _Unusual
    tables = [
        _table(codes[selected >> 4], codes[16 + (selected & 15)], quants[component[2]])
        for component, selected in zip(components, scan[2::2], strict=False)
    ]
    luma, blue, red = tables if count == 3 else tables * 3
    return _Layout(width, height, np.array(blocks, np.int64), interval, (luma, blue, red))


@functools.lru_cache(maxsize=8)
def _table(dc: bytes, ac: bytes, quant: bytes) -> NDArray[np.int32]:
    """Return the table of a component; the codes are counts by length, then symbols."""
    from megc_stream.capture.jpeg_kernels import TABLE_SIZE, make_table

    table = np.zeros(TABLE_SIZE, np.int32)
    dc_code, ac_code, steps = (np.frombuffer(part, np.uint8).astype(np.int64) for part in (dc, ac, quant))
    if not make_table(dc_code[:16], dc_code[16:], ac_code[:16], ac_code[16:], steps, table):
        raise _Unusual
    return table


def _quants(part: bytes) -> dict[int, bytes]:
    """Return quantisation tables, in zigzag order, by number."""
    if len(part) % 65 or any(number > _LAST_TABLE for number in part[::65]):
        raise _Unusual
    return {part[n]: part[n + 1 : n + 65] for n in range(0, len(part), 65)}


def _codes(part: bytes) -> dict[int, bytes]:
    """Return Huffman codes, counts by length and symbols, by number (from 16: for AC coefficients)."""
    found = {}
    while part:
        symbols = sum(part[1:17])
        size = 17 + symbols
        if len(part) < size or symbols > _MOST_SYMBOLS or part[0] & 0xEF > _LAST_TABLE:
            raise _Unusual
        found[part[0]] = part[1:size]
        part = part[size:]
    return found
