"""What is known about an event or a video when a question about it is to be answered.

One record, :class:`Material`, for every answerer. :func:`material_of_event` makes it from the crops of one event; see
:mod:`megc_stream.vqa.gathering` for whole files and for running analyses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.flow import TVL1Solver
from megc_stream.recognition.action_units import MeasuredUnit, RegionMotion, face_motion, measure_units
from megc_stream.records import Crop, StreamInfo

__all__ = ["KnownEvent", "Material", "material_of_event", "sampled", "with_strongest_apex"]

_MOST_IMAGES = 64
_SHOWN_MOTIONS = 10


class KnownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One expression event of a video.

    ``order`` counts the events of the video from 1, by onset. Frames are 0-based in the source. ``probabilities`` are
    the recogniser's, of "negative", "positive" and "surprise" (some models know more); ``emotion`` is the class most of
    its pairs voted for, None where no pair could be scored. ``units`` are those that were seen, the most probable
    first.
    """

    order: int
    type: Literal["micro", "macro"]
    onset: int
    apex: int
    offset: int
    emotion: str | None = None
    probabilities: dict[str, float] = {}
    units: tuple[MeasuredUnit, ...] = ()


class Material(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known about one event (``scope`` "event") or one long video ("video").

    Parameters
    ----------
    scope
        "event": the images run from onset to offset of one expression. "video": they are a sample of the whole video,
        and ``events`` lists what was found in it.
    source, subject, video
        Names, as in :class:`megc_stream.records.StreamInfo`.
    dataset
        "samm", "casme3_test", ... decides which fine-grained classes may be answered; "" allows all of them.
    fps
        Frames per second of the source; ``images`` may be fewer.
    images
        (128, 128) uint8 grey face crops, by time, at most 64; empty where no face was seen.
    times_s
        Time of each image in seconds, increasing: ``pts_s`` of a file, else capture time.
    frames
        Frame of each image in the source.
    onset, apex, offset
        Indices in ``images``. Of a long video: the first image, the apex of its strongest event (else the middle), the
        last image.
    landmarks68
        (68, 2) float32, landmarks in the onset image, px of the crop; None without images.
    flow
        (128, 128, 2) float32, px: motion from the onset to the apex image; None where there is no such pair, and for a
        long video.
    emotion, probabilities, units
        Of the event, as in :class:`KnownEvent`; empty for a long video.
    considered
        All units that can be measured, with their probabilities, the most probable first; empty where nothing was
        measured.
    motions
        The regions of the face that moved most, the longest way first.
    events
        What was found, by onset; of scope "event" that one event.
    """

    scope: Literal["event", "video"]
    source: str
    subject: str
    video: str
    dataset: str = ""
    fps: float
    images: tuple[NDArray[np.uint8], ...] = ()
    times_s: tuple[float, ...] = ()
    frames: tuple[int, ...] = ()
    onset: int = 0
    apex: int = 0
    offset: int = 0
    landmarks68: NDArray[np.float32] | None = None
    flow: NDArray[np.float32] | None = None
    emotion: str | None = None
    probabilities: dict[str, float] = {}
    units: tuple[MeasuredUnit, ...] = ()
    considered: tuple[MeasuredUnit, ...] = ()
    motions: tuple[RegionMotion, ...] = ()
    events: tuple[KnownEvent, ...] = ()


def material_of_event(
    info: StreamInfo, crops: Sequence[Crop], event: KnownEvent, solver: TVL1Solver, dataset: str = ""
) -> Material:
    """Return the material of one event, its action units measured.

    Parameters
    ----------
    info
        The stream it is from.
    crops
        Crops by frame, from before the onset to after the offset where they are known; those without a face, and those
        of another segment than the apex, are left out.
    event
        When it was, and what the recogniser says; ``units`` are measured here.
    solver
        For crops; the flow starts cold, so that the result depends on the crops alone.
    dataset
        As in :class:`Material`.
    """
    usable = _one_segment(crops, event)
    if not usable:
        return _material(info, event, dataset)
    onset, apex, offset = (_nearest(usable, frame) for frame in (event.onset, event.apex, event.offset))
    kept = sampled(usable[onset : offset + 1], [apex - onset])
    first, peak = usable[onset], usable[apex]
    assert first.image is not None
    assert first.landmarks68 is not None
    assert peak.image is not None
    flow = None
    considered: tuple[MeasuredUnit, ...] = ()
    motions: tuple[RegionMotion, ...] = ()
    if apex > onset:
        flow = solver.solve(first.image, peak.image, warm=False)
        motion = face_motion(flow, first.landmarks68)
        considered, motions = measure_units(motion), motion.listed()[:_SHOWN_MOTIONS]
    units = tuple(unit for unit in considered if unit.present)
    return msgspec.structs.replace(
        _material(info, msgspec.structs.replace(event, units=units), dataset),
        images=tuple(crop.image for crop in kept if crop.image is not None),
        times_s=tuple(time_of(crop) for crop in kept),
        frames=tuple(crop.frame for crop in kept),
        apex=next(index for index, crop in enumerate(kept) if crop.frame == peak.frame),
        offset=len(kept) - 1,
        landmarks68=first.landmarks68,
        flow=flow,
        units=units,
        considered=considered,
        motions=motions,
    )


def with_strongest_apex(crops: Sequence[Crop], event: KnownEvent, solver: TVL1Solver, most: int = 24) -> KnownEvent:
    """Return the event with its apex where the face, lids apart, has moved furthest since the onset.

    A spotter says when something moves, and in pairs of frames; at its apex a short expression may be over already.
    Looked at are up to ``most`` of the event's crops, evenly spread, those of its segment that show a face.
    """
    usable = _one_segment(crops, event)
    if not usable:
        return event
    onset, offset = _nearest(usable, event.onset), _nearest(usable, event.offset)
    places = np.unique(np.linspace(onset + 1, offset, min(most, offset - onset)).round().astype(int)).tolist()
    if not places:
        return event
    first = usable[onset]
    moved = [_moved_px(first, usable[place], solver) for place in places]
    return msgspec.structs.replace(event, apex=usable[places[int(np.argmax(moved))]].frame)


def time_of(crop: Crop) -> float:
    """Return the time of a crop, seconds: in the file, else of its capture."""
    return crop.t_capture_s if crop.pts_s is None else crop.pts_s


def sampled(crops: Sequence[Crop], wanted: Sequence[int] = ()) -> list[Crop]:
    """Return at most 64 of the crops, evenly spread, the first, the last and those at ``wanted`` among them."""
    last = len(crops) - 1
    places = np.unique(np.linspace(0, last, min(len(crops), _MOST_IMAGES - len(wanted))).round().astype(int))
    return [crops[index] for index in sorted({*places.tolist(), *wanted})]


def _material(info: StreamInfo, event: KnownEvent, dataset: str) -> Material:
    return Material(
        scope="event",
        source=info.source,
        subject=info.subject,
        video=info.video,
        dataset=dataset,
        fps=info.fps,
        emotion=event.emotion,
        probabilities=event.probabilities,
        events=(event,),
    )


def _one_segment(crops: Sequence[Crop], event: KnownEvent) -> list[Crop]:
    """Return the crops of the event's segment that show a face."""
    faces = [crop for crop in crops if crop.image is not None and crop.landmarks68 is not None]
    if not faces:
        return []
    segment = faces[_nearest(faces, event.apex)].segment
    return [crop for crop in faces if crop.segment == segment]


def _moved_px(first: Crop, other: Crop, solver: TVL1Solver) -> float:
    assert first.image is not None
    assert first.landmarks68 is not None
    assert other.image is not None
    return face_motion(solver.solve(first.image, other.image, warm=False), first.landmarks68).without_lids_px


def _nearest(crops: Sequence[Crop], frame: int) -> int:
    return min(range(len(crops)), key=lambda index: abs(crops[index].frame - frame))
