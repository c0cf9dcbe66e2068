from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from megc_stream.evaluation import evaluate_vqa, read_answers
from megc_stream.models import MeanModel, find_mean
from megc_stream.settings import Settings
from megc_stream.submission import check_answer_file
from megc_stream.synthesis import ClipRenderer, PlannedEvent, plan_clip
from megc_stream.synthesis.action_units import parse_units
from megc_stream.synthesis.portraits import astronaut, portrait_landmarks
from megc_stream.synthesis.writing import write_clip
from megc_stream.vqa.embedded import EmbeddedAnswerer
from megc_stream.vqa.gathering import material_of_clip, material_of_video
from megc_stream.vqa.material import Material

FPS = 50.0
# Units, coarse and fine-grained class, and the units' names.
CLIPS = {
    "6+12": ("positive", "happiness", "cheek raiser, lip corner puller"),
    "1+2": ("surprise", "surprise", "inner brow raiser, outer brow raiser"),
    "9": ("negative", "disgust", "nose wrinkler"),
    "L14": ("negative", "contempt", "dimpler"),
    "4+7": ("negative", "anger", "brow lowerer, lid tightener"),
}


@pytest.fixture(scope="module")
def model() -> MeanModel:
    return MeanModel(find_mean("mean-synthetic"))


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory, model: MeanModel) -> dict[str, Material]:
    """One clip each of a person that neither model has seen, from onset to offset, through files and face tracking."""
    folder = tmp_path_factory.mktemp("clips")
    grey = np.asarray(cv2.cvtColor(astronaut(), cv2.COLOR_BGR2GRAY), np.uint8)
    landmarks = portrait_landmarks(grey, "astronaut")
    made = {}
    for number, (units, (coarse, _, _)) in enumerate(CLIPS.items()):
        event = PlannedEvent(
            onset=0, apex=8, offset=15, emotion=coarse, units=parse_units(units), amplitude_iod=0.035, asymmetry=0.1
        )
        plan = plan_clip(number, FPS, 16 / FPS, events=0, blinks_per_s=0, speech_per_s=0)
        renderer = ClipRenderer(msgspec.structs.replace(plan, events=(event,)), grey, landmarks)
        file = folder / f"{number}_clip.mkv"
        write_clip(file, (renderer.frame(frame) for frame in range(16)), FPS)
        made[units] = material_of_clip(file, Settings(), dataset="samm", model=model)
    return made


def questions(units: str) -> list[tuple[str, str]]:
    coarse, fine, names = CLIPS[units]
    one = ", " not in names
    asked = [
        ("What is the coarse expression class?", coarse),
        ("What is the fine-grained expression class?", fine),
        ("What is the action unit?" if one else "What are the action units?", names),
        (f"Is the action unit {names.split(', ')[0]} shown on the face?", "yes"),
        ("Is the action unit lip corner depressor shown on the face?", "no"),
    ]
    if units[0] in "LR":
        side = {"L": "left", "R": "right"}[units[0]]
        asked.append((f"Is the action unit {names} located on the left or right face?", side))
    return asked


def test_clips_of_a_person_never_seen_beat_the_prior(materials: dict[str, Material], tmp_path: Path) -> None:
    truth, pred = [], []
    for number, (units, material) in enumerate(materials.items()):
        for question, answer in questions(units):
            row = {"video_id": f"samm_test_{number}", "video": str(number), "question": question}
            truth.append({**row, "answer": answer})
            pred.append({**row, "answer": EmbeddedAnswerer().answer(question, material).answer})
    files = []
    for name, rows in (("truth", truth), ("pred", pred)):
        file = tmp_path / f"{name}.jsonl"
        file.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows) + b"\n")
        files.append(file)
    assert not [problem for problem in check_answer_file(files[1], None) if problem.level == "error"]
    report = evaluate_vqa(read_answers(files[1]), read_answers(files[0]))
    assert report.score.uf1_coarse is not None
    assert report.prior.uf1_coarse is not None
    assert report.score.uf1_coarse >= 0.6 > report.prior.uf1_coarse
    assert report.score.bleu_sentence is not None
    assert report.prior.bleu_sentence is not None
    assert report.score.bleu_sentence > report.prior.bleu_sentence
    by_kind = {one.kind: one.exact for one in report.by_question}
    assert by_kind["unit_shown"] >= 0.8
    assert by_kind["unit_side"] == 1


def test_a_clip_is_one_event_from_its_first_to_its_last_face(materials: dict[str, Material]) -> None:
    for material in materials.values():
        assert material.scope == "event"
        assert (material.frames[material.onset], material.frames[material.offset]) == (0, 15)
        assert 5 <= material.frames[material.apex] <= 11
        [event] = material.events
        assert (event.order, event.type, event.onset, event.offset) == (1, "micro", 0, 15)
        assert sum(material.probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert material.flow is not None
        assert [image.shape for image in material.images] == [(128, 128)] * 16


def test_the_person_s_left_is_named(materials: dict[str, Material]) -> None:
    [dimpler] = materials["L14"].units
    assert (dimpler.code, dimpler.name) == ("L14", "dimpler")
    assert all(motion.side in ("left", "middle") for motion in dimpler.motions)


def test_a_clip_without_a_face(tmp_path: Path, model: MeanModel) -> None:
    folder = tmp_path / "empty"
    write_clip(folder, (np.full((120, 160), 90, np.uint8) for _ in range(5)), FPS)
    material = material_of_clip(folder, Settings(), model=model)
    assert (material.images, material.units, material.events) == ((), (), ())
    assert EmbeddedAnswerer().answer("What is the coarse expression class?", material).answer == "negative"


def test_a_long_video_is_spotted(tmp_path: Path, model: MeanModel) -> None:
    grey = np.asarray(cv2.cvtColor(astronaut(), cv2.COLOR_BGR2GRAY), np.uint8)
    landmarks = portrait_landmarks(grey, "astronaut")
    plan = plan_clip(3, 30, 6, events=2, amplitude_iod=(0.04, 0.05), blinks_per_s=0, speech_per_s=0)
    file = tmp_path / "long.mkv"
    renderer = ClipRenderer(plan, grey, landmarks)
    write_clip(file, (renderer.frame(frame) for frame in range(plan.frames)), 30, overwrite=True)
    material = material_of_video(file, Settings(), dataset="samm", model=model)
    assert material.scope == "video"
    assert [event.order for event in material.events] == list(range(1, len(material.events) + 1))
    assert len(material.events) == 2
    for found, planted in zip(material.events, plan.events, strict=True):
        assert min(found.offset, planted.offset) >= max(found.onset, planted.onset)
    assert 60 <= len(material.images) <= 64
    assert (material.frames[0], material.frames[-1]) == (0, plan.frames - 1)
    assert EmbeddedAnswerer().answer("How many expression events appear in this video?", material).answer == "2"


def test_a_real_smile(shared: Path, model: MeanModel) -> None:
    file = shared / "faces" / "clips" / "p02_pyfeat_single_face.mp4"
    material = material_of_clip(file, Settings(), model=model)
    assert 12 in {unit.number for unit in material.units}
    assert (
        EmbeddedAnswerer().answer("Is the action unit lip corner puller shown on the face?", material).answer == "yes"
    )
