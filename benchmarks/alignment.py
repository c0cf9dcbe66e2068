"""How still and how true the aligned crop is, and what it costs.

    python benchmarks/alignment.py [PORTRAIT] [--fps 200] [--seconds 3]

Scenes of 640x480 px with a face about 180 px wide are made from one portrait, with sensor noise of sigma 2:
still (jitter of the alignment), local (a smooth bump of 1 crop px at 5 Hz at the mouth corner and at the brow: the
share of it that arrives in the crop), sway (the head moves up to 2 crop px between frames: what of it is left in the
crop). All three are read from the similarity of each crop against the known motion, in crop px.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.face import FaceAnalyser, locate_landmarks
from megc_stream.records import Crop, Frame
from megc_stream.settings import FaceSettings

WIDTH, HEIGHT, FACE_PX = 640, 480, 180
NOISE = 2.0
PLACES = {"mouth corner": (42.0, 88.0), "brow": (36.0, 20.0)}
BUMP_SIGMA_PX = 9.0
BUMP_HZ = 5.0

Array = NDArray[np.float64]


class Scene:
    """A portrait scaled to a face of about 180 px in the middle of a 640x480 frame."""

    def __init__(self, portrait: NDArray[np.uint8], face_px: float = FACE_PX) -> None:
        points = locate_landmarks(portrait)
        if points is None:
            raise SystemExit("no face in the portrait")
        face = points[:468]
        scale = face_px / float(np.ptp(face[:, 0]))
        middle = (face.min(axis=0) + face.max(axis=0)) / 2
        # Blurred before it is made smaller, so that no texture aliases.
        self._source = cv2.GaussianBlur(portrait, (0, 0), max(0.5 / scale, 0.3)).astype(np.float32)
        shift = np.array([WIDTH, HEIGHT]) / 2 - scale * middle
        self._to_frame = np.column_stack([np.eye(2) * scale, shift])

    def picture(
        self, motion: Array | None = None, bump: tuple[Array, Array, float] | None = None
    ) -> NDArray[np.float32]:
        """Return the float frame, moved by the (2, 3) ``motion`` and by a bump (centre, displacement, sigma) in px."""
        y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
        if bump is not None:
            centre, displacement, sigma = bump
            weight = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
            x, y = x - weight * displacement[0], y - weight * displacement[1]
        full = self._to_frame if motion is None else _compose(motion, self._to_frame)
        back = cv2.invertAffineTransform(full)
        map_x = back[0, 0] * x + back[0, 1] * y + back[0, 2]
        map_y = back[1, 0] * x + back[1, 1] * y + back[1, 2]
        return cv2.remap(
            self._source,
            map_x.astype(np.float32),
            map_y.astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )


def frames(pictures: Iterator[NDArray[np.float32]], fps: float, seed: int = 0) -> Iterator[Frame]:
    """Add noise to the pictures and make frames of them."""
    rng = np.random.default_rng(seed)
    for index, picture in enumerate(pictures):
        noisy = picture + rng.normal(0, NOISE, picture.shape).astype(np.float32)
        image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        yield Frame(source="scene", frame=index, number=index, image=image, t_capture_s=index / fps)


def still_jitter_px(scene: Scene, fps: float, count: int) -> float:
    """Return the RMS (2-D) movement of the alignment over a still scene, crop px."""
    picture = scene.picture()
    crops = _crops((picture for _ in range(count)), fps)
    return _rms_about_mean(np.stack([_map(crop.similarity, _grid(crops[0])) for crop in crops]))


def local_gain(scene: Scene, fps: float, count: int, place: tuple[float, float]) -> float:
    """Return how much of a vertical 1 crop px bump of 5 Hz at ``place`` arrives in the crop."""
    first = _crops(iter([scene.picture()]), fps)[0].similarity
    assert first is not None
    scale = float(np.hypot(*first[0, :2]))
    centre = _map(cv2.invertAffineTransform(first), np.array([place]))[0]
    up = first[:, :2].T @ np.array([0.0, 1.0]) / scale**2  # 1 crop px downwards, in frame px
    wave = np.sin(2 * np.pi * BUMP_HZ * np.arange(count) / fps)
    crops = _crops((scene.picture(bump=(centre, s * up, BUMP_SIGMA_PX / scale)) for s in wave), fps)
    seen = np.array([_map(crop.similarity, (centre + s * up)[None])[0, 1] for crop, s in zip(crops, wave, strict=True)])
    return float(np.polyfit(wave, seen, 1)[0])


def sway_residual_px(scene: Scene, fps: float, count: int, amplitude_px: float = 20.0, hz: float = 4.0) -> float:
    """Return the RMS (2-D) movement left in the crop while the head sways, shifts in depth and tilts, crop px."""

    def motion(index: int) -> Array:
        phase = 2 * np.pi * hz * index / fps
        scale, angle = 1 + 0.02 * np.sin(0.7 * phase), 0.03 * np.sin(0.5 * phase)
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array([WIDTH, HEIGHT]) / 2
        sway = amplitude_px * np.array([np.sin(phase), 0.4 * np.sin(0.8 * phase)])
        return np.column_stack([linear, middle + sway - linear @ middle])

    crops = _crops((scene.picture(motion(i)) for i in range(count)), fps)
    grid = _grid(crops[0])
    return _rms_about_mean(np.stack([_map(crop.similarity, _map(motion(i), grid)) for i, crop in enumerate(crops)]))


def cost_ms(scene: Scene, fps: float, count: int) -> tuple[float, float]:
    """Return the median time of other frames and of key frames, ms."""
    settings = FaceSettings()
    analyser = FaceAnalyser(settings, fps)
    key_frames = round(settings.key_interval_s * fps)
    key, other = [], []
    for frame in list(frames((scene.picture() for _ in range(count)), fps)):
        start = time.perf_counter()
        analyser.process(frame)
        if frame.frame:
            (other if frame.frame % key_frames else key).append(1e3 * (time.perf_counter() - start))
    return float(np.median(other)), float(np.median(key))


def _crops(pictures: Iterator[NDArray[np.float32]], fps: float) -> list[Crop]:
    analyser = FaceAnalyser(FaceSettings(), fps)
    crops = [analyser.process(frame) for frame in frames(pictures, fps)]
    lost = sum(crop.similarity is None for crop in crops)
    if lost or crops[-1].segment:
        raise SystemExit(
            f"face lost in {lost} of {len(crops)} frames, {crops[-1].segment + 1} segments; expected 0 and 1"
        )
    return crops


def _grid(crop: Crop) -> Array:
    """Return frame positions of a grid of crop px."""
    assert crop.similarity is not None
    grid = np.stack(np.meshgrid(np.arange(20.0, 109.0, 22), np.arange(20.0, 109.0, 22)), axis=-1).reshape(-1, 2)
    return _map(cv2.invertAffineTransform(crop.similarity), grid)


def _map(matrix: Array | None, points: Array) -> Array:
    assert matrix is not None
    mapped: Array = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def _compose(outer: Array, inner: Array) -> Array:
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def _rms_about_mean(tracks: Array) -> float:
    """Return the RMS distance of (frames, points, 2) tracks from their means."""
    return float(np.sqrt(((tracks - tracks.mean(axis=0)) ** 2).sum(axis=-1).mean()))


def portrait_or_astronaut(path: Path | None) -> NDArray[np.uint8]:
    """Return a grey portrait: the file, or scikit-image's astronaut."""
    if path is None:
        from skimage import data

        grey: NDArray[np.uint8] = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
        return grey
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path}: not a picture")
    return np.asarray(image, np.uint8)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "portrait", nargs="?", type=Path, help="a picture of one face; default: scikit-image's astronaut"
    )
    parser.add_argument("--fps", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    scene = Scene(portrait_or_astronaut(options.portrait))
    count = round(options.fps * options.seconds)
    results: dict[str, Callable[[], str]] = {
        "still scene, jitter RMS": lambda: f"{still_jitter_px(scene, options.fps, count):.4f} crop px (target <= 0.05)",
        **{
            f"bump at the {name}, gain": lambda place=place: (
                f"{local_gain(scene, options.fps, count, place):.3f} (target 0.95..1.05)"
            )
            for name, place in PLACES.items()
        },
        "sway, residual RMS": lambda: f"{sway_residual_px(scene, options.fps, count):.4f} crop px",
        "cost": lambda: "{:.2f} ms a frame, {:.2f} ms a key frame (targets 0.8 and 4)".format(
            *cost_ms(scene, options.fps, count)
        ),
    }
    for name, result in results.items():
        print(f"{name}: {result()}")


if __name__ == "__main__":
    main()
