"""From frames to aligned crops: the one class that knows when to search, when to follow, and what to flag.

The alignment is followed by optical flow against a reference patch (:mod:`megc_stream.face.following`), which measures
head motion to some hundredths of a px. Landmarks are noisier by a factor of ten; computed on key frames only, they say
where the eyes are in the crop, and pull the alignment there so slowly that no pair of frames sees it. So there are two
maps: frame px to patch px, as measured, and patch px to crop px, ``1 + drift``, which starts as the identity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import UsageError
from megc_stream.face import landmarks
from megc_stream.face.following import PATCH_PX, Reference, follow, make_reference, prepare
from megc_stream.face.mediapipe_backend import MediapipeMesh
from megc_stream.face.mesh import FaceMesh, LandmarkModel, Mesh
from megc_stream.face.warp import (
    Affine,
    View,
    compose,
    contains,
    invert,
    sample,
    scale_of,
    shrink_for,
    similarity,
    transform,
)
from megc_stream.flow.jit import kernel
from megc_stream.records import Crop, FaceFlag, Frame, Region, frames_of
from megc_stream.settings import FaceSettings
from megc_stream.threads import give_way

__all__ = ["CROP_PX", "FaceAnalyser"]

CROP_PX = 128

_LONGEST_GAP_S = 0.5
_LOOK_S = 0.04
"""How long after a key frame its landmarks come into force: they are computed beside the frames in between, so that a
key frame is no slower than the others. The delay is fixed, so that nothing depends on when they are ready."""
_BLOCK_PX = 8
_EYES_PX = (slice(24, 48), slice(24, 104))
"""Rows and columns of the patch that the eyes are in."""
_CHANGE_GREY = 6.0
"""Eyes look different when the mean difference of the prepared patch from the last key frame's is, in any block, more
than twice that of the median block, which is noise, by at least this much."""
_REFERENCE_TIME_S = 1.0
"""Time constant with which the reference patch takes on the face's present look."""
_LANDMARK_TIME_S = 0.4
"""Time constant of the smoothing of landmarks over key frames."""
_LANDMARK_REST_PX = 0.5
"""Published landmarks move when the smoothed ones are this far away: borders of regions rest while the face does."""
_ERROR_TIME_S = 0.5
"""Time constant of the smoothing of the alignment error over key frames."""
_TOLERATED_PX = 0.5
"""Alignment error that is left alone."""
_PULL_TIME_S = 2.0
_MOST_PULL_PX_PER_S = 0.2
"""Fastest pull towards the landmarks: 0.02 px over the 0.1 s between the two frames of a pair."""
_GROSS_PX = 8.0
"""Smoothed alignment error from which the segment ends and the face is aligned anew."""
_WRONG_PX = 16.0
"""Alignment error on one key frame from which it is not the same face any more."""
_REGION_MARGIN = 0.1
"""Part of its width that the region has to spare on each side, for the head to move in. When half is used up, the
region is made anew."""
_REGION_GRID_PX = 32
_REGION_MOST = 1.5
"""Times the area needed from which a region is made anew, smaller."""
_EYES_MIDDLE = tuple(landmarks.EYE_CENTRES_CROP_PX.mean(axis=0).tolist())
_LEVER_PX = 50.0
"""Distance from the eyes at which errors of angle and scale are counted in px: about that of the mouth."""

_Box = tuple[float, float, float, float]
"""x_low, y_low, x_high, y_high."""


@dataclass
class _Look:
    """Landmarks of a key frame, on their way: the frame, where the face was then, and what is being computed."""

    frame: int
    interval_s: float
    """Since the key frame before."""
    to_patch: Affine
    to_crop: Affine
    patch: NDArray[np.float32]
    """Prepared patch of the frame, (128, 128)."""
    seen: Future[Mesh | None]


