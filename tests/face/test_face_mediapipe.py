"""The backend `mediapipe`: its errors everywhere, its landmarks where the package is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from megc_stream.errors import MissingExtraError, ModelError
from megc_stream.face import FaceAnalyser, locate_landmarks
from megc_stream.records import Frame
from megc_stream.settings import FaceSettings


def test_no_task_file_is_set() -> None:
    with pytest.raises(ModelError, match="no file is set"):
        FaceAnalyser(FaceSettings(backend="mediapipe"), 30.0)


def test_the_task_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        FaceAnalyser(FaceSettings(backend="mediapipe", mediapipe_model=tmp_path / "face_landmarker.task"), 30.0)


def test_the_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tmp_path / "face_landmarker.task"
    task.write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(MissingExtraError, match="install the extra 'mediapipe'"):
        FaceAnalyser(FaceSettings(backend="mediapipe", mediapipe_model=task), 30.0)


@pytest.fixture(scope="module")
def task(shared: Path) -> Path:
    try:
        import mediapipe  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"mediapipe cannot be imported here ({error}); extra `mediapipe`")
    return shared / "face" / "face_landmarker.task"


def test_its_landmarks_agree_with_ours(
    task: Path, portrait: NDArray[np.uint8], frame_of: Callable[[int, NDArray[np.uint8], float], Frame]
) -> None:
    from megc_stream.face.mediapipe_backend import MediapipeMesh

    settings = FaceSettings(backend="mediapipe", mediapipe_model=task)
    mesh, points = MediapipeMesh(settings).find(portrait), locate_landmarks(portrait)
    assert mesh is not None and points is not None
    eyes = np.linalg.norm(points[33] - points[263])
    assert np.median(np.linalg.norm(mesh.points[:, :2] - points, axis=1)) < 0.05 * eyes
    analyser = FaceAnalyser(settings, 30.0)
    crops = [analyser.process(frame_of(i, portrait, 30.0)) for i in range(7)]
    assert [crop.flags for crop in crops] == [("found", "small")] + [("small",)] * 6


def test_a_damaged_task_file(task: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "face_landmarker.task"
    damaged.write_bytes(task.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load it"):
        FaceAnalyser(FaceSettings(backend="mediapipe", mediapipe_model=damaged), 30.0)
