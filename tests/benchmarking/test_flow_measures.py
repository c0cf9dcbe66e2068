from __future__ import annotations

import math

import numpy as np
import pytest
from flow_references import bump, moved_pair
from flow_references import tvl1_energy as plain_energy

from megc_stream.benchmarking.flow_measures import angular_error_deg, end_point_error_px, moving, tvl1_energy


def test_the_energy_is_that_of_the_reference() -> None:
    truth = bump(40, 56, x=20, y=20, u=1.5, v=-0.5)
    reference, current = moved_pair(truth, noise=2.0)
    for flow in (truth, np.zeros_like(truth), 30 * truth):
        expected = plain_energy(reference.astype(float), current.astype(float), flow) / (40 * 56)
        assert math.isclose(tvl1_energy(reference, current, flow), expected, rel_tol=1e-9)


def test_the_energy_of_a_hand_made_case() -> None:
    reference, current = np.zeros((4, 4)), np.full((4, 4), 10.0)
    flow = np.zeros((4, 4, 2))
    flow[:, 2:, 0] = 3.0  # one step of 3 px, four rows high
    assert math.isclose(tvl1_energy(reference, current, flow, lam=0.2), (16 * 0.2 * 10 + 4 * 3) / 16)


def test_errors_of_hand_made_flows() -> None:
    truth = np.zeros((20, 20, 2))
    flow = truth + np.array([3.0, 4.0])
    flow[:4] = 100.0  # the border does not count
    assert end_point_error_px(flow, truth) == 5.0
    flow = truth + np.array([1.0, 0.0])
    assert math.isclose(angular_error_deg(flow, truth), 45.0)
    assert angular_error_deg(truth, truth) == 0.0
    # Barron's angle of (0, 1) against (1, 0): cos = 1 / 2.
    assert math.isclose(angular_error_deg(truth + np.array([0.0, 1.0]), flow), 60.0)


def test_errors_over_a_part() -> None:
    local = np.zeros((20, 20))
    local[:12, :12] = 0.5
    where = moving(local)
    assert where.sum() == 8 * 8
    flow = np.zeros((20, 20, 2))
    flow[10:, 10:, 0] = 1.0
    assert end_point_error_px(flow, np.zeros_like(flow), where) == pytest.approx(4 / 64)
    assert math.isnan(end_point_error_px(flow, flow, moving(np.zeros((20, 20)))))
