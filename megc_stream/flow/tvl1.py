"""Dense TV-L1 optical flow of small, nearly aligned pictures.

Minimises, over the flow u = (u1, u2), ::

    E(u) = sum_x  lambda |I1(x + u) - I0(x)|  +  |grad u1| + |grad u2|

with the dual scheme of Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007),
eqs. 8-15: coarse to fine by a factor of 2, one warp a level, a median after each. What differs from the published
scheme, and why, is measured in docs/flow.md:

- The pyramid smooths before it halves. A plain 2x2 mean aliases hair and teeth into motion that is not there.
- The warp is Catmull-Rom's, which reproduces quadratics; a bilinear one blurs I1 against I0 and errs by a tenth more.
- Gradients are the mean of both pictures', so that half of the noise is in them.
- Where the gradient is no larger than sensor noise makes it, the data term counts less:
  lambda g^2 / (g^2 + 4 noise^2). Skin and walls without texture take the motion of what surrounds them.
- Few iterations on the finest level, where noise would be fitted, more on the coarser ones, which cost little.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow.tvl1_kernels import (
    BAND_ROWS,
    BORDER_PX,
    DIFFERENCE,
    FIELDS,
    GREATEST_GREY,
    U,
    V,
    double,
    halve,
    repeat_border,
    shrink_solution,
    solve_level,
    usable,
)

__all__ = ["TVL1Solver"]

# Iterations per level, finest first; levels coarser than these repeat the last entry.
_ITERATIONS = (20, 20, 30, 30)
# The same after a warm start: it begins nearer to the solution, and on the second level, exact enough for it.
_WARM_ITERATIONS = (14, 20)
_LEAST_LEVEL_PX = 12
_LEAST_PX = 8
# Beyond these float32 would overflow.
_LEAST_WEIGHT, _GREATEST_WEIGHT = 1e-4, 1e4
_GREATEST_NOISE = 255.0
# Shares at which `TVL1Solver.warnings` speaks up.
_SATURATED_SHARE = 0.25
_FLAT_GREY = 1.0
_MISMATCH_GREY = 5.0
_MISMATCH_SHARE = 0.4


@dataclass(frozen=True)
class _Level:
    """Buffers of one pyramid level: bordered pictures, the flat padded fields of the iteration, and scratch rows."""

    height: int
    width: int
    stride: int
    reference: NDArray[np.float32]
    current: NDArray[np.float32]
    fields: NDArray[np.float32]
    mask: NDArray[np.float32]
    row: NDArray[np.float32]
    weights: NDArray[np.float32]
    taps: NDArray[np.float32]
    index: NDArray[np.uint64]

    def rows(self, field: int) -> NDArray[np.float32]:
        """Return the picture part (H, W) of one flat padded field."""
        rows = self.fields[field, self.stride : -self.stride].reshape(self.height, self.stride)
        return rows[:, : self.width]

    def inner(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a bordered picture without its border."""
        return picture[BORDER_PX : BORDER_PX + self.height, BORDER_PX : BORDER_PX + self.width]


def _make_level(height: int, width: int) -> _Level:
    # Two elements at least between rows, one for each neighbour; rows in whole vectors of eight float32.
    stride = (width + 2 + 7) // 8 * 8
    mask = np.ones((BAND_ROWS + 1, stride), np.float32)
    mask[:, width - 1 :] = 0.0
    bordered = (height + 2 * BORDER_PX, width + 2 * BORDER_PX)
    return _Level(
        height=height,
        width=width,
        stride=stride,
        reference=np.zeros(bordered, np.float32),
        current=np.zeros(bordered, np.float32),
        fields=np.zeros((FIELDS, (height + 2) * stride), np.float32),
        mask=mask.reshape(-1),
        row=np.zeros(width + 8, np.float32),
        weights=np.zeros((2, 4, width), np.float32),
        taps=np.zeros(4 * width, np.float32),
        index=np.zeros(width + 1, np.uint64),
    )


