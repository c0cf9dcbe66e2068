"""Training data: annotated recordings of data sets, taken through the same chain as any recording, down to features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.capture import Source
from megc_stream.clock import MonotonicClock
from megc_stream.datasets import DataSet, Recording, open_recording
from megc_stream.errors import CaptureError, DataError
from megc_stream.face import FaceAnalyser, locate_landmarks
from megc_stream.records import Crop, frames_of
from megc_stream.settings import CaptureSettings, FaceSettings
from megc_stream.synthesis import plan_clip
from megc_stream.training.cache import Arrays, Work, cache_key, fill_cache, load_cached
from megc_stream.training.corpus import rendered_crops
from megc_stream.training.pairs import K_S, PairMaker, Pairs, TrueEvent, stacked

__all__ = ["KnownRecording", "RecordingPairs", "StoredPairs", "known_recordings", "prepare_recordings"]

_Spans = tuple[tuple[int, int], ...]

_DIVISORS = (2, 4, 8)
_LEAST_RATE_FPS = 15.0
_NEGATIVE_FPS = 50.0
_NEGATIVE_S = 6.0
_BLINKS_PER_S = 0.5
_SPEECH_PER_S = 0.3
_LOOK_FOR_FACE_FRAMES = 100


@dataclass(frozen=True)
class KnownRecording:
    """A recording and its micro-expressions; ``person`` names the subject, unique over all data sets."""

    person: str
    recording: Recording
    events: tuple[TrueEvent, ...]


@dataclass(frozen=True, eq=False)
class RecordingPairs(Pairs):
    """All pairs of one recording, and more to train on.

    Parameters
    ----------
    rate_frames, rate_features
        (R,) int64 and (R, 42, 42, 3) float16: first frames and features of pairs as a camera of a lower rate gives
        them, whose k in whole frames is another time.
    apex_events, apex_features
        (M,) int64 and (M, 42, 42, 3) float16: index of the event, and the features of its pair (onset, apex).
    synthetic
        Made from one frame of the person: blinks and speech without any expression.
    """

    rate_frames: NDArray[np.int64]
    rate_features: NDArray[np.float16]
    apex_events: NDArray[np.int64]
    apex_features: NDArray[np.float16]
    synthetic: bool


@dataclass(frozen=True)
class StoredPairs:
    """Pairs of a recording that are in the cache; ``key`` changes with whatever they depend on."""

    known: KnownRecording
    file: Path
    synthetic: bool

    @property
    def person(self) -> str:
        """Return who is seen."""
        return self.known.person

    @property
    def key(self) -> str:
        """Return what identifies these features and events."""
        return f"{self.file.stem} {self.known.events}"

    def load(self) -> RecordingPairs:
        """Read the pairs; the features stay on the disk until their rows are asked for."""
        arrays = load_cached(self.file)
        recording, features = self.known.recording, arrays["features"]
        rate = len(arrays["frames"])
        apex = rate + len(arrays["rate_frames"])
        return RecordingPairs(
            person=self.known.person,
            video=recording.video,
            fps=_NEGATIVE_FPS if self.synthetic else recording.fps,
            frame_count=int(arrays["frame_count"]),
            k=frames_of(K_S, _NEGATIVE_FPS if self.synthetic else recording.fps),
            first_number=recording.numbers[0] if recording.numbers else 0,
            events=() if self.synthetic else self.known.events,
            frames=arrays["frames"],
            features=features[:rate],
            rate_frames=arrays["rate_frames"],
            rate_features=features[rate:apex],
            apex_events=arrays["apex_events"],
            apex_features=features[apex:],
            synthetic=self.synthetic,
        )


def known_recordings(sets: Sequence[DataSet]) -> list[KnownRecording]:
    """Return the recordings of some data sets with their micro-expressions; macro-expressions are left out.

    A subject of one name is one person in all data sets of one layout. The person's name is the subject's, with the
    layout before it where there are several layouts.

    Raises
    ------
    DataError
        A data set has no recording, or a recording is given twice.
    """
    several = len({data.layout for data in sets}) > 1
    found: dict[tuple[str, str], KnownRecording] = {}
    for data in sets:
        if not data.recordings:
            raise DataError(
                f"{data.root}: no recording in the layout {data.layout}; 'megc-stream datasets check' says what is "
                "missing"
            )
        for recording in data.recordings:
            person = f"{data.layout}/{recording.subject}" if several else recording.subject
            if (person, recording.video) in found:
                raise DataError(f"{data.root}: video {recording.video} of subject {person} was given before")
            first = recording.numbers[0] if recording.numbers else 0
            events = tuple(
                TrueEvent(
                    one.onset - first, None if one.apex is None else one.apex - first, one.offset - first, one.emotion
                )
                for one in data.annotations
                if one.type == "micro" and (one.subject, one.video) == (recording.subject, recording.video)
            )
            found[person, recording.video] = KnownRecording(person, recording, events)
    return list(found.values())


def prepare_recordings(
    recordings: Sequence[KnownRecording],
    cache: Path,
    *,
    rates: bool,
    negatives: bool,
    seed: int,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[StoredPairs]:
    """Make the pairs of all recordings where they are not in the cache yet; an interrupted call can be repeated.

    Parameters
    ----------
    recordings
        The recordings.
    cache
        Folder of the features, one .npz and one .npy per recording, named by a hash of everything that they depend on:
        names, sizes and times of the source files, frames of the events, rate, settings and version of the chain.
    rates
        Take pairs of lower frame rates too: those of every 2nd, 4th and 8th frame, down to 15 frames per second, whose
        k is another time than that of all frames (25 frames per second: 0.12 s).
    negatives
        Add 6 s of blinks and speech per person, rendered from the first face of the person's first recording.
    seed
        Of the blinks and the speech.
    jobs
        Processes to use.
    progress
        Called at the start and after each recording with the number done and in all.

    Raises
    ------
    CaptureError
        A recording cannot be read.
    DataError
        No face is found where negatives are made from.
    OutputError
        The cache cannot be written.
    """
    stored: list[StoredPairs] = []
    work: list[Work] = []
    seen: set[str] = set()
    for known in recordings:
        spans = _lower_rates(known.recording.fps) if rates else ()
        events = tuple((event.onset, event.apex, event.offset) for event in known.events)
        source = _source_key(known.recording)
        file = cache / f"{_stem(known)}-{cache_key({**source, 'events': events, 'spans': spans})}.npz"
        work.append(Work(file, _make, (known.recording, events, spans)))
        stored.append(StoredPairs(known, file, synthetic=False))
        if negatives and known.person not in seen:
            seen.add(known.person)
            drawn = seed + len(seen)
            file = cache / f"{_stem(known)}-negatives-{cache_key({**source, 'seed': drawn})}.npz"
            work.append(Work(file, _make_negatives, (known.recording, drawn)))
            stored.append(StoredPairs(known, file, synthetic=True))
    fill_cache(cache, work, jobs=jobs, progress=progress)
    return [replace(one, known=replace(one.known, recording=_without_files(one.known.recording))) for one in stored]


def _without_files(recording: Recording) -> Recording:
    """Leave the names of thousands of files behind: what is left travels to other processes."""
    return msgspec.structs.replace(recording, numbers=recording.numbers[:1], files=())


def _lower_rates(fps: float) -> _Spans:
    """Return (n, k in frames of the full rate) for every n-th frame, where that k differs from the full rate's own."""
    spans = []
    for divisor in _DIVISORS:
        if fps / divisor >= _LEAST_RATE_FPS:
            span = divisor * frames_of(K_S, fps / divisor)
            if span != frames_of(K_S, fps):
                spans.append((divisor, span))
    return tuple(spans)


