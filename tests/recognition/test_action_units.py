from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.errors import DataError, FlowError
from megc_stream.recognition.action_units import (
    FEATURES,
    FaceMotion,
    UnitModel,
    face_motion,
    load_unit_model,
    measure_units,
    side_features,
)
from megc_stream.synthesis.action_units import FACS_NAMES
from megc_stream.synthesis.portraits import astronaut, portrait_landmarks
from megc_stream.training.action_units import UNITS, UnitPair, format_unit_model, unit_pairs


@pytest.fixture(scope="module")
def landmarks() -> NDArray[np.float32]:
    from megc_stream.face import FaceAnalyser
    from megc_stream.records import Frame
    from megc_stream.settings import FaceSettings

    picture = np.asarray(cv2.cvtColor(astronaut(), cv2.COLOR_BGR2GRAY), np.uint8)
    frame = Frame(source="a", frame=0, number=0, image=picture, t_capture_s=0.0)
    found = FaceAnalyser(FaceSettings(), 30.0).process(frame).landmarks68
    assert found is not None
    return found


@pytest.fixture(scope="module")
def pairs() -> list[UnitPair]:
    """Pairs of a person that the model was not fitted to, through face tracking and flow."""
    grey = np.asarray(cv2.cvtColor(astronaut(), cv2.COLOR_BGR2GRAY), np.uint8)
    return unit_pairs("astronaut", grey, portrait_landmarks(grey, "astronaut"), 7, 12)


def bump(x: float, y: float, across: float, down: float) -> NDArray[np.float32]:
    """A flow that is 0 but for a Gaussian push around one point."""
    rows, columns = np.mgrid[0:128, 0:128]
    weight = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2))
    return np.asarray(weight[..., None] * np.array([across, down]), np.float32)


def seen(motion: FaceMotion, region: str, side: str) -> tuple[float, float, str]:
    [found] = [one for one in motion.listed() if (one.region, one.side) == (region, side)]
    return found.across_px, found.up_px, found.direction


def test_regions_are_the_persons_and_directions_are_from_the_midline(landmarks: NDArray[np.float32]) -> None:
    # Point 54 is the mouth corner on the right of the picture: the person's left.
    x, y = landmarks[54]
    motion = face_motion(bump(x, y, 1.0, -1.0), landmarks)
    across, up, direction = seen(motion, "mouth corner", "left")
    assert across == pytest.approx(0.8, abs=0.15)
    assert up == pytest.approx(0.8, abs=0.15)
    assert direction == "up and outwards"
    assert abs(seen(motion, "mouth corner", "right")[1]) < 0.05
    x, y = landmarks[48]
    motion = face_motion(bump(x, y, 1.0, 0.0), landmarks)
    assert seen(motion, "mouth corner", "right")[2] == "inwards"
    assert motion.listed()[0].side == "right"


def test_the_motion_of_the_head_is_taken_out(landmarks: NDArray[np.float32]) -> None:
    rows, columns = np.mgrid[0:128, 0:128].astype(np.float32)
    head = np.stack([0.7 + 0.01 * columns - 0.005 * rows, -0.4 + 0.005 * columns + 0.01 * rows], axis=-1)
    still = face_motion(head.astype(np.float32), landmarks)
    assert still.strength_px < 0.01
    x, y = landmarks[48]
    push = bump(float(x), float(y), -1.0, -1.0)
    alone, moving = (face_motion(flow, landmarks) for flow in (push, (push + head).astype(np.float32)))
    np.testing.assert_allclose(moving.sides, alone.sides, atol=0.02)


