"""Links between stages: PUSH/PULL sockets that block when full, never wait forever, and lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import zmq

from megc_stream.errors import WireError
from megc_stream.wire.security import PLAIN, Security, bind, connect

__all__ = ["Aborted", "Inlet", "Outlet"]

_POLL_MS = 100


class Aborted(WireError):
    """The pipeline is being taken down, or a stage has to break off a wait: another stage failed, or was replaced."""


class Outlet:
    """The sending end of a link.

    One outlet belongs to one thread. ``abort`` is looked at while a full link makes the sender wait.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        queue: int,
        abort: threading.Event,
        security: Security = PLAIN,
    ) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.set_hwm(queue)
        self._socket.setsockopt(zmq.LINGER, 0)
        connect(self._socket, endpoint, security)
        self._abort = abort

    def send(self, *parts: bytes) -> None:
        """Send one message; waits while the link is full.

        Raises
        ------
        Aborted
            ``abort`` was set meanwhile.
        """
        self.send_all(parts)

    def send_all(self, parts: Sequence[bytes]) -> None:
        """Send one message of these parts, as :meth:`send`."""
        while True:
            try:
                self._socket.send_multipart(parts, flags=zmq.NOBLOCK, copy=True)
                return
            except zmq.Again:
                pass
            except zmq.ZMQError as error:
                raise _reason(error, self._abort) from error
            try:
                while not self._socket.poll(_POLL_MS, zmq.POLLOUT):
                    if self._abort.is_set():
                        raise Aborted("the pipeline was stopped while a link was full")
            except zmq.ZMQError as error:
                raise _reason(error, self._abort) from error

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket; ``linger_ms`` > 0 lets queued messages leave first."""
        self._socket.close(linger_ms)


class Inlet:
    """The receiving end of a link; binds, so it must be made before its outlets send."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        queue: int,
        abort: threading.Event,
        security: Security = PLAIN,
        *,
        insecure: bool = False,
    ) -> None:
        self._socket = context.socket(zmq.PULL)
        self._socket.set_hwm(queue)
        self._socket.setsockopt(zmq.LINGER, 0)
        try:
            self.endpoint = bind(self._socket, endpoint, security, insecure=insecure, role="links")
        except WireError as error:
            self._socket.close()
            raise WireError(f"link {error}") from error
        self._abort = abort
        self._timeout_ms = -1

    def receive(self) -> list[bytes]:
        """Return the parts of the next message; waits for it.

        Raises
        ------
        Aborted
            ``abort`` was set meanwhile.
        """
        while True:
            parts = self.poll(_POLL_MS)
            if parts is not None:
                return parts
            if self._abort.is_set():
                raise Aborted("the pipeline was stopped while a stage waited for records")

    def poll(self, timeout_ms: int) -> list[bytes] | None:
        """Return the parts of the next message, or None if none came within ``timeout_ms``."""
        try:
            if timeout_ms != self._timeout_ms:
                self._socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
                self._timeout_ms = timeout_ms
            parts: list[bytes] = self._socket.recv_multipart()
        except zmq.Again:
            return None
        except zmq.ZMQError as error:
            raise _reason(error, self._abort) from error
        return parts

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _reason(error: zmq.ZMQError, abort: threading.Event) -> WireError:
    """Return what a failure of a socket means: while the pipeline comes down, nothing."""
    if abort.is_set():
        return Aborted("the pipeline was stopped and closed a link that was still in use")
    return WireError(f"a link between stages failed ({error}); please report this as a bug")
