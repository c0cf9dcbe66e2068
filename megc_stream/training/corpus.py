"""Training data: portraits set in motion, taken through the same chain as any recording, down to MEAN's features.

Rendered clip -> face tracking -> crops -> pairs (i, i + k) -> TV-L1 flow -> features. So the errors of alignment, the
noise of the flow and the distractors (blinks, speech, sway, light) are those the network meets when it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import DataError
from megc_stream.face import FaceAnalyser
from megc_stream.records import Crop, Frame, frames_of
from megc_stream.settings import FaceSettings
from megc_stream.synthesis import ClipPlan, plan_clip, render_clip
from megc_stream.synthesis.portraits import load_portrait, portrait_landmarks
from megc_stream.synthesis.profiles import intensity
from megc_stream.training.cache import Arrays, Work, cache_key, fill_cache, load_cached
from megc_stream.training.pairs import K_S, PairMaker, Pairs, TrueEvent, stacked

__all__ = [
    "ClipPairs",
    "ClipSpec",
    "PersonSplit",
    "find_portraits",
    "make_clip_pairs",
    "plan_scored",
    "plan_training",
    "prepare_corpus",
    "rendered_crops",
    "split_persons",
]

_INTEROCULAR_PX = 50.0
_PORTRAIT_SUFFIXES = (".jpg", ".jpeg", ".png")
_NEAR_STEP_S = 0.02
_FAR_STEP_S = 0.1
# Frames per second, seconds and events of the training clips of a person. Slow clips are cheap, and k is in seconds.
_TRAINING_CLIPS = ((25.0, 15.0, 8), (30.0, 15.0, 8), (30.0, 15.0, 8), (50.0, 10.0, 6), (100.0, 5.0, 3), (200.0, 4.0, 2))


@dataclass(frozen=True)
class ClipSpec:
    """One clip of the corpus: everything but the pixels of the portrait.

    ``mirrored`` flips the portrait left to right; ``dense`` takes every pair, as scoring needs, instead of every pair
    (at most 50 per second) near events and distractors and 10 per second elsewhere. Lengths and amplitudes as in
    :func:`megc_stream.synthesis.plan_clip`.
    """

    person: str
    seed: int
    fps: float
    seconds: float
    events: int
    mirrored: bool = False
    dense: bool = False
    amplitude_iod: tuple[float, float] = (0.018, 0.05)
    length_s: tuple[float, float] = (0.1, 0.5)
    interocular_px: tuple[float, float] = (90.0, 110.0)
    noise_sigma: float = 2.0
    blinks_per_s: float = 0.2
    speech_per_s: float = 0.05


@dataclass(frozen=True, eq=False)
class ClipPairs(Pairs):
    """The features of pairs of one clip, and what is known about each pair.

    Parameters
    ----------
    spec
        What was rendered.
    motion_px
        (N,) float32: by how much the planted displacement grows from i to i + k at the point where it is largest, px
        of the crop; negative while an event subsides, 0 where there is none.
    event
        (N,) int64: index of the event whose motion that is, -1 where there is none.
    """

    spec: ClipSpec
    motion_px: NDArray[np.float32]
    event: NDArray[np.int64]


@dataclass(frozen=True)
class PersonSplit:
    """Persons of each part of the corpus; no person is in two of them."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def find_portraits(folder: Path) -> dict[str, Path]:
    """Return one portrait per person in a folder of .jpg or .png files.

    A person's name is the file's stem up to the last ``_`` (``anna_neutral.jpg`` and ``anna_smiling.jpg`` show
    ``anna``). Of several portraits of a person the one whose stem ends in ``_neutral`` is taken, else the first by
    name.

    Raises
    ------
    DataError
        There is no such folder, or fewer than three persons in it.
    """
    if not folder.is_dir():
        raise DataError(f"portraits {folder}: no such folder; expected a folder of .jpg or .png portraits")
    found: dict[str, Path] = {}
    files = [file for file in folder.iterdir() if file.suffix.lower() in _PORTRAIT_SUFFIXES]
    for file in sorted(files, key=lambda file: (not file.stem.endswith("_neutral"), file.name)):
        found.setdefault(file.stem.rpartition("_")[0] or file.stem, file)
    if len(found) < 3:
        raise DataError(
            f"portraits {folder}: {len(found)} persons found; expected at least 3 (training, validation, test), one "
            "file each, named PERSON_anything.jpg"
        )
    return dict(sorted(found.items()))