def _stem(known: KnownRecording) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{known.person}-{known.recording.video}")


def _source_key(recording: Recording) -> dict[str, object]:
    files = [recording.path / name for name in recording.files] or [recording.path]
    try:
        listed = [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in (file.stat(),)]
    except OSError as error:
        raise CaptureError(f"{error.filename}: cannot be read ({error.strerror}); it was there a moment ago") from error
    return {"files": listed, "numbers": recording.numbers, "fps": recording.fps}


def _open(recording: Recording) -> Source:
    return open_recording(recording, CaptureSettings(), clock=MonotonicClock())


def _make(recording: Recording, events: Sequence[tuple[int, int | None, int]], spans: _Spans) -> Arrays:
    with _open(recording) as source:
        analyser = FaceAnalyser(FaceSettings(), source.info.fps)
        return _arrays(map(analyser.process, source.frames()), frames_of(K_S, source.info.fps), events, spans)


def _make_negatives(recording: Recording, seed: int) -> Arrays:
    with _open(recording) as source:
        for frame in islice(source.frames(), _LOOK_FOR_FACE_FRAMES):
            image = np.asarray(frame.image, np.uint8)
            landmarks = locate_landmarks(image)
            if landmarks is not None:
                break
        else:
            raise DataError(
                f"{recording.path}: no face in the first {_LOOK_FOR_FACE_FRAMES} frames to make negatives from; "
                "leave 'negatives' out of --augment"
            )
    plan = plan_clip(seed, _NEGATIVE_FPS, _NEGATIVE_S, events=0, blinks_per_s=_BLINKS_PER_S, speech_per_s=_SPEECH_PER_S)
    return _arrays(rendered_crops(plan, image, landmarks), frames_of(K_S, _NEGATIVE_FPS), (), ())


