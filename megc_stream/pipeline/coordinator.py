"""The supervisor of stages in processes of their own: keeps their snapshots, and brings back those that die.

It takes no part in the way of the data. Each stage says several times a second how far it is (:mod:`.orders`) and gets
back what it is to do. A mark of which every stage's snapshot is here, and up to which the publisher has spooled all, is
complete: a stage that dies goes on from there. The stage before it sends again what it has kept since that mark; those
behind it have had the first of what the new process sends, and pass it over by its number.
"""

from __future__ import annotations

import itertools
import math
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zmq

from megc_stream import errors
from megc_stream.errors import MegcError, WireError
from megc_stream.packing import pack
from megc_stream.pipeline.hosting import Insertion
from megc_stream.pipeline.orders import Beat, Begin, Command, Orders, Problem, Stored, unpack_from_stage
from megc_stream.records import StreamInfo
from megc_stream.settings import PipelineSettings
from megc_stream.wire.security import PLAIN, Security, bind

__all__ = ["Coordinator"]

_POLL_MS = 50
_QUEUE = 10_000
_STALLED_S = 5.0
_RESEND_EVERY_S = 3.0
_LONGEST_BACKOFF_S = 5.0
_QUIT_S = 15.0
_LOG_KEPT = 100
_TELL_EVERY_S = 5.0
_JUMP = 1_000_000
"""How far the numbers of a live reader that was started again lie above those before: more than it can have sent."""
_JUMP_MARGIN = 1.1
PUBLISHER = "publisher"

_Key = tuple[str, str]


@dataclass
class _Peer:
    """What the coordinator knows of one stage."""

    key: _Key
    identity: bytes = b""
    instance: str = ""
    gone: set[str] = field(default_factory=set)
    process: subprocess.Popen[bytes] | None = None
    beat: Beat | None = None
    heard_s: float = 0.0
    moved_s: float = 0.0
    """When the number of its last message grew."""
    deaths: int = 0
    """Without any progress between."""
    start_at_s: float | None = 0.0
    """When to start its process; None while it runs."""
    snapshots: dict[int, bytes] = field(default_factory=dict)
    resend: dict[str, tuple[int, int]] = field(default_factory=dict)
    resent_s: dict[str, float] = field(default_factory=dict)
    started_before: bool = False
    jump: Begin | None = None

    @property
    def name(self) -> str:
        source, stage = self.key
        return f"stage {stage}" + (f" of {source}" if source else "")

    @property
    def is_up(self) -> bool:
        return self.beat is not None and self.beat.begun

    @property
    def is_ready(self) -> bool:
        return self.beat is not None and self.beat.ready

    @property
    def is_loading(self) -> bool:
        if self.beat is None:
            return False
        return self.beat.info is None if self.key[1] == "reader" else self.beat.begun and not self.beat.ready

    @property
    def holds_nothing(self) -> bool:
        """Whether its process can be killed without a loss: it has not made its link yet, or loads a model.

        A reader may have a camera open by then, and the publisher endpoints; one that failed is leaving, with its last
        words.
        """
        if self.beat is None:
            return True
        return self.key[1] not in ("reader", PUBLISHER) and not self.beat.ready and self.beat.problem is None


