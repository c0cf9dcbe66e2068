"""What is wrong with a submission file."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Problem"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong: an "error" makes the file unfit, a "warning" is odd but allowed.

    ``row`` counts lines from 1, the header included; ``column`` is a column or field.
    ``missing`` marks a video that has no row or no run.
    """

    file: str
    message: str
    row: int | None = None
    column: str | None = None
    level: Literal["error", "warning"] = "error"
    missing: bool = False

    def __str__(self) -> str:
        """Return it on one line."""
        row = "" if self.row is None else f", row {self.row}"
        column = "" if self.column is None else f", column {self.column}"
        return f"{self.level}: {self.file}{row}{column}: {self.message}"
