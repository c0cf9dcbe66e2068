from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from megc_stream.output._html import clock, duration, number
from megc_stream.output.curve import Curve, CurveRecorder
from megc_stream.output.pictures import Picture
from megc_stream.output.report import ReportData, ReportEvent, render_report
from megc_stream.output.report_chart import TruthInterval, draw_chart
from megc_stream.output.report_pictures import EventPictures, draw_pictures
from megc_stream.pipeline.statistics import DurationSummary
from megc_stream.records import Answer, Event, StreamInfo

MakeEvent = Callable[..., Event]

_VOID = {"meta", "line", "rect", "path", "image", "br"}
_HOSTILE = "<script>alert(1)</script>&\"'"


class _Checker(HTMLParser):
    """Fails on tags that do not match; collects the addresses that the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def _checked(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def _text(page: str) -> str:
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def _picture(frame: int) -> Picture:
    return Picture(frame=frame, segment=0, image=np.full((128, 128), 90, np.uint8))


def _flow() -> Any:
    flow = np.zeros((128, 128, 2), np.float32)
    flow[30:48, 30:60, 1] = -0.5
    return flow


def _data(**fields: Any) -> ReportData:
    curve = Curve(points=tuple((frame, 0.0, frame / 100) for frame in range(0, 400, 2)))
    values: dict[str, Any] = {
        "info": StreamInfo(source="clip.mkv", subject="006", video="006_1", fps=100.0, width=640, height=480),
        "status": "complete",
        "started": datetime(2025, 3, 4, 5, 6, 7),
        "mode": "causal",
        "model": "mean-test",
        "model_sha256": "ab" * 32,
        "k": 10,
        "k_prime": 19,
        "start_s": 0.0,
        "frames": 400,
        "frames_with_face": 400,
        "scores": 390,
        "micro": 0,
        "macro": 0,
        "score": curve,
        "wall_s": 3.5,
        "with_images": False,
    }
    return ReportData(**values | fields)


def _found(make_event: MakeEvent, number: int = 1, **fields: Any) -> Event:
    values: dict[str, Any] = {
        "onset": 120, "apex": 140, "offset": 160, "kind": "label", "final": True, "type": "micro",
        "emotion": "negative", "probabilities": {"negative": 0.75, "positive": 0.25},
    }  # fmt: skip
    return make_event(number, 3, **values | fields)


@pytest.mark.parametrize(
    ("fields", "headline"),
    [
        ({"micro": 3}, "3 micro-expressions found in 4.0 s"),
        ({"micro": 1}, "1 micro-expression found in 4.0 s"),
        ({"micro": 1, "macro": 2}, "1 micro-expression and 2 macro-expressions found in 4.0 s"),
        ({"macro": 1}, "1 macro-expression found in 4.0 s"),
        ({}, "No micro-expression found in 4.0 s"),
        ({"frames_with_face": 0, "score": Curve()}, "No face was found in 4.0 s"),
    ],
)
def test_headline_says_what_was_found(fields: dict[str, Any], headline: str) -> None:
    page = render_report(_data(**fields))
    assert f"<h1>{headline}</h1>".replace("4.0 s", "4.0\N{NO-BREAK SPACE}s") in page
    _checked(page)


def test_a_full_report_is_well_formed_and_loads_nothing(make_event: MakeEvent) -> None:
    pictures = EventPictures(onset=_picture(120), apex=_picture(140), offset=_picture(160), flow=_flow())
    page = render_report(
        _data(
            micro=1,
            retracted=2,
            events=(ReportEvent(event=_found(make_event, aus=("brow lowerer",), flags=("blink",)), pictures=pictures),),
            smoothed=Curve(points=tuple((frame, 0.1, 0.1) for frame in range(0, 400, 2))),
            threshold=Curve(points=((0, 0.3, 0.3), (390, 0.3, 0.3))),
            lost=((300, 309),),
            frames_with_face=390,
            truth=(TruthInterval(onset=118, offset=158, emotion="negative"), TruthInterval(onset=200, offset=210)),
            comparison="Of 2 known events 1 was found.",
            flags={"lost": 10},
            dropped={"queue full": 3},
            late=0,
            fps_out=120.0,
            timings={
                "capture to score": DurationSummary(count=9, p50_ms=1.234, p95_ms=12.34, p99_ms=123.4, max_ms=0.123)
            },
            with_images=True,
            settings={"flow": {"lam": 0.15}},
            checksums={"face.onnx": "cd" * 32},
            notes=("The model was trained on generated clips.",),
        )
    )
    checker = _checked(page)
    assert checker.addresses
    assert all(address.startswith("data:image/png;base64,") for address in checker.addresses)
    assert "script" not in checker.tags
    assert "url(" not in page and "@import" not in page
    text = _text(page)
    for expected in (
        "Of 2 known events 1 was found. The face was missing in 10 frames",
        "1.200 no. 121 1.400 no. 141 1.600 no. 161",
        "400&nbsp;ms micro",
        "brow lowerer",
        "negative 0.75 positive 0.25",
        "0.500 / 0.250",
        "Begun and withdrawn: 2 events.",
        "Motion onset to apex: up to 0.50 px",
        "queue full 3",
        "capture to score 9 1.23 12.3 123 0.123",
        "does not detect lies",
        "not an emotion felt",
        "The model was trained on generated clips.",
        "Article 5(1)(f)",
        "flow.lam",
        "cd" * 32,
    ):
        assert expected in text, expected


def test_without_images_no_pixels_and_a_word_on_how_to_get_them(make_event: MakeEvent) -> None:
    page = render_report(_data(micro=1, events=(ReportEvent(event=_found(make_event)),)))
    assert "data:image" not in page
    assert "--with-images" in page
    assert "privacy" in page


def test_times_count_from_the_first_frame(make_event: MakeEvent) -> None:
    page = render_report(_data(micro=1, start_s=0.2, events=(ReportEvent(event=_found(make_event)),)))
    assert "1.000 no. 121" in _text(page)


def test_texts_from_outside_are_escaped(make_event: MakeEvent) -> None:
    hostile = _HOSTILE
    event = _found(
        make_event, emotion=hostile, probabilities={hostile: 1.0}, aus=(hostile,), flags=(hostile,), type=None
    )
    pictures = EventPictures(onset=_picture(120))
    page = render_report(
        _data(
            info=StreamInfo(source=hostile, subject=hostile, video=hostile, fps=100.0, width=1, height=1),
            status="failed",
            error=hostile,
            mode=hostile,
            model=hostile,
            model_sha256=hostile,
            micro=1,
            events=(ReportEvent(event=event, pictures=pictures),),
            truth=(TruthInterval(onset=1, offset=2, emotion=hostile),),
            comparison=hostile,
            flags={hostile: 1},
            dropped={hostile: 1},
            timings={hostile: DurationSummary(count=1, p50_ms=1, p95_ms=1, p99_ms=1, max_ms=1)},
            settings={hostile: hostile},
            checksums={hostile: hostile},
            notes=(hostile,),
            with_images=True,
        )
    )
    assert "<script" not in page
    assert "script" not in _checked(page).tags
    assert page.count("&lt;script&gt;") > 15


@pytest.mark.parametrize(("status", "word"), [("stopped", "was stopped"), ("failed", "failed: no more room.")])
def test_an_incomplete_run_says_so(status: str, word: str) -> None:
    assert word in render_report(_data(status=status, error="no more room"))


def test_a_remark_on_a_complete_run_is_shown() -> None:
    assert "damaged from frame 40 on" in render_report(_data(error="damaged from frame 40 on"))


def test_a_run_of_few_events_shown_says_where_all_are(make_event: MakeEvent) -> None:
    page = render_report(_data(micro=7, macro=2, events=(ReportEvent(event=_found(make_event)),)))
    assert "The first 1 of 9 events are shown; intervals.csv has all." in page


# --- chart -----------------------------------------------------------------------------------------------------------


def _chart(curve: Curve, events: tuple[Event, ...] = (), frames: int = 1000) -> str:
    return draw_chart(Curve(), curve, Curve(), events=events, lost=((400, 499),), truth=None, frames=frames, fps=100.0)


def test_the_curve_does_not_bridge_a_lost_face() -> None:
    curve = Curve(points=tuple((frame, 0.2, 0.2) for frame in (*range(400), *range(500, 1000))))
    path = re.search(r'<path class="smoothed" d="([^"]*)"', _chart(curve))
    assert path is not None
    assert path[1].count("M") == 2


def test_a_long_curve_stays_small_and_keeps_its_peaks() -> None:
    recorder = CurveRecorder(limit=100)
    for frame in range(10_001):
        recorder.add(frame, 5.0 if frame == 777 else -3.0 if frame == 778 else 0.0)
    points = recorder.curve().points
    assert 50 <= len(points) <= 100
    assert max(high for _, _, high in points) == 5.0
    assert min(low for _, low, _ in points) == -3.0
    peak = next(frame for frame, _, high in points if high == 5.0)
    assert peak <= 777 < peak + 128


def test_a_short_curve_is_kept_as_it_is() -> None:
    recorder = CurveRecorder(limit=100)
    for frame in range(3, 40, 2):
        recorder.add(frame, float(frame))
    assert recorder.curve().points == tuple((frame, float(frame), float(frame)) for frame in range(3, 40, 2))


def test_labels_become_numbers_where_they_do_not_fit(make_event: MakeEvent) -> None:
    curve = Curve(points=((0, 0.0, 0.0), (999, 1.0, 1.0)))
    spread = tuple(_found(make_event, n, onset=300 * n, apex=None, offset=300 * n + 20) for n in (1, 2, 3))
    crowded = tuple(_found(make_event, n, onset=300 + 3 * n, apex=None, offset=310 + 3 * n) for n in range(1, 9))
    assert re.findall(r'class="label"[^>]*>([^<]*)<', _chart(curve, spread)) == [
        "1 negative",
        "2 negative",
        "3 negative",
    ]
    labels = re.findall(r'class="label"[^>]*>([^<]*)<', _chart(curve, crowded))
    assert 3 <= len(labels) < 8
    assert all(label.isdigit() for label in labels)


@pytest.mark.parametrize("frames", [1, 30, 1000, 40_000, 10_000_000])
@pytest.mark.parametrize("value", [0.0, -2.0, 1e-6, 1e6])
def test_axes_have_a_few_ticks_whatever_the_range(frames: int, value: float) -> None:
    chart = _chart(Curve(points=((0, value, value),)), frames=frames)
    assert "nan" not in chart
    assert 1 <= chart.count('class="tick"') <= 12
    assert 1 <= len(re.findall(r'text-anchor="middle">|text-anchor="end">0<', chart)) <= 14


def test_an_empty_chart_is_a_sentence() -> None:
    assert _chart(Curve()) == "<p>Nothing could be scored.</p>"


# --- pictures --------------------------------------------------------------------------------------------------------


def test_missing_pictures_are_named(make_event: MakeEvent) -> None:
    event = _found(make_event)
    strip = draw_pictures(EventPictures(onset=_picture(118)), event.onset, event.apex, event.offset)
    assert strip.count("not kept") == 2
    assert "no motion" in strip
    assert "Onset, frame no. 121 (picture: -2 frames)" in strip


def test_arrows_point_along_the_motion(make_event: MakeEvent) -> None:
    event = _found(make_event)
    pictures = EventPictures(apex=_picture(140), flow=_flow())
    strip = draw_pictures(pictures, event.onset, event.apex, event.offset)
    assert "up to 0.50 px, arrows 18x" in strip
    path = re.search(r'<path class="arrows" d="([^"]*)"', strip)
    assert path is not None
    shafts = re.findall(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)M", path[1])
    assert len(shafts) == 15
    assert all(x0 == x1 and float(y0) - float(y1) == pytest.approx(9.0) for x0, y0, x1, y1 in shafts)


def test_no_arrows_without_motion(make_event: MakeEvent) -> None:
    event = _found(make_event)
    pictures = EventPictures(apex=_picture(140), flow=np.full((128, 128, 2), 0.001, np.float32))
    assert "too small to draw" in draw_pictures(pictures, event.onset, event.apex, event.offset)


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_numbers_have_three_digits() -> None:
    assert [number(x) for x in (1234.5, 99.96, 12.34, 1.234, 0.1234, 0.0)] == [
        "1234", "100.0", "12.3", "1.23", "0.123", "0.000",
    ]  # fmt: skip


def test_times_change_to_minutes_and_hours() -> None:
    assert [clock(t) for t in (0, 119.4, 119.6, 3599.6, 3600)] == ["0", "119", "2:00", "1:00:00", "1:00:00"]
    assert [clock(t, 2) for t in (1.005, 119.994, 120, 3725.25)] == ["1.00", "119.99", "2:00.00", "1:02:05.25"]
    spoken = [duration(t).replace("\N{NO-BREAK SPACE}", " ") for t in (20.0, 119.96, 725, 3725.4)]
    assert spoken == ["20.0 s", "2 min 00 s", "12 min 05 s", "1 h 02 min 05 s"]


def test_answers_are_shown_with_the_word_who_answered(make_event: MakeEvent) -> None:
    question, served = "What is the coarse expression class?", {"model": "qwen", "lora": _HOSTILE}
    answers = (
        Answer(question=question, answer="negative", by="embedded", evidence={"probabilities": {"negative": 0.66}}),
        Answer(question=_HOSTILE, answer=_HOSTILE, by="served", evidence=served),
        Answer(question=question, answer="positive", by="embedded", fallback=f"no answer within 30 s {_HOSTILE}"),
    )
    event = _found(make_event, kind="answer", answers=answers)
    page = render_report(_data(micro=1, events=(ReportEvent(event=event),)))
    checker = _checked(page)
    assert "script" not in checker.tags
    shown = _text(page)
    assert f"{question} negative Measured by the pipeline: negative 0.66." in shown
    assert "which may be wrong in every word" in shown
    assert "Measured by the pipeline. The model that was asked gave no answer: no answer within 30 s" in shown
    without = render_report(_data(micro=1, events=(ReportEvent(event=_found(make_event)),)))
    assert "questions and answers" not in without
