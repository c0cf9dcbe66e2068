"""Face detection and the 478-point face mesh, with MediaPipe's two models run by ONNX Runtime.

The geometry between the models follows MediaPipe's face_landmark graphs: a square of 1.5 times the detected box (later:
of the box of the landmarks), turned so that the eyes are level, goes into the mesh model.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import ModelError
from megc_stream.face.warp import Affine, invert, sample, scale_of, similarity, transform
from megc_stream.models import OnnxModel, model_path

__all__ = [
    "Detection",
    "FaceDetector",
    "FaceMesh",
    "LandmarkModel",
    "Mesh",
    "choose_face",
    "find_faces",
    "locate_landmarks",
]

Image = NDArray[np.uint8]

_DETECTOR_PX, _MESH_PX = 128, 192
_SAME_FACE_OVERLAP = 0.3
_REGION_SCALE = 1.5


@dataclass(frozen=True)
class Detection:
    """One detected face, in px of the image.

    ``score`` is in 0..1, ``box`` is (left, top, right, bottom), ``points`` (6, 2) float32 are the right eye, left
    eye, tip of the nose, mouth, right and left ear (right and left of the person).
    """

    score: float
    box: tuple[float, float, float, float]
    points: NDArray[np.float32]

    @property
    def area_px(self) -> float:
        """Area of the box, square px."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Mesh:
    """478 landmarks of one face: ``points`` (478, 3) float32 in px of the image (z in the same unit, smaller = nearer).

    ``score`` in 0..1 says how sure the model is that there is a face.
    """

    points: NDArray[np.float32]
    score: float


class LandmarkModel(Protocol):
    """What finds 478 landmarks; implemented with ONNX Runtime and with the mediapipe package."""

    def find(self, image: Image, face_index: int = 0, near: NDArray[np.float32] | None = None) -> Mesh | None:
        """Search the whole picture; return the face with this index, counted from the largest, or None.

        With landmarks ``near`` of a face that was there a moment ago, a face that overlaps them comes first.
        """
        ...

    def follow(self, image: Image, previous: NDArray[np.float32]) -> Mesh | None:
        """Return the face that was at the (478, >=2) landmarks ``previous`` a moment ago, or None."""
        ...


class FaceDetector:
    """MediaPipe's short-range face detector (BlazeFace on 128x128 px).

    It finds faces from about a tenth of the picture's longer side.

    Parameters
    ----------
    providers
        Execution providers, as for :class:`megc_stream.models.OnnxModel`.
    """

    def __init__(self, providers: Sequence[str] = ("cpu",)) -> None:
        self._model = OnnxModel(model_path("mediapipe-face-detector.onnx"), providers)
        self._anchors = _anchors()

    def detect(self, image: Image, threshold: float = 0.5) -> list[Detection]:
        """Return the faces in a (H, W) grey or (H, W, 3) BGR uint8 picture, largest first.

        Raises
        ------
        ModelError
            The image has another shape or dtype.
        """
        _check_image(image)
        square, to_square = _letterboxed(image)
        regressors, scores = self._model.run({"image": _as_rgb(square)[None]})
        hits = np.flatnonzero(scores >= threshold)
        # Eight points each: centre, size, six key points; all but the size relative to the anchor.
        points = regressors[hits].reshape(-1, 8, 2) / _DETECTOR_PX
        points[:, [0, 2, 3, 4, 5, 6, 7]] += self._anchors[hits, None]
        shapes = points[:, [0, 0, 2, 3, 4, 5, 6, 7]]
        shapes[:, 0] -= points[:, 1] / 2
        shapes[:, 1] += points[:, 1] / 2
        to_image = invert(to_square)
        detections = []
        for score, shape in _merge_overlapping(shapes, scores[hits]):
            mapped = transform(to_image, shape * _DETECTOR_PX - 0.5)
            (left, top), (right, bottom) = mapped[:2].tolist()
            detections.append(Detection(score, (left, top, right, bottom), mapped[2:].astype(np.float32)))
        return sorted(detections, key=lambda detection: -detection.area_px)


class FaceMesh:
    """MediaPipe's face mesh with attention to eyes, irises and lips (192 px input), and the detector before it.

    Parameters
    ----------
    providers
        Execution providers, as for :class:`megc_stream.models.OnnxModel`.
    detection_threshold
        Least score of the detector, 0..1.
    presence_threshold
        Least score of the mesh model for a face to count as found.
    """

    def __init__(
        self, providers: Sequence[str] = ("cpu",), detection_threshold: float = 0.5, presence_threshold: float = 0.5
    ) -> None:
        self._detector = FaceDetector(providers)
        self._model = OnnxModel(model_path("mediapipe-face-mesh.onnx"), providers)
        self._detection_threshold = detection_threshold
        self._presence_threshold = presence_threshold

    def find(self, image: Image, face_index: int = 0, near: NDArray[np.float32] | None = None) -> Mesh | None:
        """Detect faces and return the refined mesh of one of them: see :meth:`LandmarkModel.find`."""
        detections = self._detector.detect(image, self._detection_threshold)
        chosen = choose_face([detection.box for detection in detections], face_index, near)
        if chosen is None:
            return None
        found = self._locate(image, _detection_region(detections[chosen]))
        return None if found is None else self.follow(image, found.points)

    def follow(self, image: Image, previous: NDArray[np.float32]) -> Mesh | None:
        """Return the mesh of the face whose landmarks were ``previous`` a moment ago; None if there is no face now."""
        return self._locate(image, _mesh_region(previous))

    def _locate(self, image: Image, to_input: Affine) -> Mesh | None:
        pixels = _as_rgb(sample(image, to_input, (_MESH_PX, _MESH_PX)))
        landmarks, score = self._model.run({"image": pixels[None]})
        if score[0] < self._presence_threshold:
            return None
        points = np.empty((478, 3), np.float32)
        # The model's coordinates count from the edge of the first pixel.
        points[:, :2] = transform(invert(to_input), landmarks[:, :2].astype(np.float64) - 0.5)
        points[:, 2] = landmarks[:, 2] / scale_of(to_input)
        return Mesh(points, float(score[0]))


