from __future__ import annotations

import threading
import tracemalloc

import cv2
import numpy as np
import pytest
from flow_references import bump, moved_pair, textured, tvl1_energy

from megc_stream.benchmarking.flow_measures import end_point_error_px, moving
from megc_stream.benchmarking.flow_sequences import Case, make_pair
from megc_stream.benchmarking.textures import make_texture
from megc_stream.errors import FlowError
from megc_stream.flow import TVL1Solver


@pytest.fixture(scope="module")
def solver() -> TVL1Solver:
    return TVL1Solver(128, 128)


def _error(flow: np.ndarray, truth: np.ndarray) -> float:
    inner = np.s_[6:-6, 6:-6]
    return float(np.hypot(*np.moveaxis(flow - truth, -1, 0))[inner].mean())


@pytest.mark.parametrize(("u", "v"), [(1.5, -0.5), (-0.4, 0.8), (2.0, 2.0)])
def test_local_motion_has_the_right_sign_place_and_size(solver: TVL1Solver, u: float, v: float) -> None:
    truth = bump(x=80, y=50, u=u, v=v)
    reference, current = moved_pair(truth)
    flow = solver.solve(reference, current, warm=False)
    assert flow.shape == (128, 128, 2)
    assert flow.dtype == np.float32
    assert _error(flow, truth) < 0.06
    assert np.allclose(flow[50, 80], (u, v), atol=0.3)  # smoothing flattens the peak a little


def test_common_shift_is_found(solver: TVL1Solver) -> None:
    truth = np.broadcast_to(np.array([3.0, -2.0]), (128, 128, 2))
    reference, current = moved_pair(truth)
    assert _error(solver.solve(reference, current, warm=False), truth) < 0.1


@pytest.mark.parametrize("case", ["sway", "local"])
def test_error_on_faces_is_no_larger_than_opencvs(solver: TVL1Solver, case: Case) -> None:
    cv2.setNumThreads(1)
    theirs = cv2.optflow.DualTVL1OpticalFlow_create()
    texture = make_texture("generated")
    errors = []
    for seed in range(4):
        pair = make_pair(case, texture, 128, seed)
        moves = moving(pair.local_px)
        for flow in (
            solver.solve(pair.reference, pair.current, warm=False),
            theirs.calc(pair.reference, pair.current, None),
        ):
            errors += [end_point_error_px(flow, pair.flow), end_point_error_px(flow, pair.flow, moves)]
    ours, ours_moving, opencvs, opencvs_moving = np.reshape(errors, (-1, 4)).mean(axis=0)
    assert ours <= opencvs
    assert ours_moving <= 0.8 * opencvs_moving


def test_it_is_a_minimiser_of_the_tvl1_energy(solver: TVL1Solver) -> None:
    reference, current = moved_pair(bump(x=64, y=64, u=1.0, v=1.0))
    flow = solver.solve(reference, current, warm=False)
    still = np.zeros((128, 128, 2))
    truth = bump(x=64, y=64, u=1.0, v=1.0)
    found = tvl1_energy(reference.astype(float), current.astype(float), flow.astype(float))
    assert found < 0.5 * tvl1_energy(reference.astype(float), current.astype(float), still)
    assert found < 1.05 * tvl1_energy(reference.astype(float), current.astype(float), truth)


def test_equal_pictures_give_no_motion(solver: TVL1Solver) -> None:
    image = textured()[:128, :128].astype(np.uint8)
    assert np.abs(solver.solve(image, image, warm=False)).max() == 0


def test_swapping_the_pictures_reverses_the_motion(solver: TVL1Solver) -> None:
    reference, current = moved_pair(bump(x=64, y=64, u=0.8, v=0.0, sigma=16))
    forth = solver.solve(reference, current, warm=False)
    back = solver.solve(current, reference, warm=False)
    assert np.abs(forth + back)[8:-8, 8:-8].mean() < 0.03