def split_persons(persons: Iterable[str], seed: int = 0) -> PersonSplit:
    """Deal persons out at random: a fifth (at least one) to test, a seventh to validate, the others to train."""
    names = sorted(persons)
    shuffled = [str(name) for name in np.random.default_rng(seed).permutation(names)]
    test, validation = max(1, round(len(names) / 5)), max(1, round(len(names) / 7))
    return PersonSplit(
        training=tuple(sorted(shuffled[test + validation :])),
        validation=tuple(sorted(shuffled[test : test + validation])),
        test=tuple(sorted(shuffled[:test])),
    )


def plan_training(persons: Sequence[str], seed: int) -> list[ClipSpec]:
    """Return the clips to train on: six per person, 25 to 200 fps, half mirrored, more varied than those to score."""
    rng = np.random.default_rng(seed)
    return [
        ClipSpec(
            person,
            int(rng.integers(2**31)),
            fps,
            seconds,
            events,
            mirrored=bool(rng.random() < 0.5),
            amplitude_iod=(0.01, 0.05),
            interocular_px=(75.0, 130.0),
            noise_sigma=float(rng.uniform(1, 3)),
            blinks_per_s=0.3,
            speech_per_s=0.1,
        )
        for person in persons
        for fps, seconds, events in _TRAINING_CLIPS
    ]


def plan_scored(persons: Sequence[str], seed: int, clips: Sequence[tuple[float, float, int]]) -> list[ClipSpec]:
    """Return clips to score, of which every pair is taken: (frames per second, seconds, events) for each person."""
    rng = np.random.default_rng(seed)
    return [
        ClipSpec(person, int(rng.integers(2**31)), fps, seconds, events, dense=True)
        for person in persons
        for fps, seconds, events in clips
    ]


def make_clip_pairs(spec: ClipSpec, portrait: Path) -> ClipPairs:
    """Render a clip and take it through the chain; see :class:`ClipPairs`.

    Raises
    ------
    DataError
        The portrait cannot be read or shows no face.
    """
    return _clip_pairs(spec, _make(spec, portrait))


