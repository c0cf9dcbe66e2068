"""Many pairs at once, on several cores: for work that is not a stream."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import FlowError
from megc_stream.flow.tvl1 import TVL1Solver

__all__ = ["solve_batch"]

Pair = tuple[NDArray[Any], NDArray[Any]]


def solve_batch(
    pairs: Iterable[Pair], *, threads: int = 1, lam: float = 0.15, theta: float = 0.12, noise: float = 2.0
) -> NDArray[np.float32]:
    """Return the flow of many pairs of one size, each solved cold: the result does not depend on ``threads``.

    Parameters
    ----------
    pairs
        (reference, current) of each, as :meth:`TVL1Solver.solve` takes them.
    threads
        Solvers that work side by side, >= 1; the kernels release the GIL.
    lam, theta, noise
        See :class:`TVL1Solver`.

    Returns
    -------
    (N, H, W, 2) float32, px; (0, 0, 0, 2) without pairs.

    Raises
    ------
    FlowError
        ``threads`` below 1, or what :class:`TVL1Solver` refuses; names the pair.
    """
    if threads < 1:
        raise FlowError(f"solve_batch: got threads={threads}, expected at least 1")
    pairs = list(pairs)
    for index, pair in enumerate(pairs):
        if len(pair) != 2 or not all(isinstance(picture, np.ndarray) for picture in pair):
            raise FlowError(f"solve_batch, pair {index}: expected two numpy arrays, reference and current")
    if not pairs:
        return np.empty((0, 0, 0, 2), np.float32)
    shape = pairs[0][0].shape
    if len(shape) != 2:
        raise FlowError(f"solve_batch: reference of pair 0 has shape {shape}, expected (H, W)")
    height, width = shape
    flows = np.empty((len(pairs), height, width, 2), np.float32)
    # Made here: the first call of each kernel compiles, which must not happen in two threads at once.
    solvers = [TVL1Solver(height, width, lam=lam, theta=theta, noise=noise) for _ in range(min(threads, len(pairs)))]

    def solve(solver: TVL1Solver, index: int) -> None:
        try:
            solver.solve(*pairs[index], warm=False, out=flows[index])
        except FlowError as error:
            raise FlowError(f"solve_batch, pair {index}: {error}") from error

    solve(solvers[0], 0)

    def work(number: int) -> None:
        # Pair 0 is done. Strides, so that no thread waits for another.
        for index in range(1 + number, len(pairs), len(solvers)):
            solve(solvers[number], index)

    if len(solvers) == 1:
        work(0)
    else:
        with ThreadPoolExecutor(len(solvers), thread_name_prefix="flow") as pool:
            list(pool.map(work, range(len(solvers))))
    return flows
