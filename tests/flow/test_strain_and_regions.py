from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from flow_references import strain as plain_strain
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from megc_stream.errors import FlowError
from megc_stream.flow import region_features, strain
from megc_stream.flow.regions import _pool, _ranges, _scratch
from megc_stream.flow.strain import _finite, _strain

_flows = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 40), st.just(2)),
    elements=st.floats(-50, 50, width=32),
)


@settings(deadline=None)  # the first call compiles
@given(_flows)
def test_strain_equals_the_plain_formula(flow: np.ndarray) -> None:
    assert np.allclose(strain(flow), plain_strain(flow.astype(np.float64)), atol=1e-4)


def test_the_kernels_are_the_same_uncompiled() -> None:
    flow = np.random.default_rng(0).normal(size=(9, 7, 2)).astype(np.float32)
    pairs = flow.reshape(9, 14)
    out = np.empty((9, 7), np.float32)
    _strain.py_func(pairs, out)
    assert np.allclose(out, strain(flow), atol=1e-6)
    ranges = np.empty((2, 2), np.float32)
    _ranges.py_func(pairs, np.empty((2, 14), np.float32), ranges)
    assert np.allclose(ranges[:, 0], flow.min((0, 1)))
    assert np.allclose(1 / ranges[:, 1], np.ptp(flow, (0, 1)))
    pooled = np.empty((1, 5, 6, 3), np.float32)
    _pool.py_func(pairs, np.array([[1, 2, 6, 9]]), pooled, *_scratch(9, 7))
    assert np.allclose(pooled[0], region_features(flow, ((1, 2, 6, 9),), 6, 5), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_every_value_that_is_not_finite_is_found(value: float) -> None:
    for at in (0, 77, 99):
        flow = np.full(100, -3.4e38, np.float32)
        assert _finite(flow.view(np.int32))
        flow[at] = value
        assert not _finite(flow.view(np.int32))
        assert not _finite.py_func(flow.view(np.int32))


def test_a_shift_and_a_flat_flow_have_no_strain_inside() -> None:
    assert np.array_equal(strain(np.full((8, 8, 2), 3.0, np.float32)), np.zeros((8, 8)))


@pytest.mark.parametrize(
    ("shape", "boxes", "size"),
    [
        ((128, 128), ((10, 20, 100, 60), (30, 70, 90, 120)), (42, 21)),
        ((128, 128), ((0, 0, 84, 42), (20, 30, 62, 51)), (42, 21)),  # halved; not resized
        ((61, 97), ((5, 7, 11, 10), (96, 60, 97, 61), (0, 3, 97, 4)), (42, 21)),  # enlarged; a pixel; a row
        ((9, 1), ((0, 0, 1, 9),), (3, 30)),
    ],
)
def test_features_equal_the_plain_way(
    shape: tuple[int, int], boxes: tuple[tuple[int, int, int, int], ...], size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    flow = rng.normal(size=(*shape, 2)).astype(np.float32)
    channels = np.dstack([flow, strain(flow)])
    low, high = channels.min((0, 1)), channels.max((0, 1))
    scaled = (channels - low) / (high - low)
    plain = np.vstack([cv2.resize(scaled[t:b, left:r], size) for left, t, r, b in boxes])
    assert np.allclose(region_features(flow, boxes, *size), plain, rtol=0, atol=2e-6)


def test_features_are_written_to_out_without_allocating() -> None:
    flow = np.random.default_rng(3).normal(size=(128, 128, 2)).astype(np.float32)
    boxes = ((10, 20, 100, 60), (30, 70, 90, 120))
    out = np.empty((42, 42, 3), np.float32)
    assert region_features(flow, boxes, 42, 21, out) is out
    assert np.array_equal(out, region_features(flow, boxes, 42, 21))
    tracemalloc.start()
    region_features(flow, boxes, 42, 21, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1024


def test_threads_do_not_disturb_each_other() -> None:
    flows = np.random.default_rng(4).normal(size=(40, 128, 128, 2)).astype(np.float32)

    def features(flow: np.ndarray) -> np.ndarray:
        return region_features(flow, ((0, 0, 128, 128),), 42, 42)

    with ThreadPoolExecutor(4) as pool:
        assert np.array_equal(list(pool.map(features, flows)), [features(flow) for flow in flows])


def test_boxes_are_clipped_to_the_crop() -> None:
    flow = np.random.default_rng(2).normal(size=(128, 128, 2)).astype(np.float32)
    beyond = region_features(flow, ((-20, -5, 140, 60),), 42, 21)
    assert np.array_equal(beyond, region_features(flow, ((0, 0, 128, 60),), 42, 21))


def test_a_flat_channel_becomes_zero() -> None:
    flow = np.zeros((128, 128, 2), np.float32)
    flow[..., 0] = np.linspace(0, 1, 128)
    features = region_features(flow, ((0, 0, 128, 64), (0, 64, 128, 128)), 42, 21)
    assert np.array_equal(features[..., 1], np.zeros((42, 42)))
    assert features[..., 0].max() > 0.9
    flow[64, 64, 1] = 1e-40  # its reciprocal is infinite
    assert np.isfinite(region_features(flow, ((0, 0, 128, 128),), 42, 21)).all()


def test_wrong_input_is_named() -> None:
    flow = np.zeros((128, 128, 2), np.float32)
    with pytest.raises(FlowError, match="outside the 128x128 px crop"):
        region_features(flow, ((130, 0, 140, 10),), 42, 21)
    with pytest.raises(FlowError, match="expected C-contiguous float32"):
        strain(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(FlowError, match="not finite"):
        strain(np.full((4, 4, 2), np.nan, np.float32))
    with pytest.raises(FlowError, match="out is float64"):
        strain(flow, out=np.zeros((128, 128)))
    with pytest.raises(FlowError, match="got no pixels"):
        strain(np.zeros((0, 4, 2), np.float32))
    with pytest.raises(FlowError, match=r"out is float32 \(42, 42\), expected writeable C-contig"):
        region_features(flow, ((0, 0, 10, 10),), 42, 21, np.zeros((42, 42), np.float32))
