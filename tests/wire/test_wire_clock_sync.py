from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from megc_stream.clock import ManualClock
from megc_stream.errors import WireError
from megc_stream.wire import PLAIN, ClockSync, Control, ControlServer
from megc_stream.wire.clock_sync import ClockEstimate, Probe


class Network:
    """Two clocks and the way between them, in generated time.

    Our clock is the true time; the server's is ``offset_s`` ahead and gains ``drift`` seconds per second. ``delays``
    gives the durations of one exchange: the way there, at the server, the way back.
    """

    def __init__(self, offset_s: float, drift: float, delays: Callable[[], tuple[float, float, float]]) -> None:
        self.clock = ManualClock(1000.0)
        self.offset_s = offset_s
        self.drift = drift
        self._delays = delays

    def server_s(self, ours_s: float) -> float:
        return ours_s + self.offset_s + self.drift * (ours_s - 1000.0)

    def probe(self) -> Probe:
        there_s, at_server_s, back_s = self._delays()
        t0_s = self.clock.now_s()
        self.clock.advance_s(there_s)
        t1_s = self.server_s(self.clock.now_s())
        self.clock.advance_s(at_server_s)
        t2_s = self.server_s(self.clock.now_s())
        self.clock.advance_s(back_s)
        return Probe(t0_s=t0_s, t1_s=t1_s, t2_s=t2_s, t3_s=self.clock.now_s())

    def error_s(self, estimate: ClockEstimate, ours_s: float) -> float:
        return estimate.to_server_s(ours_s) - self.server_s(ours_s)


@pytest.mark.parametrize("round_trip_s", [0.0022, 0.0103])
def test_equal_ways_give_no_bias(round_trip_s: float) -> None:
    network = Network(12.5, 0.0, lambda: (round_trip_s / 2, 0.001, round_trip_s / 2))
    estimate = ClockSync(network.probe).measure()
    assert abs(estimate.offset_s - 12.5) < 1e-9
    assert estimate.bound_s == pytest.approx(round_trip_s / 2, rel=0.01)


def test_the_shortest_of_jittery_unequal_exchanges_counts() -> None:
    """Delays of 0.1 ms and an exponential share: 5 ms there, 1 ms back. A mean would be 2 ms off."""
    generator = random.Random(5)
    network = Network(-3.0, 0.0, lambda: (1e-4 + generator.expovariate(200), 1e-5, 1e-4 + generator.expovariate(1000)))
    estimates = [ClockSync(network.probe).measure(32) for _ in range(50)]
    errors_s = [abs(estimate.offset_s + 3.0) for estimate in estimates]
    assert all(error_s <= estimate.bound_s for error_s, estimate in zip(errors_s, estimates, strict=True))
    assert sorted(errors_s)[25] < 0.0005


def test_drift_is_fitted_and_the_future_predicted() -> None:
    generator = random.Random(7)
    network = Network(
        100.0, 60e-6, lambda: (1e-4 + generator.expovariate(2000), 1e-5, 1e-4 + generator.expovariate(2000))
    )
    sync = ClockSync(network.probe)
    first = sync.measure()
    assert (first.drift, first.drift_bound) == (0.0, 1e-3)
    bounds = []
    for _ in range(20):
        network.clock.advance_s(30)
        estimate = sync.measure()
        bounds.append(estimate.drift_bound)
    assert estimate.drift == pytest.approx(60e-6, abs=2e-6)
    assert abs(estimate.drift - 60e-6) <= estimate.drift_bound
    assert bounds[-1] < bounds[0] < 1e-4
    in_ten_minutes_s = network.clock.now_s() + 600
    assert abs(network.error_s(estimate, in_ten_minutes_s)) <= estimate.bound_at_s(in_ten_minutes_s) < 0.003
    assert estimate.to_ours_s(estimate.to_server_s(5000.0)) == pytest.approx(5000.0, abs=1e-9)
    assert sync.steps == 0


_delay = st.floats(0, 0.05)


@given(
    offset_s=st.floats(-1e6, 1e6),
    drift=st.floats(-5e-4, 5e-4),
    rounds=st.lists(
        st.tuples(st.floats(0, 100), st.lists(st.tuples(_delay, _delay, _delay), min_size=1, max_size=5)),
        min_size=1,
        max_size=6,
    ),
    ahead_s=st.floats(0, 1000),
)
def test_the_bound_holds_whatever_the_delays(
    offset_s: float, drift: float, rounds: list[tuple[float, list[tuple[float, float, float]]]], ahead_s: float
) -> None:
    delays = iter([delay for _, probes in rounds for delay in probes])
    network = Network(offset_s, drift, lambda: next(delays))
    sync = ClockSync(network.probe)
    for pause_s, probes in rounds:
        network.clock.advance_s(pause_s)
        estimate = sync.measure(len(probes))
        for ours_s in (estimate.at_s, network.clock.now_s() + ahead_s):
            assert abs(network.error_s(estimate, ours_s)) <= estimate.bound_at_s(ours_s) + 1e-8
    assert sync.steps == 0


def test_clocks_that_are_far_apart_do_not_drift_by_rounding() -> None:
    network = Network(1.7e9, 0.0, lambda: (1e-4, 1e-5, 1e-4))
    sync = ClockSync(network.probe)
    for _ in range(5):
        estimate = sync.measure()
        network.clock.advance_s(1)
    assert abs(estimate.drift) <= estimate.drift_bound
    assert abs(network.error_s(estimate, network.clock.now_s() + 60)) < 1e-4


def test_a_step_of_the_clock_starts_anew() -> None:
    network = Network(5.0, 0.0, lambda: (0.001, 0.0, 0.001))
    sync = ClockSync(network.probe)
    sync.measure()
    network.clock.advance_s(10)
    sync.measure()
    network.offset_s = -50.0
    estimate = sync.measure()
    assert estimate.offset_s == pytest.approx(-50.0)
    assert (estimate.rounds, sync.steps) == (1, 1)


@pytest.mark.parametrize(
    ("t1_s", "t2_s"), [(5.0, 4.0), (5.0, 7.0), (float("nan"), 5.0), (float("inf"), float("inf")), (0.0, float("inf"))]
)
def test_impossible_times_are_refused(t1_s: float, t2_s: float) -> None:
    sync = ClockSync(lambda: Probe(t0_s=1.0, t1_s=t1_s, t2_s=t2_s, t3_s=2.0))
    with pytest.raises(WireError, match="cannot be right"):
        sync.measure(1)


def test_over_a_real_connection() -> None:
    """Both clocks are generated and stand still while messages travel: the offset is exact."""
    with zmq.Context() as context:
        server = ControlServer(context, "tcp://127.0.0.1:*", PLAIN, {}, ManualClock(70.0))
        ours = ManualClock(50.0)
        with Control(server.endpoint, context=context) as control:
            estimate = ClockSync(lambda: control.probe(ours.now_s)).measure(4)
        server.close()
    assert estimate.offset_s == 20.0
    assert estimate.bound_s <= 1e-6


def test_a_reply_without_times_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_times(*_: Any) -> tuple[dict[str, Any], float, float]:
        return {"t1_s": "soon"}, 0.0, 0.0

    monkeypatch.setattr(Control, "request_timed", without_times)
    with Control("tcp://127.0.0.1:1") as control, pytest.raises(WireError, match="reply to clock cannot be understood"):
        control.probe()
