"""How well the embedded answerer answers: ``python benchmarks/vqa_embedded.py PORTRAITS OUT``.

Writes generated files of the tasks ME-VQA and ME-LVQA with known answers into OUT, made from synthetic clips of persons
that neither the model of action units nor mean-synthetic has seen, and the answers to them; every clip is written to a
file and read again. Scored by the same functions as ``megc-stream evaluate vqa|lvqa``, beside the prior answers: the
most frequent ones to each kind of question, each video left out. Takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.datasets import Annotation
from megc_stream.datasets.records import ActionUnit
from megc_stream.evaluation import evaluate_lvqa, evaluate_vqa, read_answers
from megc_stream.models import MeanModel, find_mean
from megc_stream.settings import Settings
from megc_stream.submission import check_answer_file
from megc_stream.synthesis import ClipPlan, ClipRenderer, PlannedEvent, plan_clip
from megc_stream.synthesis.action_units import EMOTION_UNITS, format_units, parse_units
from megc_stream.synthesis.portraits import astronaut, load_portrait, portrait_landmarks
from megc_stream.synthesis.writing import write_clip
from megc_stream.training.corpus import find_portraits, split_persons
from megc_stream.training.vqa_questions import event_questions, video_questions
from megc_stream.vqa.embedded import EmbeddedAnswerer
from megc_stream.vqa.gathering import material_of_clip, material_of_video
from megc_stream.vqa.material import Material

_SEED = 0
_LAYOUT, _DATASET = "samm-lv", "samm"
_CLIPS = 6
_CLIP_FPS, _VIDEO_FPS, _VIDEO_S, _VIDEO_EVENTS = 100.0, 30.0, 20.0, 6
# What the combinations that can be synthesised stand for, by EMFACS.
_FINE = {
    "6+12": "happiness",
    "12": "happiness",
    "1+2": "surprise",
    "1+2+25": "surprise",
    "4": "anger",
    "4+7": "anger",
    "9": "disgust",
    "10": "disgust",
    "1+4+15": "sadness",
    "15+17": "sadness",
    "R14": "contempt",
    "L14": "contempt",
}


def main() -> None:
    """Render, ask, score, print."""
    parser = argparse.ArgumentParser(description="Score the embedded answerer on persons never seen.")
    parser.add_argument("portraits", type=Path, help="folder of neutral portraits")
    parser.add_argument("out", type=Path, help="folder of the files of questions and answers")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    model = MeanModel(find_mean("mean-synthetic"))
    short: list[dict[str, str]] = []
    long: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (person, grey) in enumerate(_persons(arguments.portraits)):
            landmarks = portrait_landmarks(grey, person)
            short += _short_clips(Path(scratch), number, grey, landmarks, model)
            long += _long_video(Path(scratch), number, grey, landmarks, model)
            print(f"{person}: {len(short)} and {len(long)} questions", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, rows, evaluate in (("vqa", short, evaluate_vqa), ("lvqa", long, evaluate_lvqa)):
        truth, pred = (arguments.out / f"me_{name}_synthetic_{what}.jsonl" for what in ("truth", "pred"))
        _write(truth, [{**row, "answer": row["truth"]} for row in rows])
        _write(pred, rows)
        problems = check_answer_file(pred, None)
        report = evaluate(read_answers(pred), read_answers(truth))
        print(f"\n{name}: {len(rows)} questions, {sum(one.level == 'error' for one in problems)} answers of wrong form")
        scores, prior = (msgspec.to_builtins(one) for one in (report.score, report.prior))
        print("\n| score | embedded | prior |\n|---|---|---|")
        for key, value in scores.items():
            if isinstance(value, float):
                print(f"| {key} | {value:.3f} | {prior[key]:.3f} |")
        for one in getattr(report, "by_question", ()):
            print(f"| exact, {one.kind} ({one.rows}) | {one.exact:.3f} | {one.prior_exact:.3f} |")


def _persons(portraits: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    files = find_portraits(portraits)
    for person in split_persons(files, _SEED).test:
        yield person, np.asarray(cv2.cvtColor(load_portrait(files[person]), cv2.COLOR_BGR2GRAY), np.uint8)
    yield "astronaut", np.asarray(cv2.cvtColor(astronaut(), cv2.COLOR_BGR2GRAY), np.uint8)


def _short_clips(
    folder: Path, number: int, grey: NDArray[np.uint8], landmarks: NDArray[np.float32], model: MeanModel
) -> list[dict[str, str]]:
    """Return the questions of one person's clips, each from onset to offset of one expression, with both answers."""
    rng = np.random.default_rng([_SEED, number])
    combinations = [(emotion, units) for emotion, all_units in EMOTION_UNITS.items() for units in all_units]
    rows = []
    for clip in range(_CLIPS):
        emotion, units = combinations[(number * _CLIPS + clip) % len(combinations)]
        length = int(rng.uniform(0.2, 0.5) * _CLIP_FPS)
        event = PlannedEvent(
            onset=0,
            apex=int(length * rng.uniform(0.35, 0.65)),
            offset=length,
            emotion=emotion,
            units=parse_units(units),
            amplitude_iod=float(rng.uniform(0.018, 0.05)),
            asymmetry=float(rng.uniform(-0.2, 0.2)),
        )
        seed = 1000 * number + clip
        plan = plan_clip(seed, _CLIP_FPS, (length + 1) / _CLIP_FPS, events=0, blinks_per_s=0, speech_per_s=0)
        file = folder / f"{number:03d}_{clip}.mkv"
        _render(file, msgspec.structs.replace(plan, events=(event,)), grey, landmarks)
        material = material_of_clip(file, Settings(), dataset=_DATASET, model=model)
        asked = event_questions(_annotation(file.stem, event), _LAYOUT, rng)
        rows += _rows(file.stem, asked, material)
    return rows


