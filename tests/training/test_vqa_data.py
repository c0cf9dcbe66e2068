"""Instruction data: the challenge's files, annotations turned into questions, persons held out, prepared clips."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from megc_stream.datasets import ActionUnit, Annotation, DataSet, Recording
from megc_stream.errors import DataError, MissingExtraError, UsageError
from megc_stream.evaluation import read_answers
from megc_stream.evaluation.tables import AnswerRow
from megc_stream.packing import pack
from megc_stream.submission.answer_file import check_answers
from megc_stream.training.vqa_data import (
    Clip,
    Example,
    PromptLessons,
    annotated_examples,
    file_examples,
    link_frames,
    load_material,
    prepare_clips,
    split_persons,
)
from megc_stream.training.vqa_questions import event_questions, video_questions
from megc_stream.training.vqa_training import VqaOptions, train_vqa
from megc_stream.vqa.material import Material
from megc_stream.vqa.questions import LVQA_KINDS, VQA_KINDS, kind_of

COARSE = "What is the coarse expression class?"


def annotation(**changes: Any) -> Annotation:
    known = Annotation(
        subject="006", video="006_1", onset=11, apex=15, offset=20, onset_index=10, apex_index=14, offset_index=19,
        type="micro", emotion="disgust", coarse="negative", action_units=(ActionUnit(4), ActionUnit(14, "L")), row=5,
        event="006_1_2",
    )  # fmt: skip
    return msgspec.structs.replace(known, **changes)


def asked(layout: str = "samm-lv", **changes: Any) -> dict[str, str]:
    return dict(event_questions(annotation(**changes), layout, np.random.default_rng(0)))


def kinds(questions: dict[str, str]) -> set[str]:
    return {kind_of(question) for question in questions}


def test_every_template_is_asked_in_the_challenge_s_words() -> None:
    several, one = asked(), asked(action_units=(ActionUnit(14, "R"),))
    assert kinds(several) | kinds(one) == set(VQA_KINDS)
    assert several["What are the action units?"] == "brow lowerer, dimpler"
    assert one["What is the action unit?"] == "dimpler"
    assert one["Is the action unit dimpler located on the left or right face?"] == "right"
    assert several["Is the action unit dimpler located on the left or right face?"] == "left"
    shown = [answer for question, answer in several.items() if kind_of(question) == "unit_shown"]
    assert sorted(shown) == ["no", "yes"]
    combined = next(answer for question, answer in several.items() if kind_of(question) == "combined_several")
    assert combined == (
        "The action units present are: brow lowerer, dimpler. Therefore, the fine-grained expression class is disgust, "
        "and the coarse expression class is negative."
    )
    rows = [
        AnswerRow(
            video_id="samm_1", question=q, answer=a, dataset="samm", video="1", file="f", row=1, fields={"answer": a}
        )
        for q, a in (*several.items(), *one.items())
    ]  # fmt: skip
    assert check_answers("f", rows) == []


@pytest.mark.parametrize(
    ("changes", "layout", "expected"),
    [
        ({"action_units": ()}, "samm-lv", {"coarse", "fine"}),
        ({"emotion": "others", "coarse": "others", "action_units": ()}, "samm-lv", set()),
        ({"emotion": "", "coarse": "", "action_units": (ActionUnit(4),)}, "samm-lv", {"units_one", "unit_shown"}),
        # A class that this set does not know; a unit without a name among others.
        ({"emotion": "repression", "action_units": ()}, "samm-lv", {"coarse"}),
        ({"action_units": (ActionUnit(4), ActionUnit(99))}, "samm-lv", {"coarse", "fine", "unit_shown"}),
        ({"emotion": "negative", "action_units": ()}, "smic-hs", {"coarse"}),
        # On both sides: no side to ask for.
        (
            {"emotion": "", "coarse": "", "action_units": (ActionUnit(14, "L"), ActionUnit(14, "R"))},
            "samm-lv",
            {"units_one", "unit_shown"},
        ),
    ],
)
def test_what_is_not_annotated_is_not_asked(changes: dict[str, Any], layout: str, expected: set[str]) -> None:
    assert kinds(asked(layout, **changes)) == expected


def test_short_names_of_emotions_are_the_challenge_s() -> None:
    happy = asked("cas-me-3", emotion="happy", coarse="positive")
    assert happy["What is the fine-grained expression class?"] == "happiness"


def test_long_videos_are_asked_for_counts_units_and_types() -> None:
    events = [annotation(), annotation(onset=100, offset=400, type="macro", action_units=(ActionUnit(12),))]
    questions = dict(video_questions(events, np.random.default_rng(0)))
    assert kinds(questions) == set(LVQA_KINDS)
    assert questions["How many expression events appear in this video?"] == "2"
    assert questions["How many macro-expression events appear in this video?"] == "1"
    assert questions["What distinct action units appear in this video?"] == "brow lowerer, lip corner puller, dimpler"
    types = [answer for question, answer in questions.items() if kind_of(question) == "event_type"]
    assert types == ["micro-expression", "macro-expression"]
    assert questions["What is the expression type of the 2nd expression event in this video?"] == "macro-expression"


def data_set(root: Path) -> DataSet:
    """Three subjects with one recording of 30 pictures and one expression each; one expression lies outside."""
    recordings, annotations = [], []
    for number in (6, 7, 8):
        subject, video = f"{number:03d}", f"{number:03d}_1"
        folder = root / video
        folder.mkdir(parents=True)
        names = tuple(f"{video}_{n:04d}.png" for n in range(1, 31))
        for name in names:
            (folder / name).write_bytes(b"")
        recordings.append(
            Recording(subject=subject, video=video, fps=200.0, path=folder, numbers=tuple(range(1, 31)), files=names)
        )
        annotations.append(annotation(subject=subject, video=video, event=f"{video}_2"))
    annotations.append(
        annotation(subject="008", video="008_1", onset=900, offset=920, onset_index=None, offset_index=None)
    )
    return DataSet(layout="samm-lv", root=root, recordings=tuple(recordings), annotations=tuple(annotations))


def test_annotated_data_set_becomes_examples(tmp_path: Path) -> None:
    data = data_set(tmp_path)
    made = annotated_examples(data, seed=3)
    clips = {example.clip.name: example.clip for example in made.examples}
    assert len(clips) == 6  # an expression and a whole video of each
    part = clips["samm_006_006_1_006_1_2"]
    assert part.recording.numbers == tuple(range(11, 21)) and (part.onset, part.apex, part.offset) == (11, 15, 20)
    assert clips["samm_006_006_1"].scope == "video" and clips["samm_006_006_1"].recording is None
    assert "1 annotated expressions are left out" in made.notes[0]
    assert made == annotated_examples(data, seed=3)
    assert {example.clip.scope for example in annotated_examples(data, long_videos=False).examples} == {"event"}


def test_persons_held_out_are_in_no_part_twice(tmp_path: Path) -> None:
    examples = annotated_examples(data_set(tmp_path)).examples
    for hold_out, expected in (("007", {"samm-lv/007"}), ("samm-lv/006, 008", {"samm-lv/006", "samm-lv/008"})):
        training, test = split_persons(examples, hold_out)
        assert {example.clip.person for example in test} == expected
        assert not expected & {example.clip.person for example in training}
        assert len(training) + len(test) == len(examples)
    drawn = split_persons(examples, "2", seed=1)[1]
    assert len({example.clip.person for example in drawn}) == 2
    assert drawn == split_persons(examples, "2", seed=1)[1]
    assert split_persons(examples, "") == (examples, ())
    with pytest.raises(UsageError, match="'009' is nobody's name"):
        split_persons(examples, "009")
    with pytest.raises(UsageError, match="nobody of 3 persons is left"):
        split_persons(examples, "006,007,008")


def test_links_to_the_frames_of_those_held_out(tmp_path: Path) -> None:
    examples = annotated_examples(data_set(tmp_path / "data")).examples
    assert link_frames(examples, tmp_path / "frames") == []
    links = sorted((tmp_path / "frames" / "samm" / "samm_006_006_1_006_1_2").iterdir())
    assert [link.name for link in links] == [f"006_1_{n:04d}.png" for n in range(11, 21)]
    assert all(link.is_symlink() and link.exists() for link in links)
    assert len(list((tmp_path / "frames" / "samm" / "samm_006_006_1").iterdir())) == 30
    assert link_frames(examples, tmp_path / "frames") == []  # again, over those that are there


def question_file(path: Path, clips: list[tuple[str, str]], answer: str = "negative") -> list[AnswerRow]:
    rows = [
        {"id": f"samm_{clip}_1", "dataset": "samm", "subject": subject, "filename": clip, "question": COARSE}
        | {"answer": answer}
        for subject, clip in clips
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_answers(path)


def test_question_files_find_their_clips(tmp_path: Path) -> None:
    folder = tmp_path / "SAMM" / "006" / "006_1_2"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "006_05562.png"), np.zeros((8, 8), np.uint8))
    rows = question_file(tmp_path / "q.jsonl", [("6", "006_1_2"), ("7", "007_1_1")])
    made = file_examples(rows, tmp_path / "SAMM")
    (example,) = made.examples
    assert example.clip == Clip(
        scope="event", name="samm_6_006_1_2", dataset="samm", person="samm/6", path=folder, fps=200.0
    )
    assert "1 clips are left out, the first: clip '007_1_1'" in made.notes[0]
    with pytest.raises(DataError, match="no folder of images"):
        file_examples(rows[1:], tmp_path / "SAMM")
    with pytest.raises(DataError, match="row 1, field answer: there is none"):
        file_examples(question_file(tmp_path / "e.jsonl", [("6", "006_1_2")], ""), tmp_path / "SAMM")


def example(clip: Clip, question: str = COARSE, answer: str = "negative") -> Example:
    return Example(clip=clip, question=question, answer=answer, row={})


def stored(folder: Path, clip: Clip, **changes: Any) -> Material:
    material = Material(
        scope=clip.scope, source="s", subject="s", video=clip.name, dataset=clip.dataset, fps=200.0,
        images=tuple(np.full((128, 128), 50 + n, np.uint8) for n in range(4)), times_s=(0.0, 0.01, 0.02, 0.03),
        frames=(0, 2, 4, 6), apex=2, offset=3, flow=np.zeros((128, 128, 2), np.float32),
    )  # fmt: skip
    material = msgspec.structs.replace(material, **changes)
    folder.mkdir(exist_ok=True)
    (folder / clip.key).write_bytes(pack(material))
    return material


def clip_of(tmp_path: Path, name: str = "a", **changes: Any) -> Clip:
    (tmp_path / name).mkdir(exist_ok=True)
    known = Clip(scope="event", name=name, dataset="samm", person=f"samm/{name}", path=tmp_path / name, fps=200.0)
    return msgspec.structs.replace(known, **changes)


def test_lessons_are_prompts_with_the_answer_in_its_form(tmp_path: Path) -> None:
    clip = clip_of(tmp_path)
    stored(tmp_path / "clips", clip)
    lessons = PromptLessons([example(clip)], (("oao",), ("video",), ("oao", "flow")), tmp_path / "clips")
    assert len(lessons) == 3 and lessons.notes == ()
    for index, media in enumerate((["image_url"] * 3, ["video_url"], ["image_url"] * 4)):
        messages, answer = lessons[index]
        assert answer == '{"coarse":"negative"}'
        assert [part["type"] for part in messages[1]["content"] if part["type"] != "text"] == media
    redacted = PromptLessons([example(clip)], (("oao",),), tmp_path / "clips", redact=True)
    assert redacted[0][0] != lessons[0][0]
    assert len({lessons.key, redacted.key, PromptLessons([example(clip)], (("oao",),), tmp_path / "clips").key}) == 3


def test_what_cannot_be_shown_or_said_is_left_out_and_noted(tmp_path: Path) -> None:
    still, blind = clip_of(tmp_path, "still"), clip_of(tmp_path, "blind")
    stored(tmp_path / "clips", still, flow=None)
    stored(tmp_path / "clips", blind, images=(), times_s=(), frames=(), flow=None)
    examples = [example(still), example(blind), example(still, "What is the action unit?", "wink")]
    lessons = PromptLessons(examples, (("oao",), ("flow",)), tmp_path / "clips")
    assert len(lessons) == 1
    assert any("3 questions with an input are left out" in note for note in lessons.notes)
    assert any("1 answers have no form of their question" in note for note in lessons.notes)


def test_long_video_is_shown_once_where_it_has_but_a_video(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, scope="video")
    stored(tmp_path / "clips", clip, flow=None)
    one = example(clip, "How many expression events appear in this video?", "3")
    lessons = PromptLessons([one], (("video",), ("oao",), ("flow",)), tmp_path / "clips")
    assert len(lessons) == 2  # with the video, and without any media
    assert lessons[0][1] == '{"count":3}'


def test_without_its_packages_the_extra_is_named(tmp_path: Path) -> None:
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers", "peft")):
        pytest.skip("the packages of the extra 'train-vqa' are installed")
    with pytest.raises(MissingExtraError, match="install the extra 'train-vqa'"):
        train_vqa([], tmp_path, tmp_path / "out", VqaOptions(), None)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_clip_without_face_is_prepared_once_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "006_1_2"
    folder.mkdir()
    for n in range(3):
        cv2.imwrite(str(folder / f"{n:03d}.png"), np.full((64, 64), 100, np.uint8))
    clip = Clip(scope="event", name="x", dataset="samm", person="samm/6", path=folder, fps=200.0)
    part = Recording(
        subject="6", video="x", fps=200.0, path=folder, numbers=(1, 2), files=("001.png", "002.png"), width_px=64,
        height_px=64,
    )  # fmt: skip
    annotated = msgspec.structs.replace(clip, recording=part, onset=1, offset=2)
    said: list[tuple[int, int]] = []
    prepare_clips([clip, clip, annotated], tmp_path / "clips", progress=lambda *step: said.append(step))
    assert said == [(0, 2), (1, 2), (2, 2)]
    assert load_material(clip, tmp_path / "clips").images == ()
    assert load_material(annotated, tmp_path / "clips").events[0].offset == 1
    said.clear()
    prepare_clips([clip, annotated], tmp_path / "clips", progress=lambda *step: said.append(step))
    assert said == [(2, 2)]
    (tmp_path / "clips" / clip.key).write_bytes(b"x")
    with pytest.raises(DataError, match="no prepared clip"):
        load_material(clip, tmp_path / "clips")
