"""The score curve of the report as SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec

from megc_stream.output._html import clock, duration, emotion_class, text
from megc_stream.output.curve import Curve
from megc_stream.records import Event

__all__ = ["TruthInterval", "draw_chart"]

_WIDTH, _LEFT, _RIGHT = 960, 46, 10
_PLOT_HEIGHT, _LABEL_HEIGHT, _LABEL_ROWS = 230, 16, 3
_LANE_HEIGHT = 20
_CHARACTER_WIDTH = 7.2


class TruthInterval(msgspec.Struct, frozen=True, kw_only=True):
    """An event known beforehand: frames (inclusive) and emotion."""

    onset: int
    offset: int
    emotion: str = ""


class _Axes(msgspec.Struct, frozen=True):
    """Where frames and scores lie in the picture."""

    frames: int
    low: float
    high: float
    top: float

    def x(self, frame: float) -> float:
        return _LEFT + frame / self.frames * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.top + (self.high - value) / (self.high - self.low) * _PLOT_HEIGHT

    @property
    def bottom(self) -> float:
        return self.top + _PLOT_HEIGHT


def draw_chart(
    score: Curve,
    smoothed: Curve,
    threshold: Curve,
    *,
    events: Sequence[Event],
    lost: Sequence[tuple[int, int]],
    truth: Sequence[TruthInterval] | None,
    frames: int,
    fps: float,
) -> str:
    """Return the chart with its legend as HTML.

    Parameters
    ----------
    score, smoothed, threshold
        Curves over frames; empty ones are left out.
    events
        Confirmed events, shaded from onset to offset.
    lost
        Stretches (first, last frame) without a face.
    truth
        Known events, in a lane beneath; None for no lane.
    frames
        Length of the axis.
    fps
        Frames per second, which turns frames into the seconds of the axis.
    """
    values = [v for curve in (score, smoothed, threshold) for _, low, high in curve.points for v in (low, high)]
    if not values:
        return "<p>Nothing could be scored.</p>"
    margin = max(max(values) - min(values), 1e-3) * 0.05
    labels, rows = _place_labels(events, frames)
    used_rows = max((row + 1 for row in rows.values()), default=0)
    axes = _Axes(frames, min(0.0, min(values) - margin), max(values) + margin, used_rows * _LABEL_HEIGHT + 8)
    height = axes.bottom + 34 + (0 if truth is None else _LANE_HEIGHT)
    parts = [
        *_grid(axes, fps, height),
        *(_lost(axes, first, last, fps) for first, last in lost),
        *(_event(axes, event, labels[event.event_number], rows.get(event.event_number), fps) for event in events),
        *(
            f'<path class="{name}" d="{_path(axes, curve, fps)}"/>'
            for name, curve in (("score", score), ("smoothed", smoothed), ("threshold", threshold))
            if curve.points
        ),
        *(() if truth is None else _truth(axes, truth, fps)),
    ]
    legend = [
        ("score", "score of one pair of frames", bool(score.points)),
        ("smoothed", "smoothed score", bool(smoothed.points)),
        ("threshold", "threshold", bool(threshold.points)),
        ("event", "event found (line: apex)", bool(events)),
        ("known", "event known beforehand", bool(truth)),
        ("lost", "no face", bool(lost)),
    ]
    items = "".join(f'<li class="{name}">{label}</li>' for name, label, shown in legend if shown)
    label = f"Score over {duration(frames / fps)}; events found: {len(events)}"
    return (
        f'<div class="scroll"><svg class="chart" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{label}">\n'
        + "\n".join(parts)
        + f'\n</svg></div>\n<ul class="legend">{items}</ul>'
    )


def _grid(axes: _Axes, fps: float, height: float) -> list[str]:
    parts = []
    step = _nice_step((axes.high - axes.low) / 5)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    for i in range(math.ceil(axes.low / step), math.floor(axes.high / step) + 1):
        y = axes.y(i * step)
        parts.append(f'<line class="tick" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{i * step:.{decimals}f}</text>')
    duration_s = axes.frames / fps
    step = _nice_step_s(duration_s / 10)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    below = height - 20
    for i in range(math.floor(duration_s / step) + 1):
        x = axes.x(i * step * fps)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{axes.bottom:.1f}" y2="{axes.bottom + 4:.1f}"/>'
        )
        # A long label under the right end would be cut off.
        anchor = "middle" if x < _WIDTH - 30 or step < 60 else "end"
        parts.append(f'<text x="{x:.1f}" y="{below:.1f}" text-anchor="{anchor}">{clock(i * step, decimals)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{axes.bottom}" y2="{axes.bottom}"/>')
    unit = "time, s" if duration_s < 120 else f"time, {'hours:' if duration_s >= 3600 else ''}minutes:seconds"
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{height - 4:.1f}" text-anchor="end">{unit}</text>')
    return parts


def _lost(axes: _Axes, first: int, last: int, fps: float) -> str:
    x, width = axes.x(first), max(1.0, axes.x(last + 1) - axes.x(first))
    title = f"no face from {clock(first / fps, 2)} to {clock((last + 1) / fps, 2)}"
    return (
        f'<g><title>{title}</title><rect class="lost" x="{x:.1f}" y="{axes.top:.1f}" width="{width:.1f}" '
        f'height="{_PLOT_HEIGHT}"/><rect class="lost-mark" x="{x:.1f}" y="{axes.bottom - 4:.1f}" width="{width:.1f}" '
        f'height="4"/></g>'
    )


def _event(axes: _Axes, event: Event, label: str, row: int | None, fps: float) -> str:
    if event.offset is None:
        return ""
    first, last = event.onset.frame, event.offset.frame
    x, width = axes.x(first), max(2.0, axes.x(last + 1) - axes.x(first))
    title = f"event {event.event_number}: {_name(event)}, {clock(first / fps, 2)} to {clock(last / fps, 2)}"
    parts = [
        f'<g class="{emotion_class(event.emotion)}"><title>{text(title)}</title>',
        f'<rect class="event-area" x="{x:.1f}" y="{axes.top:.1f}" width="{width:.1f}" height="{_PLOT_HEIGHT}"/>',
    ]
    if event.apex is not None:
        at = axes.x(event.apex.frame)
        parts.append(f'<line class="apex" x1="{at:.1f}" x2="{at:.1f}" y1="{axes.top:.1f}" y2="{axes.bottom:.1f}"/>')
    if row is not None:
        left, right = _label_span(event, label, axes.frames)
        x, y = (left + right) / 2, (row + 1) * _LABEL_HEIGHT - 3
        parts.append(f'<text class="label" x="{x:.1f}" y="{y}" text-anchor="middle">{text(label)}</text>')
    return "".join(parts) + "</g>"


def _truth(axes: _Axes, truth: Sequence[TruthInterval], fps: float) -> list[str]:
    y = axes.bottom + 7
    parts = [f'<text x="{_LEFT - 6}" y="{y + 10:.1f}" text-anchor="end">known</text>']
    for known in truth:
        x, width = axes.x(known.onset), max(2.0, axes.x(known.offset + 1) - axes.x(known.onset))
        title = f"known: {known.emotion or 'event'}, {clock(known.onset / fps, 2)} to {clock(known.offset / fps, 2)}"
        parts.append(
            f'<rect class="known {emotion_class(known.emotion)}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="12"><title>{text(title)}</title></rect>'
        )
    return parts


def _path(axes: _Axes, curve: Curve, fps: float) -> str:
    points = curve.points
    step = min((b[0] - a[0] for a, b in itertools.pairwise(points)), default=1)
    # Where the face was lost there are no scores, and the line must not bridge the gap.
    longest = max(2 * step, fps * 0.1)
    commands: list[str] = []
    before: int | None = None
    for frame, low, high in points:
        x = axes.x(frame)
        start = "M" if before is None or frame - before > longest else "L"
        commands.append(f"{start}{x:.1f} {axes.y(low):.1f}")
        if high != low:
            commands.append(f"L{x:.1f} {axes.y(high):.1f}")
        before = frame
    return "".join(commands)


def _place_labels(events: Sequence[Event], frames: int) -> tuple[dict[int, str], dict[int, int]]:
    """Return the label of each event and the row it stands in, by event number.

    Labels are number and name; where these do not all fit, numbers; those that still do not fit have no row.
    """
    for named in (True, False):
        labels = {e.event_number: f"{e.event_number} {_name(e)}" if named else f"{e.event_number}" for e in events}
        ends = [-math.inf] * _LABEL_ROWS
        rows: dict[int, int] = {}
        for event in sorted(events, key=lambda e: e.onset.frame):
            left, right = _label_span(event, labels[event.event_number], frames)
            row = next((row for row, end in enumerate(ends) if left > end + 4), None)
            if row is not None:
                ends[row] = right
                rows[event.event_number] = row
        if len(rows) == len(events):
            break
    return labels, rows


def _label_span(event: Event, label: str, frames: int) -> tuple[float, float]:
    offset = event.offset or event.onset
    centre = _Axes(frames, 0, 1, 0).x((event.onset.frame + offset.frame) / 2)
    half = len(label) * _CHARACTER_WIDTH / 2
    centre = min(max(centre, _LEFT + half), _WIDTH - _RIGHT - half)
    return centre - half, centre + half


def _name(event: Event) -> str:
    return event.emotion or event.type or "event"


def _nice_step(least: float) -> float:
    """Return the least of 1, 2, 5 x 10^n that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step for factor in (1, 2, 5, 10) if (step := factor * power) >= least * (1 - 1e-9))


def _nice_step_s(least_s: float) -> float:
    """Return a step for a time axis: 1, 2, 5 x 10^n below half a minute, then parts of minutes and hours."""
    for step_s in (30, 60, 120, 300, 600, 900, 1800, 3600):
        if least_s <= step_s and least_s > 10:
            return step_s
    return _nice_step(least_s) if least_s <= 10 else _nice_step(least_s / 3600) * 3600
