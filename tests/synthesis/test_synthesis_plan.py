from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from megc_stream.errors import UsageError
from megc_stream.synthesis.action_units import EMOTION_UNITS, format_units
from megc_stream.synthesis.plan import Sine, plan_clip, plan_events, wave_at
from megc_stream.synthesis.profiles import closure, intensity, speech_envelope


@pytest.mark.parametrize("fps", [25, 29.97, 200])
@pytest.mark.parametrize("seed", range(8))
def test_events_keep_their_distance_and_their_shape(seed: int, fps: float) -> None:
    plan = plan_clip(seed, fps, 20, events=6)
    frame_s = 1 / fps
    assert plan.events[0].onset * frame_s >= 2.5 - frame_s
    assert plan.events[-1].offset < plan.frames
    for event in plan.events:
        length_s = (event.offset - event.onset) * frame_s
        assert 0.1 - frame_s <= length_s <= 0.5 + frame_s
        assert event.onset < event.apex < event.offset
        assert abs((event.apex - event.onset) * frame_s / length_s - 0.5) <= 0.15 + 1 / (length_s * fps) + 1e-9
        assert 0.018 <= event.amplitude_iod <= 0.05
        assert format_units(event.units) in EMOTION_UNITS[event.emotion]
    for before, after in zip(plan.events, plan.events[1:], strict=False):
        assert (after.onset - before.offset) * frame_s >= 1 - frame_s
    assert Counter(event.emotion for event in plan.events) == {"negative": 2, "positive": 2, "surprise": 2}


@pytest.mark.parametrize("seed", range(8))
def test_blinks_and_speech_keep_clear_of_events_unless_asked(seed: int) -> None:
    plan = plan_clip(seed, 200, 30, events=5, blinks_per_s=0.5, speech_per_s=0.2)
    spans = [(event.onset / 200, event.offset / 200) for event in plan.events]
    things = [(thing.start_s, thing.start_s + thing.length_s) for thing in (*plan.blinks, *plan.speech)]
    assert plan.blinks and plan.speech
    assert all(end < onset or start > offset for start, end in things for onset, offset in spans)
    assert all(0 <= start < end < 30 for start, end in things)
    assert all(0.15 <= blink.length_s <= 0.3 for blink in plan.blinks)
    assert all(1 <= bout.length_s <= 3 for bout in plan.speech)
    assert all(2 <= sine.frequency_hz <= 6 for bout in plan.speech for sine in (*bout.opening, *bout.widening))


def test_overlap_can_be_asked_for() -> None:
    plan = plan_clip(0, 200, 20, events=6, blinks_per_s=3, overlap=True)
    spans = [(event.onset / 200, event.offset / 200) for event in plan.events]
    assert any(b.start_s < offset and b.start_s + b.length_s > onset for b in plan.blinks for onset, offset in spans)


def test_plan_follows_from_the_seed() -> None:
    assert plan_clip(7) == plan_clip(7)
    assert plan_clip(7) != plan_clip(8)


def test_another_rate_plans_the_same_in_seconds() -> None:
    slow, fast = plan_clip(5, 25, 20), plan_clip(5, 200, 20)
    for a, b in zip(slow.events, fast.events, strict=True):
        assert abs(a.onset / 25 - b.onset / 200) <= 0.5 / 25 + 0.5 / 200
        assert (a.units, a.amplitude_iod, a.emotion) == (b.units, b.amplitude_iod, b.emotion)
    assert (slow.blinks, slow.sway_x_iod, slow.gain, slow.centre_px) == (
        fast.blinks,
        fast.sway_x_iod,
        fast.gain,
        fast.centre_px,
    )


def test_one_more_event_does_not_change_the_sway() -> None:
    assert plan_clip(5, events=5).sway_x_iod == plan_clip(5, events=6).sway_x_iod


def test_too_many_events_are_refused_with_the_number_that_fits() -> None:
    with pytest.raises(UsageError, match="only 6 fit") as refusal:
        plan_clip(0, 200, 10, events=7)
    assert "\n" not in str(refusal.value)
    assert len(plan_clip(0, 200, 10, events=6).events) == 6


@pytest.mark.parametrize("seconds", [0.01, 0.5])
def test_a_clip_may_have_no_event(seconds: float) -> None:
    plan = plan_clip(0, 50, seconds, events=0)
    assert plan.events == ()
    assert plan.frames == max(1, round(seconds * 50))
    with pytest.raises(UsageError, match="only 0 fit"):
        plan_clip(0, 50, seconds, events=1)


def test_events_stay_inside_their_spans() -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    spans = [(1.0, 4.0), (10.0, 12.5)]
    events = plan_events(generator, 100, spans, 3, (0.02, 0.03), (0.2, 0.4))
    assert len(events) == 3
    assert all(
        any(start <= event.onset / 100 and event.offset / 100 <= end for start, end in spans) for event in events
    )


@pytest.mark.parametrize(
    "values",
    [
        {"seed": -1},
        {"fps": 0},
        {"fps": float("nan")},
        {"seconds": 0},
        {"seconds": float("inf")},
        {"events": -1},
        {"amplitude_iod": (0.05, 0.01)},
        {"amplitude_iod": (0.05, 1)},
        {"length_s": (0, 1)},
        {"width": 10},
    ],
)
def test_bad_values_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        plan_clip(**{"seed": 0, **values})  # type: ignore[arg-type]


def test_intensity_is_a_raised_cosine() -> None:
    values = [intensity(frame, 10, 16, 30) for frame in range(40)]
    assert values[:11] == [0] * 11
    assert values[30:] == [0] * 10
    assert values[16] == 1
    assert values[13] == pytest.approx(0.5)
    assert values[23] == pytest.approx(0.5)
    assert all(np.diff(values[10:17]) > 0)
    assert all(np.diff(values[16:31]) < 0)


def test_blinks_close_and_open() -> None:
    values = [closure(time, 1.0, 0.2) for time in np.linspace(0.9, 1.3, 401)]
    assert values[0] == values[-1] == 0
    assert max(values) == 1
    assert closure(1.0, 1.0, 0.2) == closure(1.2, 1.0, 0.2) == 0


def test_speech_fades_in_and_out() -> None:
    assert speech_envelope(1.0, 1.0, 2.0) == speech_envelope(3.0, 1.0, 2.0) == speech_envelope(5, 1.0, 2.0) == 0
    assert speech_envelope(2.0, 1.0, 2.0) == 1


def test_waves_add_up() -> None:
    wave = (Sine(1.0, 2.0, 0.5), Sine(0.5, 3.0, 0.0))
    assert wave_at(wave, 0.3) == pytest.approx(np.sin(2 * np.pi * 0.6 + 0.5) + 0.5 * np.sin(2 * np.pi * 0.9))
    assert wave_at((), 1.0) == 0
