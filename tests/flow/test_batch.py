from __future__ import annotations

import numpy as np
import pytest
from flow_references import bump, moved_pair

from megc_stream.errors import FlowError
from megc_stream.flow import TVL1Solver, solve_batch


def _pairs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [moved_pair(bump(48, 40, x=20, y=24, u=0.2 * n, v=0.3), seed=n, noise=1.0) for n in range(count)]


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_a_batch_is_what_the_solver_gives_pair_by_pair(threads: int) -> None:
    pairs = _pairs(5)
    solver = TVL1Solver(48, 40)
    expected = np.stack([solver.solve(*pair, warm=False) for pair in pairs])
    flows = solve_batch(pairs, threads=threads)
    assert flows.dtype == np.float32
    assert flows.tobytes() == expected.tobytes()


def test_no_pairs_give_no_flow() -> None:
    assert solve_batch([]).shape == (0, 0, 0, 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_wrong_pair_is_named(threads: int) -> None:
    pairs = _pairs(3)
    pairs[2] = (pairs[2][0], pairs[2][1][:-1])
    with pytest.raises(FlowError, match=r"pair 2: .*current has shape \(47, 40\), expected \(48, 40\)"):
        solve_batch(pairs, threads=threads)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(FlowError, match="threads=0, expected at least 1"):
        solve_batch(_pairs(1), threads=0)
    with pytest.raises(FlowError, match=r"pair 0 has shape \(48,\), expected \(H, W\)"):
        solve_batch([(np.zeros(48, np.uint8), np.zeros(48, np.uint8))])
    with pytest.raises(FlowError, match="pair 0: expected two numpy arrays"):
        solve_batch(np.zeros((1, 3, 48, 48), np.uint8))
