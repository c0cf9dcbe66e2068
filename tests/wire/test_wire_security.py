from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from wire_keys import Keys

from megc_stream.errors import UsageError, WireError
from megc_stream.settings import SecuritySettings
from megc_stream.wire import PLAIN, ConnectionMonitor, Security, authenticator, bind, connect, is_exposed, load_security
from megc_stream.wire.keys import make_keys

LOOPBACK = "tcp://127.0.0.1:*"
Served = tuple[zmq.Socket, str]


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def served(context: zmq.Context, keys: Keys) -> Iterator[Served]:
    """An XPUB socket for the role events, with its welcome message."""
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_WELCOME_MSG, b"welcome")
    with authenticator(context, keys.server):
        yield socket, bind(socket, LOOPBACK, keys.server, insecure=False, role="events")
        socket.close(0)


def joined(context: zmq.Context, served: Served, security: Security) -> str:
    """Subscribe; return "welcome", or why not."""
    server, endpoint = served
    with context.socket(zmq.SUB) as socket, ConnectionMonitor(socket) as monitor:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        connect(socket, endpoint, security)
        for _ in range(1000):
            server.poll(0)  # a socket takes in connections only while it is used
            if socket.poll(10):
                return socket.recv().decode()
            if problem := monitor.problem():
                return problem
    return "nothing"


def test_a_listed_client_is_welcome(context: zmq.Context, keys: Keys, served: Served) -> None:
    assert joined(context, served, keys.client("ada")) == "welcome"


def test_other_clients_are_refused_and_told_so(context: zmq.Context, keys: Keys, served: Served) -> None:
    assert joined(context, served, keys.client("mallory", listed=False)).startswith("refused: our key is not on")
    assert joined(context, served, keys.client("bob", roles=("control",))).startswith("refused")


def test_the_list_is_read_anew(context: zmq.Context, keys: Keys, served: Served) -> None:
    late = keys.client("late", listed=False)
    assert joined(context, served, late).startswith("refused")
    (keys.allowed / "late.key").write_bytes((keys.folder / "late.key").read_bytes())
    assert joined(context, served, late) == "welcome"
    (keys.allowed / "late.key").unlink()
    assert joined(context, served, late).startswith("refused")


def test_the_server_is_pinned_and_keys_are_needed_on_both_sides(
    context: zmq.Context, keys: Keys, served: Served
) -> None:
    client = keys.client("ada")
    make_keys("other", keys.folder)
    wrong = load_security(
        SecuritySettings(secret_key=keys.folder / "ada.key_secret", server_key=keys.folder / "other.key")
    )
    assert joined(context, served, wrong).startswith("the handshake failed")
    assert joined(context, served, PLAIN).startswith("the handshake failed")
    plain = context.socket(zmq.XPUB)
    endpoint = bind(plain, LOOPBACK, PLAIN, insecure=False, role="events")
    assert joined(context, (plain, endpoint), client).startswith("the handshake failed")
    plain.close(0)


def test_without_an_authenticator_nobody_gets_in(context: zmq.Context, keys: Keys) -> None:
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_WELCOME_MSG, b"welcome")
    endpoint = bind(socket, LOOPBACK, keys.server, insecure=False, role="events")
    with context.socket(zmq.SUB) as client:
        client.setsockopt(zmq.SUBSCRIBE, b"")
        connect(client, endpoint, keys.client("ada"))
        assert not client.poll(200)
    socket.close(0)


def test_refusals_are_counted(context: zmq.Context, keys: Keys) -> None:
    socket = context.socket(zmq.XPUB)
    with authenticator(context, keys.server) as refusals:
        endpoint = bind(socket, LOOPBACK, keys.server, insecure=False, role="frames")
        joined(context, (socket, endpoint), keys.client("mallory", listed=False))
        joined(context, (socket, endpoint), keys.client("bob", roles=("events",)))
        assert refusals.count == 2
        with pytest.raises(WireError, match="one context has one authenticator"), authenticator(context, keys.server):
            pass
        socket.close(0)


def test_a_message_over_the_limit_disconnects_its_sender(context: zmq.Context) -> None:
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_MANUAL, 1)
    endpoint = bind(socket, LOOPBACK, PLAIN, insecure=False, role="events")
    with context.socket(zmq.SUB) as client:
        connect(client, endpoint, PLAIN)
        client.setsockopt(zmq.SUBSCRIBE, b"a" * 600)
        assert not socket.poll(200)
    with context.socket(zmq.SUB) as client:
        connect(client, endpoint, PLAIN)
        client.setsockopt(zmq.SUBSCRIBE, b"a" * 500)
        assert socket.poll(10_000)
    socket.close(0)


