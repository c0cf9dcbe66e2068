"""Planting micro-expressions into real footage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.capture import Source, open_source
from megc_stream.clock import MonotonicClock
from megc_stream.errors import DataError, UsageError
from megc_stream.face import FaceAnalyser, locate_landmarks
from megc_stream.settings import CaptureSettings, FaceSettings, load_settings
from megc_stream.synthesis.action_units import action_unit_field, face_axes
from megc_stream.synthesis.clips import Progress, counted
from megc_stream.synthesis.plan import PlannedEvent, plan_events
from megc_stream.synthesis.profiles import intensity
from megc_stream.synthesis.truth import TruthRow, truth_path, truth_rows, write_truth
from megc_stream.synthesis.warping import FaceGrid, Transform, Vectors, grid_over
from megc_stream.synthesis.writing import check_target, write_clip

__all__ = ["synth_inject"]

_UNUSABLE = frozenset(("lost", "small", "turned"))
_EYES_IN_CROP = np.array([[39.0, 36.0], [89.0, 36.0]])
_SAME_FACE_PX = 10.0


@dataclass(frozen=True)
class _Stretch:
    """Successive frames, ``first`` to ``last``, with one face in view; ``mesh`` is its (478, 2) mesh in crop px."""

    first: int
    last: int
    mesh: NDArray[np.float64]


@dataclass(frozen=True)
class _PlantedField:
    """An event's field at full intensity, on a grid over the face as it lies in the onset frame."""

    grid: FaceGrid
    forward: Vectors
    onset_to_crop: Transform