def test_a_mirrored_face_is_seen_from_the_other_side(landmarks: NDArray[np.float32]) -> None:
    generator = np.random.default_rng(0)
    flow = cv2.GaussianBlur(generator.standard_normal((128, 128, 2)).astype(np.float32), (0, 0), 6) * 5
    from megc_stream.recognition.action_units import _MIRRORED

    mirrored_flow = np.ascontiguousarray(flow[:, ::-1] * np.array([-1, 1], np.float32))
    mirrored_points = landmarks[_MIRRORED].copy()
    mirrored_points[:, 0] = 127 - mirrored_points[:, 0]
    here, there = (side_features(face_motion(*each)) for each in ((flow, landmarks), (mirrored_flow, mirrored_points)))
    np.testing.assert_allclose(there, here[::-1], atol=1e-4)


def test_noise_is_no_pattern() -> None:
    motion = FaceMotion(sides=np.full((19, 2, 2), 0.001), middle=np.full((7, 2), 0.001), strength_px=0.001)
    assert np.abs(side_features(motion)).max() < 0.011
    assert not any(unit.present for unit in measure_units(motion))


def test_units_of_a_person_never_seen(pairs: list[UnitPair]) -> None:
    model = load_unit_model()
    hits, claimed, planted = (np.zeros(len(UNITS)) for _ in range(3))
    for pair in pairs:
        truth = {unit.number for unit in pair.units}
        found = {unit.number for unit in measure_units(pair.motion, model) if unit.present}
        for row, number in enumerate(UNITS):
            hits[row] += number in truth & found
            claimed[row] += number in found
            planted[row] += number in truth
    shown = planted > 0
    assert np.mean(2 * hits[shown] / (planted + claimed)[shown]) >= 0.7


def test_one_sided_units_are_on_the_right_side(pairs: list[UnitPair]) -> None:
    sides = []
    for pair in pairs:
        found = {unit.number: unit for unit in measure_units(pair.motion)}
        sides += [
            (found[unit.number].left > found[unit.number].right) == (unit.side == "left")
            for unit in pair.units
            if unit.side != "both"
        ]
    assert sides
    assert all(sides)


def test_reasons_are_motions_of_the_units_region(pairs: list[UnitPair]) -> None:
    [smile, *_] = [
        unit
        for pair in pairs
        if {one.number for one in pair.units} == {12} or {one.number for one in pair.units} == {6, 12}
        for unit in measure_units(pair.motion)
        if unit.number == 12
    ]
    assert smile.present
    assert 1 <= len(smile.motions) <= 4
    assert {motion.region for motion in smile.motions} & {"mouth corner", "beside mouth corner", "nasolabial fold"}
    assert all(motion.px >= 0.05 for motion in smile.motions)
    assert smile.name == "lip corner puller"


def test_the_same_pixels_give_the_same_units(pairs: list[UnitPair]) -> None:
    assert measure_units(pairs[0].motion) == measure_units(pairs[0].motion)


def test_the_shipped_model_knows_what_can_be_synthesised() -> None:
    model = load_unit_model()
    assert model.units == tuple(FACS_NAMES)
    assert model.weights.shape == (len(FACS_NAMES), len(FEATURES))


def test_a_written_model_is_read_again(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    model = UnitModel(
        units=UNITS,
        weights=generator.standard_normal((len(UNITS), len(FEATURES))),
        biases=generator.standard_normal(len(UNITS)),
    )
    file = tmp_path / "units.toml"
    file.write_text(format_unit_model(model, ["a remark"]), encoding="utf-8")
    read = load_unit_model(file)
    np.testing.assert_allclose(read.weights, model.weights, atol=6e-4)
    np.testing.assert_allclose(read.biases, model.biases, atol=6e-4)


@pytest.mark.parametrize("text", ["", "[units.12]\nbias = 1.0\n", "[units.x]\n", "not toml"])
def test_a_broken_model_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"broken\.toml"):
        load_unit_model(file)


def test_wrong_arrays_are_refused(landmarks: NDArray[np.float32]) -> None:
    with pytest.raises(FlowError, match="expected"):
        face_motion(np.zeros((128, 128), np.float32), landmarks)
    with pytest.raises(FlowError, match="68"):
        face_motion(np.zeros((128, 128, 2), np.float32), landmarks[:5])
