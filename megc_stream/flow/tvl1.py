"""Dense TV-L1 optical flow of small, nearly aligned pictures.

Minimises, over the flow u = (u1, u2), ::

    E(u) = sum_x  lambda |I1(x + u) - I0(x)|  +  |grad u1| + |grad u2|

with the dual scheme of Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007),
eqs. 8-15: coarse to fine by a factor of 2, linearised anew at each warp, a 5x5 median after each warp. Few warps are
spent on the finest level, where sensor noise would be fitted.

Layout. The iterated fields are flat float32 arrays: one row of zeros, the rows of the picture, one more row of zeros,
each row followed by zeros up to the stride. So the neighbours of element n are n - 1, n + 1, n - stride and n +
stride, no loop asks about borders, and all loops vectorise. A band of rows goes through all steps of an iteration
while it is in the cache; the dual of a row follows the primal of the row below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow.jit import kernel

__all__ = ["TVL1Solver"]

_TAU = 0.25
_ITERATIONS = 20
# Warps per level, finest first; levels coarser than these repeat the last entry.
_WARPS = (1, 2, 4)
_LEAST_LEVEL_PX = 24
_LEAST_PX = 8
_BAND_ROWS = 8
_MEDIAN_PX = 5
_FLAT = 1e-4


@kernel
def _gradient(image, gx, gy):  # type: ignore[no-untyped-def]
    """Central differences of ``image`` (H, W); halved one-sided differences at the border."""
    height, width = image.shape
    half = np.float32(0.5)
    for y in range(height):
        above = max(y - 1, 0)
        below = min(y + 1, height - 1)
        gx[y, 0] = half * (image[y, 1] - image[y, 0])
        gx[y, width - 1] = half * (image[y, width - 1] - image[y, width - 2])
        for x in range(width - 2):
            gx[y, x + 1] = half * (image[y, x + 2] - image[y, x])
        for x in range(width):
            gy[y, x] = half * (image[below, x] - image[above, x])


@kernel
def _linearise(reference, current, cx, cy, u, v, ix, iy, rho, inverse):  # type: ignore[no-untyped-def]
    """Warp ``current`` and its gradient (cx, cy) by (u, v), bilinearly, and form the linearised data term.

    ``rho`` becomes I1(x + u0) - I0(x) - grad I1 . u0 and ``inverse`` 1 / |grad I1|^2. Where the picture is flat or the
    warp leaves it, all four are 0: only the smoothness term acts there.
    """
    height, width = reference.shape
    zero = np.float32(0.0)
    one = np.float32(1.0)
    right = np.float32(width - 1)
    bottom = np.float32(height - 1)
    for y in range(height):
        for x in range(width):
            px = np.float32(x) + u[y, x]
            py = np.float32(y) + v[y, x]
            inside = px >= zero and py >= zero and px <= right and py <= bottom
            px = min(max(px, zero), right)
            py = min(max(py, zero), bottom)
            x0 = min(int(px), width - 2)
            y0 = min(int(py), height - 2)
            fx = px - np.float32(x0)
            fy = py - np.float32(y0)
            w11 = fx * fy
            w10 = fy - w11
            w01 = fx - w11
            w00 = one - fx - w10
            gx = w00 * cx[y0, x0] + w01 * cx[y0, x0 + 1] + w10 * cx[y0 + 1, x0] + w11 * cx[y0 + 1, x0 + 1]
            gy = w00 * cy[y0, x0] + w01 * cy[y0, x0 + 1] + w10 * cy[y0 + 1, x0] + w11 * cy[y0 + 1, x0 + 1]
            value = (
                w00 * current[y0, x0]
                + w01 * current[y0, x0 + 1]
                + w10 * current[y0 + 1, x0]
                + w11 * current[y0 + 1, x0 + 1]
            )
            square = gx * gx + gy * gy
            used = inside and square > np.float32(_FLAT)
            ix[y, x] = gx if used else zero
            iy[y, x] = gy if used else zero
            rho[y, x] = value - reference[y, x] - gx * u[y, x] - gy * v[y, x] if used else zero
            inverse[y, x] = one / square if used else zero


@kernel
def _threshold(ix, iy, rho, inverse, u, v, t, bound):  # type: ignore[no-untyped-def]
    """Eq. 15 of Zach et al.: t such that the data step is (u, v) - t grad I1."""
    for n in range(t.shape[0]):
        r = (rho[n] + ix[n] * u[n] + iy[n] * v[n]) * inverse[n]
        t[n] = min(max(r, -bound), bound)


@kernel
def _primal(u, t, gradient, p, p_left, q, q_above, theta):  # type: ignore[no-untyped-def]
    """Eqs. 12-13 of Zach et al. for one component: u = (u - t grad I1) + theta div (p, q)."""
    for n in range(u.shape[0]):
        u[n] = u[n] - t[n] * gradient[n] + theta * (p[n] - p_left[n] + q[n] - q_above[n])


@kernel
def _dual(u, u_right, u_below, p, q, mask, step):  # type: ignore[no-untyped-def]
    """Eq. 10 of Zach et al. for one component: (p, q) = ((p, q) + s grad u) / (1 + s |grad u|), s = tau / theta.

    ``mask`` is 0 in the last column, where the difference to the right does not exist, else 1.
    """
    one = np.float32(1.0)
    for n in range(u.shape[0]):
        gx = (u_right[n] - u[n]) * mask[n]
        gy = u_below[n] - u[n]
        scale = one / (one + step * np.sqrt(gx * gx + gy * gy))
        p[n] = (p[n] + step * gx) * scale
        q[n] = (q[n] + step * gy) * scale


@kernel
def _iterate(  # type: ignore[no-untyped-def]
    ix, iy, rho, inverse, u, v, up, uq, vp, vq, t, mask, height, stride, iterations, lam, theta
):
    """Run ``iterations`` steps of the dual scheme on flat padded fields (see the module)."""
    bound = np.float32(lam * theta)
    step = np.float32(_TAU / theta)
    theta32 = np.float32(theta)
    for _ in range(iterations):
        for y in range(0, height, _BAND_ROWS):
            a = (y + 1) * stride
            b = (min(y + _BAND_ROWS, height) + 1) * stride
            band = t[: b - a]
            _threshold(ix[a:b], iy[a:b], rho[a:b], inverse[a:b], u[a:b], v[a:b], band, bound)
            above = a - stride
            _primal(u[a:b], band, ix[a:b], up[a:b], up[a - 1 : b - 1], uq[a:b], uq[above : b - stride], theta32)
            _primal(v[a:b], band, iy[a:b], vp[a:b], vp[a - 1 : b - 1], vq[a:b], vq[above : b - stride], theta32)
            c = above if y > 0 else a
            d = b - stride
            if d > c:
                row = mask[: d - c]
                _dual(u[c:d], u[c + 1 : d + 1], u[c + stride : b], up[c:d], uq[c:d], row, step)
                _dual(v[c:d], v[c + 1 : d + 1], v[c + stride : b], vp[c:d], vq[c:d], row, step)
        # The last row has none below it: its difference downwards is 0.
        c = height * stride
        d = c + stride
        _dual(u[c:d], u[c + 1 : d + 1], u[c:d], up[c:d], uq[c:d], mask[:stride], step)
        _dual(v[c:d], v[c + 1 : d + 1], v[c:d], vp[c:d], vq[c:d], mask[:stride], step)


@dataclass(frozen=True)
class _Level:
    """Buffers of one pyramid level: pictures (H, W), and the flat padded fields of the iteration."""

    height: int
    width: int
    stride: int
    reference: NDArray[np.float32]
    current: NDArray[np.float32]
    gradient_x: NDArray[np.float32]
    gradient_y: NDArray[np.float32]
    fields: NDArray[np.float32]
    band: NDArray[np.float32]
    mask: NDArray[np.float32]
    median_in: NDArray[np.float32]
    median_out: NDArray[np.float32]

    def view(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the picture part (H, W) of one flat padded field."""
        rows = field[self.stride : (self.height + 1) * self.stride].reshape(self.height, self.stride)
        return rows[:, : self.width]


