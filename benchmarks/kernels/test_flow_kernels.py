"""The kernels under pytest-benchmark: ``python -m pytest benchmarks/kernels --benchmark-only``.

DualTVL1 on the same pair is the scale. Not part of the test suite.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from megc_stream.benchmarking.flow_bench import single_thread
from megc_stream.benchmarking.flow_sequences import FlowSequence
from megc_stream.benchmarking.textures import make_texture
from megc_stream.flow import TVL1Solver, region_features, strain
from megc_stream.spotting import mean_features

_PX = 128
_BOXES = ((4, 8, 124, 58), (32, 70, 96, 112))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


@pytest.fixture(scope="module")
def sequence() -> FlowSequence:
    return FlowSequence(make_texture("generated"), _PX, seed=0, pairs=60)


@pytest.fixture(scope="module")
def flow(sequence: FlowSequence) -> np.ndarray:
    return sequence.pair(30).flow


def test_dual_tvl1(benchmark: BenchmarkFixture, sequence: FlowSequence) -> None:
    dual = cv2.optflow.DualTVL1OpticalFlow_create()
    benchmark.pedantic(dual.calc, (*sequence.pictures(30), None), rounds=5)


def test_solve_cold(benchmark: BenchmarkFixture, sequence: FlowSequence) -> None:
    solver, out = TVL1Solver(_PX, _PX), np.empty((_PX, _PX, 2), np.float32)
    pair = sequence.pictures(30)
    solver.solve(*pair, warm=False, out=out)
    benchmark(solver.solve, *pair, warm=False, out=out)


def test_solve_warm(benchmark: BenchmarkFixture, sequence: FlowSequence) -> None:
    solver, out = TVL1Solver(_PX, _PX), np.empty((_PX, _PX, 2), np.float32)
    pictures = [sequence.pictures(index) for index in range(sequence.pairs)]
    # To and fro: a neighbouring pair follows every pair, however often the benchmark calls.
    order = [*range(sequence.pairs), *range(sequence.pairs - 2, 0, -1)]
    place = 0

    def next_pair() -> None:
        nonlocal place
        solver.solve(*pictures[order[place]], out=out)
        place = (place + 1) % len(order)

    next_pair()
    benchmark(next_pair)


def test_strain(benchmark: BenchmarkFixture, flow: np.ndarray) -> None:
    out = np.empty((_PX, _PX), np.float32)
    strain(flow, out)
    benchmark(strain, flow, out)


def test_region_features(benchmark: BenchmarkFixture, flow: np.ndarray) -> None:
    region_features(flow, _BOXES, 42, 21)
    benchmark(region_features, flow, _BOXES, 42, 21)


def test_mean_features(benchmark: BenchmarkFixture, flow: np.ndarray) -> None:
    landmarks = np.zeros((68, 2), np.float32)
    landmarks[[17, 19, 24, 26]] = (16, 30), (28, 20), (100, 20), (112, 30)
    landmarks[[41, 46, 50, 57, 60, 64]] = (34, 46), (95, 46), (56, 82), (64, 100), (44, 88), (84, 88)
    mean_features(flow, landmarks)
    benchmark(mean_features, flow, landmarks)
