from __future__ import annotations

from megc_stream.clock import ManualClock, MonotonicClock


def test_manual_clock_moves_only_when_told_or_waited_on() -> None:
    clock = ManualClock(3.0)
    assert clock.now_s() == 3.0
    clock.advance_s(0.5)
    clock.wait_until_s(3.2)
    assert clock.now_s() == 3.5
    clock.wait_until_s(10.0)
    assert clock.now_s() == 10.0


def test_monotonic_clock_never_returns_before_the_deadline() -> None:
    clock = MonotonicClock()
    deadline_s = clock.now_s() + 0.002
    clock.wait_until_s(deadline_s)
    assert clock.now_s() >= deadline_s
    clock.wait_until_s(deadline_s - 1)
