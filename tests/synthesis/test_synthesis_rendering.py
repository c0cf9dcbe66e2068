from __future__ import annotations

import cv2
import numpy as np
import pytest

from megc_stream.errors import UsageError
from megc_stream.synthesis.action_units import EMOTION_UNITS, parse_units
from megc_stream.synthesis.plan import Blink, ClipPlan, PlannedEvent, Sine, Speech, plan_clip
from megc_stream.synthesis.rendering import ClipGeometry, ClipRenderer, render_clip, true_displacement

ONSET, APEX, OFFSET = 10, 20, 35
STILL = {"fps": 100.0, "seconds": 1.0, "blur_px": 0.7}


def with_event(units: str, amplitude_iod: float, **values: object) -> ClipPlan:
    event = PlannedEvent(
        onset=ONSET,
        apex=APEX,
        offset=OFFSET,
        emotion="positive",
        units=parse_units(units),
        amplitude_iod=amplitude_iod,
    )
    return ClipPlan(**{**STILL, "events": (event,), **values})  # type: ignore[arg-type]


def measured_flow(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)
    return np.asarray(dis.calc(reference, current, None))


@pytest.mark.parametrize("units", sorted({units for group in EMOTION_UNITS.values() for units in group}))
def test_rendered_motion_is_the_planned_one(portrait, texture, units: str) -> None:
    plan = with_event(units, 0.03)
    renderer = ClipRenderer(plan, texture, portrait.landmarks)
    flow = measured_flow(renderer.frame(ONSET), renderer.frame(APEX))
    x, y = np.meshgrid(np.arange(180.0, 460.0), np.arange(100.0, 440.0))
    points = np.stack([x, y], axis=-1)
    true = true_displacement(plan, portrait.landmarks, APEX, points.reshape(-1, 2)).reshape(points.shape)
    lengths = np.linalg.norm(true, axis=-1)
    peak = np.unravel_index(lengths.argmax(), lengths.shape)
    assert lengths.max() == pytest.approx(0.03 * plan.interocular_px, rel=0.01)
    found = flow[100:440, 180:460]
    assert np.linalg.norm(found[peak] - true[peak]) < 0.15 * lengths.max()
    assert np.linalg.norm(found - true, axis=-1).mean() < 0.05 * lengths.max()


def test_sub_pixel_motion_is_true(portrait, texture) -> None:
    """A quarter of a pixel, measured by phase correlation on a patch that moves as one."""
    plan = ClipPlan(**STILL, sway_x_iod=(Sine(0.0025, 1.0, 0.0),))  # type: ignore[arg-type]
    renderer = ClipRenderer(plan, texture, portrait.landmarks)
    window = cv2.createHanningWindow((192, 192), cv2.CV_32F)
    patches = [renderer.frame(frame)[130:322, 230:422].astype(np.float32) for frame in (0, 25)]
    (x, y), _ = cv2.phaseCorrelate(*patches, window)
    assert (x, y) == pytest.approx((0.25, 0), abs=0.02)


def test_face_is_still_outside_events(portrait) -> None:
    renderer = ClipRenderer(with_event("6+12", 0.05), portrait.grey, portrait.landmarks)
    rest = renderer.frame(0)
    for frame in (ONSET, OFFSET, OFFSET + 1, 99):
        np.testing.assert_array_equal(renderer.frame(frame), rest)
    assert (renderer.frame(ONSET + 1) != rest).any()
    assert (renderer.frame(OFFSET - 1) != rest).any()


def test_one_sided_event_moves_one_side_of_the_picture(portrait) -> None:
    rest = ClipRenderer(ClipPlan(**STILL), portrait.grey, portrait.landmarks).frame(0)  # type: ignore[arg-type]
    for units, still in (("R14", slice(340, None)), ("L14", slice(None, 300))):
        apex = ClipRenderer(with_event(units, 0.05), portrait.grey, portrait.landmarks).frame(APEX)
        changed = np.abs(apex.astype(int) - rest) > 3
        assert changed.any()
        assert not changed[:, still].any()


