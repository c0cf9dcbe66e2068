"""What a run leaves of each of its sources: the result files, warnings, and whether it all makes sense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from megc_stream.cli.console import listed
from megc_stream.clock import Clock
from megc_stream.errors import CaptureError
from megc_stream.models import MeanModel, model_path, sha256_of
from megc_stream.output.report_chart import TruthInterval
from megc_stream.output.run_record import RunStatus, without_password
from megc_stream.output.writer import RunModel, RunWriter
from megc_stream.pipeline import Sink
from megc_stream.records import Crop, Event, Record, Score, StreamEnd, StreamInfo, frames_of
from megc_stream.settings import Settings

__all__ = ["Analysis", "SourceResults"]

_LEAST_FPS = 25.0
_RATE_AFTER_S = 3.0
_RATE_TOLERANCE = 0.1
_FLAGGED_SHARE = 0.1
_LOST_SHARE = 0.01
_LEAST_LOST = 10  # a hiccup at the beginning is no reason to speak
_KEEP_UP = (
    "choose a lower rate or fewer sources, or leave the machine to it; 'megc-stream bench latency' says what costs what"
)
_FACE_MODELS = ("mediapipe-face-detector.onnx", "mediapipe-face-mesh.onnx")
_ASSUMED = ", rate assumed"


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished source leaves: its folder, the finished events in order, how the stream ended, and the warnings.

    ``dropped`` counts the lost frames by reason, ``late`` those of a replay that were analysed more than 50 ms after
    their time (None without a pace), ``late_by_reason`` why, with the runner ``embedded``. ``problem`` says what makes
    the results incomplete or empty although nothing failed.
    """

    name: str
    folder: str
    info: StreamInfo
    end: StreamEnd
    events: tuple[Event, ...]
    warnings: tuple[str, ...]
    dropped: dict[str, int] = {}
    late: int | None = None
    late_by_reason: dict[str, int] = {}
    problem: str = ""


class _Watch(Sink):
    """A sink that keeps finished events, and says what the user should know while there is time to act on it."""

    def __init__(self, warn: Callable[[str], None], *, own_rate: bool) -> None:
        self._warn = warn
        self._own_rate = own_rate
        self._info: StreamInfo | None = None
        self._first: Crop | None = None
        # By event_id: the label, then its answers.
        self.events: dict[str, Event] = {}
        self.crops = 0
        self.faces = 0
        self.scores = 0
        self.flags: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.end: StreamEnd | None = None
        self._told_of_losses = False

    def write(self, record: Record) -> None:
        if isinstance(record, Event) and record.kind in ("label", "answer"):
            self.events[record.event_id] = record
        elif isinstance(record, Score):
            self.scores += record.spot is not None
        elif isinstance(record, StreamInfo):
            self._info = record
        elif isinstance(record, StreamEnd):
            self.end = record
            self.dropped.update(record.dropped)
        elif isinstance(record, Crop):
            self.crops += 1
            if record.dropped:
                self._lose(record)
            self.faces += record.image is not None
            self.flags.update(record.flags)
            if self._info is not None and self._info.live and self._own_rate:
                self._check_rate(record, self._info)

    def _lose(self, crop: Crop) -> None:
        """Count what was lost before a frame; say once, while there is time to act on it, that the analysis is slow."""
        self.dropped.update(crop.dropped)
        lost = self.dropped["overrun"]
        if lost > max(_LEAST_LOST, _LOST_SHARE * self.crops) and not self._told_of_losses:
            self._told_of_losses = True
            self._warn(
                f"{crop.source}: the analysis does not keep up, {lost} of {crop.frame} frames lost so far; {_KEEP_UP}"
            )

    def _check_rate(self, crop: Crop, info: StreamInfo) -> None:
        """Compare a camera's real rate with what its driver says, once, after some seconds."""
        if self._first is None:
            self._first = crop
        elapsed_s = crop.t_capture_s - self._first.t_capture_s
        if elapsed_s < _RATE_AFTER_S:
            return
        measured_fps = (crop.frame - self._first.frame) / elapsed_s
        if abs(measured_fps / info.fps - 1) > _RATE_TOLERANCE:
            self._warn(
                f"{info.source}: delivers {measured_fps:.1f} frames per second, its driver says {info.fps:g}; "
                f"durations are wrong by that much: run again with --fps {measured_fps:.0f}, give it more light, or "
                "leave the machine to it"
            )
        self._info = None