def choose_face(
    boxes: Sequence[tuple[float, float, float, float]], face_index: int, near: NDArray[np.float32] | None
) -> int | None:
    """Return which box to take: the one that overlaps the landmarks ``near`` best, else the ``face_index``-th, or None.

    ``boxes`` are (left, top, right, bottom), largest first.
    """
    if near is not None and boxes:
        bounds = (*near[:, :2].min(axis=0).tolist(), *near[:, :2].max(axis=0).tolist())
        overlaps = [_overlap(box, bounds) for box in boxes]
        best = int(np.argmax(overlaps))
        if overlaps[best] > _SAME_FACE_OVERLAP:
            return best
    return face_index if face_index < len(boxes) else None


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common) if areas > common else 0.0


def find_faces(image: Image) -> list[Detection]:
    """Return the faces in one (H, W) grey or (H, W, 3) BGR uint8 picture, largest first.

    Raises
    ------
    ModelError
        The image has another shape or dtype.
    """
    return _shared_detector().detect(image)


def locate_landmarks(image: Image, face_index: int = 0) -> NDArray[np.float32] | None:
    """Return the 478 landmarks of one face in a single picture, (478, 2) float32 in px of the image, or None.

    Parameters
    ----------
    image
        (H, W) grey or (H, W, 3) BGR uint8.
    face_index
        Which face, counted from the largest (0) down.

    Raises
    ------
    ModelError
        The image has another shape or dtype.
    """
    models = _shared_mesh()
    mesh = models.find(image, face_index)
    if mesh is not None:  # a photograph has no past: once more, now from its own landmarks
        mesh = models.follow(image, mesh.points)
    return None if mesh is None else mesh.points[:, :2].copy()


@functools.cache
def _shared_detector() -> FaceDetector:
    return FaceDetector()


@functools.cache
def _shared_mesh() -> FaceMesh:
    return FaceMesh()


def _check_image(image: Image) -> None:
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or not image.size:
        raise ModelError(
            f"face image: got shape {image.shape} and dtype {image.dtype}; expected (H, W) grey or (H, W, 3) BGR, uint8"
        )


def _as_rgb(image: Image) -> Image:
    rgb: Image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
    return rgb


def _letterboxed(image: Image) -> tuple[Image, Affine]:
    """Return the whole picture in the detector's square, black beside it, and the map from the picture into it."""
    height, width = image.shape[:2]
    scale = _DETECTOR_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (_DETECTOR_PX - size[0]) // 2, (_DETECTOR_PX - size[1]) // 2
    square = np.zeros((_DETECTOR_PX, _DETECTOR_PX, *image.shape[2:]), np.uint8)
    square[top : top + size[1], left : left + size[0]] = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    along_x, along_y = size[0] / width, size[1] / height
    # Edges of pixels, not centres, are mapped onto each other.
    to_square = np.array([[along_x, 0, left + (along_x - 1) / 2], [0, along_y, top + (along_y - 1) / 2]])
    return square, to_square


def _anchors() -> NDArray[np.float32]:
    """Return the (896, 2) anchor centres in 0..1: 2 for each cell of a 16x16 grid, 6 for each of an 8x8 one."""
    grids = []
    for cells, repeats in ((16, 2), (8, 6)):
        y, x = (np.mgrid[:cells, :cells].reshape(2, -1) + 0.5) / cells
        grids.append(np.repeat(np.stack([x, y], axis=1), repeats, axis=0))
    return np.concatenate(grids).astype(np.float32)


def _merge_overlapping(
    shapes: NDArray[np.floating], scores: NDArray[np.float32]
) -> list[tuple[float, NDArray[np.float64]]]:
    """Average, weighted by score, all (n, 8, 2) shapes whose boxes (first two points) overlap the best one; repeat."""
    boxes = shapes[:, :2].reshape(-1, 4).tolist()
    rest = np.argsort(-scores, kind="stable")
    merged = []
    while rest.size:
        best = rest[0]
        same = np.array([_overlap(boxes[i], boxes[best]) > _SAME_FACE_OVERLAP for i in rest])
        same[0] = True
        group = rest[same]
        mean = np.average(shapes[group].astype(np.float64), axis=0, weights=scores[group])
        merged.append((float(scores[best]), mean))
        rest = rest[~same]
    return merged


def _region(centre: NDArray[np.floating], side_px: float, along: NDArray[np.floating]) -> Affine:
    """Return the map from the image into the mesh input: a square around ``centre``, ``along`` pointing right."""
    turned = similarity(_MESH_PX / side_px, -float(np.arctan2(along[1], along[0])))
    turned[:, 2] = (_MESH_PX - 1) / 2 - turned[:, :2] @ centre
    return turned


def _detection_region(detection: Detection) -> Affine:
    low, high = np.array(detection.box).reshape(2, 2)
    return _region(
        (low + high) / 2, _REGION_SCALE * float((high - low).max()), detection.points[1] - detection.points[0]
    )


def _mesh_region(points: NDArray[np.float32]) -> Affine:
    """Return the region around landmarks: their upright box, turned by the slope of the outer eye corners."""
    xy = points[:, :2].astype(np.float64)
    low, high = xy.min(axis=0), xy.max(axis=0)
    return _region((low + high) / 2, _REGION_SCALE * float((high - low).max()), xy[263] - xy[33])
