"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from megc_stream.wire import Security

__all__ = ["ConfigOption", "JsonOption", "KeyOption", "ServerKeyOption", "security_from"]

JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is stdout.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file with settings.")]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Our .key_secret file, for an encrypted endpoint.")
]
ServerKeyOption = Annotated[
    Path | None, typer.Option("--server-key", metavar="FILE", help="The server's .key file: nobody else is accepted.")
]


def security_from(config: Path | None, key: Path | None, server_key: Path | None) -> Security:
    """Return the keys that ``--config``, ``--key`` and ``--server-key`` name.

    Raises
    ------
    UsageError
        A file is missing or not a key.
    """
    from megc_stream.settings import load_settings
    from megc_stream.wire import load_security

    return load_security(
        load_settings(config, {"security": {"secret_key": key, "server_key": server_key}}).security,
    )