def rendered_crops(plan: ClipPlan, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Iterator[Crop]:
    """Yield the crops of a planned clip of a grey portrait: rendered, and tracked as any recording is."""
    analyser = FaceAnalyser(FaceSettings(), plan.fps)
    for index, picture in enumerate(render_clip(plan, image, landmarks)):
        yield analyser.process(
            Frame(source="synthetic", frame=index, number=index, image=picture, t_capture_s=index / plan.fps)
        )


def _make(spec: ClipSpec, portrait: Path) -> Arrays:
    image = np.asarray(cv2.cvtColor(load_portrait(portrait), cv2.COLOR_BGR2GRAY), np.uint8)
    if spec.mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
    landmarks = portrait_landmarks(image, str(portrait))
    plan = plan_clip(
        spec.seed,
        spec.fps,
        spec.seconds,
        events=spec.events,
        amplitude_iod=spec.amplitude_iod,
        length_s=spec.length_s,
        interocular_px_range=spec.interocular_px,
        noise_sigma=spec.noise_sigma,
        blinks_per_s=spec.blinks_per_s,
        speech_per_s=spec.speech_per_s,
    )
    crops = list(rendered_crops(plan, image, landmarks))
    k = frames_of(K_S, spec.fps)
    maker, frames, features = PairMaker(), [], []
    for index in _pairs_wanted(plan, k, spec.dense).tolist():
        found = maker.features(crops[index], crops[index + k])
        if found is not None:
            frames.append(index)
            features.append(found)
    motion_px, event = _truth(plan, np.array(frames, np.int64), k)
    return {
        "frame_count": np.array(plan.frames),
        "events": np.array([[one.onset, one.apex, one.offset] for one in plan.events], np.int64).reshape(-1, 3),
        "emotions": np.array([one.emotion for one in plan.events], np.str_),
        "frames": np.array(frames, np.int64),
        "features": stacked(features),
        "motion_px": motion_px,
        "event": event,
    }


def _clip_pairs(spec: ClipSpec, arrays: Arrays) -> ClipPairs:
    return ClipPairs(
        person=spec.person,
        video=f"{spec.person}_{spec.seed}",
        fps=spec.fps,
        frame_count=int(arrays["frame_count"]),
        k=frames_of(K_S, spec.fps),
        first_number=0,
        events=tuple(
            TrueEvent(onset, apex, offset, emotion)
            for (onset, apex, offset), emotion in zip(
                arrays["events"].tolist(), arrays["emotions"].tolist(), strict=True
            )
        ),
        frames=arrays["frames"],
        features=arrays["features"],
        spec=spec,
        motion_px=arrays["motion_px"],
        event=arrays["event"],
    )


def _pairs_wanted(plan: ClipPlan, k: int, dense: bool) -> NDArray[np.int64]:
    first = np.arange(plan.frames - k)
    if dense:
        return first
    near = np.zeros(plan.frames, bool)
    spans_s = [(event.onset / plan.fps, event.offset / plan.fps) for event in plan.events]
    spans_s += [(blink.start_s, blink.start_s + blink.length_s) for blink in plan.blinks]
    spans_s += [(bout.start_s, bout.start_s + bout.length_s) for bout in plan.speech]
    for start_s, end_s in spans_s:
        near[max(0, int(start_s * plan.fps) - 2 * k) : int(end_s * plan.fps) + k] = True
    near_step, far_step = (frames_of(step_s, plan.fps) for step_s in (_NEAR_STEP_S, _FAR_STEP_S))
    wanted = np.where(near[first], first % near_step == 0, first % far_step == 0)
    return np.asarray(first[wanted], np.int64)


def _truth(plan: ClipPlan, frames: NDArray[np.int64], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    motion_px = np.zeros(len(frames), np.float32)
    event = np.full(len(frames), -1, np.int64)
    for number, one in enumerate(plan.events):
        strength = np.array([intensity(frame, one.onset, one.apex, one.offset) for frame in range(plan.frames)])
        growth = (strength[frames + k] - strength[frames]) * one.amplitude_iod * _INTEROCULAR_PX
        larger = np.abs(growth) > np.abs(motion_px)
        motion_px[larger] = growth[larger]
        event[larger] = number
    return motion_px, event


def prepare_corpus(
    specs: Sequence[ClipSpec],
    portraits: dict[str, Path],
    cache: Path,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[ClipPairs]:
    """Return the pairs of all clips, made where they are not in the cache yet; an interrupted call can be repeated.

    Parameters
    ----------
    specs
        The clips.
    portraits
        File of each person.
    cache
        Folder of the features, one .npz and one .npy per clip, named by person, rate and a hash of everything that they
        depend on; made if absent.
    jobs
        Processes to use.
    progress
        Called at the start and after each clip with the number of clips done and in all.

    Raises
    ------
    DataError
        A portrait cannot be read or shows no face.
    OutputError
        The cache cannot be written.
    """
    work = [
        Work(cache / _cache_name(spec, portraits[spec.person]), _make, (spec, portraits[spec.person])) for spec in specs
    ]
    fill_cache(cache, work, jobs=jobs, progress=progress)
    return [_clip_pairs(spec, load_cached(entry.file)) for spec, entry in zip(specs, work, strict=True)]


def _cache_name(spec: ClipSpec, portrait: Path) -> str:
    key = cache_key({"spec": asdict(spec), "portrait": hashlib.sha256(portrait.read_bytes()).hexdigest()})
    return f"{spec.person}-{spec.fps:g}fps-{key}.npz"
