"""One stage in a process of its own: its links, its orders, and going back when the coordinator says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import zmq

from megc_stream.pipeline.feeding import Feed
from megc_stream.pipeline.hosting import Desk, ReaderHost, Sender, StageHost
from megc_stream.pipeline.orders import Begin, Command, Orders
from megc_stream.pipeline.spool import Spool
from megc_stream.pipeline.stage import Sink, Stage
from megc_stream.pipeline.stage_link import StageLink
from megc_stream.records import frames_of
from megc_stream.settings import PipelineSettings
from megc_stream.wire import Aborted, Inlet, Outlet
from megc_stream.wire.security import PLAIN, Security, authenticator

if TYPE_CHECKING:
    from megc_stream.capture import Source
    from megc_stream.face import FaceAnalyser

__all__ = ["Place", "Results", "run_publisher", "run_reader", "run_stage"]

_QUEUE_SINKS = 512
_TICK_MS = 50
_WAIT_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a stage's process stands in the graph.

    ``inlet`` is the endpoint on which it takes records (None for a reader), ``following`` that of the next stage (None
    for the last one), ``sinks`` that of the publisher (None for the publisher itself). ``lifeline`` as for
    :class:`megc_stream.pipeline.stage_link.StageLink`.
    """

    source: str
    stage: str
    coordinator: str
    inlet: str | None
    following: str | None
    sinks: str | None
    settings: PipelineSettings
    security: Security = PLAIN
    insecure: bool = False
    lifeline: int | None = None

    def link(self, context: zmq.Context[Any]) -> StageLink:
        """Return the link to the coordinator."""
        return StageLink(
            context,
            self.coordinator,
            self.security,
            self.source,
            self.stage,
            silent_s=self.settings.silent_s,
            lifeline=self.lifeline,
        )

    def bind(self, context: zmq.Context[Any], queue: int, abort: threading.Event) -> Inlet:
        """Return the inlet."""
        assert self.inlet is not None
        return Inlet(context, self.inlet, queue, abort, self.security, insecure=self.insecure)


class Results(Protocol):
    """What the publisher's process does with records; made by the command line."""

    def open(self, sources: Mapping[str, Mapping[str, Any]]) -> Mapping[str, list[Sink]]:
        """Return the sinks of each source, from what the coordinator was told of it."""
        ...

    def spool(self, source: str) -> Spool:
        """Return the spool of a source."""
        ...

    def rebuilt(self) -> None:
        """Note that all that was spooled has been handed to the sinks: what follows is new."""
        ...

    def finish(self, source: str, late: int) -> bytes:
        """Close the sinks of a source that has ended and return its summary."""
        ...

    def tick(self) -> None:
        """Do what is due by the clock."""
        ...

    def log(self, level: str, text: str) -> None:
        """Note something that happened to the pipeline."""
        ...

    def malformed(self, count: int) -> None:
        """Note how many messages between stages could not be understood so far."""
        ...

    def close(self, error: str) -> None:
        """Leave; ``error`` is why, and what sources that have not ended get as their error."""
        ...


