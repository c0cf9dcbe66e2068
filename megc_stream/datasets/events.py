"""From rows of annotation tables to annotations of recordings: the rules that all data sets share."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import natural
from megc_stream.datasets.labels import coarse_emotion, parse_action_units
from megc_stream.datasets.records import ActionUnit, Annotation, Recording
from megc_stream.datasets.sheets import CellError, Row, Table

__all__ = ["Draft", "action_units", "emotion", "event_rows", "expression_type", "interval", "place_events"]


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event as its row has it, before it is looked up in its recording."""

    subject: str
    video: str
    onset: int
    apex: int | None
    offset: int
    type: Literal["micro", "macro"]
    emotion: str = ""
    action_units: tuple[ActionUnit, ...] = ()
    event: str = ""
    row: Row


def event_rows(table: Table, log: Log, is_named: Callable[[Row], bool]) -> list[Row]:
    """Return the rows that are named as events or hold something in a column of frames; text around them is noted."""
    rows: list[Row] = []
    text: list[Row] = []
    for row in table.rows():
        is_event = is_named(row) or any(row.cell(field) is not None for field in ("onset", "apex", "offset"))
        (rows if is_event else text).append(row)
    if text:
        numbers = ", ".join(str(row.number) for row in text[:8]) + (", ..." if len(text) > 8 else "")
        log.note(table.file, f"text, not events, in rows {numbers}: passed over", text[0].number)
    if not rows:
        log.error(table.file, "no annotated event below the header", table.header_row)
    return rows


def interval(row: Row, log: Log, *, first: int = 1) -> tuple[int, int | None, int] | None:
    """Return onset, apex or None, and offset; None for a row whose onset is unknown by the data set's own convention.

    Parameters
    ----------
    row
        With the fields onset, apex (may be missing) and offset.
    log
        Gets a note for each trap mended: apex -1, 0, "/" or outside; offset 0 or "/", where the apex stands in.
    first
        Least frame number of the data set; 0 means that 0 is a frame, else 0 means unknown.

    Raises
    ------
    CellError
        Onset or offset is missing without a substitute, malformed, or the offset lies before the onset.
    """
    onset = row.number_or_none("onset")
    apex = row.number_or_none("apex")
    offset = row.number_or_none("offset")
    if onset is None:
        raise CellError(row.heading("onset"), f"holds '{row.text('onset')}'; expected a frame number")
    if onset == 0 and first > 0:
        log.note(row.file, "onset 0: not annotated, the row is left out", row.number, row.heading("onset"))
        return None
    if onset < first:
        raise CellError(row.heading("onset"), f"holds {onset}; expected a frame number from {first}")
    if apex is not None and apex < first:
        apex = None
    if apex is None and row.text("apex"):
        message = f"apex '{row.text('apex')}': unknown, left empty"
        log.note(row.file, message, row.number, row.heading("apex"))
    if offset is None or offset < first:
        if apex is None or apex < onset:
            raise CellError(row.heading("offset"), f"holds '{row.text('offset')}'; expected a frame number")
        log.note(
            row.file,
            f"offset '{row.text('offset')}': unknown, the apex {apex} is taken",
            row.number,
            row.heading("offset"),
        )
        offset = apex
    if offset < onset:
        raise CellError(row.heading("offset"), f"holds {offset}, before the onset {onset}")
    if apex is not None and not onset <= apex <= offset:
        log.warning(
            row.file,
            f"apex {apex} lies outside the event ({onset} to {offset}); it is left out",
            row.number,
            row.heading("apex"),
        )
        apex = None
    return onset, apex, offset


def expression_type(row: Row, field: str = "type") -> Literal["micro", "macro"]:
    """Return the type by the beginning of its cell ("Micro - 1/2", "macro-expression").

    Raises
    ------
    CellError
        It begins otherwise.
    """
    text = row.text(field).lower()
    if text.startswith("micro"):
        return "micro"
    if text.startswith("macro"):
        return "macro"
    raise CellError(row.heading(field), f"holds '{row.text(field)[:40]}'; expected micro or macro")


def emotion(row: Row, log: Log, field: str = "emotion") -> str:
    """Return the emotion in lower case; one that is in none of the challenge's classes is warned of and kept."""
    text = " ".join(row.text(field).lower().split())
    if coarse_emotion(text) is None:
        log.warning(
            row.file,
            f"emotion '{text[:40]}' is in none of the classes; taken as others",
            row.number,
            row.heading(field),
        )
    return text


def action_units(row: Row, log: Log, field: str = "aus") -> tuple[ActionUnit, ...]:
    """Return the action units; what cannot be read is warned of and left out."""
    units, unread = parse_action_units(row.text(field))
    if unread:
        log.warning(
            row.file,
            f"'{unread[:40]}' names no action unit; expected numbers such as 4+L12",
            row.number,
            row.heading(field),
        )
    return units


def place_events(
    drafts: Iterable[Draft], recordings: Mapping[tuple[str, str], Recording], log: Log
) -> tuple[Annotation, ...]:
    """Look every event up in its recording; sorted by subject, video and onset."""
    absent: dict[tuple[str, str], list[Draft]] = {}
    annotations = []
    seen: dict[tuple[str, str, int, int], int] = {}
    for draft in drafts:
        key = (draft.subject, draft.video)
        first_row = seen.setdefault((*key, draft.onset, draft.offset), draft.row.number)
        if first_row != draft.row.number:
            log.warning(
                draft.row.file,
                f"the event {draft.onset} to {draft.offset} of {draft.video} is in row {first_row} too; both count",
                draft.row.number,
            )
        recording = recordings.get(key)
        if recording is None:
            absent.setdefault(key, []).append(draft)
        annotations.append(
            Annotation(
                subject=draft.subject,
                video=draft.video,
                onset=draft.onset,
                apex=draft.apex,
                offset=draft.offset,
                onset_index=_index(draft, "onset", recording, log),
                apex_index=_index(draft, "apex", recording, log),
                offset_index=_index(draft, "offset", recording, log),
                type=draft.type,
                emotion=draft.emotion,
                coarse=coarse_emotion(draft.emotion) or ("others" if draft.emotion else ""),
                action_units=draft.action_units,
                event=draft.event,
                row=draft.row.number,
            )
        )
    if recordings:
        for (subject, video), events in absent.items():
            name = video if video.startswith(subject) else f"{subject}/{video}"
            log.warning(
                events[0].row.file,
                f"video {name} has {len(events)} annotated events and no frames; expected its folder",
                events[0].row.number,
            )
    annotations.sort(key=lambda a: (natural(a.subject), natural(a.video), a.onset, a.offset))
    return tuple(annotations)


def _index(
    draft: Draft, field: Literal["onset", "apex", "offset"], recording: Recording | None, log: Log
) -> int | None:
    number: int | None = getattr(draft, field)
    if recording is None or number is None:
        return None
    if not recording.numbers:
        return number
    index = bisect_left(recording.numbers, number)
    if index < len(recording.numbers) and recording.numbers[index] == number:
        return index
    log.warning(
        draft.row.file,
        f"{field} {number} is no frame of video {draft.video} "
        f"({len(recording.numbers)} frames, {recording.numbers[0]} to {recording.numbers[-1]})",
        draft.row.number,
        draft.row.heading(field),
    )
    return None
