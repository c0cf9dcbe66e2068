"""How well action units are recognised on persons never seen: ``python benchmarks/action_units.py PORTRAITS``.

PORTRAITS is the folder that the model was fitted with (``models/fit_action_units.py``); the persons left out there, and
the astronaut of scikit-image, are set in motion here. Every clip goes through face tracking and optical flow. Three
parts, each with precision, recall and F1 of every unit, their means, and how often the side is right:

- known frames: onset and apex as planted; expressions of one to three units, some on one side of the face;
- as spotted: clips as of ``megc-stream synth clip`` through spotter, recogniser and question stage; an event counts for
  the planted one that it overlaps, and a planted one that no event overlaps counts as its units not found;
- of those spotted: the same without the planted ones that no event overlaps.

Takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.clock import ManualClock
from megc_stream.models import MeanModel, find_mean
from megc_stream.pipeline import Stage
from megc_stream.recognition import Recogniser
from megc_stream.recognition.action_units import MIDLINE_UNITS, measure_units
from megc_stream.records import Event, Record, StreamInfo
from megc_stream.settings import Settings
from megc_stream.spotting import Spotter
from megc_stream.synthesis import plan_clip
from megc_stream.synthesis.action_units import FACS_NAMES, SidedUnit, parse_units
from megc_stream.synthesis.portraits import astronaut, load_portrait, portrait_landmarks
from megc_stream.training.action_units import UNITS, unit_pairs
from megc_stream.training.corpus import find_portraits, rendered_crops, split_persons
from megc_stream.vqa.stage import VqaStage

_SEED = 0
_EVENTS = 40
_SPOTTED_CLIPS = ((30.0, 20.0, 6), (100.0, 8.0, 3))


class Case(NamedTuple):
    """What was planted, and what was found; ``spotted`` is False where there was no event to look at."""

    planted: tuple[SidedUnit, ...]
    found: tuple[SidedUnit, ...]
    spotted: bool = True


def main() -> None:
    """Render, measure, print."""
    parser = argparse.ArgumentParser(description="Score the recognition of action units on persons never seen.")
    parser.add_argument("portraits", type=Path, help="folder of neutral portraits")
    parser.add_argument("--json", type=Path, help="write the scores to this file")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    known: list[Case] = []
    spotted: list[Case] = []
    alarms = 0
    model = MeanModel(find_mean("mean-synthetic"))
    for number, (person, grey) in enumerate(_persons(arguments.portraits)):
        landmarks = portrait_landmarks(grey, person)
        for pair in unit_pairs(person, grey, landmarks, 10_000 + number, _EVENTS):
            units = [unit for unit in measure_units(pair.motion) if unit.present]
            known.append(Case(pair.units, tuple(SidedUnit(unit.number, unit.side) for unit in units)))
        for clip, (fps, seconds, events) in enumerate(_SPOTTED_CLIPS):
            seed = 20_000 + 10 * number + clip
            cases, extra = _spotted(model, grey, landmarks, seed, fps, seconds, events)
            spotted += cases
            alarms += extra
        print(f"{person}: {len(known)} pairs of known frames, {len(spotted)} planted events", flush=True)
    parts = {
        "known frames": known,
        "as spotted": spotted,
        "of those spotted": [case for case in spotted if case.spotted],
    }
    report = {title: _report(title, cases) for title, cases in parts.items()}
    print(f"as spotted: {alarms} events overlap nothing planted; they are left out")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _persons(portraits: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    files = find_portraits(portraits)
    for person in split_persons(files, _SEED).test:
        yield person, np.asarray(cv2.cvtColor(load_portrait(files[person]), cv2.COLOR_BGR2GRAY), np.uint8)
    yield "astronaut", np.asarray(cv2.cvtColor(astronaut(), cv2.COLOR_BGR2GRAY), np.uint8)


def _spotted(
    model: MeanModel,
    grey: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    seed: int,
    fps: float,
    seconds: float,
    events: int,
) -> tuple[list[Case], int]:
    plan = plan_clip(seed, fps, seconds, events=events)
    settings, clock = Settings(), ManualClock()
    stages: list[Stage] = [
        Spotter(settings, model, clock, pass_crops=True),
        Recogniser(model.info.classes, 10.0, clock, pass_crops=True),
        VqaStage(settings, clock),
    ]
    answered: list[Event] = []

    def hand_on(record: Record, level: int) -> None:
        if level == len(stages):
            if isinstance(record, Event):
                answered.append(record)
            return
        for one in list(stages[level].process(record)):
            hand_on(one, level + 1)

    hand_on(StreamInfo(source="clip", subject="clip", video="clip", fps=fps, width=640, height=480), 0)
    for crop in rendered_crops(plan, grey, landmarks):
        hand_on(crop, 0)
    for level, stage in enumerate(stages):
        for one in list(stage.flush()):
            hand_on(one, level + 1)
    cases = []
    for planted in plan.events:
        overlapping = [event for event in answered if _overlap(event, planted.onset, planted.offset) > 0]
        best = max(overlapping, key=lambda event: _overlap(event, planted.onset, planted.offset), default=None)
        found = parse_units("+".join(best.aus)) if best is not None and best.aus else ()
        cases.append(Case(planted.units, found, best is not None))
    extra = [event for event in answered if all(_overlap(event, one.onset, one.offset) <= 0 for one in plan.events)]
    return cases, len(extra)


def _overlap(event: Event, onset: int, offset: int) -> int:
    assert event.offset is not None
    return min(event.offset.frame, offset) - max(event.onset.frame, onset) + 1


def _report(title: str, cases: Sequence[Case]) -> dict[str, Any]:
    rows = {}
    sides: list[bool] = []
    print(f"\n{title}: {len(cases)} cases\n\n| AU | name | n | precision | recall | F1 |\n|---|---|---|---|---|---|")
    for number in UNITS:
        planted = [{unit.number: unit.side for unit in case.planted}.get(number) for case in cases]
        found = [{unit.number: unit.side for unit in case.found}.get(number) for case in cases]
        both = [(a, b) for a, b in zip(planted, found, strict=True) if a is not None and b is not None]
        n, claimed = sum(side is not None for side in planted), sum(side is not None for side in found)
        precision, recall = len(both) / max(1, claimed), len(both) / max(1, n)
        f1 = 2 * len(both) / max(1, n + claimed)
        rows[number] = {"n": n, "precision": precision, "recall": recall, "f1": f1}
        if number not in MIDLINE_UNITS:
            sides += [a == b for a, b in both]
        print(f"| {number} | {FACS_NAMES[number]} | {n} | {precision:.2f} | {recall:.2f} | {f1:.2f} |")
    # A unit that is not among the planted ones says nothing here.
    planted_rows = [row for row in rows.values() if row["n"]]
    means = {key: float(np.mean([row[key] for row in planted_rows])) for key in ("precision", "recall", "f1")}
    side = float(np.mean(sides)) if sides else 0.0
    print(f"| | macro | | {means['precision']:.2f} | {means['recall']:.2f} | {means['f1']:.2f} |")
    print(f"\nside (both, left, right) right in {side:.2f} of {len(sides)} units found")
    return {"units": rows, "macro": means, "sides_right": side, "cases": len(cases)}


if __name__ == "__main__":
    main()