def run_stage(place: Place, build: Callable[[], Stage]) -> None:
    """Host a stage until the coordinator ends it.

    Raises
    ------
    MegcError
        The stage failed, or the coordinator is gone.
    """
    with zmq.Context() as context, ExitStack() as stack:
        link = place.link(context)
        try:
            stage = build()
            stack.enter_context(authenticator(context, place.security))
            begin = link.wait_for_begin(place.settings.start_s)
            queue = max(1, place.settings.queue_records // 2)
            inlet = place.bind(context, queue, link.interrupt)
            host = StageHost(
                place.source,
                place.stage,
                stage,
                inlet,
                None if place.following is None else _sender(context, place, place.following, queue, link),
                _sender(context, place, place.sinks, queue, link),
                link.keep,
                tolerant=True,
            )
            try:
                host.restore(begin.n, begin.snapshot)
                link.state = lambda: _state(host)
                link.ready = True
                _work(host, link)
            finally:
                host.close()
        except Exception as error:
            link.fail(error)
            raise
        finally:
            link.close()


def run_reader(place: Place, open_source: Callable[[], tuple[Source, FaceAnalyser]]) -> None:
    """Host a source and its face analysis until the coordinator ends it; as :func:`run_stage`."""
    with zmq.Context() as context:
        link = place.link(context)
        try:
            source, face = open_source()
            with source:
                opened = {"info": source.info, "warnings": tuple(source.warnings)}
                link.state = lambda: opened
                begin = link.wait_for_begin(place.settings.start_s)
                queue = max(1, place.settings.queue_records // 2)
                assert place.following is not None
                host = ReaderHost(
                    place.source,
                    source,
                    face,
                    _sender(context, place, place.following, queue, link),
                    _sender(context, place, place.sinks, queue, link),
                    link.interrupt,
                    desk := Desk(link.placed),
                    mark_every=frames_of(place.settings.checkpoint_s, source.info.fps),
                    keep=link.keep,
                )
                try:
                    if begin.jump_frame is not None:
                        host.jump(begin.n, begin.jump_frame, begin.missed)
                    else:
                        host.restore(begin.n, begin.snapshot)
                    link.state = lambda: {**opened, **_state(host), "frame": host.frame}
                    link.on_orders = _ReaderOrders(host, source, desk)
                    link.on_orders(link.orders)
                    _work(host, link)
                finally:
                    host.close()
        except Exception as error:
            link.fail(error)
            raise
        finally:
            link.close()


class _ReaderOrders:
    """Carries out the orders that concern a source: hold, go on, stop, put remarks into the stream."""

    def __init__(self, host: ReaderHost, source: Source, desk: Desk) -> None:
        self._host = host
        self._source = source
        self._desk = desk
        self._left: set[int] = set()

    def __call__(self, orders: Orders) -> None:
        self._host.stored = max(self._host.stored, orders.complete)
        self._source.hold("paused" if orders.paused else "restart" if orders.down else None)
        if orders.stopped or orders.quit:
            self._source.stop()
        for insertion in orders.insertions:
            if insertion.id not in self._left:
                self._left.add(insertion.id)
                self._desk.leave(insertion)


def _sender(context: zmq.Context[Any], place: Place, endpoint: str | None, queue: int, link: StageLink) -> Sender:
    assert endpoint is not None
    return Sender(lambda: Outlet(context, endpoint, queue, link.interrupt, place.security), keep=True)


def _state(host: StageHost | ReaderHost) -> dict[str, Any]:
    malformed = host.malformed if isinstance(host, StageHost) else 0
    return {"n": host.n, "idle": host.idle, "ended": host.ended, "gap": host.gap, "malformed": malformed}


def _work(host: StageHost | ReaderHost, link: StageLink) -> None:
    """Run a host, and look at the orders whenever they interrupt it, until they say to quit."""
    links = {"next": host.following, "sinks": host.sinks}
    done = dict.fromkeys(links, 0)
    while True:
        link.interrupt.clear()
        orders = link.orders
        if orders.quit:
            if link.problem is not None:
                raise link.problem
            return
        for name, (times, after) in orders.resend.items():
            sender = links[name]
            if times > done[name] and sender is not None:
                sender.resend(after)
            done[name] = times
        for sender in links.values():
            if sender is not None:
                sender.trim(orders.complete)
        try:
            host.run()
            if isinstance(host, ReaderHost) and host.error is not None:
                # What was read is analysed to its end; the run fails then.
                link.report(host.error)
            link.interrupt.wait(_WAIT_S)
        except Aborted:
            pass


def run_publisher(
    place: Place,
    build: Callable[[zmq.Context[Any], Callable[[Command], None]], Results],
    stages: Mapping[str, Sequence[str]],
) -> None:
    """Host the sinks of all sources until the coordinator ends them; what they took is spooled, so that it is rebuilt.

    Parameters
    ----------
    build
        Makes the results from the ZeroMQ context of this process and a function that takes the commands of control
        clients.
    stages
        Names of all stages of each source, the reader first.
    """
    with zmq.Context() as context:
        link = place.link(context)
        try:
            with authenticator(context, place.security):
                results = build(context, link.post)
                try:
                    begin = link.wait_for_begin(place.settings.start_s)
                    inlet = place.bind(context, _QUEUE_SINKS, link.interrupt)
                    try:
                        _publish(link, inlet, begin, results, stages)
                    finally:
                        inlet.close()
                finally:
                    results.close(link.orders.quit)
        except Exception as error:
            link.fail(error)
            raise
        finally:
            link.close()


def _publish(
    link: StageLink, inlet: Inlet, begin: Begin, results: Results, stages: Mapping[str, Sequence[str]]
) -> None:
    feed = Feed(results.open(begin.sources), stages, tolerant=True)
    spools = {source: results.spool(source) for source in stages}
    for spool in spools.values():
        for spooled in spool.messages():
            feed.take(spooled)
    results.rebuilt()
    summaries: dict[str, bytes] = {}
    link.state = lambda: {
        "marks": dict(feed.marks),
        "taken": {f"{source}/{stage}": n for (source, stage), n in list(feed.taken.items())},
        "gaps": tuple(f"{source}/{stage}" for source, stage in list(feed.gaps)),
        "summaries": dict(summaries),
        "ended": len(summaries) == len(stages),
        "malformed": feed.malformed,
    }
    link.ready = True
    logged = malformed = 0
    try:
        while True:
            orders = link.orders
            if orders.quit:
                if link.problem is not None:
                    raise link.problem
                # Not before: if this process dies after the end, the next one has to find what it needs.
                for source in summaries:
                    spools[source].remove()
                return
            for number, level, text in orders.log:
                if number > logged:
                    logged = number
                    results.log(level, text)
            parts = inlet.poll(_TICK_MS)
            if parts is not None and (taken := feed.take(parts)) is not None:
                header, records = taken
                spools[header.source].add(header, records, parts)
            if orders.malformed > malformed:
                malformed = orders.malformed
                results.malformed(malformed)
                results.log("warning", f"{malformed} messages between stages could not be understood so far")
            results.tick()
            for source in stages:
                if source not in summaries and feed.ended(source):
                    summaries[source] = results.finish(source, feed.late[source])
    finally:
        for spool in spools.values():
            spool.close()
