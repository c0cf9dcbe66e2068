"""The link of a stage's process to the coordinator: a thread that says how far the stage is and takes its orders."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from megc_stream.errors import MegcError, WireError
from megc_stream.packing import pack
from megc_stream.pipeline.orders import Beat, Begin, Command, Orders, Problem, Stored, unpack_from_coordinator
from megc_stream.wire.security import Security, connect

__all__ = ["StageLink"]

_POLL_MS = 20
_BEAT_S = 0.2
_RESEND_S = 2.0
_QUEUE = 1000
_LAST_WORDS_S = 5.0
_WAIT_S = 0.1
_EXIT_S = 15.0
"""How long the stage may take to end by itself once the coordinator is gone."""


class StageLink:
    """Runs a thread with the socket to the coordinator; the stage's own thread reads and sets plain attributes.

    Parameters
    ----------
    endpoint
        Of the coordinator.
    state
        Returns the fields of a :class:`Beat` that say how far the stage is; called on the link's thread.
    silent_s
        Without word from the coordinator for three times this, the stage ends.
    lifeline
        File descriptor of a pipe that whoever started this process holds open: its end ends the stage, too.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        security: Security,
        source: str,
        stage: str,
        *,
        silent_s: float,
        lifeline: int | None = None,
    ) -> None:
        self.interrupt = threading.Event()
        """Set when the stage's thread has to look at :attr:`orders`: it breaks off its waits."""
        self.orders = Orders()
        self.begin: Begin | None = None
        self.problem: WireError | None = None
        """Why the stage has to end, where the coordinator is gone."""
        self.ready = False
        """Whether the stage takes records; set by its own thread, after :meth:`wait_for_begin`."""
        self.state: Callable[[], dict[str, Any]] = dict
        self.on_orders: Callable[[Orders], None] = lambda orders: None
        """Called on the link's thread with each new state of the orders; must not block."""
        self.malformed = 0
        """Words of the coordinator that could not be understood."""
        self._source, self._stage = source, stage
        self._endpoint = endpoint
        self._instance = uuid.uuid4().hex
        self._silent_s = silent_s
        self._lifeline = lifeline
        self._answered = threading.Event()
        self._heard_s = time.monotonic()
        self._snapshots: dict[int, bytes] = {}
        self._sent_s: dict[int, float] = {}
        self._placed: dict[int, int] = {}
        self._commands: deque[Command] = deque()
        self._failure: Problem | None = None
        self._failure_sent = False
        self._told = threading.Event()
        self._close = threading.Event()
        self._socket = context.socket(zmq.DEALER)
        self._socket.set_hwm(_QUEUE)
        self._socket.setsockopt(zmq.LINGER, 1000)
        connect(self._socket, endpoint, security)
        self._thread = threading.Thread(target=self._run, name="megc-link", daemon=True)
        self._thread.start()

    def wait_for_begin(self, timeout_s: float) -> Begin:
        """Return the coordinator's first word; it may wait for other stages as long as it answers at all.

        Raises
        ------
        WireError
            The coordinator said nothing for ``timeout_s``, is gone, or told the stage to end.
        """
        while not self._answered.wait(_WAIT_S):
            if time.monotonic() - self._heard_s > timeout_s:
                raise WireError(
                    f"stage {self._stage}: no answer from the coordinator at {self._endpoint} within {timeout_s:g} s; "
                    "is 'megc-stream run' with the same configuration running there?"
                )
        if self.begin is None:
            raise self.problem or WireError(f"stage {self._stage}: told to end before it began: {self.orders.quit}")
        return self.begin

    def keep(self, mark: int, snapshot: bytes) -> None:
        """Hand a snapshot to the coordinator."""
        self._snapshots[mark] = snapshot

    def placed(self, number: int, frame: int) -> None:
        """Say before which frame an insertion went into the stream."""
        self._placed[number] = frame

    def post(self, command: Command) -> None:
        """Pass a control client's command to the coordinator."""
        self._commands.append(command)

    def fail(self, error: BaseException) -> None:
        """Tell the coordinator why the stage ends; returns when it knows, or after some seconds."""
        if self.orders.quit:
            return  # it told the stage to end, or is gone: it listens no more
        kind = type(error).__name__ if isinstance(error, MegcError) else "RuntimeError"
        text = str(error) if isinstance(error, MegcError) else f"stage {self._stage} failed: {error!r}"
        self._failure = Problem(kind, text)
        self._told.wait(_LAST_WORDS_S)

    def report(self, error: MegcError) -> None:
        """Tell the coordinator of an error after which the stage goes on to its end."""
        self._failure = Problem(type(error).__name__, str(error), fatal=False)

    def close(self) -> None:
        """End the thread and close the socket."""
        self._close.set()
        self._thread.join(_LAST_WORDS_S)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        if self._lifeline is not None:
            poller.register(self._lifeline, zmq.POLLIN)
        beat_s = 0.0
        try:
            while not self._close.is_set():
                ready = dict(poller.poll(_POLL_MS))
                if self._socket in ready:
                    self._heard_s = time.monotonic()
                    self._hear(self._socket.recv_multipart()[-1])
                if self._lifeline is not None and self._lifeline in ready and not os.read(self._lifeline, 64):
                    self._lost("the program that started this stage is gone")
                    return
                now_s = time.monotonic()
                if now_s - self._heard_s > 3 * self._silent_s:
                    self._lost(f"no word from the coordinator at {self._endpoint} for {3 * self._silent_s:g} s")
                    return
                if now_s - beat_s >= _BEAT_S or self._is_urgent():
                    beat_s = now_s
                    self._beat(now_s)
        finally:
            self._socket.close()

    def _is_urgent(self) -> bool:
        return any(mark not in self._sent_s for mark in list(self._snapshots))

    def _hear(self, data: bytes) -> None:
        try:
            message = unpack_from_coordinator(data)
        except WireError:
            self.malformed += 1
            return
        if isinstance(message, Begin):
            if self.begin is None:
                self.begin = message
                self._answered.set()
            return
        before, self.orders = self.orders, message
        for mark in [mark for mark in self._snapshots if mark <= message.has]:
            del self._snapshots[mark]
            self._sent_s.pop(mark, None)
        while self._commands and self._commands[0].id <= message.commands:
            self._commands.popleft()
        if self._failure is not None and self._failure_sent:
            self._told.set()
        self.on_orders(message)
        if message.quit:
            self._answered.set()
        if message.resend != before.resend or message.quit != before.quit:
            self.interrupt.set()

    def _beat(self, now_s: float) -> None:
        # Queued at most: while the coordinator is away nothing may block this thread.
        with contextlib.suppress(zmq.Again):
            for mark, snapshot in sorted(self._snapshots.items()):
                if now_s - self._sent_s.get(mark, -_RESEND_S) >= _RESEND_S:
                    stored = Stored(
                        source=self._source,
                        stage=self._stage,
                        instance=self._instance,
                        mark=mark,
                        snapshot=snapshot,
                    )
                    self._socket.send(pack(stored), zmq.DONTWAIT)
                    self._sent_s[mark] = now_s
            state = dict(self.state())
            beat = Beat(
                source=self._source,
                stage=self._stage,
                instance=self._instance,
                begun=self.begin is not None,
                ready=self.ready,
                problem=self._failure,
                placed=dict(self._placed),
                commands=tuple(self._commands),
            )
            state["malformed"] = state.get("malformed", 0) + self.malformed
            self._socket.send(pack(msgspec.structs.replace(beat, **state)), zmq.DONTWAIT)
            self._failure_sent = beat.problem is not None

    def _lost(self, why: str) -> None:
        """The coordinator is gone: end the stage, by force if it does not end by itself."""
        self.problem = WireError(f"stage {self._stage}: {why}; the stage ends")
        self.orders = msgspec.structs.replace(self.orders, quit=why)
        self._answered.set()
        self.on_orders(self.orders)
        self.interrupt.set()
        timer = threading.Timer(_EXIT_S, os._exit, (1,))
        timer.daemon = True
        timer.start()
