"""4DME, the long grey videos."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from megc_stream.datasets.events import Draft, action_units, emotion, event_rows, expression_type, interval
from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Place, Tree, holds_images, walk
from megc_stream.datasets.layouts import Layout, Recordings, open_sheets
from megc_stream.datasets.records import ActionUnit
from megc_stream.datasets.sheets import CellError, Row, Sheet, Table, find_table

__all__ = ["FOURDME"]

_COLUMNS = {
    "subject": ("sub_ID", "Subject"),
    "video": ("fold_name", "Filename"),
    "onset": ("Onset",),
    "offset": ("Offset",),
}
_CLASSES = ("positive", "negative", "surprise", "repression", "others")
_UNITS = tuple(range(1, 70))
_OPTIONAL = {
    "apex": ("Apex",),
    "emotion": ("Emotion",),
    "aus": ("AUs", "AU", "Action Units"),
    "type": ("Type", "Expression type"),
    **{name: (name,) for name in _CLASSES},
    **{f"AU{number}": (f"AU{number}",) for number in _UNITS},
}
_FILE = "Micro and Macro-expression labels.xlsx"


def _look(root: Path, log: Log) -> Tree:
    def place(folder: Path) -> Place | None:
        if not holds_images(folder):
            return None
        return Place(subject=folder.parent.name, video=folder.name, fps=60.0, path=folder)

    tree = walk(root, place, log)
    # Beside the long videos lie clips and other cameras, in folders of the same names.
    long_ones = [place for place in tree.places if "long" in log.name(place.path).lower()]
    return Tree(root=tree.root, places=tuple(long_ones or tree.places), sheets=tree.sheets)


def _events(tree: Tree, recordings: Recordings, log: Log) -> Iterator[Draft]:
    sheets = open_sheets(tree, log, r"(micro|macro).*labels?.*\.xls|4dme.*\.xls", _FILE)
    tables = [(sheet, table) for sheet in sheets if (table := _table(sheet)) is not None]
    if sheets and not tables:
        wanted = ", ".join(names[0] for names in _COLUMNS.values())
        log.error(sheets[0].file, f"no row names the columns {wanted}; expected them as the header of a sheet")
    by_name = {(_plain(subject), _plain(video)): (subject, video) for subject, video in recordings}
    for sheet, table in tables:
        of_type = "macro" if "macro" in sheet.name.lower() and "micro" not in sheet.name.lower() else "micro"
        for row in event_rows(table, log, lambda row: bool(row.text("video") and row.text("subject"))):
            try:
                subject, video = row.name("subject"), row.name("video")
                subject, video = by_name.get((_plain(subject), _plain(video)), (subject, video))
                frames = interval(row, log)
                if frames is not None:
                    yield Draft(
                        subject=subject,
                        video=video,
                        onset=frames[0],
                        apex=frames[1],
                        offset=frames[2],
                        type=expression_type(row) if row.text("type") else of_type,  # type: ignore[arg-type]
                        emotion=_emotion(row, log),
                        action_units=_units(row, log),
                        row=row,
                    )
            except CellError as error:
                log.cell(row, error)


def _table(sheet: Sheet) -> Table | None:
    table = find_table([sheet], _COLUMNS, _OPTIONAL)
    if table is None:
        return None
    return Table(
        file=f"{sheet.file}[{sheet.name}]", columns=table.columns, header_row=table.header_row, cells=table.cells
    )


def _emotion(row: Row, log: Log) -> str:
    """Return the emotion as named, else the columns that are 1, joined by "+"."""
    if row.text("emotion"):
        return emotion(row, log)
    return "+".join(name for name in _CLASSES if row.number_or_none(name) == 1)


def _units(row: Row, log: Log) -> tuple[ActionUnit, ...]:
    """Return the action units as listed, else those whose columns are 1; those of a blink, "(k)", are left out."""
    if row.text("aus"):
        return action_units(row, log)
    return tuple(ActionUnit(number) for number in _UNITS if row.number_or_none(f"AU{number}") == 1)


def _plain(name: str) -> str:
    """Return a name without case and leading zeros, which the sheet and the folders write differently."""
    return re.sub(r"0*(\d+)", r"\1", name.lower())


FOURDME = Layout(name="4dme", title="4DME", look=_look, events=_events)
