"""Training data: portraits set in motion, taken through the same chain as any recording, down to MEAN's features.

Rendered clip -> face tracking -> crops -> pairs (i, i + k) -> TV-L1 flow -> features. So the errors of alignment, the
noise of the flow and the distractors (blinks, speech, sway, light) are those the network meets when it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import DataError, FlowError, OutputError
from megc_stream.face import FaceAnalyser
from megc_stream.flow import TVL1Solver
from megc_stream.records import Crop, Frame, frames_of
from megc_stream.settings import FaceSettings, FlowSettings
from megc_stream.spotting import mean_features
from megc_stream.synthesis import ClipPlan, plan_clip, render_clip
from megc_stream.synthesis.portraits import load_portrait, portrait_landmarks
from megc_stream.synthesis.profiles import intensity

__all__ = [
    "CLASSES",
    "K_S",
    "ClipPairs",
    "ClipSpec",
    "PersonSplit",
    "TrueEvent",
    "find_portraits",
    "make_clip_pairs",
    "plan_scored",
    "plan_training",
    "prepare_corpus",
    "split_persons",
]

CLASSES = ("negative", "positive", "surprise")
"""Emotion classes in the order of the network's outputs."""
K_S = 0.1
"""Seconds between the two frames of a pair."""

_CROP_PX = 128
_FEATURES = (42, 42, 3)
_INTEROCULAR_PX = 50.0
# Grows when the chain changes in a way that the cached features must follow.
_CHAIN_VERSION = 1
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


@dataclass(frozen=True)
class TrueEvent:
    """A planted event: frames are 0-based and inclusive, ``emotion`` is an index into :data:`CLASSES`."""

    onset: int
    apex: int
    offset: int
    emotion: int


@dataclass(frozen=True, eq=False)
class ClipPairs:
    """The features of pairs of one clip, and what is known about each pair.

    Parameters
    ----------
    spec
        What was rendered.
    frame_count, k
        Frames of the clip, and frames between the two of a pair.
    events
        What was planted.
    frames
        (N,) int64, first frame of each pair, increasing; pairs without a face in both frames are left out.
    features
        (N, 42, 42, 3) float16 in [0, 1].
    motion_px
        (N,) float32: by how much the planted displacement grows from i to i + k at the point where it is largest, px
        of the crop; negative while an event subsides, 0 where there is none.
    event
        (N,) int64: index of the event whose motion that is, -1 where there is none.
    """

    spec: ClipSpec
    frame_count: int
    k: int
    events: tuple[TrueEvent, ...]
    frames: NDArray[np.int64]
    features: NDArray[np.float16]
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
    crops = list(_crops(plan, image, landmarks))
    k = frames_of(K_S, spec.fps)
    frames, features = _features(crops, _pairs_wanted(plan, k, spec.dense), k)
    motion_px, event = _truth(plan, frames, k)
    events = tuple(TrueEvent(one.onset, one.apex, one.offset, CLASSES.index(one.emotion)) for one in plan.events)
    return ClipPairs(spec, plan.frames, k, events, frames, features, motion_px, event)


def _crops(plan: ClipPlan, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Iterator[Crop]:
    analyser = FaceAnalyser(FaceSettings(), plan.fps)
    for index, picture in enumerate(render_clip(plan, image, landmarks)):
        yield analyser.process(
            Frame(source="synthetic", frame=index, number=index, image=picture, t_capture_s=index / plan.fps)
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


def _features(
    crops: Sequence[Crop], wanted: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    settings = FlowSettings()
    solver = TVL1Solver(_CROP_PX, _CROP_PX, lam=settings.lam, theta=settings.theta)
    frames, features = [], []
    for index in wanted.tolist():
        reference, current = crops[index], crops[index + k]
        if reference.image is None or current.image is None or reference.segment != current.segment:
            continue
        assert reference.landmarks68 is not None
        flow = solver.solve(reference.image, current.image, warm=False)
        try:
            features.append(mean_features(flow, reference.landmarks68).astype(np.float16))
        except FlowError:  # brows or mouth outside the crop: such a pair is not scored either
            continue
        frames.append(index)
    return np.array(frames, np.int64), np.array(features, np.float16).reshape(-1, *_FEATURES)


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
        Folder of the features, one .npz per clip, named by person, rate and a hash of everything that they depend on;
        made if absent.
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
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cache {cache}: cannot be made ({error.strerror}); expected a writable folder") from error
    files = [cache / _cache_name(spec, portraits[spec.person]) for spec in specs]
    missing = [
        (spec, portraits[spec.person], file) for spec, file in zip(specs, files, strict=True) if not file.is_file()
    ]
    done = len(specs) - len(missing)
    if progress is not None:
        progress(done, len(specs))
    for _ in _made(missing, jobs):
        done += 1
        if progress is not None:
            progress(done, len(specs))
    return [_load(spec, file) for spec, file in zip(specs, files, strict=True)]


def _made(missing: Sequence[tuple[ClipSpec, Path, Path]], jobs: int) -> Iterator[None]:
    if jobs <= 1 or len(missing) <= 1:
        yield from map(_make_and_store, missing)
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from pool.map(_make_and_store, missing)


def _make_and_store(job: tuple[ClipSpec, Path, Path]) -> None:
    spec, portrait, file = job
    pairs = make_clip_pairs(spec, portrait)
    unfinished = file.with_suffix(".part")
    with unfinished.open("wb") as stream:
        np.savez(
            stream,
            frame_count=pairs.frame_count,
            k=pairs.k,
            events=np.array([[one.onset, one.apex, one.offset, one.emotion] for one in pairs.events], np.int64).reshape(
                -1, 4
            ),
            frames=pairs.frames,
            features=pairs.features,
            motion_px=pairs.motion_px,
            event=pairs.event,
        )
    unfinished.replace(file)


def _load(spec: ClipSpec, file: Path) -> ClipPairs:
    with np.load(file) as stored:
        return ClipPairs(
            spec=spec,
            frame_count=int(stored["frame_count"]),
            k=int(stored["k"]),
            events=tuple(TrueEvent(*row) for row in stored["events"].tolist()),
            frames=stored["frames"],
            features=stored["features"],
            motion_px=stored["motion_px"],
            event=stored["event"],
        )


def _cache_name(spec: ClipSpec, portrait: Path) -> str:
    depends_on = {
        "chain": _CHAIN_VERSION,
        "spec": asdict(spec),
        "portrait": hashlib.sha256(portrait.read_bytes()).hexdigest(),
        "face": FaceSettings().model_dump(mode="json"),
        "flow": FlowSettings().model_dump(mode="json"),
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return f"{spec.person}-{spec.fps:g}fps-{digest[:16]}.npz"
