"""The pictures of an event in the report: crops at onset, apex and offset, and the motion between the first two."""

from __future__ import annotations

import base64
import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.output._html import text
from megc_stream.output.pictures import Picture, png
from megc_stream.records import EventPoint

__all__ = ["EventPictures", "draw_pictures"]

_CELL_PX = 6
_LONGEST_ARROW_PX = 9.0
_LEAST_MOTION_PX = 0.05


class EventPictures(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Crops of an event; ``flow`` is (H, W, 2) px from onset to apex. None where a crop was not at hand."""

    onset: Picture | None = None
    apex: Picture | None = None
    offset: Picture | None = None
    flow: NDArray[np.float32] | None = None


def draw_pictures(
    pictures: EventPictures, onset: EventPoint, apex: EventPoint | None, offset: EventPoint | None
) -> str:
    """Return a strip of four figures as HTML: onset, apex, offset, and the motion from onset to apex as arrows."""
    figures = [
        _figure(picture, name, point)
        for name, picture, point in (
            ("Onset", pictures.onset, onset),
            ("Apex", pictures.apex, apex),
            ("Offset", pictures.offset, offset),
        )
    ]
    if pictures.flow is None or pictures.apex is None:
        figures.append(
            '<figure><div class="none">no motion</div><figcaption>Motion onset to apex</figcaption></figure>'
        )
    else:
        arrows, magnification, strongest_px = _arrows(pictures.flow)
        caption = f"Motion onset to apex: up to {strongest_px:.2f} px"
        caption += f", arrows {magnification:.0f}x" if arrows else ", too small to draw"
        overlay = f'<path class="arrows under" d="{arrows}"/><path class="arrows" d="{arrows}"/>' if arrows else ""
        figures.append(f"<figure>{_svg(pictures.apex, overlay, caption)}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="strip">{"".join(figures)}</div>'


def _figure(picture: Picture | None, name: str, point: EventPoint | None) -> str:
    caption = name if point is None else f"{name}, frame no. {point.number}"
    if picture is None:
        return f'<figure><div class="none">not kept</div><figcaption>{caption}</figcaption></figure>'
    if point is not None and picture.frame != point.frame:
        caption += f" (picture: {picture.frame - point.frame:+d} frames)"
    return f"<figure>{_svg(picture, '', caption)}<figcaption>{caption}</figcaption></figure>"


def _svg(picture: Picture, overlay: str, label: str) -> str:
    height, width = picture.image.shape
    data = base64.b64encode(png(picture.image)).decode()
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(label)}">'
        f'<image width="{width}" height="{height}" href="data:image/png;base64,{data}"/>{overlay}</svg>'
    )


def _arrows(flow: NDArray[np.float32]) -> tuple[str, float, float]:
    """Return an SVG path of arrows, their magnification, and the strongest motion in px.

    Motion is the mean of a cell of 6x6 px; arrows below a quarter of the strongest are left out.
    """
    rows, columns = flow.shape[0] // _CELL_PX, flow.shape[1] // _CELL_PX
    cells = flow[: rows * _CELL_PX, : columns * _CELL_PX].astype(np.float64)
    cells = cells.reshape(rows, _CELL_PX, columns, _CELL_PX, 2).mean(axis=(1, 3))
    lengths = np.hypot(cells[..., 0], cells[..., 1])
    strongest = float(lengths.max())
    if strongest < _LEAST_MOTION_PX:
        return "", 1.0, strongest
    magnification = max(1.0, float(np.floor(_LONGEST_ARROW_PX / strongest)))
    commands = []
    for row, column in zip(*np.nonzero(lengths >= strongest / 4), strict=True):
        x, y = (column + 0.5) * _CELL_PX, (row + 0.5) * _CELL_PX
        dx, dy = cells[row, column] * magnification
        head = min(2.5, 0.45 * math.hypot(dx, dy))
        angle = math.atan2(dy, dx)
        left, right = (
            (x + dx - head * math.cos(angle + turn), y + dy - head * math.sin(angle + turn)) for turn in (-0.5, 0.5)
        )
        commands.append(
            f"M{x:.1f} {y:.1f}L{x + dx:.1f} {y + dy:.1f}"
            f"M{left[0]:.1f} {left[1]:.1f}L{x + dx:.1f} {y + dy:.1f}L{right[0]:.1f} {right[1]:.1f}"
        )
    return "".join(commands), magnification, strongest