@dataclass
class _Face:
    """A face that is being followed: all that one frame hands to the next."""

    frame: int
    key_frame: int
    key_patch: NDArray[np.uint8]
    """Prepared patch of the key frame, (128, 128)."""
    to_patch: Affine
    """Frame px to patch px."""
    to_crop: Affine
    """Patch px to crop px."""
    shrink: int
    mean_patch: NDArray[np.float32]
    """Mean of the prepared patches, (128, 128)."""
    mesh: NDArray[np.float32]
    """Smoothed landmarks, (478, 3), in patch px."""
    landmarks68: NDArray[np.float32]
    """Published landmarks, in crop px."""
    error: NDArray[np.float64]
    """Smoothed alignment error: x, y, angle, scale in crop px (the last two at ``_LEVER_PX``)."""
    eye_opening: float
    turned: bool
    reference: Reference
    """Made of ``mean_patch`` and ``mesh``, whenever they change; so are the distances, in patch px."""
    interocular_px: float
    outer_eyes_px: float
    look: _Look | None = None


class _Versioned(msgspec.Struct, frozen=True, array_like=True):
    """What all versions of a snapshot begin with."""

    version: int


class _State(_Versioned, frozen=True, array_like=True):
    """What :meth:`FaceAnalyser.snapshot` stores; arrays as the bytes of their numbers."""

    segment: int
    searched_frame: int | None
    numbers: tuple[int, int, int, float, bool] | None
    arrays: tuple[bytes, ...]
    look: tuple[int, float, float] | None
    """Frame, interval and score of the landmarks on their way."""
    look_arrays: tuple[bytes, ...]
    seen: bytes
    """Their points; nothing where the frame shows no face."""


_VERSION = 3
_ARRAYS: tuple[tuple[str, tuple[int, ...], type], ...] = (
    ("key_patch", (PATCH_PX, PATCH_PX), np.uint8),
    ("to_patch", (2, 3), np.float64),
    ("to_crop", (2, 3), np.float64),
    ("mean_patch", (PATCH_PX, PATCH_PX), np.float32),
    ("mesh", (478, 3), np.float32),
    ("landmarks68", (68, 2), np.float32),
    ("error", (4,), np.float64),
)


_LOOK_ARRAYS: tuple[tuple[str, tuple[int, ...], type], ...] = (
    ("to_patch", (2, 3), np.float64),
    ("to_crop", (2, 3), np.float64),
    ("patch", (PATCH_PX, PATCH_PX), np.float32),
)


