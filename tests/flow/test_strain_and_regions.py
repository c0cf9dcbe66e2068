from __future__ import annotations

import cv2
import numpy as np
import pytest
from flow_references import strain as plain_strain
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from megc_stream.errors import FlowError
from megc_stream.flow import region_features, strain
from megc_stream.flow.strain import _strain

_flows = hnp.arrays(
    np.float32,
    st.tuples(st.integers(2, 12), st.integers(2, 12), st.just(2)),
    elements=st.floats(-50, 50, width=32),
)


@settings(deadline=None)  # the first call compiles
@given(_flows)
def test_strain_equals_the_plain_formula(flow: np.ndarray) -> None:
    assert np.allclose(strain(flow), plain_strain(flow.astype(np.float64)), atol=1e-4)


def test_the_kernel_is_the_same_uncompiled() -> None:
    flow = np.random.default_rng(0).normal(size=(9, 7, 2)).astype(np.float32)
    out = np.empty((9, 7), np.float32)
    _strain.py_func(flow, out)
    assert np.allclose(out, strain(flow), atol=1e-6)


def test_a_shift_and_a_flat_flow_have_no_strain_inside() -> None:
    assert np.array_equal(strain(np.full((8, 8, 2), 3.0, np.float32)), np.zeros((8, 8)))


def test_features_equal_the_plain_way() -> None:
    rng = np.random.default_rng(1)
    flow = rng.normal(size=(128, 128, 2)).astype(np.float32)
    boxes = ((10, 20, 100, 60), (30, 70, 90, 120))
    channels = np.dstack([flow, strain(flow)])
    low, high = channels.min((0, 1)), channels.max((0, 1))
    scaled = (channels - low) / (high - low)
    plain = np.vstack([cv2.resize(scaled[t:b, left:r], (42, 21)) for left, t, r, b in boxes])
    assert np.allclose(region_features(flow, boxes, 42, 21), plain, atol=1e-5)


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
