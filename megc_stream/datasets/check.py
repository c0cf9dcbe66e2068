"""What a data set amounts to: counts, durations, and whether it can be used."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec

from megc_stream.capture.folder import image_size
from megc_stream.datasets.reading import LAYOUTS
from megc_stream.datasets.records import Annotation, DataSet, Finding, Recording
from megc_stream.errors import CaptureError

__all__ = ["Durations", "Summary", "damaged_images", "summarise"]


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """Least, median and greatest duration of events, seconds; onset and offset included."""

    least_s: float
    median_s: float
    greatest_s: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of ``datasets check``.

    ``problem`` says why the data set is unusable, "" where it is usable: frames of at least one recording, and, where
    the layout has annotations, at least one event within a recording. ``events`` counts by type, emotion, coarse class
    and ``type emotion``; ``placed_events`` lie with onset and offset in a recording.
    """

    layout: str
    title: str
    root: str
    problem: str
    subjects: int
    videos: int
    frames: int
    seconds: float
    sizes: dict[str, int]
    rates_fps: dict[str, int]
    annotated_videos: int
    placed_events: int
    events: int
    types: dict[str, int]
    classes: dict[str, int]
    emotions: dict[str, int]
    action_units: dict[str, int]
    durations: dict[str, Durations]
    finding_counts: dict[str, int]


def summarise(data: DataSet) -> Summary:
    """Count what a data set holds."""
    rates = {(recording.subject, recording.video): recording.fps for recording in data.recordings}
    events = data.annotations
    placed = [event for event in events if event.onset_index is not None and event.offset_index is not None]
    layout = LAYOUTS[data.layout]
    problem = ""
    if not data.recordings:
        problem = "it has no recording with frames"
    elif layout.events is not None and not events:
        problem = "it has no legible annotation; its recordings can still be analysed"
    elif layout.events is not None and not placed:
        problem = "none of its annotated events lies in a recording"
    return Summary(
        layout=data.layout,
        title=layout.title,
        root=str(data.root),
        problem=problem,
        subjects=len({recording.subject for recording in data.recordings}),
        videos=len(data.recordings),
        frames=sum(len(recording.numbers) for recording in data.recordings),
        seconds=round(sum(_span_s(recording) for recording in data.recordings), 3),
        sizes=_counts(f"{r.width_px}x{r.height_px}" for r in data.recordings if r.width_px is not None),
        rates_fps=_counts(f"{recording.fps:g}" for recording in data.recordings),
        annotated_videos=len({(event.subject, event.video) for event in placed}),
        placed_events=len(placed),
        events=len(events),
        types=_counts(event.type for event in events),
        classes=_counts(event.coarse or "none given" for event in events),
        emotions=_counts(f"{event.type} {event.emotion or 'none given'}" for event in events),
        action_units=_counts(str(number) for event in events for number in {u.number for u in event.action_units}),
        durations={
            kind: durations
            for kind in ("micro", "macro")
            if (durations := _durations([event for event in placed if event.type == kind], rates)) is not None
        },
        finding_counts={level: sum(f.level == level for f in data.findings) for level in ("error", "warning", "note")},
    )


def damaged_images(data: DataSet, progress: Callable[[int, int], None]) -> Iterator[Finding]:
    """Decode every image and yield a finding for each that is damaged or of another size than the first.

    ``progress`` gets the number of images looked at, and of all.
    """
    total = sum(len(recording.files) for recording in data.recordings)
    done = 0
    for recording in data.recordings:
        name = recording.path.relative_to(data.root.absolute())
        for file in recording.files:
            done += 1
            progress(done, total)
            try:
                size = image_size(recording.path / file, whole=True)
            except CaptureError as error:
                yield Finding(level="error", file=f"{name}/{file}", message=str(error))
                continue
            if size is None:
                yield Finding(level="error", file=f"{name}/{file}", message="is damaged and cannot be decoded")
            elif recording.width_px is not None and size != (recording.width_px, recording.height_px):
                message = f"is {size[0]}x{size[1]} px, the first image is {recording.width_px}x{recording.height_px}"
                yield Finding(level="error", file=f"{name}/{file}", message=message)


def _span_s(recording: Recording) -> float:
    if not recording.numbers:
        return 0.0
    return (recording.numbers[-1] - recording.numbers[0] + 1) / recording.fps


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _durations(events: list[Annotation], rates: dict[tuple[str, str], float]) -> Durations | None:
    spans = [(event.offset - event.onset + 1) / rates[event.subject, event.video] for event in events]
    if not spans:
        return None
    return Durations(
        least_s=round(min(spans), 4),
        median_s=round(statistics.median(spans), 4),
        greatest_s=round(max(spans), 4),
    )
