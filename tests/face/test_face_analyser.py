"""The analyser on made scenes: stillness, truth to local motion, losing and finding."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.errors import UsageError
from megc_stream.face import FaceAnalyser, locate_landmarks
from megc_stream.face.landmarks import eye_centres
from megc_stream.face.mesh import FaceMesh, Mesh
from megc_stream.records import Crop, Frame, Region
from megc_stream.settings import FaceSettings

FrameOf = Callable[[int, NDArray[np.uint8], float], Frame]
FPS = 100.0


@pytest.fixture(scope="module")
def scene(alignment: ModuleType, portrait: NDArray[np.uint8]) -> Any:
    return alignment.Scene(portrait)


@pytest.fixture(scope="module")
def picture(scene: Any) -> NDArray[np.uint8]:
    return np.rint(scene.picture()).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def models() -> FaceMesh:
    return FaceMesh()


def noisy(picture: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, 2, picture.shape)
    return np.rint(picture + noise).clip(0, 255).astype(np.uint8)


def same(one: Crop, other: Crop) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        if isinstance(getattr(one, name), np.ndarray)
        else getattr(one, name) == getattr(other, name)
        for name in one.__struct_fields__
    )


def test_a_still_scene_stays_still(alignment: ModuleType, scene: Any) -> None:
    assert alignment.still_jitter_px(scene, FPS, 120) <= 0.05


@pytest.mark.parametrize("place", ["mouth corner", "brow"])
def test_local_motion_survives(alignment: ModuleType, scene: Any, place: str) -> None:
    assert 0.95 <= alignment.local_gain(scene, FPS, 60, alignment.PLACES[place]) <= 1.05


def test_head_motion_is_taken_out(alignment: ModuleType, scene: Any) -> None:
    assert alignment.sway_residual_px(scene, 200.0, 100) <= 0.05


def test_the_crop_is_what_the_record_says(picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    crop = FaceAnalyser(FaceSettings(), FPS, model=models).process(frame_of(7, picture, FPS))
    assert crop.image is not None and crop.image.shape == (128, 128) and crop.image.dtype == np.uint8
    assert crop.similarity is not None and crop.landmarks68 is not None
    assert crop.landmarks68.shape == (68, 2) and crop.landmarks68.dtype == np.float32
    assert (crop.segment, crop.frame, crop.number, crop.flags) == (0, 7, 7, ("found",))
    points = locate_landmarks(picture)
    assert points is not None
    in_crop = eye_centres(points) @ crop.similarity[:, :2].T + crop.similarity[:, 2]
    assert in_crop == pytest.approx(np.array([[39, 36], [89, 36]]), abs=1.5)
    left, right = eye_centres(points)
    assert crop.interocular_px == pytest.approx(np.linalg.norm(right - left), rel=0.03)
    assert crop.eye_opening is not None and crop.eye_opening > 0.2
    assert crop.sharpness is not None and crop.sharpness > 20
    again = locate_landmarks(crop.image)
    assert again is not None and eye_centres(again) == pytest.approx(np.array([[39, 36], [89, 36]]), abs=2)


def test_landmarks_rest_while_the_face_does(picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    analyser = FaceAnalyser(FaceSettings(), FPS, model=models)
    crops = [analyser.process(frame_of(i, noisy(picture, i), FPS)) for i in range(0, 200, 2)]
    settled = np.stack([crop.landmarks68 for crop in crops if crop.landmarks68 is not None][40:])
    assert len(settled) == 60
    assert (np.abs(np.diff(settled, axis=0)).max(axis=-1) > 0).mean() < 0.01


def test_landmarks_are_computed_seldom_while_the_eyes_rest(
    scene: Any, picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf
) -> None:
    counting = CountingModel(models)
    analyser = FaceAnalyser(FaceSettings(), FPS, model=counting)
    for i in range(120):
        crop = analyser.process(frame_of(i, noisy(picture, i), FPS))
    assert len(counting.follows) == 2  # after 0.5 and 1 s
    # One eye gets a dark lid.
    assert isinstance(crop.similarity, np.ndarray)
    to_frame = cv2.invertAffineTransform(crop.similarity)
    x, y = np.rint(to_frame[:, :2] @ [39, 36] + to_frame[:, 2]).astype(int)
    closed = picture.copy()
    cv2.ellipse(closed, (int(x), int(y)), (22, 12), 0, 0, 360, 60, -1)
    for i in range(120, 150):
        analyser.process(frame_of(i, noisy(closed, i), FPS))
    assert len(counting.follows) == 3


def test_sharpness_is_the_variance_of_the_laplacian(
    models: FaceMesh, picture: NDArray[np.uint8], frame_of: FrameOf
) -> None:
    crop = FaceAnalyser(FaceSettings(), FPS, model=models).process(frame_of(0, picture, FPS))
    assert crop.image is not None
    assert crop.sharpness == pytest.approx(float(cv2.Laplacian(crop.image, cv2.CV_64F).var()))


def test_a_part_of_the_picture_is_enough(picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    wide = np.full((960, 1280), 90, np.uint8)
    wide[300:780, 500:1140] = picture
    full, partial = (FaceAnalyser(FaceSettings(), FPS, model=models) for _ in range(2))
    asked: list[int] = []

    def rest_of(i: int, image: NDArray[np.uint8]) -> Callable[[], NDArray[np.uint8]]:
        def rest() -> NDArray[np.uint8]:
            asked.append(i)
            return image

        return rest

    for i in range(80):
        image = noisy(np.roll(wide, (i, -i) if i < 40 else (40, -40), (0, 1)), i)
        frame = frame_of(i, image, FPS)
        if (region := partial.region) is not None:
            x_low, y_low, x_high, y_high = region
            there = np.random.default_rng(i).integers(0, 256, image.shape, np.uint8)
            there[y_low:y_high, x_low:x_high] = image[y_low:y_high, x_low:x_high]
            frame = msgspec.structs.replace(frame, image=there, region=region, rest=rest_of(i, image))
            assert (x_high - x_low) * (y_high - y_low) < 0.1 * image.size
        assert same(partial.process(frame), full.process(frame_of(i, image, FPS)))
    assert asked == [50]  # the key frame
    asked.clear()
    elsewhere = msgspec.structs.replace(frame_of(80, there, FPS), region=(0, 0, 64, 64), rest=rest_of(80, image))
    partial.process(elsewhere)
    assert asked == [80]
    for i in range(81, 84):
        partial.process(frame_of(i, np.zeros_like(wide), FPS))
    assert partial.region is None


def test_a_part_decoded_ahead_for_an_older_region_gives_the_same(
    picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf
) -> None:
    ahead = 50
    large = cv2.resize(picture, None, fx=3.4, fy=3.4, interpolation=cv2.INTER_CUBIC)
    full, partial = (FaceAnalyser(FaceSettings(), FPS, model=models) for _ in range(2))
    regions: list[Region | None] = []
    parts = 0
    for i in range(110):
        shift = (70 * math.sin(i / 20), 30 * math.sin(i / 31))
        moved = cv2.warpAffine(large, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), large.shape[::-1])
        image = noisy(moved, i)
        frame = frame_of(i, image, FPS)
        if i > ahead and (region := regions[i - 1 - ahead]) is not None:
            x_low, y_low, x_high, y_high = region
            there = np.zeros_like(image)
            there[y_low:y_high, x_low:x_high] = image[y_low:y_high, x_low:x_high]
            frame = msgspec.structs.replace(frame, image=there, region=region, rest=lambda image=image: image)
            parts += 1
        assert same(partial.process(frame), full.process(frame_of(i, image, FPS)))
        regions.append(partial.region)
    assert parts == 109 - ahead


def test_restoring_continues_exactly(picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    frames = [frame_of(i, noisy(picture, i), FPS) for i in range(50)]
    frames[30:34] = [frame_of(i, np.zeros_like(picture), FPS) for i in range(30, 34)]
    straight, first = (FaceAnalyser(FaceSettings(), FPS, model=models) for _ in range(2))
    expected = [straight.process(frame) for frame in frames]
    for cut in (0, 17, 32, 41):
        first.reset()
        for frame in frames[:cut]:
            first.process(frame)
        second = FaceAnalyser(FaceSettings(), FPS, model=models)
        second.restore(first.snapshot())
        assert all(same(second.process(frame), crop) for frame, crop in zip(frames[cut:], expected[cut:], strict=True))


def test_other_bytes_are_no_snapshot(models: FaceMesh) -> None:
    analyser = FaceAnalyser(FaceSettings(), FPS, model=models)
    with pytest.raises(UsageError, match="face snapshot"):
        analyser.restore(b"nonsense")
    with pytest.raises(UsageError, match="version 99"):
        analyser.restore(bytes([0x98, 99, 0, 0xC0, 0xC0, 0x90, 0xC0, 0x90, 0xC4, 0]))


def test_reset_starts_segments_anew(picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    analyser = FaceAnalyser(FaceSettings(), FPS, model=models)
    first = analyser.process(frame_of(0, picture, FPS))
    analyser.process(frame_of(1, np.zeros_like(picture), FPS))
    assert analyser.process(frame_of(40, picture, FPS)).segment == 1
    analyser.reset()
    assert same(analyser.process(frame_of(0, picture, FPS)), first)


def test_repeated_frames_and_short_gaps_change_nothing(
    picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf
) -> None:
    analyser = FaceAnalyser(FaceSettings(), FPS, model=models)
    crops = [analyser.process(frame_of(i, picture, FPS)) for i in (0, 1, 2, 3, 20, 21, 60)]
    assert [crop.segment for crop in crops] == [0] * 7
    maps = np.stack([crop.similarity for crop in crops if crop.similarity is not None])
    assert np.ptp(maps[:, :, 2], axis=0).max() < 0.02


def test_a_long_gap_ends_the_segment(picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    analyser = FaceAnalyser(FaceSettings(), FPS, model=models)
    crops = [analyser.process(frame_of(i, picture, FPS)) for i in (0, 1, 52)]
    assert [(crop.segment, crop.flags) for crop in crops] == [(0, ("found",)), (0, ()), (1, ("found",))]


class CountingModel:
    """Counts searches and the frames it follows on."""

    def __init__(self, models: FaceMesh) -> None:
        self._models = models
        self.searches: list[int] = []
        self.follows: list[int] = []
        self.frame = 0

    def find(
        self, image: NDArray[np.uint8], face_index: int = 0, near: NDArray[np.float32] | None = None
    ) -> Mesh | None:
        self.searches.append(self.frame)
        return self._models.find(image, face_index, near)

    def follow(self, image: NDArray[np.uint8], previous: NDArray[np.float32]) -> Mesh | None:
        self.follows.append(self.frame)
        return self._models.follow(image, previous)


def test_a_lost_face_is_searched_once_in_a_key_interval(
    picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf
) -> None:
    model = CountingModel(models)
    analyser = FaceAnalyser(FaceSettings(), FPS, model=model)
    flags = []
    for i in range(60):
        model.frame = i
        image = picture if i < 15 or i >= 44 else np.zeros_like(picture)
        flags.append(analyser.process(frame_of(i, image, FPS)).flags)
    assert model.searches == [0, 15, 25, 35, 45]
    assert flags[14] == () and flags[15] == ("lost",) and flags[44] == ("lost",) and flags[45] == ("found",)


def test_without_a_face(models: FaceMesh, frame_of: FrameOf) -> None:
    analyser = FaceAnalyser(FaceSettings(), FPS, model=models)
    for i in range(30):
        crop = analyser.process(frame_of(i, np.full((64, 64), i, np.uint8), FPS))
        assert crop.flags == ("lost",) and crop.segment == -1
        assert crop.image is crop.landmarks68 is crop.similarity is crop.eye_opening is None


def test_the_largest_of_two_faces_is_followed(portrait: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    one = portrait[30:210, 130:310]
    sizes = range(260, 180, -2)  # the first shrinks, the second grows: neither is lost
    followed: dict[int, list[float]] = {0: [], 1: []}
    analysers = {index: FaceAnalyser(FaceSettings(face_index=index), FPS, model=models) for index in followed}
    for i, size in enumerate(sizes):
        both = np.full((260, 520), 90, np.uint8)
        for left, side in ((0, size), (260, 440 - size)):
            both[:side, left : left + side] = cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA)
        for index, analyser in analysers.items():
            crop = analyser.process(frame_of(i, both, FPS))
            assert crop.similarity is not None and crop.segment == 0
            followed[index].append(float(cv2.invertAffineTransform(crop.similarity)[0] @ [64, 64, 1]))
    assert max(followed[0]) < 260 < min(followed[1])
    third = FaceAnalyser(FaceSettings(face_index=2), FPS, model=models)
    assert third.process(frame_of(0, both, FPS)).flags == ("lost",)


def test_small_and_blurred_faces_are_flagged(picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    analyser = FaceAnalyser(FaceSettings(), FPS, model=models)
    small = cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA)
    assert analyser.process(frame_of(0, small, FPS)).flags == ("found", "small")
    analyser = FaceAnalyser(FaceSettings(blurred_sharpness=15), FPS, model=models)
    blurred = cv2.GaussianBlur(picture, (0, 0), 4)
    assert analyser.process(frame_of(0, blurred, FPS)).flags == ("found", "blurred")


def test_colour_frames_give_a_grey_crop(picture: NDArray[np.uint8], models: FaceMesh, frame_of: FrameOf) -> None:
    analyser = FaceAnalyser(FaceSettings(), FPS, model=models)
    grey = analyser.process(frame_of(0, picture, FPS))
    analyser.reset()
    assert same(analyser.process(frame_of(0, cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR), FPS)), grey)
