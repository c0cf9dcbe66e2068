"""Media whose pictures carry their own index: a bar code of 12 bits in blocks of 16x16 px, upright at the top left.

Blocks and contrast survive lossy codecs, so that a test can tell loss, duplication and reordering for any source.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 162, 124  # no multiples of 16 or 32: decoders pad such lines
BLOCK, ROW, BITS = 16, 6, 12
WHITE_AT, BLACK_AT = (80, 20), (80, 60)  # (row, column) inside areas of full white and black


def stamped(index: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Return a grey picture (height, width) that carries ``index`` (0..4095), a white area, a black area and a ramp."""
    image = np.tile(np.linspace(40, 200, width).astype(np.uint8), (height, 1))
    for bit in range(BITS):
        y, x = BLOCK * (bit // ROW), BLOCK * (bit % ROW)
        image[y : y + BLOCK, x : x + BLOCK] = 225 if index >> bit & 1 else 30
    image[64:96, 0:40] = 255
    image[64:96, 40:80] = 0
    return image


def read_stamp(image: NDArray[np.uint8]) -> int:
    """Return the index that a grey or BGR picture carries."""
    grey = image if image.ndim == 2 else image.mean(axis=2)
    index = 0
    for bit in range(BITS):
        y, x = BLOCK * (bit // ROW) + 4, BLOCK * (bit % ROW) + 4
        value = grey[y : y + BLOCK - 8, x : x + BLOCK - 8].mean()
        assert not 110 < value < 145, f"bit {bit} of the stamp is unreadable ({value})"
        index |= int(value > 128) << bit
    return index


def write_video(
    path: Path,
    count: int,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    fps: int = 25,
    times_ms: Sequence[int] | None = None,
    turned_counterclockwise: int = 0,
    full_range: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    noise: bool = False,
) -> Path:
    """Write ``count`` stamped pictures.

    ``times_ms`` gives each its own time stamp; ``turned_counterclockwise`` (degrees) stores the pictures turned the
    other way, with metadata that turns them upright; ``noise`` makes a large file, which cutting and overwriting harms.
    """
    options = dict(options or {})
    if codec == "libx265":
        options.setdefault("x265-params", "log-level=none")
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options)
        quarter = turned_counterclockwise % 180 != 0
        stream.width, stream.height = (HEIGHT, WIDTH) if quarter else (WIDTH, HEIGHT)
        stream.pix_fmt = pixel_format
        if full_range:
            stream.codec_context.color_range = 2
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turned_counterclockwise:
            stream.set_display_rotation(turned_counterclockwise)
        for index in range(count):
            image = stamped(index)
            if noise:
                image[96:] = rng.integers(0, 255, image[96:].shape, np.uint8)
            image = np.ascontiguousarray(np.rot90(image, -turned_counterclockwise // 90))
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            frame = frame.reformat(format=pixel_format, dst_color_range="JPEG" if full_range else None, threads=1)
            frame.pts = index if times_ms is None else times_ms[index]
            frame.time_base = Fraction(1, fps) if times_ms is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_images(folder: Path, numbers: Sequence[int], pattern: str, *, first_stamp: int = 0) -> Path:
    """Write one stamped picture per number as ``pattern.format(number)``; the stamp is number - first + first_stamp."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        assert cv2.imwrite(str(folder / pattern.format(number)), stamped(number - numbers[0] + first_stamp))
    return folder


class FakeCamera:
    """Behaves like ``cv2.VideoCapture``: a first picture at opening, then ``count`` stamped ones, then none.

    ``on_grab(i)`` is called before picture i is taken (i = -1 for the first at opening).
    """

    def __init__(self, count: int, *, fps: float = 30.0, unreadable: Sequence[int] = (), on_grab: Any = None) -> None:
        self.count = count
        self.fps = fps
        self.unreadable = set(unreadable)
        self.on_grab = on_grab
        self.asked: dict[int, float] = {}
        self.released = 0
        self.opened = True
        self.automatic_exposure = 0.0
        self._index = -2

    def isOpened(self) -> bool:
        return self.opened

    def set(self, property_id: int, value: float) -> bool:
        self.asked[property_id] = value
        return True

    def get(self, property_id: int) -> float:
        known = {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_AUTO_EXPOSURE: self.automatic_exposure}
        return known.get(property_id, 0.0)

    def grab(self) -> bool:
        if self.on_grab is not None:
            self.on_grab(self._index + 1)
        self._index += 1
        return self._index < self.count

    def retrieve(self) -> tuple[bool, Any]:
        if self._index in self.unreadable:
            return False, None
        return True, cv2.cvtColor(stamped(max(self._index, 0)), cv2.COLOR_GRAY2BGR)

    def release(self) -> None:
        self.released += 1