def _long_video(
    folder: Path, number: int, grey: NDArray[np.uint8], landmarks: NDArray[np.float32], model: MeanModel
) -> list[dict[str, str]]:
    rng = np.random.default_rng([_SEED, 100 + number])
    # Each with another number of events, so that no prior knows it; up to 0.9 s: micro- and macro-expressions.
    events = int(rng.integers(2, _VIDEO_EVENTS + 1))
    plan = plan_clip(5000 + number, _VIDEO_FPS, _VIDEO_S, events=events, length_s=(0.15, 0.9))
    file = folder / f"{number:03d}_long.mkv"
    _render(file, plan, grey, landmarks)
    material = material_of_video(file, Settings(), dataset=_DATASET, model=model)
    asked = video_questions([_annotation(file.stem, event, _VIDEO_FPS) for event in plan.events], rng)
    return _rows(file.stem, asked, material)


def _render(file: Path, plan: ClipPlan, grey: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> None:
    renderer = ClipRenderer(plan, grey, landmarks)
    write_clip(file, (renderer.frame(frame) for frame in range(plan.frames)), plan.fps, False, True)


def _annotation(video: str, event: PlannedEvent, fps: float = _CLIP_FPS) -> Annotation:
    letters = {"both": "", "left": "L", "right": "R"}
    return Annotation(
        subject=video.partition("_")[0],
        video=video,
        onset=event.onset,
        apex=event.apex,
        offset=event.offset,
        onset_index=event.onset,
        apex_index=event.apex,
        offset_index=event.offset,
        type="micro" if (event.offset - event.onset) / fps <= 0.5 else "macro",
        emotion=_FINE[format_units(event.units)],
        coarse=event.emotion,  # type: ignore[arg-type]
        action_units=tuple(ActionUnit(unit.number, letters[unit.side]) for unit in event.units),  # type: ignore[arg-type]
        row=0,
    )


def _rows(video: str, asked: Sequence[tuple[str, str]], material: Material) -> list[dict[str, str]]:
    answerer = EmbeddedAnswerer()
    return [
        {
            "video_id": f"{_DATASET}_test_{video}_{number}",
            "video": video,
            "question": question,
            "answer": answerer.answer(question, material).answer,
            "truth": truth,
        }
        for number, (question, truth) in enumerate(asked, start=1)
    ]


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps({key: value for key, value in row.items() if key != "truth"}) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
