"""What any TV-L1 solver must do, whatever its scheme: tolerances are those of a sane solver, not of this one."""

from __future__ import annotations

import numpy as np
import pytest
from flow_references import bump, moved_pair, textured
from hypothesis import given, settings
from hypothesis import strategies as st

from megc_stream.flow import TVL1Solver

PX = 64
few = settings(max_examples=8, deadline=None, derandomize=True)  # the first call compiles

seeds = st.integers(0, 1000)
motions = st.tuples(
    st.floats(22, 42), st.floats(22, 42), st.floats(-1.2, 1.2), st.floats(-1.2, 1.2), st.floats(7, 11)
).map(lambda m: bump(PX, PX, x=m[0], y=m[1], u=m[2], v=m[3], sigma=m[4]))


@pytest.fixture(scope="module")
def solver() -> TVL1Solver:
    return TVL1Solver(PX, PX)


def _cold(solver: TVL1Solver, reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    return solver.solve(np.ascontiguousarray(reference), np.ascontiguousarray(current), warm=False)


def _mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second, axis=-1)[6:-6, 6:-6].mean())


@few
@given(seed=seeds, noise=st.sampled_from([0.0, 1.5]))
def test_equal_pictures_give_next_to_no_motion(solver: TVL1Solver, seed: int, noise: float) -> None:
    # Noise in the picture is no motion either, as long as both pictures have the same.
    picture, _ = moved_pair(np.zeros((PX, PX, 2)), seed, noise)
    assert np.abs(_cold(solver, picture, picture)).max() < 1e-3


@few
@given(seed=seeds, truth=motions, x=st.integers(-3, 3), y=st.integers(-3, 3))
def test_shifting_both_pictures_shifts_the_flow(
    solver: TVL1Solver, seed: int, truth: np.ndarray, x: int, y: int
) -> None:
    wide = np.pad(truth, ((4, 4), (4, 4), (0, 0)), mode="edge")
    pair = moved_pair(wide, seed)
    here = _cold(solver, *(image[4:-4, 4:-4] for image in pair))
    there = _cold(solver, *(image[4 + y : 4 + y + PX, 4 + x : 4 + x + PX] for image in pair))
    # What was at (x + 8, y + 8) of the first is at (8, 8) of the second.
    assert _mean_difference(here[8 + y : -8 + y, 8 + x : -8 + x], there[8:-8, 8:-8]) < 0.05


@few
@given(seed=seeds, truth=motions, noise=st.sampled_from([0.0, 1.5]))
def test_mirrored_pictures_give_the_mirrored_flow(
    solver: TVL1Solver, seed: int, truth: np.ndarray, noise: float
) -> None:
    pair = moved_pair(truth, seed, noise)
    flow = _cold(solver, *pair)
    sideways = _cold(solver, *(image[:, ::-1] for image in pair))[:, ::-1] * np.float32([-1, 1])
    upside_down = _cold(solver, *(image[::-1] for image in pair))[::-1] * np.float32([1, -1])
    assert _mean_difference(flow, sideways) < 0.05
    assert _mean_difference(flow, upside_down) < 0.05


@few
@given(seed=seeds, truth=motions)
def test_transposed_noisy_pictures_give_the_transposed_flow(solver: TVL1Solver, seed: int, truth: np.ndarray) -> None:
    pair = moved_pair(truth, seed, noise=1.5)
    turned = _cold(solver, *(image.T for image in pair)).transpose(1, 0, 2)[..., ::-1]
    assert _mean_difference(_cold(solver, *pair), turned) < 0.05


@few
@given(seed=seeds, truth=motions, offset=st.integers(-20, 20))
def test_more_light_on_both_pictures_changes_nothing(
    solver: TVL1Solver, seed: int, truth: np.ndarray, offset: int
) -> None:
    pair = [np.clip(image, 25, 230) for image in moved_pair(truth, seed)]
    flow = _cold(solver, *pair)
    brighter = _cold(solver, *(image + np.float32(offset) for image in pair))
    assert _mean_difference(flow, brighter) < 0.03


