"""Commands to a running analysis: a ROUTER socket that answers every request, and the clients for it.

A request is one msgpack map ``{id, cmd, args, client}``, the reply ``{id, ok: {...}}`` or ``{id, error: {code,
message}}``. Commands are whole words. ``client`` names one connection of one program and ``id`` one request of it: a
request that comes again is not done again, its reply is repeated. So a client whose reply was lost just asks once
more, and nobody is ever wedged. A reply follows the effect; where the effect comes later the reply says ``accepted``
and a message of the event stream tells the rest. With keys, each client may give only the commands that its entry in
the allow-list names. Nobody can set the clock of the server.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import threading
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Annotated, Any, Generic, Self, TypeVar

import msgspec
import zmq

from megc_stream.clock import Clock
from megc_stream.errors import MegcError, UsageError, WireError
from megc_stream.wire.clock_sync import Probe
from megc_stream.wire.security import PLAIN, Client, ConnectionMonitor, Security, bind, connect

__all__ = [
    "COMMANDS",
    "AsyncControl",
    "CommandError",
    "Control",
    "ControlServer",
    "Handler",
    "Problem",
    "Reply",
    "Request",
]

Handler = Callable[[dict[str, Any], str], dict[str, Any]]
COMMANDS = ("start", "stop", "pause", "annotate", "set_threshold", "snapshot", "shutdown", "clock", "status")
_REMEMBERED = 64
_CLIENTS = 256
_WAITING = 64
_QUEUE = 1000
_LINGER_MS = 2000
_POLL_MS = 100
_RETRY_S = 1.0
_JOIN_S = 5.0
_logger = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()
_R = TypeVar("_R")
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A command on the wire. ``id`` is new for each request of a ``client``; a retry repeats all of it."""

    id: _Name
    cmd: _Name
    args: dict[str, Any] = {}
    client: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command was not done.

    ``code`` is ``malformed``, ``unknown_command``, ``not_allowed``, ``bad_arguments``, ``failed``, ``busy`` or
    ``internal``.
    """

    code: str
    message: str


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to the request of the same ``id`` ("" where that could not be read): ``ok`` or ``error``."""

    id: str
    ok: dict[str, Any] | None = None
    error: Problem | None = None


