from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.capture.device_clock import ClockFit, DeviceClock

FPS = 200.0
SHORTEST_S = 0.0004  # delay that even the luckiest frame has


@dataclass
class Run:
    """Exposure times on the host's clock, ticks and arrivals of a generated camera."""

    exposed_s: NDArray[np.float64]
    ticks: list[int]
    arrivals_s: list[float]
    device_s: NDArray[np.float64]


def generated(
    seconds: float, drift_ppm: float, *, tick_s: float = 8e-9, bits: int = 64, start_s: float = 1000.0, seed: int = 0
) -> Run:
    """A clock that runs slow by ``drift_ppm``; delays have a heavy tail, 2% are long, and one stall takes 1.4 s."""
    rng = np.random.default_rng(seed)
    exposed_s = 50.0 + np.arange(int(seconds * FPS)) / FPS
    device_s = start_s + (exposed_s - 50.0) / (1 + 1e-6 * drift_ppm)
    delay_s = SHORTEST_S + rng.exponential(0.001, exposed_s.size)
    delay_s += (rng.random(exposed_s.size) < 0.02) * np.minimum(0.01 * rng.pareto(1.2, exposed_s.size), 0.5)
    stalled = (exposed_s > 54.0) & (exposed_s < 55.4)
    delay_s[stalled] += 55.4 - exposed_s[stalled]
    arrivals_s = np.maximum.accumulate(exposed_s + delay_s)
    ticks = [round(t / tick_s) % (1 << bits) for t in device_s.tolist()]
    return Run(exposed_s, ticks, arrivals_s.tolist(), device_s)


def observe(clock: DeviceClock, run: Run) -> NDArray[np.float64]:
    return np.array([clock.observe(tick, at_s) for tick, at_s in zip(run.ticks, run.arrivals_s, strict=True)])


def fit_of(clock: DeviceClock) -> ClockFit:
    assert clock.fit is not None
    return clock.fit


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("drift_ppm", [-150.0, -3.0, 0.0, 40.0, 200.0])
def test_offset_and_drift_are_found_in_spite_of_delays(drift_ppm: float, seed: int) -> None:
    run = generated(60, drift_ppm, seed=seed)
    clock = DeviceClock(8e-9)
    device_s = observe(clock, run)
    np.testing.assert_allclose(device_s, run.device_s, atol=8e-9)
    fit = fit_of(clock)
    assert fit.drift_ppm == pytest.approx(drift_ppm, abs=0.2)
    # Every frame's exposure is found on the host's clock, but for the shortest delay, which nobody can tell from it.
    expected_s = run.exposed_s + SHORTEST_S
    assert max(abs(fit.host_s(t) - e) for t, e in zip(device_s, expected_s, strict=True)) < 2e-5
    assert (fit.frames, fit.resets) == (12000, 0)
    assert fit.span_s == pytest.approx(60, abs=0.02)
    beyond_s = (np.array(run.arrivals_s) - expected_s)[-2048:]
    assert fit.residual_s == pytest.approx(np.median(beyond_s), abs=2e-5)
    assert fit.residual_p99_s == pytest.approx(np.percentile(beyond_s, 99), abs=2e-5)


def test_least_squares_would_not_do() -> None:
    run = generated(60, 40.0)
    slope = np.polyfit(run.device_s - run.device_s[0], np.array(run.arrivals_s) - run.device_s, 1)[0]
    assert abs(1e6 * slope - 40.0) > 20


@pytest.mark.parametrize(("tick_s", "bits"), [(8e-9, 32), (1e-6, 32), (1e-9, 32), (1e-3, 16)])
def test_ticks_that_wrap_go_on(tick_s: float, bits: int) -> None:
    period_s = tick_s * 2**bits
    run = generated(90, 20.0, tick_s=tick_s, bits=bits, start_s=0.9 * period_s)
    clock = DeviceClock(tick_s, bits)
    device_s = observe(clock, run)
    wraps = np.floor((run.device_s[-1]) / period_s)
    assert wraps >= (1 if period_s < 900 else 0)
    np.testing.assert_allclose(device_s, run.device_s, atol=tick_s)
    assert fit_of(clock).resets == 0


def test_wraps_within_a_gap_are_counted_by_the_host() -> None:
    clock = DeviceClock(1e-9, 32)  # wraps every 4.3 s
    assert clock.observe(0, 100.0) == 0.0
    assert clock.observe(round(30.005e9) % 2**32, 130.006) == pytest.approx(30.005, abs=1e-9)


def test_a_stalled_host_makes_no_wraps_up() -> None:
    clock = DeviceClock(1e-9, 32)
    clock.observe(0, 100.0)
    assert clock.observe(5_000_000, 103.0) == pytest.approx(0.005)
    assert clock.observe(10_000_000, 103.0001) == pytest.approx(0.010)


def test_large_stamps_keep_their_microseconds() -> None:
    clock = DeviceClock(1e-9)
    epoch_ns = 1_790_000_000 * 10**9  # a camera that keeps the time of day
    times_s = [clock.observe(epoch_ns + n * 5_000_000, 10 + n * 0.005) for n in range(100)]
    np.testing.assert_allclose(np.diff(times_s), 0.005, atol=1e-6)


def test_a_clock_that_is_set_starts_a_new_fit() -> None:
    clock = DeviceClock(1e-9)
    for n in range(400):
        clock.observe(n * 5_000_000, 10 + n * 0.005)
    assert clock.observe(10**15, 12.0) == pytest.approx(1e6)
    fit = fit_of(clock)
    assert (fit.frames, fit.resets) == (1, 1)
    assert fit.host_s(1e6) == pytest.approx(12.0)
    clock.observe(1000, 12.005)
    assert fit_of(clock).resets == 2
    clock.restart()
    clock.observe(0, 20.0)
    assert (fit_of(clock).frames, fit_of(clock).resets) == (1, 3)


def test_no_drift_is_claimed_from_a_few_seconds() -> None:
    clock = DeviceClock(1e-9)
    assert clock.fit is None
    observe(clock, generated(3, 150.0, tick_s=1e-9))
    assert fit_of(clock).drift_ppm == 0.0
    assert fit_of(clock).host_s(1000.0) == pytest.approx(50.0 + SHORTEST_S, abs=0.001)


def test_the_fit_follows_a_drift_that_changes() -> None:
    clock = DeviceClock(1e-9)
    host_s = device_s = 0.0
    for drift_ppm in (10.0, 30.0):
        for _ in range(650):  # one frame a second: only the last ten minutes count
            host_s += 1.0
            device_s += 1.0 / (1 + 1e-6 * drift_ppm)
            clock.observe(round(device_s * 1e9), host_s)
    assert fit_of(clock).drift_ppm == pytest.approx(30.0, abs=0.1)
