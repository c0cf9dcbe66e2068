from __future__ import annotations

import numpy as np
import pytest

from megc_stream.errors import UsageError
from megc_stream.synthesis.action_units import (
    EMOTION_UNITS,
    FACS_NAMES,
    SidedUnit,
    action_unit_field,
    eye_lids,
    face_axes,
    format_units,
    mouth_opening_field,
    parse_units,
)

ALL = [*map(str, FACS_NAMES), *(units for combinations in EMOTION_UNITS.values() for units in combinations)]
# Mesh points of the person's right and left side.
CORNERS, INNER_BROWS, OUTER_BROWS, LOWER_LIDS, NOSE_WINGS = (61, 291), (55, 285), (70, 300), (145, 374), (129, 358)
UPPER_LIPS, CHEEKS = (39, 269), (50, 280)


def moved(portrait, units: str, point: int, **options: float) -> np.ndarray:
    """Displacement of a mesh point in face-local coordinates (x to the image right, y down), relative to the peak."""
    field = action_unit_field(portrait.landmarks, parse_units(units), 0.05, **options)
    return field.local(field.axes.to_local(portrait.landmarks[point])) / 0.05


def test_axes_have_the_eye_centres_half_a_unit_from_the_origin(portrait) -> None:
    local = face_axes(portrait.landmarks).to_local(portrait.landmarks)
    np.testing.assert_allclose(local[[33, 133]].mean(axis=0), (-0.5, 0), atol=1e-9)
    np.testing.assert_allclose(local[[362, 263]].mean(axis=0), (0.5, 0), atol=1e-9)
    assert local[152, 1] > 1.2  # the chin is below


def test_image_vectors_undo_local_coordinates(portrait) -> None:
    axes = face_axes(portrait.landmarks)
    points = portrait.landmarks.astype(float)
    np.testing.assert_allclose(axes.origin + axes.to_image_vectors(axes.to_local(points)), points, atol=1e-6)


@pytest.mark.parametrize("units", ALL)
@pytest.mark.parametrize("amplitude", [0.01, 0.05])
def test_amplitude_is_the_largest_displacement(portrait, units: str, amplitude: float) -> None:
    field = action_unit_field(portrait.landmarks, parse_units(units), amplitude, 0.2)
    x, y = np.meshgrid(np.arange(-1.5, 1.5, 0.01), np.arange(-1.2, 2.4, 0.01))
    lengths = np.linalg.norm(field.local(np.stack([x, y], axis=-1)), axis=-1)
    assert lengths.max() == pytest.approx(amplitude, rel=0.005)
    assert field.peak()[0] == pytest.approx(amplitude, rel=1e-6)
    low, high = field.bounds()
    outside = (x < low[0]) | (x > high[0]) | (y < low[1]) | (y > high[1])
    assert lengths[outside].max(initial=0) < 0.01 * amplitude


@pytest.mark.parametrize("units", ALL)
def test_fields_are_smooth_enough_to_be_inverted(portrait, units: str) -> None:
    field = action_unit_field(portrait.landmarks, parse_units(units), 0.05)
    x, y = np.meshgrid(np.arange(-1.5, 1.5, 0.01), np.arange(-1.2, 2.4, 0.01))
    slopes = np.gradient(field.local(np.stack([x, y], axis=-1)), 0.01, axis=(0, 1))
    assert max(np.abs(slope).max() for slope in slopes) < 0.6


@pytest.mark.parametrize(
    ("units", "points", "outwards", "up"),
    [
        ("1", INNER_BROWS, 0, 1),
        ("2", OUTER_BROWS, 0, 1),
        ("4", INNER_BROWS, -1, -1),
        ("6", CHEEKS, 0, 1),
        ("7", LOWER_LIDS, 0, 1),
        ("9", NOSE_WINGS, 0, 1),
        ("10", UPPER_LIPS, 0, 1),
        ("12", CORNERS, 1, 1),
        ("14", CORNERS, -1, 0),
        ("15", CORNERS, 0, -1),
    ],
)
def test_units_move_what_they_are_named_after(portrait, units: str, points, outwards: int, up: int) -> None:
    for point, side in zip(points, (-1, 1), strict=True):
        x, y = moved(portrait, units, point)
        assert outwards == 0 or np.sign(x * side) == outwards
        assert up == 0 or np.sign(-y) == up
        assert np.hypot(x, y) > 0.3


