"""From crops and events to :class:`Material`: a bounded memory of crops, and whole files taken through the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from megc_stream.capture import Source, open_source
from megc_stream.clock import Clock, MonotonicClock
from megc_stream.errors import DataError, FlowError, UsageError
from megc_stream.face import FaceAnalyser
from megc_stream.flow import TVL1Solver
from megc_stream.models import MeanModel, find_mean
from megc_stream.recognition import Recogniser, most_frequent_class
from megc_stream.records import Crop, Event, Record, StreamInfo, frames_of
from megc_stream.settings import FlowSettings, Settings
from megc_stream.spotting import Spotter, mean_features
from megc_stream.vqa.material import KnownEvent, Material, material_of_event, sampled, time_of, with_strongest_apex

__all__ = ["CropMemory", "known_event", "material_of_clip", "material_of_video", "solver_of"]

_CROP_PX = 128
_RECENT_S = 1.2
"""How far back every crop is kept: the longest micro-expression, and the delay until it is labelled."""
_SPARSE_FPS = 30.0
"""How many crops of a second are kept beyond that, for macro-expressions."""
_MARGIN_S = 1.0
_MOST_CROPS = 2048
_MOST_CANDIDATES = 128


class CropMemory(msgspec.Struct, kw_only=True):
    """The crops that an event to come may need, and no more; packable, for snapshots.

    While frames arrive, all of the last 1.2 s and 30 per second of ``kept_s`` before; with ``kept_s`` None, for a whole
    video whose events come at its end, every n-th of all, n doubled whenever there are more than 2048.
    """

    kept_s: float | None
    fps: float = 30.0
    stride: int = 1
    crops: list[Crop] = []

    def add(self, crop: Crop) -> None:
        """Take the next crop; one without a face is not kept."""
        if crop.image is None or crop.frame % self.stride:
            return
        self.crops.append(crop)
        if self.kept_s is None:
            if len(self.crops) > _MOST_CROPS:
                self.stride *= 2
                self.crops = [old for old in self.crops if old.frame % self.stride == 0]
            return
        oldest = crop.frame - frames_of(self.kept_s, self.fps)
        recent = crop.frame - frames_of(_RECENT_S, self.fps)
        sparse = max(1, int(self.fps / _SPARSE_FPS))
        self.crops = [
            old for old in self.crops if old.frame >= recent or (old.frame >= oldest and old.frame % sparse == 0)
        ]

    @staticmethod
    def span_s(settings: Settings) -> float | None:
        """Return ``kept_s`` for some settings: what the longest event and its delay need, None for whole videos."""
        spotting = settings.spotting
        return spotting.longest_s + _MARGIN_S if spotting.mode == "causal" else None


def solver_of(settings: FlowSettings) -> TVL1Solver:
    """Return a solver for crops."""
    return TVL1Solver(_CROP_PX, _CROP_PX, **settings.model_dump())


def known_event(event: Event, order: int) -> KnownEvent:
    """Return what a label says of its event.

    Raises
    ------
    DataError
        The event is no label: its apex or offset is not known.
    """
    if event.apex is None or event.offset is None:
        raise DataError(f"event {event.event_id} rev {event.rev}: has no apex or offset; expected a label")
    return KnownEvent(
        order=order,
        type=event.type or "micro",
        onset=event.onset.frame,
        apex=event.apex.frame,
        offset=event.offset.frame,
        emotion=event.emotion,
        probabilities=event.probabilities,
    )


def material_of_clip(
    source: str | Path,
    settings: Settings,
    *,
    dataset: str = "",
    model: MeanModel | None = None,
    clock: Clock | None = None,
) -> Material:
    """Return the material of a short clip that shows one expression.

    Onset is the first frame with a face, offset the last one without a loss of the face between, apex where the face
    has moved furthest from the onset. Of a clip in which the face is lost, the longest stretch counts. Emotion: as for
    an event that was spotted there.

    Parameters
    ----------
    source
        A video file, a folder of images, or what else :func:`megc_stream.capture.open_source` takes.
    settings
        ``capture``, ``face``, ``flow``, ``model`` and ``spotting`` are used, ``subject`` and ``video`` if set.
    dataset
        As in :class:`megc_stream.vqa.material.Material`.
    model
        The network; the one that the settings name without it.
    clock
        The host's without it.

    Raises
    ------
    UsageError
        The source is live.
    MegcError
        The source cannot be read, or the model not found.
    """
    model = model or MeanModel(find_mean(settings.model.name), settings.model.providers, settings.model.threads)
    with _opened(source, settings, clock or MonotonicClock()) as stream:
        info = stream.info
        memory = CropMemory(kept_s=None, fps=info.fps)
        analyser = FaceAnalyser(settings.face, info.fps, settings.model.providers)
        for frame in stream.frames():
            memory.add(analyser.process(frame))
    crops = _longest_segment(memory.crops)
    if not crops:
        return Material(
            scope="event", source=info.source, subject=info.subject, video=info.video, dataset=dataset, fps=info.fps
        )
    solver = solver_of(settings.flow)
    first, last = crops[0].frame, crops[-1].frame
    event = KnownEvent(
        order=1,
        type="micro" if (last - first) / info.fps <= settings.spotting.macro_s else "macro",
        onset=first,
        apex=first,
        offset=last,
    )
    event = with_strongest_apex(crops, event, solver, _MOST_CANDIDATES)
    emotion, probabilities = _emotion(crops, event.apex, info.fps, settings, model, solver)
    event = msgspec.structs.replace(event, emotion=emotion, probabilities=probabilities)
    return material_of_event(info, crops, event, solver, dataset)


def material_of_video(
    source: str | Path,
    settings: Settings,
    *,
    dataset: str = "",
    model: MeanModel | None = None,
    clock: Clock | None = None,
) -> Material:
    """Return the material of a long video: what the spotter finds in it, in the mode of the settings, in order.

    Parameters and errors as for :func:`material_of_clip`.
    """
    clock = clock or MonotonicClock()
    model = model or MeanModel(find_mean(settings.model.name), settings.model.providers, settings.model.threads)
    found: list[Material] = []
    overview = CropMemory(kept_s=None)
    with _opened(source, settings, clock) as stream:
        info = stream.info
        overview.fps = info.fps
        memory = CropMemory(kept_s=CropMemory.span_s(settings), fps=info.fps)
        solver = solver_of(settings.flow)
        analyser = FaceAnalyser(settings.face, info.fps, settings.model.providers)
        spotter = Spotter(settings, model, clock)
        recogniser = Recogniser(model.info.classes, memory.kept_s and memory.kept_s + _MARGIN_S, clock)

        def label(records: Sequence[Record]) -> None:
            for record in records:
                for one in recogniser.process(record):
                    if isinstance(one, Event):
                        event = with_strongest_apex(memory.crops, known_event(one, one.event_number), solver)
                        found.append(material_of_event(info, memory.crops, event, solver, dataset))

        label(list(spotter.process(info)))
        for frame in stream.frames():
            crop = analyser.process(frame)
            memory.add(crop)
            overview.add(crop)
            label(list(spotter.process(crop)))
        label(list(spotter.flush()))
    found.sort(key=lambda material: material.events[0].onset)
    events = tuple(
        msgspec.structs.replace(material.events[0], order=order) for order, material in enumerate(found, start=1)
    )
    return _overview(info, overview.crops, events, found, dataset)


def _overview(
    info: StreamInfo, crops: Sequence[Crop], events: tuple[KnownEvent, ...], found: Sequence[Material], dataset: str
) -> Material:
    video = Material(
        scope="video",
        source=info.source,
        subject=info.subject,
        video=info.video,
        dataset=dataset,
        fps=info.fps,
        events=events,
    )
    if not crops:
        return video
    moved = [max((motion.px for motion in material.motions), default=0.0) for material in found]
    middle = crops[len(crops) // 2].frame
    apex_frame = events[int(np.argmax(moved))].apex if events else middle
    apex = min(range(len(crops)), key=lambda index: abs(crops[index].frame - apex_frame))
    kept = sampled(crops, [apex])
    return msgspec.structs.replace(
        video,
        images=tuple(crop.image for crop in kept if crop.image is not None),
        times_s=tuple(time_of(crop) for crop in kept),
        frames=tuple(crop.frame for crop in kept),
        apex=next(index for index, crop in enumerate(kept) if crop.frame == crops[apex].frame),
        offset=len(kept) - 1,
        landmarks68=kept[0].landmarks68,
    )


def _opened(source: str | Path, settings: Settings, clock: Clock) -> Source:
    opened = open_source(str(source), settings.capture, clock=clock, subject=settings.subject, video=settings.video)
    if opened.info.live:
        opened.close()
        raise UsageError(
            f"{opened.info.source}: a live source has no end; expected a video file or a folder of images "
            "('megc-stream run' with --vqa asks about events while they happen)"
        )
    return opened


def _longest_segment(crops: Sequence[Crop]) -> list[Crop]:
    lengths: dict[int, int] = {}
    for crop in crops:
        lengths[crop.segment] = lengths.get(crop.segment, 0) + 1
    longest = max(lengths, key=lambda segment: (lengths[segment], -segment), default=None)
    return [crop for crop in crops if crop.segment == longest]


def _emotion(
    crops: Sequence[Crop], peak: int, fps: float, settings: Settings, model: MeanModel, solver: TVL1Solver
) -> tuple[str | None, dict[str, float]]:
    """Return what the recogniser would say of an event with this peak: the vote over the pairs in [peak - k', peak).

    Only pairs within the clip; where there is none, the pair of onset and apex.
    """
    spotting = settings.spotting
    k = frames_of(spotting.k_s or model.info.k_s, fps)
    k_prime = frames_of(spotting.k_prime_s or model.info.k_prime_s, fps)
    at = {crop.frame: crop for crop in crops}
    pairs = [(at[frame], at[frame + k]) for frame in range(peak - k_prime, peak) if frame in at and frame + k in at]
    if not pairs and peak > crops[0].frame:
        pairs = [(crops[0], at[peak])]
    features = []
    for first, second in pairs:
        assert first.image is not None
        assert first.landmarks68 is not None
        assert second.image is not None
        try:
            features.append(mean_features(solver.solve(first.image, second.image, warm=False), first.landmarks68))
        except FlowError:  # brows or mouth outside the crop
            continue
    if not features:
        return None, {}
    _, recogs = model.score(np.stack(features))
    winner = most_frequent_class([int(index) for index in np.argmax(recogs, axis=1)])
    means = np.mean(recogs, axis=0)
    classes = model.info.classes
    return classes[winner], {name: float(value) for name, value in zip(classes, means, strict=True)}