@few
@given(seed=seeds, truth=motions)
def test_whole_grey_values_may_come_as_either_type(solver: TVL1Solver, seed: int, truth: np.ndarray) -> None:
    pair = [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in moved_pair(truth, seed, noise=1.5)]
    flow = _cold(solver, *pair)
    assert _mean_difference(flow, _cold(solver, *(image.astype(np.float32) for image in pair))) < 0.01


@few
@given(seed=seeds, truth=motions, warm=st.booleans())
def test_a_stream_gives_the_same_bits_again_with_out_or_without(seed: int, truth: np.ndarray, warm: bool) -> None:
    pairs = [moved_pair(strength * truth, seed, noise=1.5) for strength in (0.3, 0.6, 1.0)]
    first, second = TVL1Solver(PX, PX), TVL1Solver(PX, PX)
    for pair in pairs:
        out = np.full((PX, PX, 2), np.nan, np.float32)
        assert second.solve(*pair, warm=warm, out=out) is out
        assert first.solve(*pair, warm=warm).tobytes() == out.tobytes()


@few
@given(seed=seeds, truth=motions)
def test_warm_follows_a_stream_as_well_as_cold(seed: int, truth: np.ndarray) -> None:
    solver = TVL1Solver(PX, PX)
    strengths = np.linspace(0, 1, 8)
    for strength in strengths:
        pair = moved_pair(strength * truth, seed)
        warm = solver.solve(*pair)
    cold = _cold(TVL1Solver(PX, PX), *pair)
    assert _mean_difference(warm, truth) < 1.25 * _mean_difference(cold, truth) + 0.03


@few
@given(seed=seeds, truth=motions)
def test_a_warm_start_from_anything_recovers(seed: int, truth: np.ndarray) -> None:
    # A cut, a lost face, a change of k: the old flow says nothing about the next pair.
    solver = TVL1Solver(PX, PX)
    solver.solve(*moved_pair(np.full((PX, PX, 2), 3.0), seed + 1))
    pair = moved_pair(truth, seed)
    for _ in range(3):
        flow = solver.solve(*pair)
    assert _mean_difference(flow, truth) < 0.15


_FLAT = np.full((PX, PX), 128, np.uint8)
_FACE = textured(PX, PX)[:PX, :PX].astype(np.uint8)
_CHECKERS = (255 * (np.indices((PX, PX)).sum(0) % 2)).astype(np.uint8)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("reference", "current"),
    [
        (_FLAT, _FLAT),
        (_FLAT, _FACE),
        (_FACE, np.zeros_like(_FACE)),
        (_FACE, np.full_like(_FACE, 255)),
        (_FACE, np.where(_FACE > 128, 255, 0).astype(np.uint8)),
        (_CHECKERS, 255 - _CHECKERS),
        (_FACE, np.roll(_FACE, 30, axis=0)),
    ],
    ids=["flat", "face appears", "lights out", "dazzled", "saturated", "checkers", "jump of half the picture"],
)
def test_what_has_no_answer_stays_finite_and_does_no_harm(
    warm: bool, reference: np.ndarray, current: np.ndarray
) -> None:
    solver = TVL1Solver(PX, PX)
    truth = bump(PX, PX, x=32, y=32, u=0.8, v=0.4, sigma=9)
    good = moved_pair(truth)
    solver.solve(*good)
    hopeless = solver.solve(np.ascontiguousarray(reference), np.ascontiguousarray(current), warm=warm)
    assert np.isfinite(hopeless).all()
    assert np.abs(hopeless).max() <= 2 * PX
    solver.reset()
    assert _mean_difference(solver.solve(*good), truth) < 0.1


def test_a_jump_of_100_px_stays_finite_and_does_no_harm() -> None:
    solver = TVL1Solver(128, 128)
    face = textured()[:128, :128].astype(np.uint8)
    for pair in ((face, np.ascontiguousarray(np.roll(face, 100, axis=(0, 1)))), (face, face)):
        flow = solver.solve(*pair)
        assert np.isfinite(flow).all()
    solver.reset()
    assert np.abs(solver.solve(face, face)).max() < 1e-3