def synth_inject(
    source: str,
    out: Path,
    *,
    events: int = 6,
    seed: int = 0,
    fps: float | None = None,
    amplitude_iod: tuple[float, float] = (0.018, 0.05),
    length_s: tuple[float, float] = (0.1, 0.5),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[TruthRow]:
    """Plant micro-expressions into recorded footage, and write the truth of what was planted beside it.

    The face is followed once to learn where it is in every frame; then the frames of every event are warped where the
    event moves the face, and all else is written as it was decoded. Whatever the person does by nature stays, and is
    not in the truth.

    Parameters
    ----------
    source
        A video file or a folder of images, as :func:`megc_stream.capture.open_source` takes it.
    out
        As in :func:`megc_stream.synthesis.clips.synth_clip`; colour, with the size and the nominal rate of the source.
    events
        How many to plant: only where the face is in view, large enough, not turned away; at least 1 s apart.
    seed
        Decides emotions, times and amplitudes.
    fps
        Rate of the source in place of its own, frames per second; a folder of images has none, 30 is assumed.
    amplitude_iod, length_s
        Ranges, as in :func:`megc_stream.synthesis.plan.plan_clip`.
    overwrite
        Replace what is there.
    progress
        Called after every frame of both passes, with the total of both.

    Returns
    -------
    The rows of the truth; frames count from the first one decoded.

    Raises
    ------
    UsageError
        A live source, more events than fit, something in the way, or a value out of range.
    CaptureError
        The source cannot be opened or read.
    DataError
        No face in the footage.
    OutputError
        The clip cannot be written.
    """
    check_target(out, overwrite)
    if seed < 0:
        raise UsageError(f"seed {seed}: expected an integer >= 0")
    face, capture = load_settings().face, CaptureSettings(fps=fps)
    with _open(source, capture) as footage:
        rate, expected = footage.info.fps, footage.info.frames or 0
        to_crop, stretches = _survey(footage, face, expected, progress)
    if not stretches:
        raise DataError(
            f"{source}: no face that is large enough and not turned away in {len(to_crop)} frames; choose other footage"
        )
    spans_s = [(stretch.first / rate, (stretch.last + 1) / rate) for stretch in stretches]
    generator = np.random.Generator(np.random.PCG64(seed))
    planned = plan_events(generator, rate, spans_s, events, amplitude_iod, length_s)
    total = len(to_crop)

    def second_pass(done: int, _: int) -> None:
        if progress is not None:
            progress(total + done, 2 * total)

    rows = truth_rows(out, rate, planned)
    with _open(source, capture) as footage:
        planted = _plant(footage, planned, stretches, to_crop, face)
        write_clip(out, counted(planted, total, second_pass), rate, colour=True, overwrite=overwrite)
    write_truth(truth_path(out), rows)
    return rows


def _open(source: str, settings: CaptureSettings) -> Source:
    footage = open_source(source, settings, clock=MonotonicClock(), colour=True)
    if footage.info.live:
        footage.close()
        raise UsageError(
            f"source {source}: is live; expected a video file or a folder of images, which can be read twice"
        )
    return footage


def _survey(
    footage: Source, settings: FaceSettings, expected: int, progress: Progress | None
) -> tuple[list[Transform | None], list[_Stretch]]:
    """Follow the face; return the map from frame px to crop px of every frame, and where events can go."""
    analyser = FaceAnalyser(settings, footage.info.fps)
    to_crop: list[Transform | None] = []
    stretches: list[_Stretch] = []
    running: tuple[int, int, NDArray[np.float64]] | None = None  # segment, first frame, mesh
    for index, frame in enumerate(footage.frames()):
        crop = analyser.process(frame)
        similarity = None if _UNUSABLE.intersection(crop.flags) else crop.similarity
        if running is not None and (similarity is None or crop.segment != running[0]):
            stretches.append(_Stretch(running[1], index - 1, running[2]))
            running = None
        if similarity is not None and running is None:
            mesh = _mesh(frame.image, similarity, settings.face_index)
            running = None if mesh is None else (crop.segment, index, mesh)
        to_crop.append(crop.similarity)
        if progress is not None:
            progress(index + 1, 2 * max(expected, index + 1))
    if running is not None:
        stretches.append(_Stretch(running[1], len(to_crop) - 1, running[2]))
    return to_crop, stretches


def _mesh(image: NDArray[np.uint8], to_crop: Transform, face_index: int) -> NDArray[np.float64] | None:
    """Return the (478, 2) mesh in crop px, or None where the face that is followed is not found in this frame."""
    landmarks = locate_landmarks(image, face_index)
    if landmarks is None:
        return None
    mesh = landmarks.astype(np.float64) @ to_crop[:, :2].T + to_crop[:, 2]
    eyes = face_axes(mesh)
    half = eyes.across * eyes.iod_px / 2
    apart = np.abs(np.stack([eyes.origin - half, eyes.origin + half]) - _EYES_IN_CROP).max()
    return mesh if apart < _SAME_FACE_PX else None


def _plant(
    footage: Source,
    events: Sequence[PlannedEvent],
    stretches: Sequence[_Stretch],
    to_crop: Sequence[Transform | None],
    settings: FaceSettings,
) -> Iterator[NDArray[np.uint8]]:
    """Yield all frames, those of events warped."""
    waiting = list(events)
    field: _PlantedField | None = None
    for index, frame in enumerate(footage.frames()):
        similarity = to_crop[index] if index < len(to_crop) else None
        if waiting and index == waiting[0].onset and similarity is not None:
            mesh = _mesh(frame.image, similarity, settings.face_index)
            if mesh is None:  # a shut eye, say: the mesh of the stretch's beginning will do
                mesh = next(one.mesh for one in stretches if one.first <= index <= one.last)
            field = _planted_field(waiting[0], mesh, similarity)
        if field is None or similarity is None:
            yield frame.image
            continue
        strength = intensity(index, waiting[0].onset, waiting[0].apex, waiting[0].offset)
        yield _warped(frame.image, field, strength, similarity) if strength > 0 else frame.image
        if index == waiting[0].offset:
            waiting.pop(0)
            field = None


def _planted_field(event: PlannedEvent, mesh: NDArray[np.float64], to_crop: Transform) -> _PlantedField:
    from_crop = cv2.invertAffineTransform(to_crop)
    landmarks = mesh @ from_crop[:, :2].T + from_crop[:, 2]
    field = action_unit_field(landmarks, event.units, event.amplitude_iod, event.asymmetry)
    grid = grid_over(field.axes, *field.bounds())
    return _PlantedField(grid, field.at(grid.points()).astype(np.float32), to_crop)


def _warped(image: NDArray[np.uint8], field: _PlantedField, strength: float, to_crop: Transform) -> NDArray[np.uint8]:
    """Return a copy of a frame with the event at some intensity; ``to_crop`` is of this frame."""
    moved = _compose(cv2.invertAffineTransform(to_crop), field.onset_to_crop)  # px at the onset to px of this frame
    backward = field.grid.backward(np.float32(strength) * field.forward)
    height, width = image.shape[:2]
    rows, columns, shift = field.grid.over_picture(backward, moved, width, height)
    if not shift.size:
        return image
    shift = shift @ moved[:, :2].T.astype(np.float32)
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] + shift[..., 0]
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + shift[..., 1]
    result = image.copy()
    result[rows, columns] = cv2.remap(image, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return result


def _compose(outer: Transform, inner: Transform) -> Transform:
    """Return the map that applies ``inner``, then ``outer``."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])