class FaceAnalyser:
    """Turns frames into aligned crops; a deterministic function of the frames handed in, in order.

    Parameters
    ----------
    settings
        What to look for and what to flag.
    fps
        Nominal rate of the source, frames per second.
    providers
        Execution providers of the landmark models, as for :class:`megc_stream.models.OnnxModel`.
    model
        The landmark model; None takes the one that ``settings.backend`` names.

    Raises
    ------
    ModelError
        A model file is missing or a provider is not available.
    MissingExtraError
        The backend needs a package that is not installed.
    """

    def __init__(
        self,
        settings: FaceSettings,
        fps: float,
        providers: Sequence[str] = ("cpu",),
        model: LandmarkModel | None = None,
    ) -> None:
        self._settings = settings
        self._fps = fps
        self._key_frames = frames_of(settings.key_interval_s, fps)
        self._rest_frames = max(frames_of(settings.rest_interval_s, fps), self._key_frames)
        self._look_frames = min(frames_of(_LOOK_S, fps), self._key_frames - 1)
        self._model = _landmark_model(settings, providers) if model is None else model
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="megc-landmarks", initializer=give_way)
        self.reset()

    def warm_up(self) -> None:
        """Load every kernel and run every network once, so that the first frames take no longer than the others."""
        picture = np.random.default_rng(0).integers(0, 256, (2 * PATCH_PX, 2 * PATCH_PX), np.uint8)
        points = np.random.default_rng(0).uniform(8, PATCH_PX - 8, (478, 3)).astype(np.float32)
        self._model.find(picture)
        self._model.follow(picture, points)
        patch = prepare(picture[:PATCH_PX, :PATCH_PX])
        follow(
            View(picture), np.eye(2, 3), make_reference(patch.astype(np.float32), points[: len(landmarks.RIGID), :2]), 1
        )
        for image in (picture, _read_only(picture)):  # two types to numba
            sample(View(image), similarity(0.25, 0.0), (16, 16))
        _eyes_changed(patch, patch)
        _sharpness(patch)

    def reset(self) -> None:
        """Forget the face and start counting segments anew, for a new stream."""
        self._segment = -1
        self._searched_frame: int | None = None
        self._face: _Face | None = None
        self._region: Region | None = None
        self._shape = (0, 0)

    @property
    def region(self) -> Region | None:
        """What of the next frames will be looked at, with some margin; None is all of them.

        It need not be more than a hint: where a :class:`megc_stream.records.Frame` was decoded in part and more of it
        is needed, the rest is decoded then. It does not change as long as it is about right.
        """
        face = self._face
        if face is None:
            self._region = None
            return None
        patch, crop = (_seen_through(invert(to)) for to in (face.to_patch, compose(face.to_crop, face.to_patch)))
        around = 2.0 * face.shrink  # what is averaged before it is sampled comes in blocks
        wanted = _grown(_joined(patch, crop), around)
        kept = self._region
        margin = _REGION_MARGIN * (wanted[2] - wanted[0])
        generous = _grown(wanted, margin)
        # Pictures are decoded ahead, so a new region has to come before the face leaves the old one.
        near = self._in_picture(_grown(wanted, margin / 2), 1)
        if kept is None or not contains(kept, near) or _area(kept) > _REGION_MOST * _area(generous):
            self._region = self._in_picture(generous, _REGION_GRID_PX)
        return self._region

    def process(self, frame: Frame) -> Crop:
        """Return the crop of the next frame, or the record that the face is lost.

        ``segment`` is -1 until the first face is found. Frames must come in order; a gap of more than half a second
        ends the segment.
        """
        self._shape = frame.image.shape[:2]
        if frame.image.ndim == 2:
            grey = View(frame.image, frame.region, None if frame.region is None else frame.whole)
        else:
            grey = View(cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY))
        found = False
        previous = self._face
        if previous is None or not self._follow(previous, frame, grey):
            self._face = self._search(previous, frame, grey)
            found = self._face is not None
        if self._face is None:
            return Crop(**_origin(frame), segment=self._segment, flags=("lost",))
        return self._crop(self._face, frame, grey, found)

    def snapshot(self) -> bytes:
        """Return the state; :meth:`restore` continues from it exactly as this analyser would."""
        face = self._face
        numbers = None if face is None else (face.frame, face.key_frame, face.shrink, face.eye_opening, face.turned)
        arrays = () if face is None else tuple(getattr(face, name).tobytes() for name, _, _ in _ARRAYS)
        look = None if face is None else face.look
        seen = None if look is None else look.seen.result()
        state = _State(
            version=_VERSION,
            segment=self._segment,
            searched_frame=self._searched_frame,
            numbers=numbers,
            arrays=arrays,
            look=None if look is None else (look.frame, look.interval_s, 0.0 if seen is None else seen.score),
            look_arrays=() if look is None else tuple(getattr(look, name).tobytes() for name, _, _ in _LOOK_ARRAYS),
            seen=b"" if seen is None else seen.points.tobytes(),
        )
        return msgspec.msgpack.encode(state)

    def restore(self, state: bytes) -> None:
        """Continue from a :meth:`snapshot` of an analyser with the same settings.

        Raises
        ------
        UsageError
            The bytes are no snapshot of this version.
        """
        try:
            version = msgspec.msgpack.decode(state, type=_Versioned).version
            if version != _VERSION:
                raise UsageError(f"face snapshot: version {version}, expected {_VERSION}; start without the snapshot")
            stored = msgspec.msgpack.decode(state, type=_State)
        except msgspec.MsgspecError as error:
            raise UsageError(f"face snapshot: cannot be read ({error}); expected bytes made by snapshot()") from error
        self._segment, self._searched_frame = stored.segment, stored.searched_frame
        self._face = None
        if stored.numbers is not None:
            frame, key_frame, shrink, opening, turned = stored.numbers
            arrays = _unpacked(_ARRAYS, stored.arrays)
            self._face = _Face(
                frame=frame,
                key_frame=key_frame,
                shrink=shrink,
                eye_opening=opening,
                turned=turned,
                **_made_of(arrays["mean_patch"], arrays["mesh"]),
                look=_restored_look(stored),
                **arrays,
            )

    def _search(self, previous: _Face | None, frame: Frame, grey: View) -> _Face | None:
        """Look for the face in the whole frame: at once when it was there a frame ago, else once in a key interval."""
        searched = self._searched_frame
        if previous is None and searched is not None and 0 <= frame.frame - searched < self._key_frames:
            return None
        self._searched_frame = frame.frame
        if previous is not None and previous.look is not None:
            previous.look.seen.result()  # one computation at a time
        near = None if previous is None else _through(invert(previous.to_patch), previous.mesh)
        mesh = self._model.find(frame.whole(), self._settings.face_index, near)
        if mesh is None:
            return None
        self._segment += 1
        face = _first_look(mesh, grey, frame.frame)
        face.turned = self._is_turned(mesh.points)
        return face

    def _follow(self, face: _Face, frame: Frame, grey: View) -> bool:
        """Move the face on to this frame; False when it is lost or has to be aligned anew."""
        elapsed_s = (frame.frame - face.frame) / self._fps
        if not 0 < elapsed_s <= _LONGEST_GAP_S:
            return False
        following = follow(grey, face.to_patch, face.reference, face.shrink)
        if following is None:
            return False
        face.frame = frame.frame
        face.to_patch = following.to_patch
        face.to_crop = compose(_pull(face.error, elapsed_s), face.to_crop)
        since = frame.frame - face.key_frame
        if since >= self._rest_frames or (since >= self._key_frames and _is_restless(face, following.patch)):
            face.key_frame, face.key_patch = frame.frame, following.patch
            face.look = self._look(face, frame, grey, since / self._fps)
        if face.look is not None and frame.frame - face.look.frame >= self._look_frames:
            return self._settle(face, face.look)
        return True

    def _look(self, face: _Face, frame: Frame, grey: View, interval_s: float) -> _Look:
        """Begin to compute the landmarks of a key frame."""
        patch = prepare(sample(grey, face.to_patch, (PATCH_PX, PATCH_PX), face.shrink)).astype(np.float32)
        near = _through(invert(face.to_patch), face.mesh)
        seen = self._beside.submit(self._landmarks, frame, near)
        return _Look(frame.frame, interval_s, face.to_patch, face.to_crop, patch, seen)

    def _landmarks(self, frame: Frame, near: NDArray[np.float32]) -> Mesh | None:
        # What the model looks at is twice as large as the crop, and key frames are few: no reason to decode it always.
        return self._model.follow(frame.whole(), near)

    def _in_picture(self, box: _Box, step_px: int) -> Region:
        """Return the part of a box that lies in the picture, in whole steps of a grid."""
        height, width = self._shape
        low = (max(math.floor(value / step_px) * step_px, 0) for value in box[:2])
        x_high, y_high = (math.ceil(value / step_px) * step_px for value in box[2:])
        x_low, y_low = low
        return x_low, y_low, min(x_high, width), min(y_high, height)

    def _settle(self, face: _Face, look: _Look) -> bool:
        """Compare with the landmarks of the last key frame; False when there was no face or it was elsewhere."""
        seen = look.seen.result()
        face.look = None
        if seen is None:
            return False
        interval_s = look.interval_s
        in_patch = _through(look.to_patch, seen.points)
        error = _alignment_error(_through(look.to_crop, in_patch))
        face.error += _share(interval_s, _ERROR_TIME_S) * (error - face.error)
        if np.abs(error).max() > _WRONG_PX or np.abs(face.error).max() > _GROSS_PX:
            return False
        face.mesh += np.float32(_share(interval_s, _LANDMARK_TIME_S)) * (in_patch - face.mesh)
        in_crop = _points68(face)
        moved = np.abs(in_crop - face.landmarks68).max(axis=1, keepdims=True) > _LANDMARK_REST_PX
        face.landmarks68 = np.where(moved, in_crop, face.landmarks68)
        face.mean_patch += np.float32(_share(interval_s, _REFERENCE_TIME_S)) * (look.patch - face.mean_patch)
        for name, value in _made_of(face.mean_patch, face.mesh).items():
            setattr(face, name, value)
        face.shrink = _steady_shrink(face.shrink, scale_of(face.to_patch))
        face.eye_opening = landmarks.eye_opening(seen.points)
        face.turned = self._is_turned(seen.points)
        return True

    def _is_turned(self, points: NDArray[np.float32]) -> bool:
        return max(map(abs, landmarks.yaw_pitch_deg(points))) >= self._settings.turned_deg

    def _crop(self, face: _Face, frame: Frame, grey: View, found: bool) -> Crop:
        to_crop = compose(face.to_crop, face.to_patch)
        image = sample(grey, to_crop, (CROP_PX, CROP_PX), face.shrink)
        sharpness = _sharpness(image)
        patch_px = scale_of(face.to_patch)
        flags: list[FaceFlag] = ["found"] if found else []
        if face.outer_eyes_px / patch_px < self._settings.small_px:
            flags.append("small")
        if face.turned:
            flags.append("turned")
        if face.eye_opening < self._settings.blink_eye_opening:
            flags.append("blink")
        if sharpness < self._settings.blurred_sharpness:
            flags.append("blurred")
        return Crop(
            **_origin(frame),
            segment=self._segment,
            image=image,
            landmarks68=face.landmarks68,
            similarity=to_crop,
            interocular_px=face.interocular_px / patch_px,
            eye_opening=face.eye_opening,
            sharpness=sharpness,
            flags=tuple(flags),
        )


