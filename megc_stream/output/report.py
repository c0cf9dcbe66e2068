"""``report.html``: the results of one run as one self-contained page."""

from __future__ import annotations

import importlib.resources
import string
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from megc_stream import __version__
from megc_stream.output._html import clock, count, duration, emotion_class, number, table, text
from megc_stream.output.curve import Curve
from megc_stream.output.report_chart import TruthInterval, draw_chart
from megc_stream.output.report_pictures import EventPictures, draw_pictures
from megc_stream.output.run_record import RunStatus
from megc_stream.pipeline.statistics import DurationSummary
from megc_stream.records import Answer, Event, EventPoint, StreamInfo
from megc_stream.vqa.evidence import evidence_in_words

__all__ = ["ReportData", "ReportEvent", "render_report"]

_CLASSES_SHOWN = 5
_FLAGS = {
    "lost": "no face found",
    "found": "face found (again)",
    "small": "face small: fine motion may be missed",
    "turned": "head turned",
    "blink": "eyes closed",
    "blurred": "picture blurred",
}
_MODES = {"causal": "causal (from the past only, while frames arrive)", "video": "whole video (at its end)"}


class ReportEvent(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A confirmed event with its pictures (None where there are none)."""

    event: Event
    pictures: EventPictures | None = None


class ReportData(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All that the report shows.

    ``start_s`` is the time of the first frame, from which the report counts; ``frames`` the number of frames read,
    ``frames_with_face`` of those with a crop; ``lost`` are stretches (first, last frame) without a face. ``events`` may
    be fewer than ``micro`` + ``macro`` found on very long runs. ``truth`` is None where nothing is known;
    ``comparison`` is a sentence on how the events found compare with it. ``notes`` are sentences on the limits of the
    model or the source.
    """

    info: StreamInfo
    status: RunStatus
    error: str = ""
    started: datetime
    mode: str
    model: str
    model_sha256: str
    k: int
    k_prime: int
    start_s: float
    frames: int
    frames_with_face: int
    scores: int
    micro: int
    macro: int
    retracted: int = 0
    events: tuple[ReportEvent, ...] = ()
    score: Curve = Curve()
    smoothed: Curve = Curve()
    threshold: Curve = Curve()
    lost: tuple[tuple[int, int], ...] = ()
    truth: tuple[TruthInterval, ...] | None = None
    comparison: str = ""
    flags: Mapping[str, int] = {}
    dropped: Mapping[str, int] = {}
    late: int | None = None
    fps_out: float | None = None
    wall_s: float
    timings: Mapping[str, DurationSummary] = {}
    with_images: bool
    settings: Mapping[str, Any] = {}
    checksums: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()


def render_report(data: ReportData) -> str:
    """Return the report as one HTML page that loads nothing from anywhere."""
    template = importlib.resources.files("megc_stream.output").joinpath("report.html").read_text("utf-8")
    headline = _headline(data)
    return string.Template(template).substitute(
        title=text(f"{data.info.video}: {headline}"),
        version=text(__version__),
        headline=text(headline),
        summary=_summary(data),
        facts=_facts(data),
        banner=_banner(data),
        chart=draw_chart(
            data.score,
            data.smoothed,
            data.threshold,
            events=[shown.event for shown in data.events],
            lost=data.lost,
            truth=data.truth,
            frames=_length(data),
            fps=data.info.fps,
        ),
        events=_events(data),
        pictures=_pictures(data),
        limits=_limits(data),
        quality=_quality(data),
        speed=_speed(data),
        provenance=_provenance(data),
        footer=text(f"Written by megc_stream {__version__}. Everything shown lies beside this file in machine form."),
    )


def _length(data: ReportData) -> int:
    """Return the frames from the first to the last one, lost ones included."""
    last = [curve.points[-1][0] for curve in (data.score, data.smoothed) if curve.points]
    last += [lost[1] for lost in data.lost[-1:]]
    return max([data.frames, *(frame + 1 for frame in last), 1])


def _duration(data: ReportData) -> str:
    return duration(_length(data) / data.info.fps)


def _headline(data: ReportData) -> str:
    if data.frames and not data.frames_with_face:
        return f"No face was found in {_duration(data)}"
    found = [count(data.micro, "micro-expression")] if data.micro or not data.macro else []
    if data.macro:
        found.append(count(data.macro, "macro-expression"))
    what = " and ".join(found) if data.micro + data.macro else "No micro-expression"
    return f"{what} found in {_duration(data)}"


def _summary(data: ReportData) -> str:
    sentences = [data.comparison] if data.comparison else []
    missing = data.frames - data.frames_with_face
    if missing and data.frames_with_face:
        share = 100 * missing / data.frames
        sentences.append(
            f"The face was missing in {count(missing, 'frame')} ({number(share)} %); nothing is known there."
        )
    return f"<p>{text(' '.join(sentences))}</p>" if sentences else ""


def _facts(data: ReportData) -> str:
    info = data.info
    facts = [
        ("Source", info.source, "wide"),
        ("Subject, video", f"{info.subject}, {info.video}", ""),
        ("Analysed on", f"{data.started:%Y-%m-%d %H:%M:%S}", ""),
        ("Duration", f"{_duration(data)}, {count(data.frames, 'frame')}", ""),
        ("Picture", f"{info.width} x {info.height} px, {info.fps:g} frames/s", ""),
        ("Spotting", _MODES.get(data.mode, data.mode), ""),
        ("Model", data.model, ""),
        ("Pair distance k, half length k'", f"{data.k}, {data.k_prime} frames", ""),
    ]
    cells = "".join(
        f'<div class="{kind}"><dt>{text(name)}</dt><dd>{text(value)}</dd></div>' for name, value, kind in facts
    )
    return f'<dl class="facts">{cells}</dl>'


def _banner(data: ReportData) -> str:
    if data.status == "complete":
        return f'<div class="banner">{text(data.error)}</div>' if data.error else ""
    if data.status == "stopped":
        return '<div class="banner">This run was stopped. What had been found until then is shown.</div>'
    return f'<div class="banner">This run failed: {text(data.error)}. What had been found until then is shown.</div>'


def _events(data: ReportData) -> str:
    total = data.micro + data.macro
    if not total:
        retracted = f" {count(data.retracted, 'event')} began and was withdrawn." if data.retracted == 1 else ""
        if data.retracted > 1:
            retracted = f" {count(data.retracted, 'event')} began and were withdrawn."
        return f"<p>No event was found.{retracted}</p>"
    header = ("No.", "Emotion", "Onset", "Apex", "Offset", "Duration", "Type", "Score / threshold", "Remarks")
    parts = [table(header, [_event_row(data, shown.event) for shown in data.events], numeric_from=len(header))]
    notes = ["Times count from the first frame, in seconds; frame numbers are those of the source."]
    if data.retracted:
        notes.append(f"Begun and withdrawn: {count(data.retracted, 'event')}.")
    if len(data.events) < total:
        notes.append(f"The first {len(data.events)} of {total} events are shown; intervals.csv has all.")
    parts.append(f'<p class="muted">{text(" ".join(notes))}</p>')
    parts += [_answers(shown.event) for shown in data.events if shown.event.answers]
    return "\n".join(parts)


def _answers(event: Event) -> str:
    """Return the questions about an event with their answers, each with the word who answered."""
    shown = "".join(
        f"<dt>{text(answer.question)}</dt><dd>{text(answer.answer)}"
        f'<span class="small">{text(_answered_by(answer))}</span></dd>'
        for answer in event.answers
    )
    return (
        f"<details open><summary>Event {event.event_number}: questions and answers</summary>"
        f'<dl class="answers">{shown}</dl></details>'
    )


def _answered_by(answer: Answer) -> str:
    if answer.by == "served":
        model = answer.evidence.get("lora") or answer.evidence.get("model") or "a language model"
        return f"Written by the model {model}, which may be wrong in every word."
    instead = f" The model that was asked gave no answer: {answer.fallback}." if answer.fallback else ""
    evidence = evidence_in_words(answer.evidence)
    return f"Measured by the pipeline{f': {evidence}' if evidence else ''}.{instead}"


def _event_row(data: ReportData, event: Event) -> list[str]:
    duration_ms = "" if event.offset is None else f"{(event.offset.t_s - event.onset.t_s) * 1000:.0f}&nbsp;ms"
    return [
        str(event.event_number),
        _emotion(event),
        *(_point(data, point) for point in (event.onset, event.apex, event.offset)),
        duration_ms,
        text(event.type or ""),
        f"{number(event.score)} / {number(event.threshold)}",
        text(", ".join(event.flags)),
    ]


def _point(data: ReportData, point: EventPoint | None) -> str:
    if point is None:
        return ""
    return f'{clock(point.t_s - data.start_s, 3)}<span class="small">no. {point.number}</span>'


def _emotion(event: Event) -> str:
    bars = "".join(
        f'<span>{text(name)}</span><i class="{emotion_class(name)}"><b style="width:{100 * probability:.0f}%"></b></i>'
        f"<span>{probability:.2f}</span>"
        for name, probability in sorted(event.probabilities.items(), key=lambda item: -item[1])[:_CLASSES_SHOWN]
    )
    units = f'<span class="small">{text(", ".join(event.aus))}</span>' if event.aus else ""
    name = f"<strong>{text(event.emotion)}</strong>" if event.emotion else "not named"
    return f'{name}<div class="bars">{bars}</div>{units}' if bars else name + units


def _pictures(data: ReportData) -> str:
    if not data.with_images:
        return (
            "<p>Pictures of the face are left out, to protect the person's privacy. To see each event at onset, apex "
            "and offset, run the analysis again with <code class='name'>--with-images</code>.</p>"
        )
    with_pictures = [shown for shown in data.events if shown.pictures is not None]
    if not with_pictures:
        return "<p>There is no event to show pictures of.</p>"
    parts = ["<p>This page holds pictures of a face; share it with care.</p>"]
    for shown in with_pictures:
        event = shown.event
        title = f"Event {event.event_number}: {event.emotion or event.type or 'not named'}, "
        title += f"{clock(event.onset.t_s - data.start_s, 3)} s"
        strip = draw_pictures(shown.pictures or EventPictures(), event.onset, event.apex, event.offset)
        parts.append(f'<div class="event"><h3>{text(title)}</h3>{strip}</div>')
    parts.append(
        '<p class="muted">The crops are 128 x 128 px with the eye centres 50 px apart. Arrows show the optical flow '
        "from onset to apex, enlarged as stated; motion below a quarter of the strongest is left out.</p>"
    )
    if len(with_pictures) < len(data.events):
        parts.append(f'<p class="muted">Pictures are kept for {count(len(with_pictures), "event")}.</p>')
    return "\n".join(parts)


def _limits(data: ReportData) -> str:
    limits = [
        "It does not detect lies, intentions or thoughts. No such conclusion can be drawn from facial movement alone.",
        "A facial expression is not an emotion felt. The emotion named is the model's guess at the kind of movement.",
        "Events may be missed and invented. Spotting micro-expressions is an open problem: published systems find few "
        "of them and invent many, so an event here is a place to look at, not a result.",
        *data.notes,
        "Inferring emotions from faces is restricted by law in some places. In the European Union, Article 5(1)(f) of "
        "the AI Act (Regulation (EU) 2024/1689) prohibits it at work and in education, except for medical or safety "
        "reasons.",
    ]
    return "<ul>" + "".join(f"<li>{text(limit)}</li>" for limit in limits) + "</ul>"


def _quality(data: ReportData) -> str:
    def share(frames: int) -> str:
        return f"{100 * frames / data.frames:.1f} %" if data.frames else ""

    flags = [[text(_FLAGS.get(name, name)), f"{frames:,}", share(frames)] for name, frames in data.flags.items()]
    dropped = [[text(name), f"{frames:,}"] for name, frames in data.dropped.items()]
    seen = (
        table(("Remark on frames", "Frames", "Share"), flags, numeric_from=1)
        if flags
        else "<p>No frame was remarked on.</p>"
    )
    lost = (
        table(("Frames dropped because of", "Frames"), dropped, numeric_from=1)
        if dropped
        else "<p>No frame was dropped.</p>"
    )
    late = ""
    if data.late is not None:
        late = f'<p class="muted">{count(data.late, "frame")} came more than 50 ms after the deadline.</p>'
    scored = f'<p class="muted">{count(data.scores, "pair")} of frames scored, {count(data.frames, "frame")} read.</p>'
    return f'<div class="columns"><div>{seen}</div><div>{lost}{late}{scored}</div></div>'


def _speed(data: ReportData) -> str:
    source_s = _length(data) / data.info.fps
    sentence = f"The run took {number(data.wall_s)} s for {number(source_s)} s of the source"
    if data.fps_out is not None:
        sentence += f", at {number(data.fps_out)} scores per second"
    parts = [f"<p>{text(sentence)}.</p>"]
    if data.timings:
        rows = [
            [text(stage), f"{s.count:,}", *(number(ms) for ms in (s.p50_ms, s.p95_ms, s.p99_ms, s.max_ms))]
            for stage, s in data.timings.items()
        ]
        header = ("Time per record, ms", "Records", "Median", "95 %", "99 %", "Longest")
        parts.append(table(header, rows, numeric_from=1))
        if "capture to score" in data.timings:
            parts.append('<p class="muted">Capture to score leaves out the first 2 s of scores.</p>')
    return "\n".join(parts)


def _provenance(data: ReportData) -> str:
    checksums = {data.model: data.model_sha256, **data.checksums}
    sums = table(
        ("Model file", "SHA-256"),
        [[text(name), f"<code>{text(value)}</code>"] for name, value in checksums.items()],
        numeric_from=2,
    )
    rows = [[f"<code>{text(key)}</code>", f"<code>{text(value)}</code>"] for key, value in _flat(data.settings)]
    settings = table(("Setting", "Value"), rows, numeric_from=2, narrow=True)
    return f"{sums}\n<details><summary>All settings</summary>{settings}</details>"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "" if value is None else str(value)
