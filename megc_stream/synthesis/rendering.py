"""Pictures of a planned clip, made by warping one portrait."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import UsageError
from megc_stream.synthesis.action_units import (
    DisplacementField,
    Points,
    action_unit_field,
    eye_lids,
    face_axes,
    mouth_opening_field,
    mouth_widening_field,
)
from megc_stream.synthesis.plan import ClipPlan, PlannedEvent, wave_at
from megc_stream.synthesis.profiles import closure, intensity, speech_envelope
from megc_stream.synthesis.warping import FaceGrid, Transform, Vectors, grid_over

__all__ = ["ClipGeometry", "ClipRenderer", "render_clip", "true_displacement"]

_MARGIN_PX = 32
_NOISE_FIELDS = 8
_NOISE_SHIFT_PX = 64
_LARGE_PICTURE_PX = 1_000_000


class ClipGeometry:
    """Where every point of the face is in every frame of a planned clip.

    "At rest" is the picture the clip would show without expression, blink, speech and sway.

    Parameters
    ----------
    plan
        The plan.
    landmarks
        (478, 2) mesh of the neutral portrait with open eyes, portrait px.

    Attributes
    ----------
    from_portrait
        (2, 3) float64, portrait px to px at rest.
    landmarks
        (478, 2) float64, the mesh at rest, px of the frame.
    axes
        Face-local axes at rest.
    lids
        The lids of the right and left eye at rest.

    Raises
    ------
    UsageError
        The landmarks are no face.
    """

    def __init__(self, plan: ClipPlan, landmarks: NDArray[np.floating]) -> None:
        portrait = face_axes(landmarks)
        scale = plan.interocular_px / portrait.iod_px
        tilt = math.radians(plan.roll_deg) - math.atan2(portrait.across[1], portrait.across[0])
        turn = scale * np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
        self.plan = plan
        self.from_portrait: Transform = np.column_stack([turn, plan.centre_px - turn @ portrait.origin])
        self.landmarks: Points = landmarks.astype(np.float64) @ turn.T + self.from_portrait[:, 2]
        self.axes = face_axes(self.landmarks)
        self.lids = eye_lids(self.landmarks)
        self._opening = mouth_opening_field(self.landmarks)
        self._widening = mouth_widening_field(self.landmarks)
        self._event_fields: dict[PlannedEvent, DisplacementField] = {}

    def head_motion(self, frame: int) -> Transform:
        """Return (2, 3) float64: px at rest to px of this frame, by the sway of the head."""
        time_s = frame / self.plan.fps
        angle = math.radians(wave_at(self.plan.sway_roll_deg, time_s))
        scale = math.exp(wave_at(self.plan.sway_log_scale, time_s))
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shift = self.axes.iod_px * np.array(
            [wave_at(self.plan.sway_x_iod, time_s), wave_at(self.plan.sway_y_iod, time_s)]
        )
        pivot = self.axes.origin
        return np.column_stack([turn, pivot + shift - turn @ pivot])

    def active_fields(self, frame: int) -> list[tuple[DisplacementField, float]]:
        """Return the smooth fields at work in a frame (expressions and speech), each with its intensity."""
        time_s = frame / self.plan.fps
        active = []
        for event in self.plan.events:
            strength = intensity(frame, event.onset, event.apex, event.offset)
            if strength > 0:
                active.append((self._event_field(event), strength))
        for bout in self.plan.speech:
            loudness = speech_envelope(time_s, bout.start_s, bout.length_s)
            if loudness > 0:
                active.append((self._opening, loudness * abs(wave_at(bout.opening, time_s))))
                active.append((self._widening, loudness * wave_at(bout.widening, time_s)))
        return active

    def eye_closure(self, frame: int) -> float:
        """Return how far the eyes are closed in a frame, 0..1."""
        time_s = frame / self.plan.fps
        return max((closure(time_s, blink.start_s, blink.length_s) for blink in self.plan.blinks), default=0.0)

    def displacement(self, points: NDArray[np.floating], frame: int, *, sway: bool = True) -> Points:
        """Return (N, 2) px: how far the material at ``points``, (N, 2) px at rest, has moved in a frame.

        Exact for the smooth fields; the eyeball that a lid covers counts as unmoved. ``sway=False`` leaves the movement
        of the head out.
        """
        places = np.asarray(points, np.float64)
        moved = np.zeros_like(places)
        for field, strength in self.active_fields(frame):
            moved += strength * field.at(places)
        if (shut := self.eye_closure(frame)) > 0:
            local = self.axes.to_local(places)
            down = sum(lids.local_push(local, shut) for lids in self.lids)
            moved += self.axes.to_image_vectors(np.stack([np.zeros_like(down), down], axis=-1))
        if sway:
            motion = self.head_motion(frame)
            moved = (places + moved) @ motion[:, :2].T + motion[:, 2] - places
        return moved

    def _event_field(self, event: PlannedEvent) -> DisplacementField:
        if event not in self._event_fields:
            self._event_fields[event] = action_unit_field(
                self.landmarks, event.units, event.amplitude_iod, event.asymmetry
            )
        return self._event_fields[event]


class ClipRenderer:
    """Renders any frame of a planned clip; frames do not depend on each other.

    The portrait is first resampled, blurred as by lens and pixel, at three times the resolution of the frame (twice for
    large pictures): from there bilinear sampling is true to small fractions of a pixel, and fast.

    Parameters
    ----------
    plan
        The plan.
    portrait
        uint8, (H, W) grey or (H, W, 3) BGR; decides whether frames are grey or BGR.
    landmarks
        (478, 2) mesh of the portrait, px.

    Raises
    ------
    UsageError
        The portrait is no such picture, or the landmarks are no face.
    """

    def __init__(self, plan: ClipPlan, portrait: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> None:
        if portrait.dtype != np.uint8 or not (portrait.ndim == 2 or (portrait.ndim == 3 and portrait.shape[2] == 3)):
            raise UsageError(
                f"portrait: got {portrait.dtype} {portrait.shape}, expected uint8 (H, W) grey or (H, W, 3) BGR"
            )
        self.plan = plan
        self.geometry = ClipGeometry(plan, landmarks)
        self._finer = 3 if plan.width * plan.height <= _LARGE_PICTURE_PX else 2
        self._canvas = self._make_canvas(portrait)
        self._unit_fields: dict[tuple[int, ...], tuple[FaceGrid, list[Vectors]]] = {}
        self._eyes = [grid_over(self.geometry.axes, *lids.bounds()) for lids in self.geometry.lids]
        self._eye_points = [self.geometry.axes.to_local(grid.points()) for grid in self._eyes]
        self._x = np.arange(plan.width, dtype=np.float32)
        self._y = np.arange(plan.height, dtype=np.float32)
        self._noise = self._make_noise() if plan.noise_sigma > 0 else None

    def frame(self, frame: int) -> NDArray[np.uint8]:
        """Return a frame as uint8, (height, width) or (height, width, 3) BGR."""
        map_x, map_y = self._sources(frame)
        picture = cv2.remap(self._canvas, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        light = self._light(frame)
        cv2.multiply(picture, light if picture.ndim == 2 else cv2.merge([light] * 3), dst=picture)
        return self._sensed(picture, frame)

    def _sources(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return where on the canvas every pixel of a frame comes from."""
        motion = self.geometry.head_motion(frame)
        back = self._finer * cv2.invertAffineTransform(motion)
        back[:, 2] += self._finer * _MARGIN_PX
        (xx, xy, x0), (yx, yy, y0) = back.astype(np.float32)
        map_x = (xx * self._x)[None, :] + (xy * self._y + x0)[:, None]
        map_y = (yx * self._x)[None, :] + (yy * self._y + y0)[:, None]
        for grid, backward in self._backward(frame):
            rows, columns, moved = grid.over_picture(backward, motion, self.plan.width, self.plan.height)
            moved_x, moved_y = cv2.split(moved) if moved.size else (0, 0)
            map_x[rows, columns] += self._finer * moved_x
            map_y[rows, columns] += self._finer * moved_y
        return map_x, map_y

    def _backward(self, frame: int) -> Iterator[tuple[FaceGrid, Vectors]]:
        """Yield backward displacements, px at rest, on grids over the parts of the face that are not at rest."""
        active = self.geometry.active_fields(frame)
        if active:
            grid, units = self._on_grid([field for field, _ in active])
            forward = sum(np.float32(strength) * unit for (_, strength), unit in zip(active, units, strict=True))
            # Open mouths have steeper slopes than micro-expressions.
            yield grid, grid.backward(np.asarray(forward, np.float32), iterations=6 if len(active) > 1 else 3)
        if (shut := self.geometry.eye_closure(frame)) > 0:
            for grid, lids, points in zip(self._eyes, self.geometry.lids, self._eye_points, strict=True):
                pull = lids.local_pull(points, shut)
                vectors = self.geometry.axes.to_image_vectors(np.stack([np.zeros_like(pull), pull], axis=-1))
                yield grid, vectors.astype(np.float32)

    def _on_grid(self, fields: list[DisplacementField]) -> tuple[FaceGrid, list[Vectors]]:
        # Fields live as long as the geometry does, so their identity is a safe key.
        key = tuple(id(field) for field in fields)
        if key not in self._unit_fields:
            bounds = np.array([field.bounds() for field in fields])
            grid = grid_over(self.geometry.axes, bounds[:, 0].min(axis=0), bounds[:, 1].max(axis=0))
            points = grid.points()
            self._unit_fields[key] = grid, [field.at(points).astype(np.float32) for field in fields]
        return self._unit_fields[key]

    def _light(self, frame: int) -> NDArray[np.float32]:
        plan, time_s = self.plan, frame / self.plan.fps
        gain = (1 + wave_at(plan.gain, time_s)) * (1 + wave_at(plan.flicker, time_s))
        across = gain * (1 + wave_at(plan.gradient_x, time_s) * (2 * self._x / plan.width - 1))
        down = gain * wave_at(plan.gradient_y, time_s) * (2 * self._y / plan.height - 1)
        return (across[None, :] + down[:, None]).astype(np.float32)

    def _sensed(self, picture: NDArray[np.float32], frame: int) -> NDArray[np.uint8]:
        """Add the sensor's noise and round to 0..255."""
        if self._noise is None:
            return np.asarray(cv2.convertScaleAbs(np.maximum(picture, 0)), np.uint8)
        shift_y, shift_x = np.random.Generator(np.random.PCG64([self.plan.seed, frame])).integers(0, _NOISE_SHIFT_PX, 2)
        height, width = picture.shape[:2]
        noise = self._noise[frame % _NOISE_FIELDS][shift_y : shift_y + height, shift_x : shift_x + width]
        return np.asarray(cv2.add(picture, noise, dtype=cv2.CV_8U), np.uint8)

    def _make_canvas(self, portrait: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = tuple(self._finer * (extent + 2 * _MARGIN_PX) for extent in (self.plan.width, self.plan.height))
        place = self._finer * self.geometry.from_portrait
        place[:, 2] += self._finer * _MARGIN_PX
        scale = math.hypot(*place[:, 0])
        source = portrait.astype(np.float32)
        if scale < 1:  # a portrait finer than the canvas must lose its finest detail, or it would alias
            source = cv2.GaussianBlur(source, (0, 0), 0.5 * math.sqrt(1 / scale**2 - 1) + 1e-3)
        canvas = cv2.warpAffine(source, place, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        if self.plan.blur_px > 0:
            canvas = cv2.GaussianBlur(canvas, (0, 0), self.plan.blur_px * self._finer)
        return np.asarray(canvas, np.float32)

    def _make_noise(self) -> NDArray[np.float32]:
        # A few fields, shifted at random for every frame: drawing fresh noise would cost more than the warp.
        generator = np.random.Generator(np.random.PCG64([self.plan.seed, 2**32]))
        shape = (
            _NOISE_FIELDS,
            self.plan.height + _NOISE_SHIFT_PX,
            self.plan.width + _NOISE_SHIFT_PX,
            *self._canvas.shape[2:],
        )
        return generator.standard_normal(shape, np.float32) * np.float32(self.plan.noise_sigma)


def render_clip(
    plan: ClipPlan, portrait: NDArray[np.uint8], landmarks: NDArray[np.floating]
) -> Iterator[NDArray[np.uint8]]:
    """Yield all frames of a planned clip; parameters and errors as in :class:`ClipRenderer`."""
    renderer = ClipRenderer(plan, portrait, landmarks)
    return (renderer.frame(frame) for frame in range(plan.frames))


def true_displacement(
    plan: ClipPlan,
    landmarks: NDArray[np.floating],
    frame: int,
    points: NDArray[np.floating],
    *,
    sway: bool = True,
) -> Points:
    """Return (N, 2) px: how far the material at ``points`` (N, 2), px of the picture at rest, has moved in a frame.

    ``landmarks`` are those of the portrait; see :meth:`ClipGeometry.displacement`.
    """
    return ClipGeometry(plan, landmarks).displacement(points, frame, sway=sway)
