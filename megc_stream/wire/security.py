"""Who may connect, and what is encrypted: CURVE keys, the list of allowed clients, limits on every socket.

Endpoints are ``inproc://``, ``ipc://`` or ``tcp://`` on loopback unless keys are given or ``insecure`` is said. With a
secret key every TCP socket is encrypted and authenticated (CurveZMQ): a server takes only clients whose public key
lies in the allow-list folder with the role of that socket, a client takes only the server whose key it has pinned.
``ipc://`` and ``inproc://`` stay plain: the operating system guards them. Key files are those of pyzmq and CZMQ; the
list is read anew for every handshake and command, so a key that is added or removed counts at once.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args
from urllib.parse import urlsplit

import msgspec
import zmq
from zmq.auth import load_certificate
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message
from zmq.utils.z85 import decode as z85_decode

from megc_stream.errors import UsageError, WireError
from megc_stream.settings import SecuritySettings

__all__ = [
    "PLAIN",
    "ROLES",
    "Client",
    "ConnectionMonitor",
    "Refusals",
    "Role",
    "Security",
    "authenticator",
    "bind",
    "check_endpoint",
    "connect",
    "is_exposed",
    "load_security",
]

Role = Literal["events", "frames", "control", "recordings", "links"]
ROLES: tuple[Role, ...] = get_args(Role)
_DEFAULT_ROLES: tuple[Role, ...] = ("events", "frames")
# What a client may send to a socket that we bind: subscriptions, commands. Everything else has the limit of the
# settings. libzmq walks the tree of all subscriptions, a node a byte, when a subscriber leaves: keep them short.
_BOUND_LIMIT_BYTES: dict[str, int] = {"events": 512, "frames": 512, "control": 65536, "recordings": 65536}
_HEARTBEAT_MS = 5_000
_DEAD_MS = 15_000
_RECONNECT_MS = 100
_RECONNECT_MAX_MS = 2_000
_logger = logging.getLogger(__name__)


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the allow-list: the name of the key file, what it is good for, and the commands it may give.

    ``commands`` None means all commands, for a client with the role ``control``.
    """

    name: str
    roles: tuple[Role, ...] = _DEFAULT_ROLES
    commands: tuple[str, ...] | None = None


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of this program (Z85 text as bytes), whom it lets in, and the limit of a message part.

    :func:`load_security` makes one from the settings; :data:`PLAIN` has no keys.
    """

    public_key: bytes | None = None
    secret_key: bytes | None = None
    server_key: bytes | None = None
    allowed: Path | None = None
    max_message_bytes: int = 64 * 2**20

    def clients(self) -> dict[bytes, Client]:
        """Return the allow-list as it is now: public key -> :class:`Client`.

        A damaged file lets nobody in and is logged: it must not shut out the others.
        """
        clients = {}
        for file in sorted(self.allowed.glob("*.key")) if self.allowed is not None else []:
            try:
                clients[_read_key(file)[0]] = _read_client(file)
            except UsageError as error:
                _logger.warning("%s; this client is refused", error)
        return clients


PLAIN = Security()


def load_security(settings: SecuritySettings) -> Security:
    """Read the key files that the settings name.

    Raises
    ------
    UsageError
        A file is missing or not a key, a secret key can be read by others, or the allow-list is not a folder of
        public keys with known roles.
    """
    public_key = secret_key = server_key = None
    if settings.secret_key is not None:
        public_key, secret_key = _read_key(settings.secret_key)
        if secret_key is None:
            raise UsageError(
                f"key file {settings.secret_key}: holds no secret key; "
                "expected the .key_secret file of 'megc-stream keys new'"
            )
        if os.name == "posix" and stat.S_IMODE(settings.secret_key.stat().st_mode) & 0o077:
            raise UsageError(
                f"key file {settings.secret_key}: others can read it; say: chmod 600 {settings.secret_key}"
            )
    elif settings.server_key is not None or settings.allowed is not None:
        raise UsageError(
            "security.server_key and security.allowed need security.secret_key as well; "
            "'megc-stream keys new NAME' makes one"
        )
    if settings.server_key is not None:
        server_key, _ = _read_key(settings.server_key)
    if settings.allowed is not None:
        if not settings.allowed.is_dir():
            raise UsageError(f"security.allowed {settings.allowed}: no such folder; it holds the clients' .key files")
        for file in settings.allowed.glob("*.key"):
            _read_key(file)
            _read_client(file)
    return Security(
        public_key=public_key,
        secret_key=secret_key,
        server_key=server_key,
        allowed=settings.allowed,
        max_message_bytes=settings.max_message_bytes,
    )


def _read_key(file: Path) -> tuple[bytes, bytes | None]:
    try:
        public_key, secret_key = load_certificate(file)
        for key in (public_key, secret_key):
            if key is not None and (len(key) != 40 or len(z85_decode(key)) != 32):
                raise ValueError(f"a key of {len(key)} characters")
    except (OSError, ValueError, KeyError) as error:  # KeyError: pyzmq's z85 on a character outside the alphabet
        reason = "no such file" if not file.exists() else f"not a key ({error})"
        raise UsageError(f"key file {file}: {reason}; 'megc-stream keys new NAME' makes key files") from error
    return public_key, secret_key


def _read_client(file: Path) -> Client:
    """Return what the ``roles`` and ``commands`` lines of an allow-list entry say."""
    words: dict[str, tuple[str, ...]] = {}
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"key file {file}: cannot be read ({error})") from error
    for line in text.splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if equals and name in ("roles", "commands"):
            words[name] = tuple(word.strip() for word in value.strip("\"'").split(",") if word.strip())
    try:
        roles = msgspec.convert(words.get("roles", _DEFAULT_ROLES), tuple[Role, ...])
    except msgspec.ValidationError:
        raise UsageError(
            f"key file {file}: roles = {', '.join(words['roles'])}; expected some of {', '.join(ROLES)}"
        ) from None
    return Client(name=file.stem, roles=roles, commands=words.get("commands"))


def check_endpoint(endpoint: str, insecure: bool) -> None:
    """Raise unless ``endpoint`` is a ZeroMQ address that other hosts cannot reach, or ``insecure`` allows it to be.

    Raises
    ------
    UsageError
        Not ``tcp://HOST:PORT``, ``ipc://PATH`` or ``inproc://NAME``, or a TCP address outside loopback.
    """
    parts = urlsplit(endpoint)
    if parts.scheme in ("ipc", "inproc") and endpoint.split("://", 1)[1]:
        return
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if parts.scheme != "tcp" or not host or not (_is_port(port) or port == "*"):
        raise UsageError(f"endpoint {endpoint}: expected tcp://127.0.0.1:5550, ipc:///path or inproc://name")
    if not insecure and not _is_loopback(host):
        raise UsageError(
            f"endpoint {endpoint}: other hosts could read it, without encryption; use tcp://127.0.0.1:PORT, give keys "
            "(security.secret_key and security.allowed, see 'megc-stream keys new'), or say --insecure-bind"
        )


def _is_port(text: str) -> bool:
    return text.isdecimal() and int(text[:6]) < 65536  # ZeroMQ takes larger numbers modulo 65536


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_exposed(endpoint: str, security: Security) -> bool:
    """Return whether other hosts can reach a bound endpoint without encryption: status messages must say so."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    return endpoint.startswith("tcp://") and security.secret_key is None and not _is_loopback(host)