class Coordinator:
    """Runs a graph of stages in processes until every source has ended.

    Parameters
    ----------
    endpoint
        Where stages find this coordinator; bound here.
    stages
        By source, the names of its stages in order, the reader first.
    launch
        Starts the process of a (source, stage); None where somebody else starts them.
    on_info
        Called once for each source when its reader has opened it; returns what the publisher has to know of it.
    tell
        Gets a line now and then while stages have not come yet.

    Raises
    ------
    UsageError, WireError
        The endpoint cannot be bound.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        stages: Mapping[str, Sequence[str]],
        settings: PipelineSettings,
        *,
        launch: Callable[[str, str], subprocess.Popen[bytes]] | None,
        on_info: Callable[[str, StreamInfo, tuple[str, ...]], dict[str, Any]],
        security: Security = PLAIN,
        insecure: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._tell = tell
        self._told_s = 0.0
        self._stages = stages
        self._settings = settings
        self._launch = launch
        self._on_info = on_info
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set_hwm(_QUEUE)
        self._socket.setsockopt(zmq.LINGER, 500)
        try:
            self.endpoint = bind(self._socket, endpoint, security, insecure=insecure, role="links")
        except BaseException:
            self._socket.close(0)
            raise
        keys = [(source, stage) for source, names in stages.items() for stage in names]
        self._peers = {key: _Peer(key) for key in [("", PUBLISHER), *keys]}
        self._publisher = self._peers["", PUBLISHER]
        self._complete = dict.fromkeys(stages, -1)
        self._infos: dict[str, StreamInfo] = {}
        self._sources: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, Problem] = {}
        self._paused: set[str] = set()
        self._stopped: set[str] = set()
        self._insertions: dict[str, list[Insertion]] = {source: [] for source in stages}
        self._commands = 0
        self._log: list[tuple[int, str, str]] = []
        self._quit = ""
        self.restarts: Counter[str] = Counter()
        """By source/stage, how often a process was started again."""
        self.malformed = 0

    def stop(self, source: str | None = None) -> None:
        """End a source, or all; what was read is still finished. Safe from a signal handler."""
        self._stopped.update(self._stages if source is None else [source])

    def run(self) -> dict[str, bytes]:
        """Run until every source has ended; return what the publisher made of each.

        Raises
        ------
        MegcError
            A stage failed, did not start or come back in time, or died again and again; all stages are down then.
        """
        begun_s = time.monotonic()
        for peer in self._peers.values():
            peer.heard_s = peer.moved_s = begun_s
        try:
            while True:
                self._hear()
                self._look_after()
                if not all(self._peers[source, "reader"].started_before for source in self._stages):
                    self._wait_for_all(begun_s)
                beat = self._publisher.beat
                if beat is not None and beat.ended:
                    for problem in self._errors.values():
                        raise _error(problem)
                    return beat.summaries
        except BaseException as error:
            self._quit = str(error) or type(error).__name__
            raise
        finally:
            self._take_down(self._quit or "done")

    def _wait_for_all(self, begun_s: float) -> None:
        """Say now and then which stages are not ready yet; end at once where nobody wants the run any more."""
        begun = any(self._peers[source, "reader"].started_before for source in self._stages)
        if self._stopped.issuperset(self._stages) and not begun:
            raise WireError("the run was stopped before all its stages had started; nothing was analysed")
        now_s = time.monotonic()
        if now_s - max(begun_s, self._told_s) < _TELL_EVERY_S:
            return
        self._told_s = now_s
        missing = [peer.name for peer in self._peers.values() if not peer.identity]
        if missing:
            self._tell(f"waiting for {', '.join(missing)}, for {self._settings.start_s:g} s at most")
        elif loading := [peer.name for peer in self._peers.values() if peer.is_loading]:
            self._tell(f"waiting for {', '.join(loading)} to get ready")

    def _hear(self) -> None:
        timeout_ms = _POLL_MS
        while self._socket.poll(timeout_ms):
            timeout_ms = 0
            identity, *rest = self._socket.recv_multipart()
            try:
                message = unpack_from_stage(rest[-1] if rest else b"")
            except WireError:
                self.malformed += 1
                continue
            peer = self._peers.get((message.source, message.stage))
            if peer is None:
                self._answer(identity, Orders(quit="this stage is no part of the graph"))
            elif message.instance in peer.gone:
                self._answer(identity, Orders(quit="another process has taken over this stage"))
            elif isinstance(message, Beat):
                self._take_beat(peer, identity, message)
            elif message.instance == peer.instance:
                self._store(peer, message)

    def _take_beat(self, peer: _Peer, identity: bytes, beat: Beat) -> None:
        now_s = time.monotonic()
        if beat.instance != peer.instance:
            if peer.instance:
                self._died(peer, "it was started anew")
            peer.instance = beat.instance
            peer.start_at_s = None
        if peer.beat is None or beat.n != peer.beat.n or beat.taken != peer.beat.taken:
            peer.moved_s = now_s
        peer.identity, peer.beat, peer.heard_s = identity, beat, now_s
        if beat.problem is not None:
            if beat.problem.fatal:
                raise _error(beat.problem)
            self._errors[peer.key[0]] = beat.problem
        if beat.info is not None and peer.key[0] not in self._infos:
            self._infos[peer.key[0]] = beat.info
            self._sources[peer.key[0]] = self._on_info(peer.key[0], beat.info, beat.warnings)
        self._note_placed(peer.key[0], beat.placed)
        for command in beat.commands:
            self._carry_out(command)
        if peer is self._publisher:
            for source in self._stages:
                self._advance(source)
        if not beat.begun:
            self._begin(peer)
        self._answer(identity, self._orders(peer))

    def _store(self, peer: _Peer, stored: Stored) -> None:
        peer.snapshots[stored.mark] = stored.snapshot
        self._advance(peer.key[0])

    def _advance(self, source: str) -> None:
        """Find the newest complete mark of a source, and forget what lies before it."""
        beat = self._publisher.beat
        spooled = -1 if beat is None else beat.marks.get(source, -1)
        peers = [self._peers[source, stage] for stage in self._stages[source]]
        marks = set.intersection(*(set(peer.snapshots) for peer in peers))
        complete = max((mark for mark in marks if mark <= spooled), default=-1)
        if complete <= self._complete[source]:
            return
        self._complete[source] = complete
        for peer in peers:
            peer.snapshots = {mark: data for mark, data in peer.snapshots.items() if mark >= complete}
        for peer in (*peers, self._publisher):
            peer.deaths = 0

    def _begin(self, peer: _Peer) -> None:
        source, stage = peer.key
        if peer is self._publisher:
            if len(self._infos) < len(self._stages):
                return
            begin = Begin(n=-1, sources=self._sources)
        elif stage == "reader" and not (peer.started_before or self._are_ready()):
            return  # a camera would fill the links of those that still load their models, and lose frames
        elif peer.jump is not None:
            begin = peer.jump
        else:
            n = self._complete[source]
            begin = Begin(n=n, snapshot=peer.snapshots.get(n))
        self._answer(peer.identity, begin)
        if not peer.started_before:
            peer.started_before = True
            return
        if peer is self._publisher:
            for other in self._peers.values():
                if other is not peer:
                    self._resend(other, "sinks")
        elif stage != "reader":
            names = self._stages[source]
            self._resend(self._peers[source, names[names.index(stage) - 1]], "next")

    def _are_ready(self) -> bool:
        """Tell whether everything but the readers takes records."""
        return all(peer.is_ready for key, peer in self._peers.items() if key[1] != "reader")

    def _resend(self, peer: _Peer, link: str) -> None:
        """Have a stage send again what it keeps."""
        peer.resent_s[link] = time.monotonic()
        times, _ = peer.resend.get(link, (0, -1))
        peer.resend = {**peer.resend, link: (times + 1, self._complete[peer.key[0]])}
        if peer.beat is not None:
            self._answer(peer.identity, self._orders(peer))

    def _resend_missing(self, peer: _Peer, link: str) -> None:
        """As :meth:`_resend`, but not while the last time may still be under way."""
        if time.monotonic() - peer.resent_s.get(link, -math.inf) > _RESEND_EVERY_S:
            self._resend(peer, link)

    def _orders(self, peer: _Peer) -> Orders:
        source, stage = peer.key
        if peer is self._publisher:
            malformed = self.malformed + sum(one.beat.malformed for one in self._peers.values() if one.beat is not None)
            return Orders(commands=self._commands, log=tuple(self._log), malformed=malformed, quit=self._quit)
        reader = stage == "reader"
        names = self._stages[source]
        assert peer.beat is not None
        return Orders(
            complete=self._complete[source],
            has=max(peer.snapshots, default=-1),
            resend=peer.resend,
            paused=reader and source in self._paused,
            stopped=reader and source in self._stopped,
            down=reader
            and peer.started_before
            and not all(self._peers[source, name].is_up for name in names if name != stage),
            insertions=tuple(one for one in self._insertions[source] if one.id not in peer.beat.placed)
            if reader
            else (),
            quit=self._quit,
        )

    def _answer(self, identity: bytes, message: Begin | Orders) -> None:
        # A peer that is gone meanwhile is no error: ROUTER drops what it cannot deliver.
        self._socket.send_multipart([identity, pack(message)], zmq.DONTWAIT)

    def _note_placed(self, source: str, placed: Mapping[int, int]) -> None:
        for number, insertion in enumerate(self._insertions.get(source, ())):
            if insertion.frame is None and insertion.id in placed:
                self._insertions[source][number] = msgspec.structs.replace(insertion, frame=placed[insertion.id])

    def _carry_out(self, command: Command) -> None:
        if command.id <= self._commands:
            return
        self._commands = command.id
        sources = list(self._stages) if command.source is None else [command.source]
        match command.name:
            case "start":
                self._paused.difference_update(sources)
            case "pause":
                self._paused.update(sources)
            case "stop":
                self._stopped.update(sources)
            case "insert" if command.insertion is not None:
                for source in sources:
                    self._insertions[source].append(command.insertion)

    def _look_after(self) -> None:
        """Start what has to be started, notice who died, and whose messages got lost."""
        now_s = time.monotonic()
        for peer in self._peers.values():
            self._look_after_process(peer, now_s)
            if peer.start_at_s is None and now_s - peer.heard_s > self._settings.start_s:
                hint = "" if self._launch is not None else f"; start it with 'megc-stream stage {peer.key[1]} ...'"
                raise WireError(f"{peer.name}: said nothing for {self._settings.start_s:g} s{hint}")
        for source, names in self._stages.items():
            for before, after in itertools.pairwise(names):
                self._look_after_link(self._peers[source, before], self._peers[source, after], now_s)
            for name in names:
                self._look_after_results(self._peers[source, name], now_s)

    def _look_after_process(self, peer: _Peer, now_s: float) -> None:
        if self._launch is None:
            peer.start_at_s = None
            return
        if peer.start_at_s is not None:
            if now_s >= peer.start_at_s:
                peer.process = self._launch(*peer.key)
                peer.start_at_s = None
                peer.heard_s = now_s
            return
        assert peer.process is not None
        code = peer.process.poll()
        if code is None and peer.beat is not None and now_s - peer.heard_s > self._settings.silent_s:
            self._died(peer, f"it said nothing for {self._settings.silent_s:g} s")
        elif code is not None:
            # What it said last may still be on its way: an error of its own is no death.
            self._hear()
            self._died(peer, f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")

    def _died(self, peer: _Peer, how: str) -> None:
        source, stage = peer.key
        if peer.process is not None:
            _end(peer.process)
            peer.process = None
        peer.deaths += 1
        if peer.deaths > self._settings.restarts:
            raise WireError(
                f"{peer.name}: died {peer.deaths} times without any progress between, the last time by {how}; "
                "look at its messages above, and at the memory of this machine"
            )
        wait_s = min(self._settings.restart_after_s * 2 ** (peer.deaths - 1), _LONGEST_BACKOFF_S)
        self.restarts[f"{source}/{stage}".lstrip("/")] += 1
        self._note("warning", f"{peer.name} died ({how}) and is started again")
        info, beat = self._infos.get(source), peer.beat
        if stage == "reader" and info is not None and info.live and beat is not None and beat.frame >= 0:
            missed = math.ceil((time.monotonic() - peer.heard_s + wait_s) * info.fps * _JUMP_MARGIN) + 1
            seen = [other.beat.n for key, other in self._peers.items() if key[0] == source and other.beat is not None]
            peer.jump = Begin(n=max(seen) + _JUMP, jump_frame=beat.frame + missed, missed=missed)
        peer.gone.add(peer.instance)
        peer.instance, peer.beat, peer.identity = "", None, b""
        peer.start_at_s = time.monotonic() + wait_s
        peer.heard_s = peer.start_at_s

    def _look_after_link(self, before: _Peer, after: _Peer, now_s: float) -> None:
        """Have messages sent again that the next stage misses, or that it waits for in vain."""
        if before.beat is None or after.beat is None or not after.beat.begun:
            return
        stalled = after.beat.idle and after.beat.n < before.beat.n and now_s - after.moved_s > _STALLED_S
        if after.beat.gap or stalled:
            self._resend_missing(before, "next")

    def _look_after_results(self, peer: _Peer, now_s: float) -> None:
        beat = self._publisher.beat
        if peer.beat is None or beat is None or not beat.begun:
            return
        link = "/".join(peer.key)
        behind = beat.taken.get(link, -1) < peer.beat.n and now_s - self._publisher.moved_s > _STALLED_S
        if link in beat.gaps or behind:
            self._resend_missing(peer, "sinks")

    def _note(self, level: str, text: str) -> None:
        number = self._log[-1][0] + 1 if self._log else 1
        self._log = [*self._log[-_LOG_KEPT:], (number, level, text)]

    def _take_down(self, reason: str) -> None:
        """Tell every stage to end; those that do not are killed, and at once where they hold nothing."""
        self._quit = reason
        deadline_s = time.monotonic() + _QUIT_S
        processes = [peer.process for peer in self._peers.values() if peer.process is not None]
        for peer in self._peers.values():
            if peer.identity:
                self._answer(peer.identity, Orders(quit=reason))
            if peer.process is not None and peer.holds_nothing:
                peer.process.kill()
        try:
            while time.monotonic() < deadline_s and any(process.poll() is None for process in processes):
                if self._socket.poll(_POLL_MS):
                    identity = self._socket.recv_multipart()[0]
                    self._answer(identity, Orders(quit=reason))
        finally:
            for process in processes:
                _end(process)
            self._socket.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that a process is gone, and let go of it."""
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _error(problem: Problem) -> Exception:
    """Return the error that a stage told of."""
    kind = getattr(errors, problem.kind, None)
    if isinstance(kind, type) and issubclass(kind, MegcError) and kind is not errors.MissingExtraError:
        return kind(problem.text)
    if problem.kind == "RuntimeError":
        return RuntimeError(f"{problem.text}; please report this as a bug")
    return MegcError(problem.text)
