"""Landmarks from the mediapipe package (extra ``mediapipe``) and the user's own ``face_landmarker.task``.

The package runs in IMAGE mode, one frame on its own: its VIDEO mode smooths landmarks over time, which damps a motion
of 5 Hz to less than half. It has a detector inside, so following a face means detecting all and taking the one that was
there before.
"""

from __future__ import annotations

import weakref
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import MissingExtraError, ModelError
from megc_stream.face.mesh import Mesh, choose_face
from megc_stream.settings import FaceSettings

__all__ = ["MediapipeMesh"]

_LEAST_FACES = 4
"""Faces asked for even when the largest is wanted: the model's first face need not be the largest."""


class MediapipeMesh:
    """MediaPipe's FaceLandmarker as a :class:`megc_stream.face.mesh.LandmarkModel`.

    Parameters
    ----------
    settings
        ``mediapipe_model`` names the .task file; thresholds and ``face_index`` are used as for the ONNX models.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    ModelError
        No .task file is set, it does not exist, or mediapipe cannot load it.
    """

    def __init__(self, settings: FaceSettings) -> None:
        path = settings.mediapipe_model
        if path is None or not path.is_file():
            found = "no file is set" if path is None else f"{path}: no such file"
            raise ModelError(
                f"face backend mediapipe: {found}; expected MediaPipe's face_landmarker.task in face.mediapipe_model"
            )
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise MissingExtraError("mediapipe", "mediapipe", "the face backend mediapipe") from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(path)),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=max(_LEAST_FACES, settings.face_index + 1),
            min_face_detection_confidence=settings.detection_threshold,
            min_face_presence_confidence=settings.presence_threshold,
        )
        try:
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"model {path}: mediapipe cannot load it ({error}); expected a face_landmarker.task"
            ) from error
        # Left open at exit, the package's own clean-up fails with a traceback.
        weakref.finalize(self, self._landmarker.close)
        self._mediapipe: Any = mediapipe

    def find(
        self, image: NDArray[np.uint8], face_index: int = 0, near: NDArray[np.float32] | None = None
    ) -> Mesh | None:
        """See :meth:`megc_stream.face.mesh.LandmarkModel.find`."""
        faces = self._all_faces(image)
        chosen = choose_face([_box(points) for points in faces], face_index, near)
        return None if chosen is None else Mesh(faces[chosen], 1.0)

    def follow(self, image: NDArray[np.uint8], previous: NDArray[np.float32]) -> Mesh | None:
        """See :meth:`megc_stream.face.mesh.LandmarkModel.follow`."""
        faces = self._all_faces(image)
        chosen = choose_face([_box(points) for points in faces], len(faces), previous)
        return None if chosen is None else Mesh(faces[chosen], 1.0)

    def _all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the (478, 3) landmarks of every face, largest first."""
        rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
        picture = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=rgb)
        height, width = image.shape[:2]
        # Normalised coordinates count from the edge of the first pixel; z is in widths of the picture.
        faces = [
            np.array([[p.x * width - 0.5, p.y * height - 0.5, p.z * width] for p in face], np.float32)
            for face in self._landmarker.detect(picture).face_landmarks
        ]
        return sorted(faces, key=lambda points: -_area(_box(points)))


def _box(points: NDArray[np.float32]) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = points[:, :2].min(axis=0).tolist(), points[:, :2].max(axis=0).tolist()
    return left, top, right, bottom


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
