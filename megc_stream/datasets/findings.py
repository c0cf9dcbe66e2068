"""Where readers note what is missing, damaged or mended."""

from __future__ import annotations

from pathlib import Path

from megc_stream.datasets.records import Finding
from megc_stream.datasets.sheets import CellError, Row

__all__ = ["Log"]


class Log:
    """Collects findings; files are named relative to ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.findings: list[Finding] = []

    def name(self, path: Path) -> str:
        """Return what findings call ``path``."""
        return str(path.relative_to(self._root)) if path.is_relative_to(self._root) else str(path)

    def error(self, file: str, message: str, row: int | None = None, column: str | None = None) -> None:
        """Note what makes a row, a recording or a file unusable."""
        self.findings.append(Finding(level="error", file=file, row=row, column=column, message=message))

    def warning(self, file: str, message: str, row: int | None = None, column: str | None = None) -> None:
        """Note what is odd or missing while the rest is usable."""
        self.findings.append(Finding(level="warning", file=file, row=row, column=column, message=message))

    def note(self, file: str, message: str, row: int | None = None, column: str | None = None) -> None:
        """Note a known trap that was mended."""
        self.findings.append(Finding(level="note", file=file, row=row, column=column, message=message))

    def cell(self, row: Row, error: CellError) -> None:
        """Note the cell that keeps a row from being used."""
        self.error(row.file, f"{error}; the row is left out", row.number, error.column)
