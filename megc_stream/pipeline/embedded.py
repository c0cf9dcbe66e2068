"""All stages in one process: one thread a stage, linked by ZeroMQ ``inproc://``.

    reader (capture + face) --> spotter --> recogniser      a chain for each source
          \\-------------------------+-----------\\--> sinks, on the calling thread

Links hold a bounded number of records. A full link makes its sender wait, so replay loses nothing; a live source
drops its oldest frames before the reader, counted. A stage that fails reports to the calling thread, which takes the
others down.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import zmq

from megc_stream.errors import MegcError
from megc_stream.packing import pack
from megc_stream.pipeline.feeding import Feed
from megc_stream.pipeline.hosting import Desk, Header, ReaderHost, Sender, StageHost
from megc_stream.pipeline.stage import Sink, Stage
from megc_stream.records import StreamEnd
from megc_stream.settings import PipelineSettings
from megc_stream.wire import Aborted, Inlet, Outlet

if TYPE_CHECKING:
    from megc_stream.capture import Source
    from megc_stream.face import FaceAnalyser

__all__ = ["Chain", "run_chains", "run_embedded"]

_SINK = "inproc://sink"
_POLL_MS = 50
_TICK_S = 0.05
_JOIN_S = 10.0
_LINGER_MS = 1000


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The stages of one source and the sinks of its records.

    ``source`` is open and not yet read; ``face`` turns its frames into crops; ``stages`` are (name, stage) in order;
    ``sinks`` get StreamInfo, crops, scores, traces, events, remarks and the StreamEnd; ``desk`` is where others leave
    what goes into the stream.
    """

    name: str
    source: Source
    face: FaceAnalyser
    stages: Sequence[tuple[str, Stage]]
    sinks: Sequence[Sink]
    desk: Desk = field(default_factory=Desk)


def run_embedded(
    source: Source,
    face: FaceAnalyser,
    stages: Sequence[tuple[str, Stage]],
    sinks: Sequence[Sink],
    settings: PipelineSettings,
) -> StreamEnd:
    """Run one source; see :func:`run_chains`. Return how its stream ended."""
    run_chains([Chain(name="", source=source, face=face, stages=stages, sinks=sinks)], settings)
    return source.end