def test_midline_units(portrait) -> None:
    assert moved(portrait, "17", 199)[1] < -0.3
    assert moved(portrait, "25", 13)[1] < moved(portrait, "25", 17)[1]
    assert moved(portrait, "25", 17)[1] > 0.3


def test_one_sided_unit_leaves_the_other_side_alone(portrait) -> None:
    for units, still, moving in (("R14", CORNERS[1], CORNERS[0]), ("L14", CORNERS[0], CORNERS[1])):
        assert np.linalg.norm(moved(portrait, units, still)) < 0.02
        assert np.linalg.norm(moved(portrait, units, moving)) > 0.8
    # The person's left is the image right.
    axes = face_axes(portrait.landmarks)
    assert action_unit_field(portrait.landmarks, parse_units("L14"), 0.05).peak()[1][0] > 0.1
    assert axes.to_local(portrait.landmarks[CORNERS[1]])[0] > 0.1


def test_asymmetry_favours_a_side(portrait) -> None:
    left = np.linalg.norm(moved(portrait, "12", CORNERS[1], asymmetry=0.3))
    right = np.linalg.norm(moved(portrait, "12", CORNERS[0], asymmetry=0.3))
    assert left > 1.5 * right


def test_mouth_opens_downwards(portrait) -> None:
    field = mouth_opening_field(portrait.landmarks)
    assert field.peak()[0] == pytest.approx(1.0, rel=1e-6)
    assert field.at(portrait.landmarks[17])[1] > 0.8 * field.axes.iod_px


def test_lids_close_over_the_eyeball(portrait) -> None:
    axes = face_axes(portrait.landmarks)
    for lids, pupil, upper, lower in zip(eye_lids(portrait.landmarks), (468, 473), (159, 386), (145, 374), strict=True):
        points = axes.to_local(portrait.landmarks[[upper, pupil, lower]])
        gap = points[2, 1] - points[0, 1]
        just_above = points[0] - (0, 1e-4)
        # The upper margin comes down to the lower one; what is seen in place of the pupil came from above the eye.
        assert lids.local_push(just_above, 1.0) == pytest.approx(gap, rel=0.05)
        assert points[1, 1] + lids.local_pull(points[1], 1.0) < points[0, 1]
        assert lids.local_push(points[1], 1.0) == 0
        assert lids.local_pull(points[1], 0.0) == 0


def test_pull_undoes_push(portrait) -> None:
    lids = eye_lids(portrait.landmarks)[0]
    x = np.full(50, lids.x.mean())
    crease, upper = np.interp(lids.x.mean(), lids.x, lids.crease), np.interp(lids.x.mean(), lids.x, lids.upper)
    skin = np.stack([x, np.linspace(crease + 1e-6, upper - 1e-6, 50)], axis=-1)
    for shut in (0.3, 1.0):
        seen = skin.copy()
        seen[:, 1] += lids.local_push(skin, shut)
        np.testing.assert_allclose(lids.local_pull(seen, shut), skin[:, 1] - seen[:, 1], atol=1e-9)


def test_units_are_read_and_written() -> None:
    assert parse_units("6+12") == (SidedUnit(6), SidedUnit(12))
    assert parse_units("R14+L12") == (SidedUnit(14, "right"), SidedUnit(12, "left"))
    for units in ALL:
        assert format_units(parse_units(units)) == units


@pytest.mark.parametrize("text", ["", "6,12", "X14", "6+", "99", "R25", "-1"])
def test_bad_units_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="action unit"):
        parse_units(text)


@pytest.mark.parametrize("landmarks", [np.zeros((468, 2)), np.zeros((478, 2)), np.full((478, 2), np.nan)])
def test_bad_landmarks_are_refused(landmarks: np.ndarray) -> None:
    with pytest.raises(UsageError, match="landmarks"):
        face_axes(landmarks)


def test_no_unit_is_refused(portrait) -> None:
    with pytest.raises(UsageError, match="none given"):
        action_unit_field(portrait.landmarks, (), 0.05)