def _arrays(crops: Iterable[Crop], k: int, events: Sequence[tuple[int, int | None, int]], spans: _Spans) -> Arrays:
    """Take crops as they come; only those that a later pair needs are kept."""
    maker = PairMaker()
    longest = max([k, *(span for _, span in spans)])
    kept: dict[int, Crop] = {}
    frames, features = [], []
    rate_frames, rate_features = [], []
    apexes = [_ApexPair(maker, *event) for event in events]
    last = -1
    for crop in crops:
        last = crop.frame
        kept[last] = crop
        while (oldest := next(iter(kept))) < last - longest:
            del kept[oldest]
        if (reference := kept.get(last - k)) is not None and (found := maker.features(reference, crop)) is not None:
            frames.append(last - k)
            features.append(found)
        for step, span in spans:
            reference = kept.get(last - span) if (last - span) % step == 0 else None
            if reference is not None and (found := maker.features(reference, crop)) is not None:
                rate_frames.append(last - span)
                rate_features.append(found)
        for apex in apexes:
            apex.take(crop)
    named = [(index, apex.features) for index, apex in enumerate(apexes) if apex.features is not None]
    return {
        "frame_count": np.array(last + 1),
        "frames": np.array(frames, np.int64),
        "rate_frames": np.array(rate_frames, np.int64),
        "apex_events": np.array([index for index, _ in named], np.int64),
        "features": stacked([*features, *rate_features, *(found for _, found in named)]),
    }


class _ApexPair:
    """The features of (onset, apex); without a known apex those of the frame up to the offset whose sum is largest.

    The latter is what the published code does for data sets without apex.
    """

    def __init__(self, maker: PairMaker, onset: int, apex: int | None, offset: int) -> None:
        self._maker = maker
        self._onset, self._apex, self._offset = onset, apex, offset
        self._reference: Crop | None = None
        self._most = -np.inf
        self.features: NDArray[np.float16] | None = None

    def take(self, crop: Crop) -> None:
        if crop.frame == self._onset:
            self._reference = crop
        elif self._reference is not None and self._onset < crop.frame <= self._offset:
            if self._apex is not None and crop.frame != self._apex:
                return
            found = self._maker.features(self._reference, crop)
            if found is not None and (total := float(found.sum(dtype=np.float64))) > self._most:
                self._most, self.features = total, found
        elif crop.frame > self._offset:
            self._reference = None
