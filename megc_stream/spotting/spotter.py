"""The spotting stage: crops in; scores, traces and events out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from megc_stream.clock import Clock
from megc_stream.errors import FlowError, UsageError
from megc_stream.flow import TVL1Solver
from megc_stream.models import MeanModel
from megc_stream.packing import Unpacker, pack
from megc_stream.records import (
    Adjustment,
    Annotation,
    Crop,
    Event,
    EventKind,
    EventPoint,
    Record,
    Score,
    StreamEnd,
    StreamInfo,
    Trace,
    frames_of,
)
from megc_stream.settings import Settings
from megc_stream.spotting.causal import Candidate, CausalSpotter, Smoothed
from megc_stream.spotting.causal import State as CausalState
from megc_stream.spotting.features import mean_features
from megc_stream.spotting.whole_video import find_intervals, smooth_scores

__all__ = ["Spotter"]

_CROP_PX = 128
_MARGIN_S = 5.0
"""Seconds of frames remembered beyond the longest event."""


class _Moment(msgspec.Struct, frozen=True):
    """What an event needs to know of a frame."""

    number: int
    t_s: float
    flags: tuple[str, ...]


class _State(msgspec.Struct, kw_only=True):
    info: StreamInfo | None = None
    crops: list[Crop] = []
    moments: dict[int, _Moment] = {}
    scores: list[tuple[int, float | None]] = []
    newest: int = -1
    revisions: dict[int, int] = {}
    causal: CausalState | None = None


class Spotter:
    """Scores pairs of crops (i, i + k) with MEAN and turns the scores into expression events.

    A stage (see ``megc_stream.pipeline``): ``process`` takes StreamInfo, Crop, Annotation, Adjustment and StreamEnd
    records. StreamInfo and remarks pass through, an Adjustment changes the causal threshold, StreamEnd is left to the
    runner, which calls ``flush`` first. A pair is scored where both its frames came and show the face in one segment;
    frames lost between them do not matter. Each pair is solved from a cold start, so that a score depends on its two
    crops alone.

    Parameters
    ----------
    settings
        ``flow``, ``model`` and ``spotting`` are used.
    model
        The network.
    clock
        Stamps ``t_score_s``.
    pass_crops
        Send every crop on, before what follows from it: a stage further down needs pictures.

    Raises
    ------
    UsageError
        Whole-video mode on a live source.
    """

    def __init__(self, settings: Settings, model: MeanModel, clock: Clock, *, pass_crops: bool = False) -> None:
        self._settings = settings
        self._pass_crops = pass_crops
        self._model = model
        self._clock = clock
        self._solver = TVL1Solver(_CROP_PX, _CROP_PX, **settings.flow.model_dump())
        self._flow = np.empty((_CROP_PX, _CROP_PX, 2), np.float32)
        self._state = _State()
        self._causal: CausalSpotter | None = None
        self._unpack = Unpacker[_State](_State)
        self._k = self._k_prime = 1

    def warm_up(self) -> None:
        """Compile or load every kernel, so that the first crop is not the slow one."""
        pattern = np.tile(np.arange(_CROP_PX, dtype=np.uint8), (_CROP_PX, 1))
        self._solver.solve(pattern, pattern, warm=False, out=self._flow)
        landmarks = np.full((68, 2), _CROP_PX / 2, np.float32)
        self._model.score(mean_features(self._flow, landmarks)[None])

    def process(self, record: Record) -> Iterable[Record]:
        """Take one record of the reader and return what follows from it."""
        if isinstance(record, StreamInfo):
            self._start(record)
            return [record]
        if isinstance(record, Crop):
            return self._crop(record)
        if isinstance(record, Adjustment) and self._causal is not None:
            self._causal.adjust(record.deviations, record.least_threshold)
        if isinstance(record, Annotation | Adjustment):
            return [record]
        if isinstance(record, StreamEnd):
            return []
        raise UsageError(f"spotter: got a {type(record).__name__} record; expected what the reader sends")

    def flush(self) -> Iterable[Record]:
        """End of the stream: decide what is still open (causal) or everything (whole video)."""
        if self._state.info is None:
            return
        if self._causal is not None:
            for decision in self._causal.finish():
                yield self._decided(decision)
        else:
            yield from self._whole_video()

    def snapshot(self) -> bytes:
        """Return all state as bytes; :meth:`restore` of an equal stage continues from there."""
        self._state.causal = self._causal.state if self._causal is not None else None
        return pack(self._state)

    def restore(self, data: bytes) -> None:
        """Take over the state of :meth:`snapshot`."""
        state = self._unpack(data)
        if state.info is not None:
            self._start(state.info)
        self._state = state
        if self._causal is not None and state.causal is not None:
            self._causal.state = state.causal

    def _start(self, info: StreamInfo) -> None:
        spotting = self._settings.spotting
        if spotting.mode == "video" and info.live:
            raise UsageError(f"{info.source}: whole-video spotting needs a file; a live source takes --spotting causal")
        self._state = _State(info=info)
        self._k = frames_of(spotting.k_s or self._model.info.k_s, info.fps)
        self._k_prime = frames_of(spotting.k_prime_s or self._model.info.k_prime_s, info.fps)
        self._causal = CausalSpotter(spotting, info.fps, self._k_prime) if spotting.mode == "causal" else None

    def _crop(self, crop: Crop) -> Iterator[Record]:
        state = self._state
        assert state.info is not None
        if self._pass_crops:
            yield crop
        state.newest = crop.frame
        state.moments[crop.frame] = _Moment(
            crop.number, crop.pts_s if crop.pts_s is not None else crop.t_capture_s, crop.flags
        )
        if self._causal is not None:
            oldest = crop.frame - frames_of(self._settings.spotting.longest_s + _MARGIN_S, state.info.fps)
            while (first_kept := next(iter(state.moments))) < oldest:
                del state.moments[first_kept]
        first = crop.frame - self._k
        state.crops = [old for old in state.crops if old.frame >= first]
        reference = state.crops[0] if state.crops and state.crops[0].frame == first else None
        state.crops.append(crop)
        if reference is None and first < 0:
            return
        score = self._score(reference, crop)
        yield score
        if self._causal is None:
            state.scores.append((first, score.spot))
        else:
            for decision in self._causal.push(first, score.spot):
                yield self._decided(decision)

    def _score(self, reference: Crop | None, crop: Crop) -> Score:
        reason, spot, recog = "", None, ()
        if reference is None:
            reason = "frames missing"
        elif crop.image is None or reference.image is None or reference.landmarks68 is None:
            reason = "face lost"
        elif crop.segment != reference.segment:
            reason = "face lost between"
        else:
            self._solver.solve(reference.image, crop.image, warm=False, out=self._flow)
            try:
                features = mean_features(self._flow, reference.landmarks68)
            except FlowError:
                reason = "brows or mouth outside the crop"
            else:
                spots, recogs = self._model.score(features[None])
                spot, recog = float(spots[0]), tuple(recogs[0].tolist())
        return Score(
            source=crop.source,
            frame=crop.frame - self._k,
            number=reference.number if reference is not None else crop.number - self._k,
            frame_to=crop.frame,
            t_capture_s=crop.t_capture_s,
            t_score_s=self._clock.now_s(),
            pts_s=reference.pts_s if reference is not None else None,
            spot=spot,
            recog=recog,
            reason=reason,
            flags=crop.flags if reference is None else tuple(dict.fromkeys((*reference.flags, *crop.flags))),
        )

    def _decided(self, decision: Candidate | Smoothed) -> Record:
        assert self._state.info is not None
        assert self._causal is not None
        if isinstance(decision, Smoothed):
            return Trace(
                source=self._state.info.source,
                frame=decision.index,
                smoothed=decision.smoothed,
                threshold=decision.threshold,
            )
        lookahead = self._k + self._causal.lookahead
        return self._event(decision, lookahead)

    def _whole_video(self) -> Iterator[Record]:
        """Do what ``spot_video`` does, clipped to the video, and say how."""
        state = self._state
        assert state.info is not None
        measured = [spot for _, spot in state.scores if spot is not None]
        if not measured:
            return
        first = state.scores[0][0]
        # Where there is no score (face lost, frames missing) the median of the video stands in: neither peak nor dip.
        series = np.full(state.scores[-1][0] - first + 1, np.median(measured))
        for frame, spot in state.scores:
            if spot is not None:
                series[frame - first] = spot
        if len(series) < 2 * self._k_prime or np.ptp(series) == 0:
            return
        smoothed = smooth_scores(series, self._k_prime)
        threshold, peaks = find_intervals(smoothed, self._k_prime, self._settings.spotting.p)
        for frame, _ in state.scores:
            yield Trace(
                source=state.info.source, frame=frame, smoothed=float(smoothed[frame - first]), threshold=threshold
            )
        for number, peak in enumerate(peaks, start=1):
            apex = first + peak
            points = {"onset": apex - self._k_prime, "apex": apex, "offset": apex + self._k_prime}
            for kind in ("onset", "apex", "offset"):
                yield self._event(
                    Candidate(
                        number=number,
                        kind=kind,
                        onset=points["onset"],
                        apex=None if kind == "onset" else points["apex"],
                        offset=points["offset"] if kind == "offset" else None,
                        score=float(smoothed[peak]),
                        threshold=threshold,
                    ),
                    lookahead=state.newest - apex,
                )

    def _event(self, step: Candidate, lookahead: int) -> Event:
        info = self._state.info
        assert info is not None
        rev = self._state.revisions.get(step.number, -1) + 1
        self._state.revisions[step.number] = rev
        onset = max(step.onset, 0)
        offset = None if step.offset is None else min(step.offset, self._state.newest)
        kind: EventKind = step.kind
        if kind in ("offset", "retracted"):
            del self._state.revisions[step.number]
        model = self._model.info
        length_s = None if offset is None else (offset - onset) / info.fps
        return Event(
            event_id=f"{info.source}-{step.number:04d}",
            event_number=step.number,
            rev=rev,
            kind=kind,
            final=kind == "retracted",
            source=info.source,
            subject=info.subject,
            video=info.video,
            decision_frame=self._state.newest,
            onset=self._point(onset),
            apex=None if step.apex is None else self._point(min(step.apex, self._state.newest)),
            offset=None if offset is None else self._point(offset),
            type=None if length_s is None else ("micro" if length_s <= self._settings.spotting.macro_s else "macro"),
            score=step.score,
            threshold=step.threshold,
            model=model.name,
            model_sha256=model.sha256,
            k=self._k,
            k_prime=self._k_prime,
            lookahead_s=lookahead / info.fps,
            flags=self._flags(onset, offset, step.reason),
            run={"t_event_s": self._clock.now_s()},
        )

    def _point(self, frame: int) -> EventPoint:
        moment = self._state.moments.get(frame)
        if moment is None:
            # A lost frame: take the nearest one before it, at the nominal rate.
            assert self._state.info is not None
            known = max((f for f in self._state.moments if f < frame), default=min(self._state.moments))
            near = self._state.moments[known]
            return EventPoint(
                frame=frame,
                number=near.number + frame - known,
                t_s=near.t_s + (frame - known) / self._state.info.fps,
            )
        return EventPoint(frame=frame, number=moment.number, t_s=moment.t_s)

    def _flags(self, onset: int, offset: int | None, reason: str) -> tuple[str, ...]:
        last = self._state.newest if offset is None else offset
        seen = {
            flag
            for frame in range(onset, last + 1)
            if (moment := self._state.moments.get(frame)) is not None
            for flag in moment.flags
        }
        return (*sorted(seen), *([reason] if reason else []))