def test_transposed_pictures_give_the_transposed_motion(solver: TVL1Solver) -> None:
    reference, current = moved_pair(bump(x=50, y=70, u=1.0, v=0.3))
    flow = solver.solve(reference, current, warm=False)
    turned = solver.solve(np.ascontiguousarray(reference.T), np.ascontiguousarray(current.T), warm=False)
    # Not to the last bit: the median goes along rows first.
    difference = np.abs(turned.transpose(1, 0, 2)[..., ::-1] - flow)
    assert difference.max() < 0.03
    assert difference.mean() < 1e-3


def test_the_smallest_size_works() -> None:
    image = textured(8, 8)[:8, :8].astype(np.uint8)
    assert np.abs(TVL1Solver(8, 8).solve(image, image)).max() == 0


def test_two_runs_give_the_same_bits() -> None:
    pair = moved_pair(bump(x=64, y=64, u=1.0, v=1.0), noise=2.0)
    first, second = (TVL1Solver(128, 128).solve(*pair) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_reset_makes_a_warm_solver_cold() -> None:
    solver = TVL1Solver(128, 128)
    pair = moved_pair(bump(x=64, y=64, u=1.0, v=1.0))
    cold = solver.solve(*pair)
    warm = solver.solve(*pair)
    assert warm.tobytes() != cold.tobytes()
    solver.reset()
    assert solver.solve(*pair).tobytes() == cold.tobytes()
    assert solver.solve(*pair, warm=False).tobytes() == cold.tobytes()


def test_a_result_is_not_overwritten_by_the_next_call(solver: TVL1Solver) -> None:
    pair = moved_pair(bump(x=64, y=64, u=1.0, v=1.0))
    first = solver.solve(*pair, warm=False)
    kept = first.copy()
    solver.solve(*reversed(pair), warm=False)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("warm", [False, True])
def test_out_is_filled_without_allocating(solver: TVL1Solver, warm: bool) -> None:
    pair = [image.astype(np.uint8) for image in moved_pair(bump(x=64, y=64, u=1.0, v=1.0))]
    out = np.empty((128, 128, 2), np.float32)
    for _ in range(2):
        assert solver.solve(*pair, warm=warm, out=out) is out
    tracemalloc.start()
    try:
        solver.solve(*pair, warm=warm, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024


@pytest.mark.parametrize("size", [(24, 32), (48, 100), (129, 127), (256, 256)])
def test_other_sizes(size: tuple[int, int]) -> None:
    truth = bump(*size, x=size[1] / 2, y=size[0] / 2, u=0.5, v=0.0, sigma=min(size) / 5)
    reference, current = moved_pair(truth)
    assert _error(TVL1Solver(*size).solve(reference, current), truth) < 0.1


def _jumped() -> tuple[np.ndarray, np.ndarray]:
    wide = textured(128, 256).astype(np.uint8)
    return wide[:128, :128], wide[:128, 100:228]


@pytest.mark.parametrize(
    ("pair", "warnings"),
    [
        ((np.zeros((128, 128), np.uint8), np.zeros((128, 128), np.uint8)), ("flat", "saturated")),
        ((np.full((128, 128), 90, np.uint8), np.full((128, 128), 90, np.uint8)), ("flat",)),
        ((np.zeros((128, 128), np.uint8), np.full((128, 128), 255, np.uint8)), ("flat", "saturated", "mismatch")),
        (_jumped(), ("mismatch",)),
        (moved_pair(bump(x=64, y=64, u=1.0, v=1.0), noise=2.0), ()),
    ],
    ids=["black", "flat", "black and white", "jump of 100 px", "small motion"],
)
def test_hopeless_pairs_stay_finite_and_are_flagged(
    solver: TVL1Solver, pair: tuple[np.ndarray, np.ndarray], warnings: tuple[str, ...]
) -> None:
    assert np.isfinite(solver.solve(*map(np.ascontiguousarray, pair), warm=False)).all()
    assert solver.warnings == warnings


def test_a_new_solver_has_nothing_to_warn_of() -> None:
    assert TVL1Solver(16, 16).warnings == ()


def test_without_texture_the_motion_of_the_surroundings_is_taken(solver: TVL1Solver) -> None:
    # A wall: noise alone in one half of the picture.
    rng = np.random.default_rng(3)
    reference, current = moved_pair(np.zeros((128, 128, 2)) + np.array([0.7, -0.4]), noise=0.0)
    for image in (reference, current):
        image[:, 80:] = 128.0
        image += rng.normal(0, 1.5, image.shape)
    believing = TVL1Solver(128, 128, noise=0.0).solve(reference, current)
    doubting = solver.solve(reference, current, warm=False)
    errors = [np.linalg.norm(flow - [0.7, -0.4], axis=-1)[8:-8, 84:-8].mean() for flow in (believing, doubting)]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((64, 128), np.uint8), "shape (64, 128), expected (128, 128)"),
        (np.zeros((128, 128), np.float64), "dtype float64, expected uint8 or float32"),
        (np.zeros((128, 256), np.uint8)[:, ::2], "not C-contiguous"),
        (np.full((128, 128), np.nan, np.float32), "not finite"),
        (np.full((128, 128), 1e30, np.float32), "beyond 100000"),
    ],
)
def test_wrong_pictures_are_named(solver: TVL1Solver, image: np.ndarray, words: str) -> None:
    good = np.zeros((128, 128), np.uint8)
    with pytest.raises(FlowError, match="reference") as caught:
        solver.solve(image, good)
    assert words in str(caught.value)
    with pytest.raises(FlowError, match="current"):
        solver.solve(good, image)


