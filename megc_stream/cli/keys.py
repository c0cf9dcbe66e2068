"""``megc-stream keys``: key files for encrypted endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Make key files for encrypted endpoints.", no_args_is_help=True)


@app.callback()
def _keys() -> None:
    pass


@app.command("new", epilog="Example: megc-stream keys new lab-pc --roles events,control --commands status,annotate")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; stem of the two files.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Existing folder for the files.")] = Path(),
    roles: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE,ROLE",
            help="What its owner may connect to: events, frames, control, recordings, links [events,frames].",
        ),
    ] = None,
    commands: Annotated[
        str | None, typer.Option(metavar="WORD,WORD", help="With the role control: only these commands [all].")
    ] = None,
) -> None:
    """Make NAME.key, to hand out, and NAME.key_secret, which stays where it is; never replaces a file.

    The owner of a server puts the .key files of those who may connect into the folder that security.allowed names. The
    lines 'roles' and 'commands' of the file there decide; they can be edited.
    """
    from megc_stream.cli.console import say
    from megc_stream.errors import UsageError
    from megc_stream.wire.control import COMMANDS
    from megc_stream.wire.keys import make_keys

    words = {option: _words(text) for option, text in (("roles", roles), ("commands", commands))}
    if unknown := [word for word in words["commands"] or () if word not in COMMANDS]:
        raise UsageError(f"--commands {unknown[0]}: unknown; expected some of {', '.join(COMMANDS)}")
    if not out.is_dir():
        raise UsageError(f"--out {out}: no such folder; make it first")
    public, secret = make_keys(name, out, roles=words["roles"] or (), commands=words["commands"])
    say(f"{public}: public. Hand it out: a server keeps it in the folder that its setting security.allowed names,")
    say("  a client names that of its server in security.server_key, or says --server-key.")
    say(f"{secret}: secret. Keep it here: security.secret_key, or --key. Only you can read it.")


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())
