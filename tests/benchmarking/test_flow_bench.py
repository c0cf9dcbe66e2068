from __future__ import annotations

import cv2
import pytest

from megc_stream.benchmarking.flow_bench import STREAMING, FlowBench, FlowBenchSettings, bench_flow, single_thread
from megc_stream.benchmarking.flow_sequences import CASES
from megc_stream.errors import UsageError

METHODS = {
    "tvl1solver cold",
    "opencv dis ultrafast",
    "opencv dis fast",
    "opencv dis medium",
    "opencv farneback",
    "opencv dual tvl1",
}


@pytest.fixture(scope="module")
def result() -> FlowBench:
    return bench_flow(FlowBenchSettings(sizes=(32,), pairs=2, rounds=2, stream_pairs=12, every=6))


def test_every_method_is_measured_on_every_case(result: FlowBench) -> None:
    (figures,) = result.sizes
    assert set(figures.cases) == {*CASES, STREAMING}
    for case, methods in figures.cases.items():
        assert set(methods) == METHODS | ({"tvl1solver warm"} if case == STREAMING else set())
        for one in methods.values():
            assert 0 < one.ms_p50 <= one.ms_p95
            assert 0 < one.error_px < 3
            assert 0 < one.angular_error_deg < 90
            assert one.energy > 0
        assert methods["opencv dual tvl1"].times_dual == 1.0


def test_all_methods_are_compared_on_the_same_pairs(result: FlowBench) -> None:
    cases = result.sizes[0].cases
    assert {one.compared for one in cases["local"].values()} == {2}
    assert {one.compared for one in cases[STREAMING].values()} == {4}
    assert cases["local"]["tvl1solver cold"].timed == 4
    assert cases["local"]["opencv dual tvl1"].timed == 2
    assert cases[STREAMING]["tvl1solver warm"].timed == 24
    assert cases["shift"]["tvl1solver cold"].moving_error_px is None


def test_the_errors_are_the_same_in_every_run(result: FlowBench) -> None:
    again = bench_flow(FlowBenchSettings(sizes=(32,), pairs=2, rounds=1, stream_pairs=12, every=6))
    for case in (*CASES, STREAMING):
        for name, one in result.sizes[0].cases[case].items():
            assert again.sizes[0].cases[case][name].error_px == one.error_px
            assert again.sizes[0].cases[case][name].energy == one.energy


def test_targets_belong_to_128_px_only(result: FlowBench) -> None:
    assert result.targets == ()
    assert result.features.ms_p50 > 0
    assert result.calibration_ms > 0


def test_opencvs_threads_are_given_back() -> None:
    before = cv2.getNumThreads()
    with single_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UsageError, match="at least 32"):
        bench_flow(FlowBenchSettings(sizes=(16,)))
    with pytest.raises(UsageError, match="rounds 0"):
        bench_flow(FlowBenchSettings(rounds=0))