class SourceResults:
    """The sinks of one source, and what becomes of them at its end.

    Parameters
    ----------
    settings
        Of the source.
    name
        Of the source in the graph, "" for the only one.
    info
        What it is.
    before
        What its reader warned of.
    folder
        From :func:`megc_stream.output.prepare_folder`.
    stages
        Names of its stages, the reader first.
    warn
        Gets each warning as soon as it is known.
    on_event
        Gets every revision in the order of the log.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        info: StreamInfo,
        before: Sequence[str],
        model: MeanModel,
        folder: Path,
        started: datetime,
        stages: Sequence[str],
        *,
        clock: Clock,
        truth: Sequence[TruthInterval] | None = None,
        warn: Callable[[str], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.folder = folder
        self.info = info
        self._settings = settings
        self._name = name
        self._k = frames_of(settings.spotting.k_s or model.info.k_s, info.fps)
        self._warn = warn
        self._warnings: list[str] = []
        for text in (*_warnings_before(info), *before):
            self.tell(text)
        # Who triggers a camera decides how many frames come.
        self._watch = _Watch(self.tell, own_rate=settings.capture.camera.trigger == "off")
        self.writer = RunWriter(
            folder,
            settings,
            _run_model(model, settings),
            started,
            stages=stages,
            checksums=_checksums(model, settings),
            truth=truth,
            notes=(f"The model {model.info.name} was trained on: {model.info.trained_on}.",),
            on_event=on_event,
            clock=clock,
        )
        self.sinks: list[Sink] = [self.writer, self._watch]

    def finish(self, late: int, late_by_reason: Mapping[str, int] | None = None) -> Analysis:
        """Close the files of a source that has ended; ``late`` counts the frames after their deadline.

        Raises
        ------
        OutputError
            A file could not be written.
        """
        end = self._watch.end
        assert end is not None
        paced = self._settings.capture.speed and not self.info.live
        for text in _warnings_after(self._watch, self._settings, late if paced else 0, late_by_reason or {}):
            self.tell(text)
        for text in self._warnings:
            self.writer.note(text)
        source = without_password(self._settings.source).rstrip(":") or self.info.source
        problem = _problem(self._watch, end, source, self._k, self._settings.face.face_index)
        status: RunStatus = "failed" if problem else "stopped" if end.reason == "stopped" else "complete"
        self.writer.close(status, str(problem or ""), late=late if paced else None)
        return Analysis(
            name=self._name,
            folder=str(self.folder),
            info=self.info,
            end=end,
            events=tuple(self._watch.events.values()),
            warnings=tuple(self._warnings),
            dropped=dict(sorted((+self._watch.dropped).items())),
            late=late if paced else None,
            late_by_reason=dict(late_by_reason or {}) if paced else {},
            problem=str(problem or ""),
        )

    def fail(self, error: str) -> None:
        """Close the files of a source that has not ended; nothing happens after :meth:`finish`."""
        self.writer.close("failed", error)

    def tell(self, text: str) -> None:
        """Take a warning, from any thread: it is shown at once, and kept with the results."""
        self._warnings.append(text)
        if self._warn is not None:
            self._warn(text)


def _warnings_before(info: StreamInfo) -> list[str]:
    warnings = []
    if info.description.endswith(_ASSUMED):
        warnings.append(f"{info.source}: has no frame rate of its own; {info.fps:g} assumed, --fps sets it")
    if info.fps < _LEAST_FPS:
        warnings.append(
            f"{info.source}: {info.fps:g} frames per second are too slow for micro-expressions (1/25 to 1/2 s); "
            f"expected at least {_LEAST_FPS:g}, better 100 to 200"
        )
    return warnings


def _warnings_after(watch: _Watch, settings: Settings, late: int, reasons: Mapping[str, int]) -> list[str]:
    advice = {
        "small": f"outer eye corners less than {settings.face.small_px:g} px apart; move closer or use more pixels",
        "turned": f"by more than {settings.face.turned_deg:g} degrees; look towards the camera",
        "blurred": "hold still, focus, or give more light",
    }
    many = _FLAGGED_SHARE * watch.crops
    warnings = [
        f"face {flag} in {watch.flags[flag]} of {watch.crops} frames ({text}): results there mean little"
        for flag, text in advice.items()
        if watch.flags[flag] > many
    ]
    lost = watch.crops - watch.faces
    if lost > many:
        warnings.insert(0, f"no face in {lost} of {watch.crops} frames: nothing can be found there")
    if gone := watch.dropped.total():
        losses = listed(dict(sorted((+watch.dropped).items())))
        advice_then = f"; {_KEEP_UP}" if watch.dropped["overrun"] else ""
        warnings.append(f"{gone} of {watch.crops + gone} frames were lost ({losses}){advice_then}")
    if late:
        why = f" ({', '.join(f'{count} for {reason}' for reason, count in reasons.items())})" if reasons else ""
        warnings.append(
            f"{late} of {watch.crops} frames were analysed more than 50 ms after their time{why}: nothing is lost, but "
            f"what came live came late; {_KEEP_UP}"
        )
    return warnings


def _problem(watch: _Watch, end: StreamEnd, source: str, k: int, face_index: int) -> CaptureError | None:
    """Return what makes the results incomplete or empty although nothing failed."""
    if end.reason == "damaged":
        return CaptureError(f"{end.message}; the results cover what could be decoded")
    if end.reason == "stopped":
        return None
    if watch.crops and not watch.faces and face_index > 0:
        return CaptureError(
            f"{source}: no face number {face_index} (counted from 0) in any of {watch.crops} frames; "
            "use a smaller --face-index"
        )
    if watch.crops and not watch.faces:
        return CaptureError(
            f"{source}: no face in any of {watch.crops} frames; expected one face, upright, well lit, "
            "at least 80 px between the outer eye corners"
        )
    if watch.crops <= k:
        return CaptureError(
            f"{source}: {watch.crops} frames are too few to compare; expected more than {k}, "
            f"because the pictures of a pair are {k} frames apart; give a longer source"
        )
    if not watch.scores:
        return CaptureError(
            f"{source}: no pair of frames could be compared: a face in {watch.faces} of {watch.crops} frames, never in "
            f"two that are {k} frames apart; expected a face that stays in view"
        )
    return None


def _run_model(model: MeanModel, settings: Settings) -> RunModel:
    return RunModel(
        name=model.info.name,
        sha256=model.info.sha256,
        classes=model.info.classes,
        k_s=settings.spotting.k_s or model.info.k_s,
        k_prime_s=settings.spotting.k_prime_s or model.info.k_prime_s,
    )


def _checksums(model: MeanModel, settings: Settings) -> dict[str, str]:
    sums = {f"{model.info.name}.onnx": model.info.sha256}
    if settings.face.backend == "onnx":
        sums.update({name: sha256_of(model_path(name)) for name in _FACE_MODELS})
    elif settings.face.mediapipe_model is not None:
        sums[settings.face.mediapipe_model.name] = sha256_of(settings.face.mediapipe_model)
    return sums
