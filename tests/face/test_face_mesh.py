from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.errors import ModelError
from megc_stream.face import find_faces, locate_landmarks
from megc_stream.face.mesh import choose_face


def test_one_face_in_grey_and_in_colour(portrait: NDArray[np.uint8]) -> None:
    for image in (portrait, cv2.cvtColor(portrait, cv2.COLOR_GRAY2BGR)):
        (face,) = find_faces(image)
        left, top, right, bottom = face.box
        assert face.score > 0.8
        assert (left, top, right, bottom) == pytest.approx((170, 65, 275, 170), abs=25)
        assert face.points.shape == (6, 2) and face.points.dtype == np.float32
        assert face.points[0, 0] < face.points[1, 0]  # the right eye is on the left


def test_landmarks_move_with_the_picture(portrait: NDArray[np.uint8]) -> None:
    points = locate_landmarks(portrait)
    assert points is not None and points.shape == (478, 2) and points.dtype == np.float32
    shifted = locate_landmarks(np.roll(portrait, (11, -7), axis=(0, 1)))
    assert shifted is not None
    eyes = np.linalg.norm(points[33] - points[263])
    assert np.median(np.linalg.norm(shifted - points - [-7, 11], axis=1)) < 0.02 * eyes


def test_faces_are_counted_from_the_largest(portrait: NDArray[np.uint8]) -> None:
    large = portrait[10:270, 90:350]
    small = cv2.resize(large, (180, 180), interpolation=cv2.INTER_AREA)
    both = np.full((260, 460), 90, np.uint8)
    both[40:220, :180], both[:, 200:] = small, large
    first, second = find_faces(both)
    assert first.area_px > 1.3 * second.area_px
    assert first.box[0] > 200 > second.box[0]
    smaller = locate_landmarks(both, face_index=1)
    assert smaller is not None and smaller[:, 0].max() < 200
    assert locate_landmarks(both, face_index=2) is None


@pytest.mark.parametrize("shape", [(64, 64), (480, 640), (64, 900), (480, 640, 3)])
def test_no_face(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert find_faces(image) == []
    assert locate_landmarks(image) is None


def test_a_face_in_64_px(portrait: NDArray[np.uint8]) -> None:
    image = cv2.resize(portrait[30:220, 130:320], (64, 64), interpolation=cv2.INTER_AREA)
    points = locate_landmarks(image)
    assert points is not None
    assert 10 < np.linalg.norm(points[33] - points[263]) < 40


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64), np.float32), np.zeros((64, 64, 4), np.uint8), np.zeros(9, np.uint8)]
)
def test_other_arrays_are_refused(image: NDArray[np.generic]) -> None:
    with pytest.raises(ModelError, match="expected \\(H, W\\) grey"):
        find_faces(image)  # type: ignore[arg-type]


def test_a_face_stays_the_same_face() -> None:
    boxes = [(200.0, 0.0, 320.0, 120.0), (0.0, 0.0, 100.0, 100.0)]
    near = np.array([[5, 8], [95, 104]], np.float32)
    assert choose_face(boxes, 0, near) == 1
    assert choose_face(boxes, 0, near + 400) == 0
    assert choose_face(boxes, 1, None) == 1
    assert choose_face(boxes, 2, None) is None
    assert choose_face([], 0, near) is None


def test_irises_are_where_people_placed_them(shared: Path) -> None:
    errors = []
    for template in sorted((shared / "faces" / "stills").glob("*_neutral.tem"))[:8]:
        image = cv2.imread(str(template.with_suffix(".jpg")), cv2.IMREAD_GRAYSCALE)
        pupils = np.loadtxt(template, skiprows=1, max_rows=2)
        points = locate_landmarks(image)
        assert points is not None
        distance = np.linalg.norm(pupils[1] - pupils[0])
        errors.append(np.linalg.norm(points[[468, 473]] - pupils, axis=1) / distance)
    assert np.max(errors) < 0.03


def test_grey_is_as_good_as_colour(shared: Path) -> None:
    for still in sorted((shared / "faces" / "stills").glob("*_neutral.jpg"))[:5]:
        colour = cv2.imread(str(still))
        (in_colour,), (in_grey,) = find_faces(colour), find_faces(cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY))
        assert in_grey.score > 0.8
        assert in_grey.box == pytest.approx(in_colour.box, abs=0.05 * (in_colour.box[2] - in_colour.box[0]))
