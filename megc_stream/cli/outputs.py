"""What all sources of a run share on the side of the results: their files, the public stream, control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import zmq

from megc_stream.cli.graph import Node, folder_of, stages_of
from megc_stream.cli.public import PublicStream, is_public
from megc_stream.cli.results import Analysis, SourceResults
from megc_stream.clock import Clock
from megc_stream.models import MeanModel, find_mean
from megc_stream.output.report_chart import TruthInterval
from megc_stream.output.run_folder import EVENTS
from megc_stream.packing import pack
from megc_stream.pipeline import Sink
from megc_stream.pipeline.orders import Command
from megc_stream.pipeline.spool import SPOOL, Spool
from megc_stream.records import Event, StreamInfo
from megc_stream.settings import Settings
from megc_stream.wire import load_security

__all__ = ["Outputs"]


class Outputs:
    """The results of every source of a run; belongs to one thread.

    Also what :func:`megc_stream.pipeline.worker.run_publisher` hands records to.

    Parameters
    ----------
    settings
        Of the whole run.
    context
        ZeroMQ context, with a running authenticator where there are keys.
    post
        Takes the commands of control clients.
    sinks
        Get every record besides the files.
    truth
        Known events, drawn in the report.
    warn
        Gets each warning as soon as it is known.
    """

    def __init__(
        self,
        settings: Settings,
        nodes: Sequence[Node],
        context: zmq.Context[Any],
        post: Callable[[Command], None],
        *,
        clock: Clock,
        sinks: Sequence[Sink] = (),
        truth: Sequence[TruthInterval] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._nodes = {node.name: node for node in nodes}
        self._clock = clock
        self._sinks = list(sinks)
        self._truth = truth
        self._warn = warn
        self._model = MeanModel(find_mean(settings.model.name), settings.model.providers, settings.model.threads)
        self._open: dict[str, SourceResults] = {}
        self._spools: dict[str, Spool] = {}
        self._done: set[str] = set()
        self._published: set[tuple[str, int]] = set()
        self._public = None
        if is_public(settings):
            security = load_security(settings.security)
            self._public = PublicStream(
                context, settings, security, [node.name for node in nodes], stages_of(settings), post, clock
            )

    def open_source(
        self, name: str, info: StreamInfo, before: Sequence[str], started: datetime, folder: Path
    ) -> list[Sink]:
        """Make the sinks of a source that is about to begin, with its folder from :func:`.graph.folder_of`."""
        node = self._nodes[name]
        self._open[name] = SourceResults(
            node.settings,
            name,
            info,
            before,
            self._model,
            folder,
            started,
            stages_of(self._settings),
            clock=self._clock,
            truth=self._truth,
            warn=self._warn,
            on_event=self._on_event,
        )
        sinks = [*self._open[name].sinks, *self._sinks]
        if self._public is not None:
            sinks.append(self._public.open_source(name, info))
        return sinks

    def opened(self, *, live: bool) -> None:
        """Note that all sources are open, and whether some are ``live``."""
        if self._public is not None:
            self._public.open_recordings(live=live)

    def finish_source(self, name: str, late: int, late_by_reason: Mapping[str, int] | None = None) -> Analysis:
        """Close the files of a source that has ended."""
        self._done.add(name)
        return self._open[name].finish(late, late_by_reason)

    def tell(self, name: str, text: str) -> None:
        """Warn of a source, from any thread."""
        self._open[name].tell(text)

    def folder(self, name: str) -> Path:
        """Return the folder of a source."""
        return self._open[name].folder

    def fail(self, error: str) -> None:
        """Close the files of the sources that have not ended."""
        for name, results in self._open.items():
            if name not in self._done:
                results.fail(error)

    def _on_event(self, event: Event) -> None:
        if self._public is not None:
            self._public.on_event(event, again=(event.event_id, event.rev) in self._published)

    # What a publisher in a process of its own needs besides.

    def open(self, sources: Mapping[str, Mapping[str, Any]]) -> Mapping[str, list[Sink]]:
        """Make the sinks of all sources, from what the coordinator says of each."""
        sinks = {}
        if self._public is not None:
            self._public.muted = True
        for name, told in sources.items():
            info = msgspec.convert(told["info"], StreamInfo)
            started = datetime.fromisoformat(told["started"])
            session = told["session"]
            folder = folder_of(self._settings, self._nodes[name], info.video, started, session, self._note_published)
            with_images = self._settings.output.with_images
            self._spools[name] = Spool(folder / SPOOL, session, with_images=with_images)
            sinks[name] = self.open_source(name, info, told["warnings"], started, folder)
        self.opened(live=any(told["info"]["live"] for told in sources.values()))
        return sinks

    def spool(self, source: str) -> Spool:
        """Return the spool of a source."""
        return self._spools[source]

    def rebuilt(self) -> None:
        """From here on records are new."""
        if self._public is not None:
            self._public.muted = False

    def finish(self, source: str, late: int) -> bytes:
        """Close the files of a source that has ended and return its packed :class:`.results.Analysis`."""
        return pack(self.finish_source(source, late))

    def tick(self) -> None:
        """Do what is due by the clock."""
        for sink in self._sinks:
            sink.tick()
        if self._public is not None:
            self._public.tick()

    def log(self, level: str, text: str) -> None:
        """Note something that happened to the pipeline, in the notes of every source that goes on."""
        if self._warn is not None and level == "warning":
            self._warn(text)
        if self._public is not None:
            self._public.log(level, text)
        for name, results in self._open.items():
            if name not in self._done:
                results.writer.note(text)

    def malformed(self, count: int) -> None:
        """Tell in the status how many messages between stages could not be understood so far."""
        if self._public is not None:
            self._public.malformed_on_links = count

    def close(self, error: str = "") -> None:
        """Leave; sources that have not ended are incomplete."""
        try:
            self.fail(error or "the run was broken off")
        finally:
            if self._public is not None:
                self._public.close()

    def _note_published(self, folder: Path) -> None:
        """Remember which revisions a publisher that died had logged: all but the last have surely been sent."""
        try:
            lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
        except OSError:
            return
        whole = [msgspec.json.decode(line, type=Event) for line in lines if line.endswith(b"\n")]
        self._published.update((event.event_id, event.rev) for event in whole[:-1])
