"""JPEGs decoded in part, against libjpeg-turbo: time, and damaged files.

    python benchmarks/jpeg_regions.py FOLDER --damaged 40000 --seed 0

Thread time in ms of the grey JPEGs in FOLDER, all of them and regions in the middle, in turn with simplejpeg. Then as
many small pictures of all encodings, damaged at random: whatever is decoded must be in order for simplejpeg too, to the
same pixels.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from megc_stream.capture.jpeg import decode_region
from megc_stream.records import Region

_SIZES = ((400, 400), (600, 600), (900, 1088))
_SAMPLINGS = (0x111111, 0x211111, 0x121111, 0x221111, 0x411111)


def _grey(data: bytes) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="GRAY")[:, :, 0]
    return image


def _same(part: tuple[NDArray[np.uint8], Region], whole: NDArray[np.uint8]) -> bool:
    image, (x_low, y_low, x_high, y_high) = part
    inside = np.s_[y_low:y_high, x_low:x_high]
    return image.shape == whole.shape and np.array_equal(image[inside], whole[inside])


def _times(files: list[bytes], rounds: int) -> None:
    height, width = _grey(files[0]).shape
    regions: dict[str, Region] = {
        f"{w}x{h}": ((width - w) // 2, (height - h) // 2, (width + w) // 2, (height + h) // 2) for w, h in _SIZES
    }
    taken: dict[str, list[float]] = {"simplejpeg": [], **{name: [] for name in regions}, "all of it": []}
    for n in range(rounds + 1):
        for data in files:
            begin_s = time.thread_time()
            whole = _grey(data)
            spans = {"simplejpeg": time.thread_time() - begin_s}
            for name, region in [*regions.items(), ("all of it", None)]:
                begin_s = time.thread_time()
                part = decode_region(data, region)
                spans[name] = time.thread_time() - begin_s
                if part is None or not _same(part, whole):
                    sys.exit(f"{name}: not what simplejpeg makes of it")
            for name, span_s in spans.items() if n else ():  # the first round loads the kernels
                taken[name].append(span_s)
    reference_s = float(np.median(taken["simplejpeg"]))
    for name, spans_s in taken.items():
        print(f"{name:12} {np.median(spans_s) * 1e3:6.2f} ms  x{reference_s / np.median(spans_s):.1f}")


def _encoded(random: np.random.Generator) -> bytes:
    width, height = (int(n) for n in random.integers(1, 150, 2))
    y, x = np.mgrid[:height, :width]
    waves = 128 + 100 * np.stack([np.sin(x / 7 + y / 11), np.cos(x / 13), np.sin(x * y / 500)], axis=-1)
    image = np.clip(waves + random.normal(0, random.integers(0, 60), waves.shape), 0, 255).astype(np.uint8)
    options = {
        cv2.IMWRITE_JPEG_QUALITY: int(random.integers(1, 101)),
        cv2.IMWRITE_JPEG_RST_INTERVAL: int(random.choice([0, 0, 1, 5])),
        cv2.IMWRITE_JPEG_OPTIMIZE: int(random.integers(0, 2)),
    }
    if random.integers(0, 2):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    else:
        options[cv2.IMWRITE_JPEG_SAMPLING_FACTOR] = int(random.choice(_SAMPLINGS))
    data: bytes = cv2.imencode(".jpg", image, [n for option in options.items() for n in option])[1].tobytes()
    return data


def _damaged(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    at, few = int(random.integers(0, len(changed))), int(random.integers(1, 20))
    how = random.integers(0, 5)
    if how == 0:
        del changed[at:]
    elif how == 1:
        del changed[at : at + few]
    elif how == 2:
        changed[at:at] = random.bytes(few)
    elif how == 3:
        changed[at : at + few] = random.bytes(few)
    else:
        changed[at] ^= 1 << int(random.integers(0, 8))
    return bytes(changed)


def _damage(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    files = [_encoded(random) for _ in range(min(count, 1000))]
    decoded = 0
    for n in range(count):
        data = _damaged(files[n % len(files)], random)
        x, y = (int(v) for v in random.integers(0, 150, 2))
        region = (x, y, x + int(random.integers(1, 150)), y + int(random.integers(1, 150)))
        part = decode_region(data, region if n % 2 else None)
        if part is None:
            continue
        decoded += 1
        try:
            same = _same(part, _grey(data))
        except ValueError:
            same = False
        if not same:
            sys.exit(f"damaged file {n}: decoded, but not to what simplejpeg makes of it")
    print(f"{count} damaged files: {decoded} decoded, all as simplejpeg does")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--damaged", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.jpg"))[: options.files]
    _times([path.read_bytes() for path in paths], options.rounds)
    _damage(options.damaged, options.seed)


if __name__ == "__main__":
    main()