def run_chains(
    chains: Sequence[Chain],
    settings: PipelineSettings,
    context: zmq.Context[Any] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Run every source through face analysis and its stages until its end; feed all sinks on this thread.

    ``source.stop()``, from a signal handler for instance, ends a stream early: all that was read is still finished.
    When one source fails, the others go on to their end first.

    Parameters
    ----------
    chains
        At least one.
    settings
        ``queue_records`` bounds every link.
    context
        ZeroMQ context; one of its own without it.
    tick
        Called at least every 100 ms, after the sinks' own.

    Raises
    ------
    MegcError
        Whatever a stage, a source or a sink raised; all stages are down by then.
    """
    if context is not None:
        _Run(context, chains, settings, tick).run()
        return
    with zmq.Context() as own:
        _Run(own, chains, settings, tick).run()


class _Run:
    def __init__(
        self,
        context: zmq.Context[Any],
        chains: Sequence[Chain],
        settings: PipelineSettings,
        tick: Callable[[], None],
    ) -> None:
        self._tick = tick
        self._context = context
        self._chains = chains
        self._queue = max(1, settings.queue_records // 2)  # both ends of an inproc link count
        self._aborts = {chain.name: threading.Event() for chain in chains}
        self._errors: list[tuple[str, BaseException]] = []
        self._gone: Counter[str] = Counter()
        self._sink_inlet = Inlet(context, _SINK, max(self._queue, 256), threading.Event())

    def run(self) -> None:
        # Bind every link before anything connects, on this thread; a socket moves to its thread before its first use
        # there.
        threads: dict[str, list[threading.Thread]] = {}
        for number, chain in enumerate(self._chains):
            names = [name for name, _ in chain.stages]
            links = [f"inproc://{number}-{name}" for name in names]
            abort = self._aborts[chain.name]
            inlets = [Inlet(self._context, link, self._queue, abort) for link in links]
            threads[chain.name] = [self._thread(chain, "reader", self._read, links[0])]
            for (name, stage), inlet, following in zip(chain.stages, inlets, [*links[1:], None], strict=True):
                threads[chain.name].append(self._thread(chain, name, self._host, stage, inlet, following))
        for thread in (thread for several in threads.values() for thread in several):
            thread.start()
        try:
            self._feed(threads)
        finally:
            for chain in self._chains:
                self._end(chain.name)
            for thread in (thread for several in threads.values() for thread in several):
                thread.join(_JOIN_S)
            self._sink_inlet.close()
        if self._errors:
            failed, error = self._errors[0]
            if isinstance(error, MegcError):
                raise error
            raise RuntimeError(f"stage {failed} failed: {error!r}; please report this as a bug") from error

    def _end(self, name: str) -> None:
        """Take one chain down."""
        next(chain for chain in self._chains if chain.name == name).source.stop()
        self._aborts[name].set()

    def _thread(self, chain: Chain, name: str, target: Callable[..., None], *arguments: object) -> threading.Thread:
        return threading.Thread(
            target=self._guarded, args=(chain, name, target, *arguments), name=f"{chain.name}/{name}", daemon=True
        )

    def _sender(self, chain: Chain, link: str) -> Sender:
        return Sender(lambda: Outlet(self._context, link, self._queue, self._aborts[chain.name]), keep=False)

    def _guarded(self, chain: Chain, name: str, target: Callable[..., None], *arguments: object) -> None:
        """Run the body of one thread; its failure becomes the failure of the run."""
        sinks = None
        try:
            sinks = self._sender(chain, _SINK)
            target(chain, name, sinks, *arguments)
        except Aborted:
            pass
        except BaseException as error:  # noqa: BLE001  handed to the calling thread, which raises it
            self._errors.append((name, error))
            with contextlib.suppress(Aborted):  # the calling thread is on its way down already
                if sinks is not None:
                    sinks.send(-1, [pack(Header(chain.name, name, 2**62, state="failed"))])
        finally:
            if sinks is not None:
                sinks.close(_LINGER_MS)

    def _read(self, chain: Chain, name: str, sinks: Sender, following: str) -> None:
        link = self._sender(chain, following)
        host = ReaderHost(chain.name, chain.source, chain.face, link, sinks, self._aborts[chain.name], chain.desk)
        try:
            host.run()
        finally:
            if host.error is not None:
                self._errors.append((name, host.error))
            link.close(_LINGER_MS)

    def _host(self, chain: Chain, name: str, sinks: Sender, stage: Stage, inlet: Inlet, following: str | None) -> None:
        link = None if following is None else self._sender(chain, following)
        try:
            StageHost(chain.name, name, stage, inlet, link, sinks).run()
        finally:
            inlet.close()
            if link is not None:
                link.close(_LINGER_MS)

    def _feed(self, threads: dict[str, list[threading.Thread]]) -> None:
        feed = Feed(
            {chain.name: chain.sinks for chain in self._chains},
            {chain.name: ["reader", *(name for name, _ in chain.stages)] for chain in self._chains},
        )
        # One sink may serve several sources; it ticks once.
        sinks = list({id(sink): sink for chain in self._chains for sink in chain.sinks}.values())
        open_chains = [chain.name for chain in self._chains]
        ticked_s = time.monotonic()
        while open_chains:
            parts = self._sink_inlet.poll(_POLL_MS)
            if parts is not None and (taken := feed.take(parts)) is not None:
                header = taken[0]
                if header.state in ("end", "failed") and (header.state == "failed" or feed.ended(header.source)):
                    self._end(header.source)
                    if header.source in open_chains:
                        open_chains.remove(header.source)
            elif parts is None:
                open_chains = [name for name in open_chains if self._is_alive(name, threads[name], feed)]
            now_s = time.monotonic()
            if now_s - ticked_s >= _TICK_S:
                ticked_s = now_s
                for sink in sinks:
                    sink.tick()
                self._tick()

    def _is_alive(self, name: str, threads: Sequence[threading.Thread], feed: Feed) -> bool:
        """Return False when a thread is gone without a word: a last message had the time of one more look."""
        if all(thread.is_alive() or (name, thread.name.rpartition("/")[2]) not in feed.running for thread in threads):
            self._gone[name] = 0
            return True
        self._gone[name] += 1
        if self._gone[name] > 1:
            self._end(name)
            return False
        return True
