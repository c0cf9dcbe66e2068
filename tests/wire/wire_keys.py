"""Key files for tests: a server, and clients with roles."""

from __future__ import annotations

from pathlib import Path

from megc_stream.settings import SecuritySettings
from megc_stream.wire.keys import make_keys
from megc_stream.wire.security import Security, load_security


class Keys:
    """A folder of keys: ``server`` for the side that binds, :meth:`client` for those who connect."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.allowed = folder / "allowed"
        self.allowed.mkdir()
        make_keys("server", folder)
        self.server = load_security(SecuritySettings(secret_key=folder / "server.key_secret", allowed=self.allowed))

    def client(
        self,
        name: str,
        roles: tuple[str, ...] = ("events",),
        commands: tuple[str, ...] | None = None,
        *,
        listed: bool = True,
    ) -> Security:
        """Make a key pair that knows the server, and put it on the list."""
        public, secret = make_keys(name, self.folder, roles=roles, commands=commands)
        if listed:
            (self.allowed / public.name).write_bytes(public.read_bytes())
        return load_security(SecuritySettings(secret_key=secret, server_key=self.folder / "server.key"))
