"""What control clients can do to a running graph, whichever runner hosts it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from megc_stream.errors import UsageError
from megc_stream.pipeline.hosting import Insertion
from megc_stream.pipeline.orders import Command
from megc_stream.records import Adjustment, Annotation

__all__ = ["RunControl"]

_LONGEST_TEXT = 10_000


class RunControl:
    """The commands, as handlers of a :class:`megc_stream.wire.control.ControlServer`: (arguments, client) -> reply.

    A command that takes effect at a frame is ``accepted``: the message in the stream says before which one.

    Parameters
    ----------
    sources
        Names of the sources in the graph.
    post
        Hands a command to whoever runs the graph; must not block.
    snapshot, status
        Return the state of the stream for one who joins late, and the last figures.
    settings
        Those of the run, without secrets; part of a snapshot.
    """

    def __init__(
        self,
        sources: tuple[str, ...],
        post: Callable[[Command], None],
        *,
        snapshot: Callable[[], msgspec.Struct],
        status: Callable[[], msgspec.Struct],
        settings: Mapping[str, Any],
    ) -> None:
        self.paused: set[str] = set()
        """Sources that are held."""
        self.names: dict[str, str] = {}
        """Names in the graph by the ``source`` of messages, as far as they are known."""
        self._sources = sources
        self._post = post
        self._snapshot = snapshot
        self._status = status
        self._settings = dict(settings)
        self._last_id = 0

    @property
    def handlers(self) -> dict[str, Callable[[dict[str, Any], str], dict[str, Any]]]:
        """The commands by name."""
        return {
            "start": self.start,
            "stop": self.stop,
            "pause": self.pause,
            "annotate": self.annotate,
            "set_threshold": self.set_threshold,
            "snapshot": self.snapshot,
            "status": self.status,
            "shutdown": self.shutdown,
        }

    def start(self, arguments: dict[str, Any], client: str) -> dict[str, Any]:
        """Go on after ``pause``; argument ``source``, else all."""
        source = self._only_source(arguments)
        self.paused.difference_update(self._sources if source is None else [source])
        return self._give("start", source)

    def pause(self, arguments: dict[str, Any], client: str) -> dict[str, Any]:
        """Hold: a file waits, and its deadlines are put off; a live source drops its frames, counted as "paused"."""
        source = self._only_source(arguments)
        self.paused.update(self._sources if source is None else [source])
        return self._give("pause", source)

    def stop(self, arguments: dict[str, Any], client: str) -> dict[str, Any]:
        """End a source, or all; what was read is still analysed."""
        return self._give("stop", self._only_source(arguments))

    def shutdown(self, arguments: dict[str, Any], client: str) -> dict[str, Any]:
        """End all sources, and with them the program."""
        self._check(arguments, ())
        return self._give("stop", None)

    def annotate(self, arguments: dict[str, Any], client: str) -> dict[str, Any]:
        """Put the remark ``text`` into the stream, before the next frame of ``source`` (without it: of all)."""
        self._check(arguments, ("source", "text", "author"))
        text, author = arguments.get("text"), arguments.get("author", client)
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_TEXT:
            raise UsageError(f"annotate: text = {text!r:.60}; expected 1 to {_LONGEST_TEXT} characters")
        if not isinstance(author, str):
            raise UsageError(f"annotate: author = {author!r:.60}; expected text")
        record = Annotation(source="", frame=-1, t_capture_s=0.0, text=text, author=author)
        return self._give("insert", self._source(arguments), record)

    def set_threshold(self, arguments: dict[str, Any], client: str) -> dict[str, Any]:
        """Change ``deviations`` or ``least_threshold`` of causal spotting from the next frame on."""
        self._check(arguments, ("source", "deviations", "least_threshold"))
        if self._settings.get("spotting", {}).get("mode") == "video":
            raise UsageError("set_threshold: this run spots in whole videos, whose threshold is set once; use causal")
        values = {name: arguments.get(name) for name in ("deviations", "least_threshold")}
        for name, value in values.items():
            number = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not (number and (value > 0 or name == "least_threshold")):
                raise UsageError(
                    f"set_threshold: {name} = {value!r:.60}; expected a number" + " > 0" * (name[0] == "d")
                )
        if all(value is None for value in values.values()):
            raise UsageError("set_threshold: nothing to set; expected deviations or least_threshold")
        record = Adjustment(source="", frame=-1, t_capture_s=0.0, author=client, **values)
        return self._give("insert", self._source(arguments), record)

    def snapshot(self, arguments: dict[str, Any], client: str) -> dict[str, Any]:
        """Return the open events in their newest revisions, the last figures, and the settings."""
        self._check(arguments, ())
        state = msgspec.to_builtins(self._snapshot())
        return {**state, "paused": sorted(self.paused), "settings": self._settings}

    def status(self, arguments: dict[str, Any], client: str) -> dict[str, Any]:
        """Return the figures as they are now."""
        self._check(arguments, ())
        return dict(msgspec.to_builtins(self._status()))

    def _give(self, name: str, source: str | None, record: Annotation | Adjustment | None = None) -> dict[str, Any]:
        # Grows over restarts of this process, too: whoever runs the graph takes each number once.
        self._last_id = max(self._last_id + 1, time.time_ns() // 1000)
        insertion = None if record is None else Insertion(self._last_id, record)
        self._post(Command(id=self._last_id, name=name, source=source, insertion=insertion))
        return {"accepted": True}

    def _only_source(self, arguments: Mapping[str, Any]) -> str | None:
        self._check(arguments, ("source",))
        return self._source(arguments)

    def _source(self, arguments: Mapping[str, Any]) -> str | None:
        """Return the source meant, None for all."""
        source = arguments.get("source") or None
        if source is None:
            return None
        name = self.names.get(source, source) if isinstance(source, str) else None
        if name not in self._sources:
            known = sorted({*self.names, *(one for one in self._sources if one)})
            raise UsageError(f"source {source!r:.60}: unknown; expected {', '.join(known) or 'none yet'}")
        return name

    @staticmethod
    def _check(arguments: Mapping[str, Any], known: tuple[str, ...]) -> None:
        unknown = [name for name in arguments if name not in known]
        if unknown:
            raise UsageError(f"argument {unknown[0]!r:.60}: unknown; expected {', '.join(known) or 'none'}")
