"""The content of a spreadsheet file, by calamine; also run as a program, for files that may break the parser.

Imports nothing of the package, so that the program starts at once.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import python_calamine

__all__ = ["MOST_CELLS", "TooLargeError", "parse"]

MOST_CELLS = 1_000_000
"""Most cells of a sheet from A1 to its last one; an annotation table has some ten thousand."""

_MEMORY_BYTES = 4 << 30


class TooLargeError(ValueError):
    """A sheet has more than :data:`MOST_CELLS` cells."""


def parse(data: bytes) -> list[dict[str, Any]]:
    """Return ``name``, ``rows`` and ``merged`` ((top, left), (bottom, right)) of each worksheet, counted from 0.

    Raises
    ------
    python_calamine.CalamineError, ValueError, OSError
        The file is damaged or no spreadsheet.
    """
    workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    sheets = []
    for metadata in workbook.sheets_metadata:
        if metadata.typ != python_calamine.SheetTypeEnum.WorkSheet:
            continue
        sheet = workbook.get_sheet_by_name(metadata.name)
        bottom, right = sheet.end or (0, 0)
        if (bottom + 1) * (right + 1) > MOST_CELLS:
            raise TooLargeError(f"sheet {metadata.name} has {bottom + 1} rows by {right + 1} columns")
        rows = sheet.to_python(skip_empty_area=False)
        sheets.append({"name": metadata.name, "rows": rows, "merged": sheet.merged_cell_ranges or []})
    return sheets


def _main() -> None:
    try:
        import resource

        # A damaged file may ask for any amount.
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system
    try:
        sheets = parse(sys.stdin.buffer.read())
    except (python_calamine.CalamineError, ValueError, OSError) as error:
        json.dump({"error": str(error)}, sys.stdout)
    else:
        json.dump({"sheets": sheets}, sys.stdout, default=str)


if __name__ == "__main__":
    _main()
