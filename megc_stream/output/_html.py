"""Small pieces of HTML; every text that comes from outside goes through :func:`text`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["clock", "count", "duration", "emotion_class", "number", "table", "text"]


def text(value: object) -> str:
    """Return the value as HTML text, also safe within a quoted attribute."""
    return html.escape(str(value))


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent."""
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{decimals}f}"


def count(amount: int, name: str) -> str:
    """Return e.g. "1 frame" or "1,200 frames"."""
    return f"{amount:,} {name}" if amount == 1 else f"{amount:,} {name}s"


def clock(t_s: float, decimals: int = 0) -> str:
    """Return a time as seconds, from two minutes on as m:ss, from an hour on as h:mm:ss."""
    t_s = round(t_s, decimals)
    if t_s < 120:
        return f"{t_s:.{decimals}f}"
    minutes, seconds = divmod(t_s, 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{seconds:0{decimals + 3 if decimals else 2}.{decimals}f}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def duration(duration_s: float) -> str:
    """Return a duration in words that stay on one line: "20.0 s", "12 min 05 s" or "1 h 02 min 05 s"."""
    units = ("s", "min", "h")
    parts = clock(duration_s, 1).split(":")
    if len(parts) > 1:
        parts = clock(duration_s).split(":")
    return "\N{NO-BREAK SPACE}".join(
        f"{part}\N{NO-BREAK SPACE}{unit}" for part, unit in zip(parts, reversed(units[: len(parts)]), strict=True)
    )


def emotion_class(emotion: str | None) -> str:
    """Return the class of the style sheet that colours an emotion."""
    return emotion if emotion in ("negative", "positive", "surprise") else "other"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numeric_from: int, narrow: bool = False) -> str:
    """Return a table of cells that are HTML already; columns from ``numeric_from`` on are set flush right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=n' if i >= numeric_from else ''}>{cell}</{tag}>" for i, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    kind = ' class="narrow"' if narrow else ""
    head = f"<thead><tr>{cells('th', header)}</tr></thead>"
    return f'<div class="scroll"><table{kind}>{head}<tbody>\n{body}</tbody></table></div>'
