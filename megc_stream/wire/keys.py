"""Making key files: NAME.key to hand out, NAME.key_secret to keep."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from zmq.auth import create_certificates

from megc_stream.errors import OutputError, UsageError
from megc_stream.wire.security import ROLES

__all__ = ["make_keys"]


def make_keys(
    name: str, folder: Path, *, roles: Sequence[str] = (), commands: Sequence[str] | None = None
) -> tuple[Path, Path]:
    """Make a new CURVE key pair as two files; never replaces one.

    Parameters
    ----------
    name
        Stem of both files; in an allow-list it is the name of the client.
    folder
        Must exist.
    roles, commands
        What the public file is good for in an allow-list: sockets (none means events and frames), and commands (None
        means all, for the role ``control``).

    Returns
    -------
    The public file ``NAME.key`` and the secret file ``NAME.key_secret``, which only its owner can read.

    Raises
    ------
    UsageError
        A name that is no file name, an unknown role, or a file of that name is there.
    OutputError
        The files cannot be written.
    """
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(f"key name {name!r}: expected a plain file name such as lab-2")
    if unknown := [role for role in roles if role not in ROLES]:
        raise UsageError(f"role {unknown[0]}: unknown; expected some of {', '.join(ROLES)}")
    public, secret = folder / f"{name}.key", folder / f"{name}.key_secret"
    for file in (public, secret):
        if file.exists():
            raise UsageError(f"key file {file}: is there already and will not be replaced; choose another name")
    words = {"roles": ", ".join(roles), "commands": None if commands is None else ", ".join(commands)}
    lines = [f"    {word} = {value}" for word, value in words.items() if value]
    try:
        # Only the owner can enter a temporary folder: the secret is never readable, not even for a moment.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".keys-") as closed:
            made_public, made_secret = map(Path, create_certificates(closed, name))
            made_secret.chmod(0o600)
            text = made_public.read_text(encoding="utf-8")
            made_public.write_text(text.replace("metadata\n", "\n".join(["metadata", *lines, ""])), encoding="utf-8")
            made_secret.rename(secret)
            made_public.rename(public)
    except OSError as error:
        raise OutputError(f"keys {folder / name}: cannot be written ({os.strerror(error.errno or 0)})") from error
    return public, secret