# Order of the flat fields in _Level.fields.
_IX, _IY, _RHO, _INVERSE, _U, _V, _UP, _UQ, _VP, _VQ = range(10)


def _make_level(height: int, width: int) -> _Level:
    # One zero column at least; rows in whole vectors of eight float32.
    stride = (width // 8 + 1) * 8
    mask = np.ones((_BAND_ROWS, stride), np.float32)
    mask[:, width - 1 :] = 0.0
    picture = (height, width)
    return _Level(
        height=height,
        width=width,
        stride=stride,
        reference=np.zeros(picture, np.float32),
        current=np.zeros(picture, np.float32),
        gradient_x=np.zeros(picture, np.float32),
        gradient_y=np.zeros(picture, np.float32),
        fields=np.zeros((10, (height + 2) * stride), np.float32),
        band=np.zeros(_BAND_ROWS * stride, np.float32),
        mask=mask.reshape(-1),
        median_in=np.zeros(picture, np.float32),
        median_out=np.zeros(picture, np.float32),
    )


class TVL1Solver:
    """TV-L1 flow between two grey pictures of one fixed size, with all buffers kept from call to call.

    One solver belongs to one stream and one thread; the kernels release the GIL.

    Parameters
    ----------
    height, width
        Size of the pictures, px, each >= 8.
    lam
        Weight of the data term for grey values 0..255 (lambda, > 0).
    theta
        Coupling of the data and smoothness steps (theta, > 0).

    Raises
    ------
    FlowError
        A size, ``lam`` or ``theta`` out of range.

    References
    ----------
    Zach, Pock, Bischof: A Duality Based Approach for Realtime TV-L1 Optical Flow, DAGM 2007, eqs. 8-15.
    """

    def __init__(self, height: int, width: int, *, lam: float = 0.15, theta: float = 0.3) -> None:
        if height < _LEAST_PX or width < _LEAST_PX:
            raise FlowError(f"TVL1Solver: got size {height}x{width} px, expected at least {_LEAST_PX}x{_LEAST_PX}")
        if not (lam > 0 and theta > 0):
            raise FlowError(f"TVL1Solver: got lam={lam}, theta={theta}, expected both > 0")
        self.height = height
        self.width = width
        self._lam = float(lam)
        self._theta = float(theta)
        self._levels = [_make_level(height, width)]
        while min(height, width) // 2 >= _LEAST_LEVEL_PX and len(self._levels) < len(_WARPS):
            height, width = (height + 1) // 2, (width + 1) // 2
            self._levels.append(_make_level(height, width))
        self._previous: NDArray[np.float32] | None = None

    def reset(self) -> None:
        """Forget the previous solution: the next call starts cold."""
        self._previous = None

    def solve(
        self,
        reference: NDArray[Any],
        current: NDArray[Any],
        *,
        warm: bool = True,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the motion from ``reference`` to ``current``: reference(x) = current(x + flow(x)).

        Parameters
        ----------
        reference, current
            (H, W) uint8 or float32, C-contiguous, finite, grey values on the scale 0..255.
        warm
            Start the coarsest level from the previous solution, if there is one, instead of from zero.
        out
            (H, W, 2) float32, C-contiguous array for the result; a new one is made without it.

        Returns
        -------
        (H, W, 2) float32, px: horizontal (to the right) and vertical (down) motion. ``out`` if given.

        Raises
        ------
        FlowError
            An array of the wrong shape, dtype or layout, or with values that are not finite.
        """
        self._check("reference", reference)
        self._check("current", current)
        flow = self._output(out)
        self._fill_pyramid(reference, current)
        start = self._previous if warm else None
        for index in range(len(self._levels) - 1, -1, -1):
            level = self._levels[index]
            u, v = level.view(level.fields[_U]), level.view(level.fields[_V])
            if index < len(self._levels) - 1:
                _upsample(self._levels[index + 1], level)
            elif start is None:
                u.fill(0.0)
                v.fill(0.0)
            else:
                shrunk = cv2.resize(start, (level.width, level.height), interpolation=cv2.INTER_AREA)
                np.multiply(shrunk[..., 0], level.width / self.width, out=u)
                np.multiply(shrunk[..., 1], level.height / self.height, out=v)
            self._solve_level(level, _WARPS[min(index, len(_WARPS) - 1)])
        finest = self._levels[0]
        flow[..., 0] = finest.view(finest.fields[_U])
        flow[..., 1] = finest.view(finest.fields[_V])
        if self._previous is None:
            self._previous = np.empty_like(flow)
        np.copyto(self._previous, flow)
        return flow

    def _solve_level(self, level: _Level, warps: int) -> None:
        fields = level.fields
        fields[_UP:].fill(0.0)
        u, v = level.view(fields[_U]), level.view(fields[_V])
        data = [level.view(fields[n]) for n in (_IX, _IY, _RHO, _INVERSE)]
        _gradient(level.current, level.gradient_x, level.gradient_y)
        for _ in range(warps):
            _linearise(level.reference, level.current, level.gradient_x, level.gradient_y, u, v, *data)
            _iterate(*fields, level.band, level.mask, level.height, level.stride, _ITERATIONS, self._lam, self._theta)
            for component in (u, v):
                np.copyto(level.median_in, component)
                cv2.medianBlur(level.median_in, _MEDIAN_PX, dst=level.median_out)
                np.copyto(component, level.median_out)

    def _fill_pyramid(self, reference: NDArray[Any], current: NDArray[Any]) -> None:
        np.copyto(self._levels[0].reference, reference)
        np.copyto(self._levels[0].current, current)
        for fine, coarse in zip(self._levels, self._levels[1:], strict=False):
            size = (coarse.width, coarse.height)
            cv2.resize(fine.reference, size, dst=coarse.reference, interpolation=cv2.INTER_AREA)
            cv2.resize(fine.current, size, dst=coarse.current, interpolation=cv2.INTER_AREA)

    def _check(self, name: str, image: NDArray[Any]) -> None:
        if image.shape != (self.height, self.width):
            raise FlowError(f"TVL1Solver: {name} has shape {image.shape}, expected ({self.height}, {self.width})")
        if image.dtype not in (np.uint8, np.float32):
            raise FlowError(f"TVL1Solver: {name} has dtype {image.dtype}, expected uint8 or float32 on 0..255")
        if not image.flags.c_contiguous:
            raise FlowError(f"TVL1Solver: {name} is not C-contiguous; pass np.ascontiguousarray({name})")
        if image.dtype == np.float32 and not np.isfinite(image).all():
            raise FlowError(f"TVL1Solver: {name} has values that are not finite (NaN or infinity); expected 0..255")

    def _output(self, out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        shape = (self.height, self.width, 2)
        if out is None:
            return np.empty(shape, np.float32)
        if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise FlowError(
                f"TVL1Solver: out is {out.dtype} {out.shape}, expected C-contiguous float32 {shape}, or None"
            )
        return out


def _upsample(coarse: _Level, fine: _Level) -> None:
    """Start a level from the solution of the coarser one: bilinear, in px of the finer level."""
    size = (fine.width, fine.height)
    for field, scale in ((_U, fine.width / coarse.width), (_V, fine.height / coarse.height)):
        np.copyto(coarse.median_in, coarse.view(coarse.fields[field]))
        cv2.resize(coarse.median_in, size, dst=fine.median_in, interpolation=cv2.INTER_LINEAR)
        np.multiply(fine.median_in, np.float32(scale), out=fine.median_in)
        np.copyto(fine.view(fine.fields[field]), fine.median_in)