def _read_only(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    view = image.view()
    view.flags.writeable = False
    return view


def _unpacked(names: tuple[tuple[str, tuple[int, ...], type], ...], stored: Sequence[bytes]) -> dict[str, Any]:
    return {
        name: np.frombuffer(data, dtype).reshape(shape).copy()
        for (name, shape, dtype), data in zip(names, stored, strict=True)
    }


def _restored_look(state: _State) -> _Look | None:
    if state.look is None:
        return None
    frame, interval_s, score = state.look
    seen: Future[Mesh | None] = Future()
    points = np.frombuffer(state.seen, np.float32).reshape(-1, 3)
    seen.set_result(Mesh(points, score) if len(points) else None)
    return _Look(frame=frame, interval_s=interval_s, seen=seen, **_unpacked(_LOOK_ARRAYS, state.look_arrays))


def _origin(frame: Frame) -> dict[str, Any]:
    """Return the fields that a crop takes over from its frame."""
    names = ("source", "frame", "number", "t_capture_s", "pts_s", "t_device_s", "dropped")
    return {name: getattr(frame, name) for name in names}


def _landmark_model(settings: FaceSettings, providers: Sequence[str]) -> LandmarkModel:
    if settings.backend == "mediapipe":
        return MediapipeMesh(settings)
    return FaceMesh(providers, settings.detection_threshold, settings.presence_threshold)


def _first_look(mesh: Mesh, grey: View, frame: int) -> _Face:
    """Start a segment: align by the eye centres, take this frame as the reference."""
    to_patch = _eyes_to_crop(mesh.points)
    shrink = shrink_for(scale_of(to_patch))
    patch = prepare(sample(grey, to_patch, (PATCH_PX, PATCH_PX), shrink))
    mean_patch = patch.astype(np.float32)
    mesh_in_patch = _through(to_patch, mesh.points)
    face = _Face(
        frame=frame,
        key_frame=frame,
        key_patch=patch,
        to_patch=to_patch,
        to_crop=np.eye(2, 3),
        shrink=shrink,
        mean_patch=mean_patch,
        mesh=mesh_in_patch,
        landmarks68=np.empty((68, 2), np.float32),
        error=np.zeros(4),
        eye_opening=landmarks.eye_opening(mesh.points),
        turned=False,
        **_made_of(mean_patch, mesh_in_patch),
    )
    face.landmarks68 = _points68(face)
    return face


@kernel
def _sharpness(image: NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian; beyond the border the picture is mirrored."""
    height, width = image.shape
    total = squares = 0
    for y in range(height):
        above, row, below = image[abs(y - 1)], image[y], image[height - 1 - abs(height - 2 - y)]
        for x in range(width):
            left, right = abs(x - 1), width - 1 - abs(width - 2 - x)
            value = int(above[x]) + int(below[x]) + int(row[left]) + int(row[right]) - 4 * int(row[x])
            total += value
            squares += value * value
    mean = total / image.size
    return squares / image.size - mean * mean


def _seen_through(to_frame: Affine) -> _Box:
    """Return the box around patch or crop in the frame."""
    (a, b, x), (c, d, y) = to_frame.tolist()
    corners = [(x + a * u + b * v, y + c * u + d * v) for u in (0, PATCH_PX) for v in (0, PATCH_PX)]
    across, down = zip(*corners, strict=True)
    return min(across), min(down), max(across), max(down)


def _joined(one: _Box, other: _Box) -> _Box:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _grown(box: _Box, by: float) -> _Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _area(box: _Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _is_restless(face: _Face, patch: NDArray[np.uint8]) -> bool:
    """Tell whether the next landmarks matter: the eyes move, the face is turned, or the alignment is off."""
    return face.turned or float(np.abs(face.error).max()) > _GROSS_PX / 2 or _eyes_changed(patch, face.key_patch)


def _eyes_changed(patch: NDArray[np.uint8], before: NDArray[np.uint8]) -> bool:
    """Tell whether a prepared patch shows the eyes otherwise than that of the last key frame: in a blink, mostly."""
    change = cv2.absdiff(patch[_EYES_PX], before[_EYES_PX])
    height, width = change.shape
    blocks = cv2.resize(change, (width // _BLOCK_PX, height // _BLOCK_PX), interpolation=cv2.INTER_AREA)
    grey = sorted(blocks.ravel().tolist())
    return bool(grey[-1] > 2 * grey[len(grey) // 2] + _CHANGE_GREY)


def _made_of(mean_patch: NDArray[np.float32], mesh: NDArray[np.float32]) -> dict[str, Any]:
    """Return what a :class:`_Face` keeps of its mean patch and its landmarks."""
    return {
        "reference": make_reference(mean_patch, mesh[landmarks.RIGID, :2]),
        "interocular_px": math.dist(*landmarks.eye_centres(mesh).tolist()),
        "outer_eyes_px": landmarks.outer_eye_distance(mesh),
    }


def _points68(face: _Face) -> NDArray[np.float32]:
    return transform(face.to_crop, face.mesh[landmarks.MESH_TO_68, :2]).astype(np.float32)


def _through(matrix: Affine, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map (n, 3) landmarks through a similarity; z takes its scale."""
    mapped = np.empty_like(points)
    mapped[:, :2] = transform(matrix, points[:, :2].astype(np.float64))
    mapped[:, 2] = points[:, 2] * scale_of(matrix)
    return mapped


def _eyes_to_crop(points: NDArray[np.float32]) -> Affine:
    """Return the similarity that brings the eye centres to where the crop has them."""
    (left, right), (left_to, right_to) = landmarks.eye_centres(points), landmarks.EYE_CENTRES_CROP_PX
    turn = complex(*(right_to - left_to)) / complex(*(right - left))
    shift = complex(*left_to) - turn * complex(*left)
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _alignment_error(in_crop: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far the eyes are from their places in the crop: x, y, angle, scale in px, see :class:`_Face`."""
    centres = landmarks.eye_centres(in_crop)
    middle = centres.mean(axis=0) - landmarks.EYE_CENTRES_CROP_PX.mean(axis=0)
    across, target = (complex(*(ends[1] - ends[0])) for ends in (centres, landmarks.EYE_CENTRES_CROP_PX))
    turn = across / target
    return np.array([*middle, _LEVER_PX * math.atan2(turn.imag, turn.real), _LEVER_PX * math.log(abs(turn))])


def _pull(error: NDArray[np.float64], elapsed_s: float) -> Affine:
    """Return the small similarity of the crop that takes back some of the error, at a limited rate."""
    most = _MOST_PULL_PX_PER_S
    x, y, turned, scaled = (
        -math.copysign(min(max(abs(value) - _TOLERATED_PX, 0) / _PULL_TIME_S, most), value) * elapsed_s
        for value in error.tolist()
    )
    scale, angle = 1 + scaled / _LEVER_PX, turned / _LEVER_PX
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    u, v = _EYES_MIDDLE
    return np.array([[a, -b, u + x - (a * u - b * v)], [b, a, v + y - (b * u + a * v)]])


def _share(interval_s: float, time_constant_s: float) -> float:
    """Return the weight of a new value in an exponential mean after ``interval_s``."""
    return 1 - math.exp(-interval_s / time_constant_s)


def _steady_shrink(current: int, scale: float) -> int:
    """Return the averaging factor, changed only when it has become clearly wrong."""
    fits = 0.75 * current <= 1 / scale < max(2.0, 1.5 * current) if current > 1 else scale > 0.45
    return current if fits else shrink_for(scale)