def bind(socket: zmq.Socket[Any], endpoint: str, security: Security, *, insecure: bool, role: Role) -> str:
    """Bind a socket where the rules allow it; with keys, TCP is encrypted and open to clients of ``role`` only.

    The context needs a running :func:`authenticator` then; without one nobody gets in.

    Parameters
    ----------
    socket
        Not yet bound or connected. Its ``MAXMSGSIZE`` is set: a peer that sends more is disconnected.
    endpoint
        The port ``*`` takes a free one.
    insecure
        Allow other hosts without encryption.

    Returns
    -------
    The endpoint that clients can connect to, with the port in numbers.

    Raises
    ------
    UsageError
        The endpoint is malformed, outside loopback without keys, or there are keys and no allow-list.
    WireError
        It cannot be bound.
    """
    check_endpoint(endpoint, insecure or security.secret_key is not None)
    limit_bytes = min(security.max_message_bytes, _BOUND_LIMIT_BYTES.get(role, security.max_message_bytes))
    _prepare(socket, endpoint, limit_bytes)
    if endpoint.startswith("tcp://") and security.secret_key is not None:
        if security.allowed is None:
            raise UsageError(
                f"endpoint {endpoint}: there are keys, but nobody is allowed to connect; "
                "set security.allowed to a folder with the clients' .key files"
            )
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, security.secret_key)
        socket.setsockopt_string(zmq.ZAP_DOMAIN, role)
        # Without an authenticator libzmq would let in every key; with this, none.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    try:
        socket.bind(endpoint.replace("tcp://localhost:", "tcp://127.0.0.1:"))
    except zmq.ZMQError as error:
        raise WireError(f"endpoint {endpoint}: cannot be opened ({error}); choose another port") from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def connect(socket: zmq.Socket[Any], endpoint: str, security: Security) -> None:
    """Connect a socket; with keys, TCP is encrypted and only the pinned server is accepted.

    ZeroMQ connects in the background, and again whenever the connection is lost; :class:`ConnectionMonitor` tells a
    refusal from silence.

    Raises
    ------
    UsageError
        There is a secret key, and no server key to pin.
    WireError
        The endpoint is malformed.
    """
    _prepare(socket, endpoint, security.max_message_bytes)
    if endpoint.startswith("tcp://") and security.secret_key is not None and security.public_key is not None:
        if security.server_key is None:
            raise UsageError(
                f"endpoint {endpoint}: there is a secret key, but no key of the server; "
                "set security.server_key to the server's .key file"
            )
        socket.setsockopt(zmq.CURVE_PUBLICKEY, security.public_key)
        socket.setsockopt(zmq.CURVE_SECRETKEY, security.secret_key)
        socket.setsockopt(zmq.CURVE_SERVERKEY, security.server_key)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise WireError(f"endpoint {endpoint}: {error}; expected e.g. tcp://127.0.0.1:5550") from error


