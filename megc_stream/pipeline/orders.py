"""What a stage in a process of its own and the coordinator tell each other.

A stage sends a :class:`Beat` several times a second and at each event; the coordinator answers each with
:class:`Orders`. Both describe a state, not a change: one that is lost is made good by the next. Snapshots go to the
coordinator as :class:`Stored` until it says that it has them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from megc_stream.packing import Unpacker
from megc_stream.pipeline.hosting import Insertion
from megc_stream.records import StreamInfo

__all__ = ["Beat", "Begin", "Command", "Orders", "Problem", "Stored", "unpack_from_coordinator", "unpack_from_stage"]


class Problem(msgspec.Struct, frozen=True):
    """An error as it travels: the name of its class and its message; ``fatal`` where the stage ends by it."""

    kind: str
    text: str
    fatal: bool = True


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a control client wants of one source (None: of all): the publisher passes it to the coordinator."""

    id: int
    name: str
    source: str | None = None
    insertion: Insertion | None = None


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    """A stage says who it is and how far.

    ``instance`` tells a process from the one before it. ``begun`` says that its link has had the :class:`Begin`, which
    may come while the stage still loads; ``ready`` that the stage takes records (a reader has no use for it). ``n`` and
    ``frame`` are those of the last message taken.
    ``info`` and ``warnings`` are the reader's. The publisher's are ``marks``, by source the newest mark that came from
    all its stages; ``taken``, the last message it has had of each "source/stage"; ``gaps``, those of which it misses
    one; ``summaries``, what sources that have ended leave; ``commands``, what control clients want. ``malformed``
    counts the messages that could not be understood.
    """

    source: str
    stage: str
    instance: str
    begun: bool = False
    ready: bool = False
    n: int = -1
    frame: int = -1
    idle: bool = False
    ended: bool = False
    gap: bool = False
    info: StreamInfo | None = None
    warnings: tuple[str, ...] = ()
    problem: Problem | None = None
    placed: dict[int, int] = {}
    marks: dict[str, int] = {}
    taken: dict[str, int] = {}
    gaps: tuple[str, ...] = ()
    summaries: dict[str, bytes] = {}
    commands: tuple[Command, ...] = ()
    malformed: int = 0


class Stored(msgspec.Struct, frozen=True, kw_only=True, tag="stored"):
    """A stage's snapshot at a mark."""

    source: str
    stage: str
    instance: str
    mark: int
    snapshot: bytes


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """The coordinator's first word to a new process: go on after message ``n``, from ``snapshot`` if there is one.

    ``jump_frame`` is for the reader of a live source that died: go on after that frame, ``missed`` of which did not
    come. ``sources`` is for the publisher: what it has to know of each.
    """

    n: int
    snapshot: bytes | None = None
    jump_frame: int | None = None
    missed: int = 0
    sources: dict[str, dict[str, Any]] = {}


class Orders(msgspec.Struct, frozen=True, kw_only=True, tag="orders"):
    """What the coordinator wants of a stage now.

    ``complete`` is the newest mark that all have stored, by source. ``has`` is the newest snapshot that the
    coordinator has of this stage. ``resend`` says, by link ("next" or "sinks"), how often to have sent again, and after
    which message. ``down`` says that a stage of this source is being restarted. ``commands`` is the highest id of
    commands it has taken; ``log`` are (number, level, text) for everybody to read; ``malformed`` counts the messages
    that stages and coordinator could not understand.
    """

    complete: int = -1
    has: int = -1
    resend: dict[str, tuple[int, int]] = {}
    paused: bool = False
    stopped: bool = False
    down: bool = False
    insertions: tuple[Insertion, ...] = ()
    commands: int = 0
    log: tuple[tuple[int, str, str], ...] = ()
    malformed: int = 0
    quit: str = ""


unpack_from_stage = Unpacker[Beat | Stored](Beat | Stored)
unpack_from_coordinator = Unpacker[Begin | Orders](Begin | Orders)
