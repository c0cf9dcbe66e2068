"""From settings to results: opens the source, builds the stages, runs them, writes the folder."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

import msgspec

from megc_stream.capture import Source
from megc_stream.cli.inputs import open_input
from megc_stream.clock import Clock, MonotonicClock
from megc_stream.errors import CaptureError, MegcError, UsageError
from megc_stream.face import FaceAnalyser
from megc_stream.models import MeanModel, find_mean, model_path, sha256_of
from megc_stream.output import RunModel, RunStatus, RunWriter, TruthInterval, prepare_folder
from megc_stream.output.run_record import without_password
from megc_stream.pipeline import Sink, Stage, run_embedded
from megc_stream.recognition import Recogniser
from megc_stream.records import Crop, Event, Record, Score, StreamEnd, StreamInfo, frames_of
from megc_stream.settings import Settings
from megc_stream.spotting import Spotter
from megc_stream.wire import Publisher, check_endpoint

__all__ = ["Analysis", "analyse"]

_LEAST_FPS = 25.0
_MARGIN_S = 5.0
_RATE_AFTER_S = 3.0
_RATE_TOLERANCE = 0.1
_FLAGGED_SHARE = 0.1
_FACE_MODELS = ("mediapipe-face-detector.onnx", "mediapipe-face-mesh.onnx")


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run leaves: its folder, the finished events in order, how the stream ended, and the warnings."""

    folder: Path
    info: StreamInfo
    end: StreamEnd
    events: tuple[Event, ...]
    warnings: tuple[str, ...]


class _Watch(Sink):
    """A sink that keeps finished events, and says what the user should know while there is time to act on it."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._info: StreamInfo | None = None
        self._first: Crop | None = None
        self.events: list[Event] = []
        self.crops = 0
        self.faces = 0
        self.scores = 0
        self.flags: Counter[str] = Counter()

    def write(self, record: Record) -> None:
        if isinstance(record, Event) and record.kind == "label":
            self.events.append(record)
        elif isinstance(record, Score):
            self.scores += record.spot is not None
        elif isinstance(record, StreamInfo):
            self._info = record
        elif isinstance(record, Crop):
            self.crops += 1
            self.faces += record.image is not None
            self.flags.update(record.flags)
            if self._info is not None and self._info.live:
                self._check_rate(record, self._info)

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
                f"durations are wrong by that much: run again with --fps {measured_fps:.0f}, or give it more light"
            )
        self._info = None


class _Serving(Sink):
    """A sink that lets the publisher answer new subscribers; the events come to it in the order of the log."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def write(self, record: Record) -> None:
        self._publisher.serve()


def analyse(
    settings: Settings,
    *,
    sinks: Sequence[Sink] = (),
    truth: Sequence[TruthInterval] | None = None,
    warn: Callable[[str], None] | None = None,
    clock: Clock | None = None,
) -> Analysis:
    """Analyse ``settings.source`` and write the results.

    Parameters
    ----------
    settings
        The whole configuration.
    sinks
        Get every record besides the files.
    truth
        Known events, drawn in the report.
    warn
        Gets each warning as soon as it is known.
    clock
        The host's monotonic clock without it.

    Raises
    ------
    MegcError
        Whatever keeps the analysis from running or finishing. Results up to then are on disk.
    """
    clock = clock or MonotonicClock()
    started = datetime.now().astimezone()
    if settings.wire.publish is not None:
        check_endpoint(settings.wire.publish, settings.wire.insecure_bind)
    model = MeanModel(find_mean(settings.model.name), settings.model.providers, settings.model.threads)
    with ExitStack() as stack:
        source = stack.enter_context(open_input(settings, clock))
        info = source.info
        face = FaceAnalyser(settings.face, info.fps, settings.model.providers)
        spotter = Spotter(settings, model, clock)
        spotter.warm_up()
        causal = settings.spotting.mode == "causal"
        if info.live and not causal:
            raise UsageError(f"{info.source}: --spotting video needs a file; a live source takes --spotting causal")
        kept_s = settings.spotting.longest_s + _MARGIN_S if causal else None
        recogniser = Recogniser(model.info.classes, kept_s, clock)
        warnings: list[str] = []

        def tell(text: str) -> None:
            warnings.append(text)
            if warn is not None:
                warn(text)

        for text in _warnings_before(source):
            tell(text)
        watch = _Watch(tell)
        all_sinks: list[Sink] = [watch, *sinks]
        publisher = None
        if settings.wire.publish is not None:
            publisher = _publisher(settings, stack, clock)
            all_sinks.append(_Serving(publisher))
        folder = prepare_folder(settings.output, info.video, started)
        writer = stack.enter_context(
            RunWriter(
                folder,
                settings,
                _run_model(model, settings),
                started,
                stages=("reader", "spotter", "recogniser"),
                checksums=_checksums(model, settings),
                truth=truth,
                notes=(f"The model {model.info.name} was trained on: {model.info.trained_on}.",),
                on_event=None if publisher is None else publisher.publish,
                clock=clock,
            )
        )
        stack.enter_context(_stopping_on_signals(source))
        stages: list[tuple[str, Stage]] = [("spotter", spotter), ("recogniser", recogniser)]
        try:
            end = run_embedded(source, face, stages, [writer, *all_sinks], settings.pipeline)
        except MegcError as error:
            error.add_note(f"what was found is in {folder}")
            raise
        for text in _warnings_after(watch, settings):
            tell(text)
        for text in warnings:
            writer.note(text)
        k = frames_of(settings.spotting.k_s or model.info.k_s, info.fps)
        late = source.late if settings.capture.speed and not info.live else None
        problem = _problem(watch, end, without_password(settings.source), k, settings.face.face_index)
        status: RunStatus = "failed" if problem else "stopped" if end.reason == "stopped" else "complete"
        try:
            writer.close(status, str(problem or ""), late=late)
            if problem is not None:
                raise problem
        except MegcError as error:
            error.add_note(f"what was found is in {folder}")
            raise
    return Analysis(
        folder=folder,
        info=info,
        end=end,
        events=tuple(watch.events),
        warnings=tuple(warnings),
    )


def _warnings_before(source: Source) -> list[str]:
    info = source.info
    warnings = []
    if source.assumed_fps:
        warnings.append(f"{info.source}: has no frame rate of its own; {info.fps:g} assumed, --fps sets it")
    if info.fps < _LEAST_FPS:
        warnings.append(
            f"{info.source}: {info.fps:g} frames per second are too slow for micro-expressions (1/25 to 1/2 s); "
            f"expected at least {_LEAST_FPS:g}, better 100 to 200"
        )
    return warnings


def _warnings_after(watch: _Watch, settings: Settings) -> list[str]:
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


def _publisher(settings: Settings, stack: ExitStack, clock: Clock) -> Publisher:
    import zmq

    assert settings.wire.publish is not None
    context = stack.enter_context(zmq.Context())
    publisher = Publisher(context, settings.wire.publish, clock, insecure=settings.wire.insecure_bind)
    stack.callback(publisher.close)
    return publisher


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


@contextmanager
def _stopping_on_signals(source: Source) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the stream: what was read is finished and written. A second Ctrl-C breaks off."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: FrameType | None) -> None:
        source.stop()
        signal.signal(number, signal.default_int_handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
