"""Grey pictures of a face whose motion is known exactly.

Every frame t is the texture T seen through a smooth map: frame_t(x) = light(T(p_t(x))), p_t(x) = rest_t(x) + m_t
b(rest_t(x)), where rest_t takes the head's motion back and b is the displacement by the expression, m_t its strength.
So the flow f of a pair (i, j), frame_i(x) = frame_j(x + f(x)) but for light, blur and noise, solves p_i(x) =
p_j(x + f(x)); fixed-point iteration finds it to 1e-5 px. Frames are sampled
from the texture by cubic splines, exactly at p_t(x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

from megc_stream.benchmarking.textures import TEXTURE_PX

__all__ = ["CASES", "FPS", "K", "NOISE_SIGMA", "Case", "FlowSequence", "Pair", "make_pair"]

Case = Literal["local", "shift", "sway", "rotation", "illumination", "blur", "noise", "clean"]
CASES: tuple[Case, ...] = get_args(Case)
"""Kinds of single pairs.

``local`` two smooth local motions of 0.3 to 2 px; ``shift`` a common shift of up to 2 px; ``sway`` local motion of 1 to
2 px on a common shift of 1 to 2 px; ``rotation`` local motion on a turn of the head of 0.3 to 1 degree; and local
motion with ``illumination`` that changes (gain, offset, gradient), with ``blur`` of the second picture, with twice the
``noise``, and ``clean``, with none.
"""

FPS = 200.0
"""Frame rate of a sequence, per second."""
K = 20
"""Frames between the two of a pair in a sequence: 0.1 s."""
NOISE_SIGMA = 1.5
"""Standard deviation of the sensor's noise, 0..255 units."""

_MARGIN = 0.05
"""Share of the texture left free on every side, so that moved pictures do not leave it."""
_ITERATIONS = 16
_HEAD_ITERATIONS = 5

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures and the motion between them.

    Parameters
    ----------
    reference, current
        (N, N) uint8.
    flow
        (N, N, 2) float32, px: reference(x) = current(x + flow(x)), but for noise and light.
    local_px
        (N, N) float32, px: how much of the flow is local, not the head's.
    """

    reference: NDArray[np.uint8]
    current: NDArray[np.uint8]
    flow: NDArray[np.float32]
    local_px: NDArray[np.float32]


@dataclass(frozen=True)
class _Bump:
    """A smooth local motion: ``push`` px at ``centre``, falling off as a Gaussian of ``sigma`` px."""

    centre: tuple[float, float]
    push: tuple[float, float]
    sigma: float


@dataclass(frozen=True)
class _View:
    """How one frame shows the texture: head shift (px) and turn (rad), strength of the expression 0..1, light, noise.

    ``gradient`` changes the light from the middle to the edges, as a share; ``blur_px`` is a Gaussian's sigma.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    strength: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    gradient: tuple[float, float] = (0.0, 0.0)
    blur_px: float = 0.0
    noise_sigma: float = NOISE_SIGMA


class _Scene:
    """A texture and an expression, seen at one size."""

    def __init__(self, texture: NDArray[np.float32], size: int, bumps: tuple[_Bump, ...]) -> None:
        self._spline = spline_filter(texture.astype(np.float64), order=3)
        self._bumps = bumps
        self._size = size
        rows, columns = np.mgrid[:size, :size].astype(np.float64)
        self._grid = np.stack([columns, rows], axis=-1)

    def rest(self, points: Points, view: _View) -> Points:
        """Take the head's motion back: turn about the middle, and shift."""
        middle = (self._size - 1) / 2
        cosine, sine = math.cos(view.turn), math.sin(view.turn)
        offset = points - middle - np.array(view.shift)
        return middle + np.stack(
            [cosine * offset[..., 0] + sine * offset[..., 1], cosine * offset[..., 1] - sine * offset[..., 0]], axis=-1
        )

    def source(self, points: Points, view: _View) -> Points:
        """Return p_t(points), in px of a frame at rest."""
        rest = self.rest(points, view)
        moved = rest.copy()
        for bump in self._bumps:
            distance2 = ((rest - np.array(bump.centre)) ** 2).sum(axis=-1)
            weight = view.strength * np.exp(-distance2 / (2 * bump.sigma**2))
            moved += weight[..., None] * np.array(bump.push)
        return moved

    def flow(self, first: _View, second: _View) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the flow (N, N, 2) from the first view to the second, and the size (N, N) of its local part, px."""
        wanted = self.source(self._grid, first)
        # Each step leaves the share of the error that turn and expression change per px: 0.02 and at most 0.3.
        target = self._grid.copy()
        for _ in range(_ITERATIONS):
            target += wanted - self.source(target, second)
        head = self._grid.copy()
        wanted = self.rest(self._grid, first)
        for _ in range(_HEAD_ITERATIONS):
            head += wanted - self.rest(head, second)
        local = np.hypot(*np.moveaxis(target - head, -1, 0))
        return (target - self._grid).astype(np.float32), local.astype(np.float32)

    def picture(self, view: _View, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the frame (N, N) that a view shows, with fresh noise."""
        finer = TEXTURE_PX * (1 - 2 * _MARGIN) / self._size
        places = (self.source(self._grid, view) + 0.5) * finer - 0.5 + TEXTURE_PX * _MARGIN
        seen = map_coordinates(self._spline, [places[..., 1], places[..., 0]], order=3, prefilter=False, mode="mirror")
        if view.blur_px > 0:
            seen = cv2.GaussianBlur(seen, (0, 0), view.blur_px)
        across = 2 * self._grid / (self._size - 1) - 1
        seen = seen * (view.gain + across @ np.array(view.gradient)) + view.offset
        if view.noise_sigma > 0:
            seen = seen + rng.normal(0, view.noise_sigma, seen.shape)
        return np.asarray(np.clip(np.rint(seen), 0, 255), np.uint8)

    def pair(self, first: _View, second: _View, rng: np.random.Generator) -> Pair:
        flow, local_px = self.flow(first, second)
        return Pair(self.picture(first, rng), self.picture(second, rng), flow, local_px)


