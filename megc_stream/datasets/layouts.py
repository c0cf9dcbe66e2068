"""What a layout is: how recordings and annotations of one data set are recognised."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from megc_stream.datasets.events import Draft
from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Tree
from megc_stream.datasets.records import Recording
from megc_stream.datasets.sheets import Sheet, Table, find_table, read_sheets
from megc_stream.errors import DataError

__all__ = ["Columns", "Events", "Layout", "Recordings", "find_sheets", "open_sheets", "open_table"]

Recordings = Mapping[tuple[str, str], Recording]
"""Recordings by (subject, video)."""
Events = Callable[[Tree, Recordings, Log], Iterable[Draft]]
Columns = Mapping[str, Sequence[str]]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """One data set.

    Parameters
    ----------
    name
        As ``--layout`` takes it.
    title
        Name of the data set.
    look
        Finds recordings and spreadsheets below a root without looking into the folders of frames.
    events
        Reads the annotations; None where none are public.
    expected
        Recordings that a whole copy has, as (subject, video); a missing one is warned of.
    """

    name: str
    title: str
    look: Callable[[Path, Log], Tree]
    events: Events | None = None
    expected: tuple[tuple[str, str], ...] = ()


def find_sheets(tree: Tree, pattern: str) -> list[Path]:
    """Return the spreadsheets whose names match, the newest first: by version ("V3"), by date."""

    def version(path: Path) -> tuple[int, bool, int]:
        stem = path.stem.lower()
        versions, numbers = re.findall(r"v(\d+)", stem), re.findall(r"\d+", stem)
        return int(versions[-1]) if versions else 0, "updated" in stem, int(numbers[-1]) if numbers else 0

    matching = [path for path in tree.sheets if re.search(pattern, path.name, re.IGNORECASE)]
    return sorted(matching, key=version, reverse=True)


def open_sheets(tree: Tree, log: Log, pattern: str, example: str) -> list[Sheet]:
    """Return the sheets of the newest spreadsheet whose name matches; [], and an error, where there is none to read."""
    paths = find_sheets(tree, pattern)
    for path in paths[1:]:
        log.note(log.name(path), f"passed over: {paths[0].name} is read instead")
    if not paths:
        log.error(example, "is missing: no annotations without it")
        return []
    try:
        return read_sheets(paths[0], log.name(paths[0]))
    except DataError as error:
        log.error(log.name(paths[0]), str(error).removeprefix(f"{log.name(paths[0])}: "))
        return []


def open_table(sheets: Sequence[Sheet], log: Log, columns: Columns, optional: Columns | None = None) -> Table | None:
    """Return the first table with the columns; None, and an error in ``log``, where no sheet has it."""
    if not sheets:
        return None
    table = find_table(sheets, columns, optional)
    if table is None:
        wanted = ", ".join(names[0] for names in columns.values())
        log.error(sheets[0].file, f"no row names the columns {wanted}; expected them as the header of a sheet")
    return table
