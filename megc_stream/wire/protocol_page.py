"""The page ``docs/protocol.md``, made from the message types.

``python -m megc_stream.wire.protocol_page docs/protocol.md`` writes it anew.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import cast

import msgspec

from megc_stream.wire.control import COMMANDS, Problem, Reply, Request
from megc_stream.wire.protocol import HELLO, MESSAGES, PROTOCOL_VERSION, WELCOME, Envelope, Snapshot
from megc_stream.wire.schema import fields_of, schema_hash, structs_in, type_text

__all__ = ["protocol_page"]

_HEAD = f"""\
# The public stream

Made from the types in `megc_stream/wire/protocol.py` and `megc_stream/records.py`; do not edit, but run
`python -m megc_stream.wire.protocol_page docs/protocol.md`.

Protocol version {PROTOCOL_VERSION}, schema `{{schema}}`.

Programs in any language subscribe with ZeroMQ and msgpack; `examples/` has a bare subscriber of twenty lines, one
with asyncio, one in JavaScript. Python programs can use `megc_stream.wire.Subscriber`, `AsyncSubscriber` and
`Control`.

## Sockets

| socket | setting, flag | kind, connect with | carries |
|---|---|---|---|
| events | `wire.publish`, `--publish` | XPUB, SUB | all but pictures; up to 10 000 messages wait per subscriber |
| frames | `wire.publish_frames`, `--publish-frames` | XPUB, SUB | pictures; up to 4 wait per subscriber |
| control | `wire.control`, `--control` | ROUTER, DEALER | commands and their replies, below |
| recordings | `wire.recordings`, `--recordings` | ROUTER, DEALER | all without loss, for `megc-stream record` |

A publisher never waits for a subscriber: one that is slower than the stream loses messages once its queue is full,
and sees a jump in `seq`. All sockets are on loopback unless keys (CURVE) are given or `--insecure-bind` is said.

## A message

    [topic][map][raw ...]

The topic is UTF-8 text and ends in a dot, so a prefix such as `event.label.` or `event.label.cam1.` never matches a
longer name. A dot inside the name of a source is written `_` in topics. The map is msgpack: the envelope, `type`, and
the payload under a key of the same name as the type. Raw parts are bytes (pictures). Unknown types and keys may
appear at any time: pass over them. `v` changes when a key is taken away or gets another meaning.

Joining: subscribe to `{WELCOME}` before connecting, and the single frame `{WELCOME}` (no map) says that a publisher
is there. Whoever subscribes to everything (the empty prefix) gets it as well: pass over messages of one part.
Subscribe to `{HELLO}` last: the `{HELLO}` that follows within 0.1 s proves that all subscriptions have arrived. It
comes again for each new subscriber. Who joins late asks the control socket for a `snapshot`.

Lost messages: `seq` counts the messages of one topic within one `session`; a jump means loss. `status.` comes every
second: silence means that the publisher is gone. Times (`..._s`) are seconds on the publisher's monotonic clock;
programs on one host with the same `clock` compare them directly, `{HELLO}` gives the offset to Unix time, and the
command `clock` measures the offset to another host's clock.

An event has one `event_id` and growing `rev`: onset, apex, offset or retracted, then label, and answer where
questions are asked; the last has `final`. Revisions of one event come in order.
"""


def protocol_page() -> str:
    """Return ``docs/protocol.md``."""
    lines = [_HEAD.format(schema=schema_hash()), "## Topics", "", "| topic | type | |", "|---|---|---|"]
    for name, message in MESSAGES.items():
        topic, _, text = _plain(message).partition(": ")
        lines.append(f"| {topic} | [{name}](#{name}) | {text} |")
    lines += ["", "## Envelope", "", _plain(Envelope), "", *_table(Envelope)]
    payloads = {name: _payload(message) for name, message in MESSAGES.items()}
    for name, payload in payloads.items():
        lines += ["", f"## {name}", "", _plain(payload), "", *_table(payload)]
    lines += ["", "## Parts of messages"]
    for part in structs_in(payloads.values()):
        if part not in payloads.values():
            lines += ["", f"### {part.__name__}", "", _plain(part), "", *_table(part)]
    lines += ["", "## Control", "", f"Commands: {', '.join(f'`{command}`' for command in COMMANDS)}."]
    for struct in (Request, Reply, Problem, Snapshot):
        lines += ["", f"### {struct.__name__}", "", _plain(struct), "", *_table(struct)]
    return "\n".join(lines) + "\n"


def _payload(message: type[Envelope]) -> type[msgspec.Struct]:
    """Return the type of the payload of a message type."""
    kind = str(message.__struct_config__.tag)
    (payload,) = (field.type for field in msgspec.structs.fields(message) if field.name == kind)
    return cast(type[msgspec.Struct], payload)


def _table(struct: type[msgspec.Struct]) -> list[str]:
    """Return the fields of a struct as a Markdown table."""
    meanings = _meanings(struct)
    rows = [(field.encode_name, type_text(field.type), meanings.get(field.name, "")) for field in fields_of(struct)]
    if struct.__struct_config__.tag is not None:
        rows.insert(0, (str(struct.__struct_config__.tag_field), f'"{struct.__struct_config__.tag}"', ""))
    lines = ["| key | type | meaning |", "|---|---|---|"] if meanings else ["| key | type |", "|---|---|"]
    return lines + [f"| `{key}` | {kind} |" + (f" {meaning} |" if meanings else "") for key, kind, meaning in rows]


def _meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return the text below each field in the source of a struct."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(definition, ast.ClassDef)
    meanings = {}
    for field, text in pairwise(definition.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            meanings[field.target.id] = _markdown(str(text.value.value))
    return meanings


def _plain(struct: type[msgspec.Struct]) -> str:
    return _markdown(inspect.getdoc(struct) or "")


def _markdown(text: str) -> str:
    """Return a docstring as one Markdown paragraph per paragraph."""
    text = re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"\bNone\b", "null", text)
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(protocol_page(), encoding="utf-8")