def test_keys_open_other_interfaces_and_are_said_where_missing(context: zmq.Context, keys: Keys) -> None:
    with context.socket(zmq.XPUB) as socket:
        with pytest.raises(UsageError, match="give keys"):
            bind(socket, "tcp://*:*", PLAIN, insecure=False, role="events")
        endpoint = bind(socket, "tcp://*:*", keys.server, insecure=False, role="events")
        assert not is_exposed(endpoint, keys.server)
        assert is_exposed(endpoint, PLAIN)
        assert not is_exposed("tcp://127.0.0.1:5", PLAIN)
        assert not is_exposed("ipc:///x", PLAIN)
    with context.socket(zmq.XPUB) as socket, pytest.raises(UsageError, match=r"set security\.allowed to a folder"):
        bind(socket, LOOPBACK, keys.client("ada"), insecure=False, role="events")
    with context.socket(zmq.SUB) as socket, pytest.raises(UsageError, match=r"set security\.server_key"):
        connect(socket, "tcp://127.0.0.1:1", keys.server)


def test_ipv6_loopback_is_fine(context: zmq.Context) -> None:
    with context.socket(zmq.XPUB) as socket:
        try:
            endpoint = bind(socket, "tcp://[::1]:*", PLAIN, insecure=False, role="events")
        except WireError as error:
            pytest.skip(f"no IPv6 here: {error}")
        assert endpoint.startswith("tcp://[::1]:")


def test_key_files(tmp_path: Path) -> None:
    public, secret = make_keys("lab-1", tmp_path, roles=("control", "events"), commands=("status", "annotate"))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "secret-key" not in public.read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lab-1.key", "lab-1.key_secret"]
    client = load_security(SecuritySettings(secret_key=secret, allowed=tmp_path)).clients()
    assert [(one.name, one.roles, one.commands) for one in client.values()] == [
        ("lab-1", ("control", "events"), ("status", "annotate"))
    ]
    (tmp_path / "bare.key").write_text('curve\n    public-key = "' + "1" * 40 + '"\n')
    clients = load_security(SecuritySettings(secret_key=secret, allowed=tmp_path)).clients()
    assert clients[b"1" * 40].roles == ("events", "frames")
    assert clients[b"1" * 40].commands is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lab-1", "will not be replaced"),
        ("../x", "plain file name"),
        ("", "plain file name"),
        (".x", "plain file name"),
    ],
)
def test_keys_are_never_replaced_and_have_plain_names(tmp_path: Path, name: str, words: str) -> None:
    make_keys("lab-1", tmp_path)
    before = (tmp_path / "lab-1.key_secret").read_bytes()
    with pytest.raises(UsageError, match=words):
        make_keys(name, tmp_path)
    assert (tmp_path / "lab-1.key_secret").read_bytes() == before


def test_wrong_key_files_are_named(tmp_path: Path) -> None:
    public, secret = make_keys("a", tmp_path)
    (tmp_path / "empty.key_secret").touch()
    (tmp_path / "short.key").write_text('public-key = "abc"\n')
    (tmp_path / "odd.key").write_text('public-key = "' + "\\" * 40 + '"\n')
    list_of_odd = tmp_path / "list"
    list_of_odd.mkdir()
    (list_of_odd / "b.key").write_text(public.read_text().replace("metadata\n", "metadata\n  roles = king\n"))
    for settings, words in (
        (SecuritySettings(secret_key=tmp_path / "gone"), "no such file"),
        (SecuritySettings(secret_key=public), "holds no secret key"),
        (SecuritySettings(secret_key=tmp_path / "empty.key_secret"), "not a key"),
        (SecuritySettings(secret_key=secret, server_key=tmp_path / "short.key"), "a key of 3 characters"),
        (SecuritySettings(secret_key=secret, server_key=tmp_path / "odd.key"), "not a key"),
        (SecuritySettings(server_key=public), "need security.secret_key"),
        (SecuritySettings(secret_key=secret, allowed=tmp_path / "gone"), "no such folder"),
        (SecuritySettings(secret_key=secret, allowed=list_of_odd), "roles = king; expected some of events"),
    ):
        with pytest.raises(UsageError, match=words):
            load_security(settings)
    secret.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        load_security(SecuritySettings(secret_key=secret))
    with pytest.raises(UsageError, match="role king"):
        make_keys("c", tmp_path, roles=("king",))


def test_a_file_damaged_later_lets_nobody_in_and_shuts_nobody_out(
    context: zmq.Context, keys: Keys, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    ada = keys.client("ada")
    (keys.allowed / "damaged.key").write_bytes(b"\xff\xfe")
    assert joined(context, served, ada) == "welcome"
    assert "damaged.key" in caplog.text


def test_the_authenticator_does_nothing_without_keys(context: zmq.Context) -> None:
    before = threading.active_count()
    with authenticator(context, PLAIN) as refusals:
        assert threading.active_count() == before
        assert refusals.count == 0
