"""All stages in one process: one thread a stage, linked by ZeroMQ ``inproc://``.

    reader (capture + face) --> spotter --> recogniser
          \\-------------------------+-----------\\--> sinks, on the calling thread

Links hold a bounded number of records. A full link makes its sender wait, so replay loses nothing; a live source
drops its oldest frames before the reader, counted. A stage that fails reports to the calling thread, which takes the
others down.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import zmq

from megc_stream.capture import Source
from megc_stream.errors import MegcError
from megc_stream.face import FaceAnalyser
from megc_stream.packing import Unpacker, pack
from megc_stream.pipeline.stage import Sink, Stage
from megc_stream.records import Crop, Event, Record, Score, StreamEnd, Trace
from megc_stream.settings import PipelineSettings
from megc_stream.wire import Aborted, Inlet, Outlet

__all__ = ["run_embedded"]

_SINK = "inproc://sink"
_POLL_MS = 100
_JOIN_S = 10.0


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """Goes before a record on its way to the sinks: who, how far, how long it took, and whether that was the end."""

    stage: str
    frame: int
    cost_s: float
    state: Literal["running", "done", "failed"] = "running"


class _Reporter:
    """The link from one stage to the sinks."""

    def __init__(self, stage: str, outlet: Outlet) -> None:
        self._stage = stage
        self._outlet = outlet
        self._frame = -1

    def reached(self, frame: int) -> None:
        self._frame = max(self._frame, frame)

    def send(self, packed: bytes, cost_s: float = 0.0) -> None:
        """Send a packed record, or only the position of the stage where ``packed`` is empty."""
        self._outlet.send(pack(_Header(self._stage, self._frame, cost_s)), packed)

    def observe(self, what: str, cost_s: float) -> None:
        """Report a duration that belongs to no record: ``capture`` is the wait for a frame, decoding included."""
        self._outlet.send(pack(_Header(what, -1, cost_s)), b"")

    def done(self) -> None:
        self._outlet.send(pack(_Header(self._stage, self._frame, 0.0, "done")), b"")

    def failed(self) -> None:
        self._outlet.send(pack(_Header(self._stage, self._frame, 0.0, "failed")), b"")


def run_embedded(
    source: Source,
    face: FaceAnalyser,
    stages: Sequence[tuple[str, Stage]],
    sinks: Sequence[Sink],
    settings: PipelineSettings,
) -> StreamEnd:
    """Run a source through face analysis and the given stages until its end; feed every sink on this thread.

    ``source.stop()``, from a signal handler for instance, ends the stream early: all that was read is still finished.

    Parameters
    ----------
    source
        Open and not yet read.
    face
        Turns its frames into crops, on the thread of the reader.
    stages
        (name, stage) in the order of the chain.
    sinks
        Get StreamInfo, crops, scores, traces, events and the StreamEnd.
    settings
        ``queue_records`` bounds every link.

    Returns
    -------
    How the stream ended.

    Raises
    ------
    MegcError
        Whatever a stage, the source or a sink raised; the other stages are down by then.
    """
    with zmq.Context() as context:
        return _Run(context, settings).run(source, face, stages, sinks)


class _Run:
    def __init__(self, context: zmq.Context[Any], settings: PipelineSettings) -> None:
        self._context = context
        self._queue = max(1, settings.queue_records // 2)  # both ends of an inproc link count
        self._abort = threading.Event()
        self._errors: list[tuple[str, BaseException]] = []
        self._sink_inlet = Inlet(context, _SINK, max(self._queue, 256), self._abort)

    def run(
        self,
        source: Source,
        face: FaceAnalyser,
        stages: Sequence[tuple[str, Stage]],
        sinks: Sequence[Sink],
    ) -> StreamEnd:
        # Bind every link before anything connects, on this thread; a socket moves to its thread before its first use
        # there.
        names = [name for name, _ in stages]
        inlets = [Inlet(self._context, _link(name), self._queue, self._abort) for name in names]
        threads = [self._thread("reader", self._read, source, face, _link(names[0]))]
        for (name, stage), inlet, following in zip(stages, inlets, [*names[1:], ""], strict=True):
            threads.append(self._thread(name, self._host, stage, inlet, following))
        for thread in threads:
            thread.start()
        try:
            self._feed(sinks, {thread.name: thread for thread in threads})
        finally:
            source.stop()
            self._abort.set()
            for thread in threads:
                thread.join(_JOIN_S)
            self._sink_inlet.close()
        if self._errors:
            failed, error = self._errors[0]
            if isinstance(error, MegcError):
                raise error
            raise RuntimeError(f"stage {failed} failed: {error!r}; please report this as a bug") from error
        return source.end

    def _thread(self, name: str, target: Callable[..., None], *arguments: object) -> threading.Thread:
        return threading.Thread(target=self._guarded, args=(name, target, *arguments), name=name, daemon=True)

    def _guarded(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        """Run the body of one thread; its failure becomes the failure of the run."""
        outlet = None
        try:
            outlet = Outlet(self._context, _SINK, self._queue, self._abort)
            reporter = _Reporter(name, outlet)
            target(reporter, *arguments)
            reporter.done()
        except Aborted:
            pass
        except BaseException as error:  # noqa: BLE001  handed to the calling thread, which raises it
            self._errors.append((name, error))
            with contextlib.suppress(Aborted):  # the calling thread is on its way down already
                if outlet is not None:
                    reporter.failed()
        finally:
            if outlet is not None:
                outlet.close(linger_ms=1000)

    def _read(self, reporter: _Reporter, source: Source, face: FaceAnalyser, following: str) -> None:
        outlet = Outlet(self._context, following, self._queue, self._abort)
        try:
            self._pass(source.info, outlet, reporter, 0.0)
            frames = source.frames()
            while True:
                begin_s = time.perf_counter()
                try:
                    frame = next(frames, None)
                except MegcError as error:
                    # What was read is still analysed to its end; the run fails afterwards.
                    self._errors.append(("reader", error))
                    frame = None
                decoded_s = time.perf_counter()
                if self._abort.is_set():
                    raise Aborted("the pipeline was stopped")
                if frame is None:
                    break
                reporter.observe("capture", decoded_s - begin_s)
                crop = face.process(frame)
                reporter.reached(crop.frame)
                self._pass(crop, outlet, reporter, time.perf_counter() - decoded_s)
            self._pass(source.end, outlet, reporter, 0.0)
        finally:
            outlet.close(linger_ms=1000)

    def _pass(self, record: Record, outlet: Outlet, reporter: _Reporter, cost_s: float) -> None:
        packed = pack(record)
        outlet.send(packed)
        reporter.send(packed, cost_s)

    def _host(self, reporter: _Reporter, stage: Stage, inlet: Inlet, following: str) -> None:
        unpack = Unpacker[Record](Record)
        outlet = Outlet(self._context, _link(following), self._queue, self._abort) if following else None
        try:
            while True:
                record = unpack(inlet.receive()[0])
                begin_s = time.perf_counter()
                results = list(stage.process(record))
                cost_s = time.perf_counter() - begin_s
                reporter.reached(_position(record))
                self._hand_on(results, outlet, reporter, cost_s)
                if isinstance(record, StreamEnd):
                    self._hand_on(list(stage.flush()), outlet, reporter, 0.0)
                    if outlet is not None:
                        outlet.send(pack(record))
                    return
        finally:
            inlet.close()
            if outlet is not None:
                outlet.close(linger_ms=1000)

    def _hand_on(self, results: Sequence[Record], outlet: Outlet | None, reporter: _Reporter, cost_s: float) -> None:
        for record in results:
            packed = pack(record)
            if outlet is not None:
                outlet.send(packed)
            if isinstance(record, Score | Trace | Event):
                reporter.send(packed, cost_s)
                cost_s = 0.0
        if not results:
            reporter.send(b"", cost_s)

    def _feed(self, sinks: Sequence[Sink], running: dict[str, threading.Thread]) -> None:
        unpack_header = Unpacker[_Header](_Header)
        unpack = Unpacker[Record](Record)
        while running:
            parts = self._sink_inlet.poll(_POLL_MS)
            if parts is None and all(thread.is_alive() for thread in running.values()):
                continue
            if parts is None:
                # A thread is gone without a word: give a last message the time of one more look.
                parts = self._sink_inlet.poll(_POLL_MS)
            if parts is None:
                return
            header = unpack_header(parts[0])
            record = unpack(parts[1]) if parts[1] else None
            for sink in sinks:
                if record is not None:
                    sink.write(record)
                if header.frame >= 0:
                    sink.advance(header.stage, header.frame)
                if header.cost_s > 0:
                    sink.observe(header.stage, header.cost_s)
            if header.state == "done":
                running.pop(header.stage, None)
            elif header.state == "failed":
                return


def _link(name: str) -> str:
    return f"inproc://{name}"


def _position(record: Record) -> int:
    """Return the newest frame that a record depends on, -1 where that says nothing."""
    match record:
        case Crop():
            return record.frame
        case Score():
            return record.frame_to
        case Event():
            return record.decision_frame
        case _:
            return -1
