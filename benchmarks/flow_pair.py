"""One pair of crops, one thread: our TV-L1, OpenCV's DualTVL1, Farneback and DIS, in interleaved rounds.

    python benchmarks/flow_pair.py [--pairs 12] [--rounds 3]

Prints for each method the median time, the ratio to DualTVL1 in the same run, and the mean end-point error over the
crop and where the face moves. Pairs: a portrait (scikit-image's astronaut) with two local motions of 1 to 2 px, a
common shift of 1 to 1.5 px and noise of 1.5 grey values.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.flow import TVL1Solver

_PX = 128
_FINER = 3.6


def _portrait() -> NDArray[np.float32]:
    from skimage import data

    face = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)[60:190, 160:290]
    large = cv2.resize(face, (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return cv2.GaussianBlur(large, (0, 0), 1.5)


def make_pair(
    seed: int, portrait: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Return reference, current and the true flow."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:_PX, 0:_PX].astype(np.float32)
    flow = np.zeros((_PX, _PX, 2), np.float32)
    for _ in range(2):
        cx, cy = rng.uniform(30, 98, 2)
        sigma, angle, size = rng.uniform(8, 14), rng.uniform(0, 2 * np.pi), rng.uniform(1, 2)
        bump = size * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
        flow += np.stack([np.cos(angle) * bump, np.sin(angle) * bump], axis=-1).astype(np.float32)
    angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(1, 1.5)
    flow += np.float32([size * np.cos(angle), size * np.sin(angle)])

    def seen(px: NDArray[np.float32], py: NDArray[np.float32]) -> NDArray[np.uint8]:
        sharp = cv2.remap(portrait, px * _FINER + 24, py * _FINER + 24, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        return np.clip(np.rint(sharp + rng.normal(0, 1.5, sharp.shape)), 0, 255).astype(np.uint8)

    return seen(x + flow[..., 0], y + flow[..., 1]), seen(x, y), flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    portrait = _portrait()
    pairs = [make_pair(seed, portrait) for seed in range(arguments.pairs)]
    solver = TVL1Solver(_PX, _PX)
    dual = cv2.optflow.DualTVL1OpticalFlow_create()
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    methods: dict[str, Callable[..., NDArray[np.float32]]] = {
        "DualTVL1": lambda a, b: dual.calc(a, b, None),
        "TVL1Solver, cold": lambda a, b: solver.solve(a, b, warm=False),
        "Farneback": lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 5, 7, 1.5, 0),
        "DIS medium": lambda a, b: dis.calc(a, b, None),
    }
    times: dict[str, list[float]] = {name: [] for name in methods}
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for call in methods.values():
        call(*pairs[0][:2])
    for _ in range(arguments.rounds):
        for reference, current, truth in pairs:
            for name, call in methods.items():
                begin_s = time.perf_counter()
                flow = call(reference, current)
                times[name].append(time.perf_counter() - begin_s)
                error = np.hypot(*np.moveaxis(flow - truth, -1, 0))
                local = np.hypot(*np.moveaxis(truth - np.median(truth, axis=(0, 1)), -1, 0)) > 0.4
                errors[name].append((float(error[4:-4, 4:-4].mean()), float(error[local].mean())))
    print(f"{platform.processor() or platform.machine()}, OpenCV {cv2.__version__}, numpy {np.__version__}, one thread")
    base_s = float(np.median(times["DualTVL1"]))
    for name in methods:
        median_s = float(np.median(times[name]))
        crop, local_error = np.mean(errors[name], axis=0)
        speed = f"{median_s * 1e3:8.2f} ms  {base_s / median_s:6.1f}x"
        print(f"{name:18s} {speed}  error {crop:.3f} px, moving {local_error:.3f} px")


if __name__ == "__main__":
    main()