def test_wrong_out_and_parameters_are_named(solver: TVL1Solver) -> None:
    good = np.zeros((128, 128), np.uint8)
    with pytest.raises(FlowError, match="out is float64"):
        solver.solve(good, good, out=np.zeros((128, 128, 2)))
    with pytest.raises(FlowError, match="at least 8x8"):
        TVL1Solver(4, 128)
    with pytest.raises(FlowError, match="lam=0"):
        TVL1Solver(128, 128, lam=0)
    for noise in (-1, 1e8, np.nan):
        with pytest.raises(FlowError, match=f"noise={noise}"):
            TVL1Solver(128, 128, noise=noise)
    with pytest.raises(FlowError, match="theta=1e-40"):
        TVL1Solver(128, 128, theta=1e-40)
    with pytest.raises(FlowError, match="current is a list"):
        solver.solve(good, good.tolist())
    fixed = np.zeros((128, 128, 2), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(FlowError, match="expected writeable"):
        solver.solve(good, good, out=fixed)


@pytest.mark.parametrize("extreme", [1e-4, 1e4])
@pytest.mark.parametrize("noise", [0.0, 255.0])
def test_extreme_parameters_stay_finite(extreme: float, noise: float) -> None:
    pair = moved_pair(bump(x=64, y=64, u=1.0, v=1.0), noise=2.0)
    for lam, theta in ((extreme, 0.12), (0.15, extreme), (extreme, extreme), (extreme, 1 / extreme)):
        solver = TVL1Solver(128, 128, lam=lam, theta=theta, noise=noise)
        for _ in range(2):
            assert np.isfinite(solver.solve(*pair)).all()


def test_two_threads_with_a_solver_each_do_not_disturb_each_other() -> None:
    pairs = [moved_pair(bump(x=40 + 40 * n, y=64, u=1.0, v=0.0), seed=n) for n in range(2)]
    alone = [TVL1Solver(128, 128).solve(*pair) for pair in pairs]
    together: list[np.ndarray] = [np.empty(0)] * 2

    def work(n: int) -> None:
        together[n] = TVL1Solver(128, 128).solve(*pairs[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(alone, together, strict=True))