def make_pair(case: Case, texture: NDArray[np.float32], size: int, seed: int) -> Pair:
    """Return one pair of a kind; the same arguments give the same pair.

    Parameters
    ----------
    case
        See :data:`CASES`.
    texture
        (512, 512) float32 of :func:`megc_stream.benchmarking.textures.make_texture`.
    size
        Width and height of the pictures, px, >= 32. The face fills the picture. Motion is in px whatever the size;
        below 128 px local motion shrinks with it, as the bumps would fold otherwise.
    seed
        Any integer >= 0.
    """
    rng = np.random.default_rng([seed, CASES.index(case)])
    least, most = (1.0, 2.0) if case == "sway" else (0.3, 2.0)
    scene = _Scene(texture, size, () if case == "shift" else _bumps(rng, size, least, most))
    noise_sigma = {"clean": 0.0, "noise": 2 * NOISE_SIGMA}.get(case, NOISE_SIGMA)
    # The expression is in the first view: the flow leads from it back to rest.
    first, second = _View(strength=1.0, noise_sigma=noise_sigma), _View(noise_sigma=noise_sigma)
    if case in ("shift", "sway"):
        first = replace(first, shift=_direction(rng, rng.uniform(1.0 if case == "sway" else 0.3, 2.0)))
    elif case == "rotation":
        first = replace(first, turn=math.radians(rng.uniform(0.3, 1.0) * rng.choice((-1, 1))))
    elif case == "illumination":
        gradient = (rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03))
        second = replace(second, gain=rng.uniform(0.95, 1.05), offset=rng.uniform(-4, 4), gradient=gradient)
    elif case == "blur":
        second = replace(second, blur_px=rng.uniform(0.4, 0.8))
    return scene.pair(first, second, rng)


class FlowSequence:
    """Frames of a 200 fps crop sequence in which one micro-expression grows and subsides while the head sways.

    The expression reaches 1 to 2 px and lasts 0.2 to 0.5 s; the head moves by at most 1 to 2 px between the frames i
    and i + k, k = 20; the noise is drawn anew for every frame.

    Parameters
    ----------
    texture, size, seed
        As for :func:`make_pair`.
    pairs
        Number of pairs (i, i + k); there are ``pairs`` + k frames.
    """

    def __init__(self, texture: NDArray[np.float32], size: int, seed: int, pairs: int = 120) -> None:
        rng = np.random.default_rng([seed, len(CASES)])
        self._scene = _Scene(texture, size, _bumps(rng, size, 1.0, 2.0))
        self.pairs = pairs
        frames = pairs + K
        length = rng.uniform(0.2, 0.5) * FPS
        start = rng.uniform(0, max(frames - length, 0.0))
        phase = np.clip((np.arange(frames) - start) / length, 0, 1)
        strength = 0.5 * (1 - np.cos(2 * np.pi * phase))
        sway = _sway(rng, frames)
        self._views = [
            _View(shift=(float(x), float(y)), strength=float(s)) for (x, y), s in zip(sway, strength, strict=True)
        ]
        self._pictures = [self._scene.picture(view, rng) for view in self._views]

    def pair(self, index: int) -> Pair:
        """Return the pair (index, index + k)."""
        flow, local_px = self._scene.flow(self._views[index], self._views[index + K])
        return Pair(self._pictures[index], self._pictures[index + K], flow, local_px)

    def pictures(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the two pictures of the pair (index, index + k)."""
        return self._pictures[index], self._pictures[index + K]


def _bumps(rng: np.random.Generator, size: int, least_px: float, most_px: float) -> tuple[_Bump, ...]:
    """Return two local motions of given size, somewhere on the face."""
    unit = size / 128
    return tuple(
        _Bump(
            (rng.uniform(30, 98) * unit, rng.uniform(30, 98) * unit),
            _direction(rng, rng.uniform(least_px, most_px) * min(unit, 1.0)),
            rng.uniform(8, 14) * unit,
        )
        for _ in range(2)
    )


def _direction(rng: np.random.Generator, length: float) -> tuple[float, float]:
    angle = rng.uniform(0, 2 * math.pi)
    return length * math.cos(angle), length * math.sin(angle)


def _sway(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Return shifts (frames, 2), px: sums of three slow sinusoids in which no pair moves more than 1 to 2 px."""
    time_s = np.arange(frames) / FPS
    waves = rng.uniform(0.3, 1.0, (3, 2)), rng.uniform(0.3, 2.0, (3, 2)), rng.uniform(0, 2 * np.pi, (3, 2))
    shifts = sum(
        amplitude * np.sin(2 * np.pi * hz * time_s[:, None] + phase)
        for amplitude, hz, phase in zip(*waves, strict=True)
    )
    steps = shifts[K:] - shifts[:-K]
    return np.asarray(shifts * (rng.uniform(1.0, 2.0) / np.hypot(*steps.T).max()))