def test_displacement_is_the_sum_of_its_parts(portrait) -> None:
    plan = with_event("12", 0.04, sway_x_iod=(Sine(0.02, 0.3, 1.0),), sway_roll_deg=(Sine(1.0, 0.4, 0.2),))
    geometry = ClipGeometry(plan, portrait.landmarks)
    face = geometry.displacement(geometry.landmarks, APEX, sway=False)
    assert np.linalg.norm(face[[61, 291]], axis=-1) == pytest.approx(4.0, rel=0.1)
    motion = geometry.head_motion(APEX)
    expected = (geometry.landmarks + face) @ motion[:, :2].T + motion[:, 2]
    np.testing.assert_allclose(geometry.landmarks + geometry.displacement(geometry.landmarks, APEX), expected)
    half = geometry.displacement(geometry.landmarks, (ONSET + APEX) // 2, sway=False)
    np.testing.assert_allclose(half, 0.5 * face, atol=1e-9)


def test_face_lies_where_the_plan_says(portrait) -> None:
    geometry = ClipGeometry(ClipPlan(**STILL, roll_deg=3.0, centre_px=(300, 210)), portrait.landmarks)  # type: ignore[arg-type]
    assert geometry.axes.iod_px == pytest.approx(100)
    assert geometry.axes.origin == pytest.approx((300, 210))
    assert np.degrees(np.arctan2(*geometry.axes.across[::-1])) == pytest.approx(3.0)
    outer = np.linalg.norm(geometry.landmarks[33] - geometry.landmarks[263])
    assert outer > 80


def test_blink_and_speech_move_only_their_part(portrait) -> None:
    rest = ClipRenderer(ClipPlan(**STILL), portrait.grey, portrait.landmarks)  # type: ignore[arg-type]
    blinking = ClipPlan(**STILL, blinks=(Blink(0.2, 0.2),))  # type: ignore[arg-type]
    talking = ClipPlan(**STILL, speech=(Speech(0.1, 0.8, (Sine(0.1, 2.0, 0.0),), (Sine(0.03, 3.0, 0.0),)),))  # type: ignore[arg-type]
    blink, word = (ClipRenderer(plan, portrait.grey, portrait.landmarks) for plan in (blinking, talking))
    eyes, mouth = rest.geometry.landmarks[[159, 386], 1].mean(), rest.geometry.landmarks[13, 1]
    changed_rows = np.flatnonzero((np.abs(blink.frame(28).astype(int) - rest.frame(0)) > 20).any(axis=1))
    assert changed_rows.size and np.abs(changed_rows - eyes).max() < 45
    assert (blink.frame(15) == rest.frame(0)).all()
    changed_rows = np.flatnonzero((np.abs(word.frame(37).astype(int) - rest.frame(0)) > 20).any(axis=1))
    assert changed_rows.size and changed_rows.min() > mouth - 60
    assert blink.geometry.displacement(rest.geometry.landmarks, 28).max() > 3
    assert word.geometry.displacement(rest.geometry.landmarks, 37).max() > 5


def test_noise_and_light_are_as_planned(portrait) -> None:
    flat = np.full(portrait.grey.shape, 100, np.uint8)
    plan = ClipPlan(**STILL, noise_sigma=2.0, gain=(Sine(0.1, 0.25, np.pi / 2),), seed=4)  # type: ignore[arg-type]
    renderer = ClipRenderer(plan, flat, portrait.landmarks)
    first, second = renderer.frame(0).astype(float), renderer.frame(1).astype(float)
    assert first.mean() == pytest.approx(110, abs=0.05)
    assert first.std() == pytest.approx(np.hypot(2.0, 12**-0.5), rel=0.02)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_same_plan_same_bytes(portrait) -> None:
    plan = plan_clip(2, 25, 1.2, events=1, length_s=(0.2, 0.3))
    first = [frame.tobytes() for frame in render_clip(plan, portrait.grey, portrait.landmarks)]
    assert first == [frame.tobytes() for frame in render_clip(plan, portrait.grey, portrait.landmarks)]
    assert len(first) == plan.frames == 30
    # Frames do not depend on what was rendered before.
    assert ClipRenderer(plan, portrait.grey, portrait.landmarks).frame(20).tobytes() == first[20]


def test_colour_portraits_make_colour_frames(portrait) -> None:
    plan = plan_clip(2, 25, 1.2, events=0, width=320, height=240)
    frame = ClipRenderer(plan, portrait.image, portrait.landmarks).frame(3)
    assert frame.shape == (240, 320, 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("shape", [(10, 10, 4), (10,), (10, 10, 1)])
def test_bad_portraits_are_refused(portrait, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="portrait"):
        ClipRenderer(plan_clip(0, 25, 2, events=0), np.zeros(shape, np.uint8), portrait.landmarks)


def test_float_portraits_are_refused(portrait) -> None:
    with pytest.raises(UsageError, match="float64"):
        render_clip(plan_clip(0, 25, 2, events=0), np.zeros((10, 10)), portrait.landmarks)  # type: ignore[arg-type]