def _prepare(socket: zmq.Socket[Any], endpoint: str, limit_bytes: int) -> None:
    socket.setsockopt(zmq.MAXMSGSIZE, limit_bytes)
    if not endpoint.startswith("tcp://"):
        return
    # A host that vanished is noticed within 20 s; a cable pulled for a few seconds costs nothing, TCP sends again.
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _DEAD_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    if "[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)


class Refusals:
    """What the authenticator turned away; ``count`` grows on its thread."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self.count = 0

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether ``key`` (Z85) may connect to a socket of the role ``domain``; pyzmq calls it."""
        client = self._security.clients().get(key)
        if client is not None and domain in client.roles:
            return True
        self.count += 1
        who = "a key that is not on the list" if client is None else f"{client.name}, who has no such role"
        _logger.warning("connection to %s refused: %s (%s)", domain, who, key.decode("ascii", "replace"))
        return False


@contextlib.contextmanager
def authenticator(context: zmq.Context[Any], security: Security) -> Iterator[Refusals]:
    """Check every client that connects to the encrypted sockets of ``context``, on a thread of its own.

    One is needed, and possible, per context; without a secret key it does nothing.

    Raises
    ------
    WireError
        The context has one already.
    """
    refusals = Refusals(security)
    if security.secret_key is None:
        yield refusals
        return
    thread = ThreadAuthenticator(context)
    try:
        thread.start()
    except zmq.ZMQError as error:
        thread.stop()
        raise WireError(f"the authenticator cannot start ({error}); one context has one authenticator") from error
    try:
        for role in ROLES:
            thread.configure_curve_callback(domain=role, credentials_provider=refusals)
        yield refusals
    finally:
        thread.stop()


class ConnectionMonitor:
    """Follows the handshakes of one connecting socket, to tell a refusal from silence.

    Make it before the socket connects, on the socket's thread, and close it before the socket.
    """

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self._socket = socket
        address = f"inproc://monitor-{uuid.uuid4().hex}"
        socket.monitor(
            address,
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        )
        self._events = socket.context.socket(zmq.PAIR, socket_class=zmq.Socket)
        # libzmq blocks its I/O thread, and with it all sockets, on a full queue of events: have none that is full.
        self._events.setsockopt(zmq.RCVHWM, 0)
        self._events.connect(address)
        self._problem = ""
        self.refused = False
        """The server does not take our key: ZeroMQ does not try again."""

    def problem(self) -> str:
        """Return why the last handshake failed, "" if it did not or there was none."""
        while self._events.poll(0):
            match recv_monitor_message(self._events)["event"]:
                case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._problem = ""
                case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                    self.refused = True
                    self._problem = (
                        "refused: our key is not on the server's list for this socket; "
                        "copy our .key file into its folder security.allowed, with the role, and connect again"
                    )
                case _:
                    self._problem = (
                        "the handshake failed: security.server_key is not the server's key, or only one side has keys"
                    )
        return self._problem

    def close(self) -> None:
        """Stop following."""
        self._socket.monitor(None, 0)
        self._events.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