class TVL1Solver:
    """TV-L1 flow between two grey pictures of one fixed size, with all buffers kept from call to call.

    One solver belongs to one stream and one thread; the kernels release the GIL. The first call compiles (some seconds,
    once per machine: later processes load the result from numba's cache).

    Parameters
    ----------
    height, width
        Size of the pictures, px, each >= 8.
    lam
        Weight of the data term for grey values 0..255 (lambda, 1e-4 to 1e4).
    theta
        Coupling of the data and smoothness steps (theta, 1e-4 to 1e4). The published value is 0.3; at 0.12 the same few
        iterations come closer to the minimum (docs/decisions/0008).
    noise
        Standard deviation of the sensor noise that is to be expected, grey values (0 to 255); see the module.

    Raises
    ------
    FlowError
        A size, ``lam``, ``theta`` or ``noise`` out of range.

    References
    ----------
    Zach, Pock, Bischof: A Duality Based Approach for Realtime TV-L1 Optical Flow, DAGM 2007, eqs. 8-15.
    """

    def __init__(self, height: int, width: int, *, lam: float = 0.15, theta: float = 0.12, noise: float = 2.0) -> None:
        try:
            height, width = index(height), index(width)
        except TypeError as error:
            raise FlowError(f"TVL1Solver: got size {height}x{width}, expected whole numbers of px") from error
        if min(height, width) < _LEAST_PX:
            raise FlowError(f"TVL1Solver: got size {height}x{width} px, expected at least {_LEAST_PX}x{_LEAST_PX}")
        if not (_LEAST_WEIGHT <= lam <= _GREATEST_WEIGHT and _LEAST_WEIGHT <= theta <= _GREATEST_WEIGHT):
            raise FlowError(
                f"TVL1Solver: got lam={lam}, theta={theta}, expected both from {_LEAST_WEIGHT:g} to "
                f"{_GREATEST_WEIGHT:g}"
            )
        if not 0 <= noise <= _GREATEST_NOISE:
            raise FlowError(
                f"TVL1Solver: got noise={noise}, expected a standard deviation of 0 to {_GREATEST_NOISE:g} grey values"
            )
        self.height = height
        self.width = width
        self._lam = float(lam)
        self._theta = float(theta)
        self._kappa = 4.0 * float(noise) ** 2
        self._levels = [_make_level(height, width)]
        while min(height, width) // 2 >= _LEAST_LEVEL_PX:
            height, width = (height + 1) // 2, (width + 1) // 2
            self._levels.append(_make_level(height, width))
        # All that a call needs, made once: a call with `out` allocates nothing.
        finest = self._levels[0]
        self._pictures = (finest.inner(finest.reference), finest.inner(finest.current))
        self._flow = (finest.rows(U), finest.rows(V))
        last = len(_ITERATIONS) - 1
        self._cold = [self._step(n, _ITERATIONS[min(n, last)]) for n in range(len(self._levels))]
        self._warm = [self._step(n, _WARM_ITERATIONS[n]) for n in range(min(len(self._levels), len(_WARM_ITERATIONS)))]
        self._solved = False

    def reset(self) -> None:
        """Forget the previous solution: the next call starts cold."""
        self._solved = False

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
            Start from the previous solution, if there is one, at the second finest level, instead of from zero at the
            coarsest: for successive pairs of one recording, whose flow changes by less than a pixel. The same result on
            every run, but it depends on all pairs since :meth:`reset`.
        out
            (H, W, 2) float32, C-contiguous array for the result; a new one is made without it. With it, nothing is
            allocated.

        Returns
        -------
        (H, W, 2) float32, px: horizontal (to the right) and vertical (down) motion. ``out`` if given. Always finite;
        :attr:`warnings` tells when it means little.

        Raises
        ------
        FlowError
            An array of the wrong shape, dtype or layout, or with values that are not finite.
        """
        self._check("reference", reference)
        self._check("current", current)
        flow = self._output(out)
        self._fill_pyramid(reference, current)
        self._begin(warm)
        np.copyto(flow[..., 0], self._flow[0])
        np.copyto(flow[..., 1], self._flow[1])
        self._solved = True
        return flow

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the last flow doubtful: "flat", "saturated", "mismatch", each once; empty if nothing does.

        flat: a picture without texture (mean deviation from its mean below 1 grey value). saturated: a quarter or more
        of a picture's pixels are 0 or less, or 255 or more. mismatch: after the coarser levels the pictures still
        differ by more than 5 grey values on average, and by more than 0.4 of the mean deviation from the mean: a cut, a
        jump beyond the pyramid's reach, another face.
        """
        if not self._solved:
            return ()
        level = self._levels[0]
        pictures = self._pictures
        deviation = min(float(np.abs(picture - picture.mean()).mean()) for picture in pictures)
        clipped = max(float(((picture <= 0) | (picture >= 255)).mean()) for picture in pictures)
        residual = float(np.abs(level.rows(DIFFERENCE)).mean())
        found = {
            "flat": deviation < _FLAT_GREY,
            "saturated": clipped >= _SATURATED_SHARE,
            "mismatch": residual > max(_MISMATCH_GREY, _MISMATCH_SHARE * deviation),
        }
        return tuple(name for name, true in found.items() if true)

    def _begin(self, warm: bool) -> None:
        """Solve all levels, from the coarsest or from that of a warm start down to the finest."""
        steps = self._warm if warm and self._solved else self._cold
        start = len(steps) - 1
        if steps is self._warm:
            for fine, coarse in pairwise(self._levels[: start + 1]):
                shrink_solution(fine.fields, fine.stride, fine.height, fine.width, coarse.fields, coarse.stride)
        else:
            self._levels[start].fields[U : V + 1] = 0.0
        for number in range(start, -1, -1):
            doubling, solving = steps[number]
            if number < start:
                for arguments in doubling:
                    double(*arguments)
            solve_level(*solving)

    def _step(self, number: int, iterations: int) -> tuple[tuple[tuple[Any, ...], ...], tuple[Any, ...]]:
        """Return the arguments for `double`, once for each component, and for `solve_level` at a level."""
        level = self._levels[number]
        doubling: tuple[tuple[Any, ...], ...] = ()
        if number + 1 < len(self._levels):
            coarse = self._levels[number + 1]
            size = (coarse.height, coarse.width, coarse.stride)
            doubling = tuple(
                (coarse.fields[field], *size, level.fields[field], level.height, level.stride, level.row)
                for field in (U, V)
            )
        solving = (
            level.reference,
            level.current,
            level.fields,
            level.mask,
            level.row,
            level.weights,
            level.taps,
            level.index,
            level.height,
            level.width,
            level.stride,
            iterations,
            self._lam,
            self._theta,
            # Noise halves from level to level.
            self._kappa * 0.25**number,
        )
        return doubling, solving

    def _fill_pyramid(self, reference: NDArray[Any], current: NDArray[Any]) -> None:
        finest = self._levels[0]
        np.copyto(self._pictures[0], reference)
        np.copyto(self._pictures[1], current)
        repeat_border(finest.reference)
        repeat_border(finest.current)
        for fine, coarse in pairwise(self._levels):
            halve(fine.reference, coarse.reference, fine.row)
            halve(fine.current, coarse.current, fine.row)

    def _check(self, name: str, image: NDArray[Any]) -> None:
        if not isinstance(image, np.ndarray):
            raise FlowError(f"TVL1Solver: {name} is a {type(image).__name__}, expected a numpy array")
        if image.shape != (self.height, self.width):
            raise FlowError(f"TVL1Solver: {name} has shape {image.shape}, expected ({self.height}, {self.width})")
        if image.dtype not in (np.uint8, np.float32):
            raise FlowError(f"TVL1Solver: {name} has dtype {image.dtype}, expected uint8 or float32 on 0..255")
        if not image.flags.c_contiguous:
            raise FlowError(f"TVL1Solver: {name} is not C-contiguous; pass np.ascontiguousarray({name})")
        if image.dtype == np.float32 and not usable(image):
            raise FlowError(
                f"TVL1Solver: {name} has values that are not finite (NaN or infinity) or beyond {GREATEST_GREY:g}; "
                "expected 0..255"
            )

    def _output(self, out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        shape = (self.height, self.width, 2)
        if out is None:
            return np.empty(shape, np.float32)
        if not isinstance(out, np.ndarray):
            raise FlowError(f"TVL1Solver: out is a {type(out).__name__}, expected a numpy array, or None")
        if out.shape != shape or out.dtype != np.float32 or not (out.flags.c_contiguous and out.flags.writeable):
            raise FlowError(
                f"TVL1Solver: out is {out.dtype} {out.shape}, expected writeable C-contiguous float32 {shape}, or None"
            )
        return out
