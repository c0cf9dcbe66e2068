"""Plain-numpy versions of what the kernels compute."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def warp(image: Array, flow: Array) -> Array:
    """Sample ``image`` (H, W) bilinearly at x + flow(x); coordinates outside are clamped."""
    height, width = image.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    px = np.clip(x + flow[..., 0], 0, width - 1)
    py = np.clip(y + flow[..., 1], 0, height - 1)
    x0 = np.minimum(px.astype(int), width - 2)
    y0 = np.minimum(py.astype(int), height - 2)
    fx, fy = px - x0, py - y0
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    bottom = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy


def tvl1_energy(reference: Array, current: Array, flow: Array, lam: float = 0.15) -> float:
    """lambda sum |I1(x + u) - I0(x)| + sum |grad u1| + |grad u2|, forward differences."""
    total = lam * float(np.abs(warp(current, flow) - reference).sum())
    for component in (flow[..., 0], flow[..., 1]):
        gx = np.diff(component, axis=1, append=component[:, -1:])
        gy = np.diff(component, axis=0, append=component[-1:])
        total += float(np.hypot(gx, gy).sum())
    return total


def strain(flow: Array) -> Array:
    """Backward differences; terms that would read outside are 0."""
    u, v = flow[..., 0], flow[..., 1]
    ux, vx = np.zeros_like(u), np.zeros_like(v)
    uy, vy = np.zeros_like(u), np.zeros_like(v)
    ux[:, 1:], vx[:, 1:] = np.diff(u, axis=1), np.diff(v, axis=1)
    uy[1:], vy[1:] = np.diff(u, axis=0), np.diff(v, axis=0)
    return np.sqrt(ux**2 + vy**2 + (uy + vx) ** 2 / 2)


def textured(height: int = 128, width: int = 128, seed: int = 0) -> Array:
    """A smooth random picture with grey values of about 40..220."""
    noise = np.random.default_rng(seed).normal(size=(height + 32, width + 32))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    smooth = 128 + 35 * smooth / smooth.std()
    return np.clip(smooth, 0, 255)


def moved_pair(flow: Array, seed: int = 0, noise: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A pair with reference(x) = current(x + flow(x)), sampled from a finer picture; optional sensor noise."""
    height, width = flow.shape[:2]
    fine = textured(height, width, seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    current = fine[16 : 16 + height, 16 : 16 + width]
    reference = cv2.remap(
        fine.astype(np.float32),
        x + 16 + flow[..., 0].astype(np.float32),
        y + 16 + flow[..., 1].astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    rng = np.random.default_rng(seed + 1)
    pair = [image + rng.normal(0, noise, image.shape) if noise else image for image in (reference, current)]
    return pair[0].astype(np.float32), pair[1].astype(np.float32)


def bump(height: int = 128, width: int = 128, *, x: float, y: float, u: float, v: float, sigma: float = 12.0) -> Array:
    """A local motion: (u, v) px at (x, y), falling off as a Gaussian."""
    rows, columns = np.mgrid[0:height, 0:width]
    weight = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.stack([u * weight, v * weight], axis=-1)
