from __future__ import annotations

import numpy as np
import pytest

from megc_stream.errors import OutputError
from megc_stream.output.pictures import CropStore, Picture, onset_apex_flow, png
from megc_stream.records import Crop


def _crop(frame: int) -> Crop:
    image = np.random.default_rng(frame).integers(0, 255, (128, 128), dtype=np.uint8)
    return Crop(source="s", frame=frame, number=frame, t_capture_s=0.0, segment=frame // 50, image=image)


def test_newest_crops_are_kept() -> None:
    store = CropStore(10)
    for frame in range(30):
        store.add(_crop(frame))
    assert store.get(19) is None
    picture = store.get(20)
    assert picture is not None
    assert (picture.frame, picture.segment) == (20, 0)
    assert np.array_equal(picture.image, _crop(20).image)  # type: ignore[arg-type]


def test_all_crops_are_kept_without_loss_and_thinned_out_beyond_the_budget() -> None:
    budget_bytes = 40 * len(png(_crop(0).image))  # type: ignore[arg-type]
    store = CropStore(None, budget_bytes=budget_bytes)
    for frame in range(100):
        store.add(_crop(frame))
        assert store._bytes <= budget_bytes
    for frame in range(96):
        picture = store.get(frame)
        assert picture is not None
        assert abs(picture.frame - frame) <= 2
        assert np.array_equal(picture.image, _crop(picture.frame).image)  # type: ignore[arg-type]


def test_a_lost_face_has_no_picture() -> None:
    store = CropStore(10)
    store.add(Crop(source="s", frame=0, number=0, t_capture_s=0.0, segment=0))
    assert store.get(0) is None


def test_flow_is_not_taken_across_a_lost_face() -> None:
    image = _crop(0).image
    assert image is not None
    onset = Picture(frame=0, segment=0, image=image)
    assert onset_apex_flow(onset, Picture(frame=9, segment=1, image=image)) is None
    assert onset_apex_flow(onset, onset) is None


def test_flow_from_onset_to_apex_follows_the_motion() -> None:
    y, x = np.mgrid[0:128, 0:128].astype(np.float64)
    onset = 128 + 60 * np.sin(x / 7) * np.cos(y / 9)
    apex = 128 + 60 * np.sin((x - 0.5) / 7) * np.cos(y / 9)
    flow = onset_apex_flow(
        Picture(frame=0, segment=0, image=np.rint(onset).astype(np.uint8)),
        Picture(frame=9, segment=0, image=np.rint(apex).astype(np.uint8)),
    )
    assert flow is not None
    assert flow.shape == (128, 128, 2)
    assert np.median(flow[20:-20, 20:-20], axis=(0, 1)) == pytest.approx([0.5, 0.0], abs=0.1)


def test_what_is_not_a_picture_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="expected uint8"):
        png(np.zeros((4, 4, 7), np.uint8))