class CommandError(WireError):
    """A command was not done; ``code`` as in :class:`Problem`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Remembered(msgspec.Struct):
    """A request seen before: what it said, where its reply goes, and the reply once there is one."""

    payload: bytes
    route: list[bytes]
    reply: bytes | None = None


class ControlServer:
    """Takes commands on one endpoint.

    The socket lives on a thread of its own, which checks requests, repeats replies and answers ``clock`` at once, so
    that measured offsets do not hold the load of the analysis. All other commands wait until :meth:`serve` runs their
    handlers on the caller's thread.

    Parameters
    ----------
    context, endpoint, security, insecure
        As for :func:`megc_stream.wire.bind`, with the role ``control``.
    handlers
        By command: (arguments, name of the client's key or "") -> content of ``ok``. A UsageError becomes the code
        ``bad_arguments``, any other MegcError ``failed``.
    clock
        What ``clock`` reads.

    Raises
    ------
    UsageError, WireError
        The endpoint is refused or cannot be bound.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        security: Security,
        handlers: Mapping[str, Handler],
        clock: Clock,
        *,
        insecure: bool = False,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Requests by what became of them: ``done``, ``repeated``, or the code of the problem."""
        self._handlers = dict(handlers)
        self._security = security
        self._clock = clock
        self._decoder = msgspec.msgpack.Decoder(Request)
        self._seen: OrderedDict[tuple[str, str], OrderedDict[str, _Remembered]] = OrderedDict()
        self._waiting: dict[bytes, _Remembered] = {}
        self._tickets = itertools.count()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set_hwm(_QUEUE)
        try:
            self.endpoint = bind(self._socket, endpoint, security, insecure=insecure, role="control")
        except MegcError:
            self._socket.close(0)
            raise
        self._checks_keys = self.endpoint.startswith("tcp://") and security.secret_key is not None
        address = f"inproc://control-{uuid.uuid4().hex}"
        self._work = context.socket(zmq.PAIR)
        self._work.bind(address)
        self._inside = context.socket(zmq.PAIR)
        self._inside.connect(address)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def serve(self) -> None:
        """Do the commands that came in; call it often, on one thread. Never waits."""
        while self._work.poll(0):
            ticket, client, payload = self._work.recv_multipart()
            outcome, reply = self._do(self._decoder.decode(payload), client.decode())
            self._work.send_multipart([ticket, outcome.encode(), reply])

    def close(self) -> None:
        """Let the replies leave, for 2 s at most, and close; commands not yet done are forgotten."""
        self._work.send(b"")
        self._thread.join(_JOIN_S)
        self._work.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, request: Request, client: str) -> tuple[str, bytes]:
        try:
            return "done", _encoder.encode(Reply(id=request.id, ok=self._handlers[request.cmd](request.args, client)))
        except UsageError as error:
            problem = Problem(code="bad_arguments", message=str(error))
        except MegcError as error:
            problem = Problem(code="failed", message=str(error))
        except Exception as error:  # a command of one client must not end the analysis of all others
            _logger.exception("command %s of %s failed", request.cmd, client or "a client without a key")
            problem = Problem(code="internal", message=f"command {request.cmd}: {error!r}; please report this as a bug")
        return problem.code, _encoder.encode(Reply(id=request.id, error=problem))

    def _run(self) -> None:
        """The thread of the socket."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._inside, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll(_POLL_MS))
                if self._inside in ready:
                    message = self._inside.recv_multipart()
                    if len(message) == 1:
                        break
                    self._finish(*message)
                if self._socket in ready:
                    self._take(self._socket.recv_multipart(copy=False), self._clock.now_s())
        except zmq.ContextTerminated:
            pass  # the program ends without close()
        finally:
            self._socket.close(_LINGER_MS)
            self._inside.close(0)

    def _finish(self, ticket: bytes, outcome: bytes, reply: bytes) -> None:
        entry = self._waiting.pop(ticket)
        entry.reply = reply
        self.counts[outcome.decode()] += 1
        self._socket.send_multipart([*entry.route, reply])

    def _take(self, frames: Sequence[zmq.Frame], received_s: float) -> None:
        """Answer one message, or hand it to :meth:`serve`."""
        route = [frames[0].bytes]
        if len(frames) == 3 and not len(frames[1]):
            route.append(b"")  # a REQ socket
        payload = frames[-1].bytes
        try:
            if len(frames) != len(route) + 1:
                raise ValueError(f"{len(frames) - 1} parts, expected one")
            request = self._decoder.decode(payload)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            self._refuse(route, "", "malformed", f"request of {len(payload)} bytes: cannot be understood ({error})")
            return
        key, client = self._client(frames[-1])
        if self._checks_keys and (
            client is None
            or "control" not in client.roles
            or (client.commands is not None and request.cmd not in client.commands)
        ):
            allowed = "none" if client is None else ", ".join(client.commands or ())
            self._refuse(
                route, request.id, "not_allowed", f"command {request.cmd}: not allowed for this key; allowed: {allowed}"
            )
        elif request.cmd == "clock":
            theirs = request.args.get("t0_s")
            times = {"t1_s": received_s, "t2_s": self._clock.now_s()}
            if isinstance(theirs, float | int):
                times["t0_s"] = theirs
            self.counts["done"] += 1
            self._socket.send_multipart([*route, _encoder.encode(Reply(id=request.id, ok=times))])
        elif request.cmd not in self._handlers:
            known = ", ".join([*self._handlers, "clock"])
            self._refuse(route, request.id, "unknown_command", f"command {request.cmd}: unknown; expected {known}")
        else:
            name = "" if client is None else client.name
            self._pass_on(request, payload, route, (key, request.client or route[0].hex()), name)

    def _pass_on(self, request: Request, payload: bytes, route: list[bytes], who: tuple[str, str], name: str) -> None:
        """Let :meth:`serve` do a new request; repeat the reply to one that was seen before."""
        seen = self._seen.setdefault(who, OrderedDict())
        self._seen.move_to_end(who)
        entry = seen.get(request.id)
        if entry is not None and entry.payload != payload:
            self._refuse(route, request.id, "malformed", f"request id {request.id}: was used for another request")
        elif entry is not None:
            self.counts["repeated"] += 1
            entry.route = route  # after a new connection the reply must take the new way
            if entry.reply is not None:
                self._socket.send_multipart([*route, entry.reply])
        elif len(self._waiting) >= _WAITING:
            self._refuse(route, request.id, "busy", f"{_WAITING} commands are waiting already; try again later")
        else:
            entry = seen[request.id] = _Remembered(payload, route)
            for memory, most in ((seen, _REMEMBERED), (self._seen, _CLIENTS)):
                if len(memory) > most:
                    memory.popitem(last=False)
            ticket = str(next(self._tickets)).encode()
            self._waiting[ticket] = entry
            self._inside.send_multipart([ticket, name.encode(), payload])

    def _client(self, frame: zmq.Frame) -> tuple[str, Client | None]:
        """Return the key that a message came with, and its entry in the allow-list."""
        if not self._checks_keys:
            return "", None
        key = str(frame.get("User-Id"))
        return key, self._security.clients().get(key.encode())

    def _refuse(self, route: list[bytes], request_id: str, code: str, message: str) -> None:
        self.counts[code] += 1
        reply = Reply(id=request_id, error=Problem(code=code, message=message))
        self._socket.send_multipart([*route, _encoder.encode(reply)])


class _Commands(Generic[_R]):
    """The commands by name; ``source`` chooses one of several cameras, "" means all."""

    def request(self, command: str, /, **arguments: Any) -> _R:
        raise NotImplementedError

    def start(self, source: str = "") -> _R:
        """Go on after :meth:`pause`."""
        return self.request("start", source=source)

    def stop(self, source: str = "") -> _R:
        """End a source; all that was read is still analysed."""
        return self.request("stop", source=source)

    def pause(self, source: str = "") -> _R:
        """Hold: a file waits, frames of a camera are dropped and counted."""
        return self.request("pause", source=source)

    def annotate(self, text: str, source: str = "") -> _R:
        """Put a remark into the stream."""
        return self.request("annotate", text=text, source=source)

    def set_threshold(
        self, *, deviations: float | None = None, least_threshold: float | None = None, source: str = ""
    ) -> _R:
        """Change the causal threshold from the next frame on; None leaves a value as it is."""
        return self.request("set_threshold", deviations=deviations, least_threshold=least_threshold, source=source)

    def snapshot(self) -> _R:
        """Return the open events in their newest revisions, the last status, and the settings."""
        return self.request("snapshot")

    def shutdown(self) -> _R:
        """End all sources and the program."""
        return self.request("shutdown")

    def status(self) -> _R:
        """Return the last status."""
        return self.request("status")


class Control(_Commands[dict[str, Any]]):
    """Gives commands to the analysis at ``endpoint``; belongs to one thread.

    A request without a reply is repeated every second, which is safe: the server does it once.

    Parameters
    ----------
    endpoint
        Its ``wire.control``, e.g. tcp://127.0.0.1:5551.
    security
        Keys, for TCP; see :func:`megc_stream.wire.load_security`.
    timeout_s
        How long to wait for each reply.
    context
        ZeroMQ context; the process-wide one without it.

    Raises
    ------
    UsageError, WireError
        The endpoint is malformed, or there is a secret key and no server key.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        security: Security = PLAIN,
        timeout_s: float = 10.0,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self._client = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._decoder = msgspec.msgpack.Decoder(Reply)
        self._socket = (context or zmq.Context.instance()).socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing queues for a server that is not there
        self._monitor = ConnectionMonitor(self._socket)
        try:
            connect(self._socket, endpoint, security)
        except MegcError:
            self.close()
            raise

    def request(self, command: str, /, **arguments: Any) -> dict[str, Any]:
        """Give a command; return the content of ``ok``.

        Raises
        ------
        CommandError
            The server did not do it; ``code`` says why.
        WireError
            No reply within ``timeout_s``, or our key was refused; names the endpoint.
        """
        return self.request_timed(command, arguments)[0]

    def request_timed(
        self, command: str, arguments: Mapping[str, Any], now_s: Callable[[], float] = time.monotonic
    ) -> tuple[dict[str, Any], float, float]:
        """Give a command; return the content of ``ok``, and ``now_s`` when first sent and when the reply came."""
        number = f"{next(self._numbers)}"
        payload = _encoder.encode(Request(id=number, cmd=command, args=dict(arguments), client=self._client))
        deadline_s = time.monotonic() + self.timeout_s
        sent_s = repeat_s = float("-inf")
        while (left_s := deadline_s - time.monotonic()) > 0:
            if time.monotonic() >= repeat_s and self._socket.poll(0, zmq.POLLOUT):
                sent_s = sent_s if repeat_s > 0 else now_s()
                self._socket.send(payload)
                repeat_s = time.monotonic() + _RETRY_S
            waiting_for = zmq.POLLIN if repeat_s > 0 else zmq.POLLIN | zmq.POLLOUT
            self._socket.poll(min(left_s * 1000, _POLL_MS), waiting_for)
            while self._socket.poll(0):
                received_s = now_s()
                reply = self._decode(self._socket.recv_multipart())
                if reply.id == number:  # others are late answers to requests that were given up or repeated
                    return _content(reply), sent_s, received_s
            if self._monitor.problem() and self._monitor.refused:
                break  # ZeroMQ does not try again
        raise WireError(f"endpoint {self.endpoint}: command {command}: {self._silence(repeat_s > 0)}")

    def probe(self, now_s: Callable[[], float] = time.monotonic) -> Probe:
        """Exchange times with the server once; for :class:`megc_stream.wire.ClockSync`.

        Raises
        ------
        WireError
            As for :meth:`request`, or the reply holds no times.
        """
        reply, t0_s, t3_s = self.request_timed("clock", {}, now_s)
        try:
            return msgspec.convert({**reply, "t0_s": t0_s, "t3_s": t3_s}, Probe)
        except msgspec.ValidationError as error:
            raise WireError(f"endpoint {self.endpoint}: reply to clock cannot be understood ({error})") from error

    def close(self) -> None:
        """Disconnect."""
        self._monitor.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _silence(self, sent: bool) -> str:
        if problem := self._monitor.problem():
            return problem
        if sent:
            return f"no reply within {self.timeout_s:g} s; the analysis is busy, or this is not its control endpoint"
        return f"nobody answered within {self.timeout_s:g} s; is 'megc-stream run ... --control' running there?"

    def _decode(self, parts: list[bytes]) -> Reply:
        try:
            return self._decoder.decode(parts[-1])
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise WireError(
                f"endpoint {self.endpoint}: reply of {len(parts[-1])} bytes cannot be understood ({error}); "
                "is it a control endpoint?"
            ) from error


def _content(reply: Reply) -> dict[str, Any]:
    if reply.error is not None:
        raise CommandError(reply.error.code, reply.error.message)
    return reply.ok or {}


class AsyncControl(_Commands[Awaitable[dict[str, Any]]]):
    """:class:`Control` for asyncio: every command returns an awaitable; they are done in the order given.

    Parameters are those of :class:`Control`. Use it with ``async with``, or await :meth:`close`.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        security: Security = PLAIN,
        timeout_s: float = 10.0,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        # A thread of its own, as a socket belongs to one: the logic of retries is then the same.
        self._thread = ThreadPoolExecutor(1, "control")
        self._control = Control(endpoint, security=security, timeout_s=timeout_s, context=context)

    def request(self, command: str, /, **arguments: Any) -> Awaitable[dict[str, Any]]:
        """Give a command; see :meth:`Control.request`."""
        call = functools.partial(self._control.request, command, **arguments)
        return asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def close(self) -> None:
        """Wait for the commands given, and disconnect."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._control.close)
        self._thread.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
