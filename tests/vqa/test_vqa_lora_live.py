"""Fine-tuning from end to end: train an adapter of the tiny model, serve it with vLLM, and ask: it says what it learnt.

Training runs in the environment of the server, which has torch, transformers and peft.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_server import MODEL, environment

from megc_stream.synthesis import plan_clip
from megc_stream.synthesis.portraits import astronaut, portrait_landmarks
from megc_stream.synthesis.rendering import ClipRenderer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
pytest.importorskip("openai", reason="needs the extra 'vqa'")

_ROOT = Path(__file__).parents[2]
_TRAINING_S = 300.0
_ANSWERING_S = 180.0
COARSE = "What is the coarse expression class?"
UNIT = "What is the action unit?"
ANALYSIS = "Please analyse the micro-expression shown in this video in detail."
INPUTS = ("video", "oao", "flow")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of two subjects, one expression each, cut from onset to offset."""
    pytest.importorskip("skimage", reason="needs a portrait from scikit-image")
    root = tmp_path_factory.mktemp("clips")
    portrait = np.asarray(cv2.cvtColor(astronaut(), cv2.COLOR_BGR2GRAY), np.uint8)
    for number, image in enumerate((portrait, np.ascontiguousarray(portrait[:, ::-1])), start=6):
        plan = plan_clip(number, 50.0, 1.0, events=1, length_s=(0.3, 0.4), width=384, height=432)
        renderer = ClipRenderer(plan, image, portrait_landmarks(image, f"portrait {number}"))
        event = plan.events[0]
        folder = root / f"{number:03d}" / f"{number:03d}_1_1"
        folder.mkdir(parents=True)
        for frame in range(event.onset, event.offset + 1):
            cv2.imwrite(str(folder / f"{frame:05d}.png"), renderer.frame(frame))
    return root


def rows_of(file: Path, answers: dict[str, str], subjects: Sequence[str] = ("6", "7")) -> Path:
    """Write questions and answers as the challenge's training file has them."""
    rows = []
    for subject in subjects:
        clip = f"{int(subject):03d}_1_1"
        for number, (question, answer) in enumerate(answers.items(), start=1):
            row = {"id": f"samm_{clip}_{number}", "dataset": "samm", "image_id": f"samm_{clip}", "subject": subject}
            rows.append(row | {"filename": clip, "question": question, "answer": answer})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def training(vllm: Path, tiny: Path, data: Path, clips: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start ``megc-stream train vqa`` in the environment of the server."""
    variables = environment()
    variables["PYTHONPATH"] = os.pathsep.join((variables["PYTHONPATH"], str(_ROOT)))
    command = [str(vllm.with_name("python")), "-m", "megc_stream", "train", "vqa"]
    command += ["--data", str(data), "--frames", str(clips), "--model", str(tiny), "--out", str(out)]
    command += ["--learning-rate", "0.02", "--device", "cpu", *more]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    try:
        said, _ = process.communicate(timeout=_TRAINING_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said[-4000:]
    return said


def megc_stream(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "megc_stream", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWERING_S, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def answers_in(file: Path) -> dict[str, str]:
    """Return the answers about the first clip."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row["question"]: row["answer"] for row in rows if row["subject"] == "6"}


def load_adapter(server: str, name: str, folder: Path) -> None:
    body = json.dumps({"lora_name": name, "lora_path": str(folder)}).encode()
    request = urllib.request.Request(
        f"{server}/load_lora_adapter", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.status == 200


def test_answer_changes_to_the_trained_one(
    vllm: Path, tiny: Path, vllm_server: str, clips: Path, tmp_path: Path
) -> None:
    asked = rows_of(tmp_path / "asked.jsonl", {COARSE: "negative", UNIT: "dimpler"})
    table = (
        "--frames",
        clips,
        "--server",
        vllm_server,
        "--model",
        MODEL,
        "--timeout",
        "120",
        "--out",
        tmp_path / "table",
    )
    megc_stream("table", "vqa", "--truth", asked, *table)
    given = tmp_path / "table" / "answers"
    before = {kind: answers_in(given / f"zero-shot-{kind}.jsonl") for kind in INPUTS}
    said = {answers[COARSE] for answers in before.values()}
    coarse = next(label for label in ("surprise", "positive", "negative") if label not in said or len(said) == 3)
    units = {answers[UNIT] for answers in before.values()}
    unit = next(name for name in ("dimpler", "chin raiser", "brow lowerer", "jaw drop") if name not in units)
    learnt = {COARSE: coarse, UNIT: unit}
    data = rows_of(tmp_path / "train.jsonl", learnt)
    out = tmp_path / "out"
    finished(training(vllm, tiny, data, clips, out, "--epochs", "12", "--batch", "6"))
    facts = json.loads((out / "train.json").read_text(encoding="utf-8"))
    assert facts["lessons"] == 2 * 2 * len(INPUTS)
    assert facts["losses"][-1] < facts["losses"][0]
    load_adapter(vllm_server, "learnt", out / "adapter")
    megc_stream("table", "vqa", "--truth", data, *table, "--lora", "learnt", "--trained", out)
    for kind in INPUTS:
        file = given / f"lora-{kind}.jsonl"
        assert answers_in(file) == learnt, kind
        details = file.with_name(f"{file.name}.details.jsonl").read_text(encoding="utf-8").splitlines()
        evidence = json.loads(details[-1])["answer"]["evidence"]
        assert (evidence["model"], evidence["lora"]) == (MODEL, "learnt")
        assert evidence["prompt_sha256"] == facts["prompts"]["sha256"]
        # Asked with what was learnt from: 16 frames are 512 tokens, in training and on the server.
        assert kind != "video" or evidence["prompt_tokens"] > 512
    rows = json.loads((tmp_path / "table" / "table.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["answerer"], row["shown"], row["reason"]) for row in rows] == [
        *((name, kind, "") for name in ("zero-shot", "LoRA") for kind in INPUTS),
        *(("embedded", "", ""), ("prior only", "", "")),
    ]
    for row in rows[3:6]:
        assert (row["replaced"], row["seen"]) == (0, True)
        assert row["short"]["UF1 Coarse"] == 1
    ask = rows_of(tmp_path / "ask.jsonl", {COARSE: "", UNIT: ""})
    again = ("--server", vllm_server, "--model", MODEL, "--input", "oao", "--timeout", "120")
    megc_stream("vqa", "run", ask, "--frames", clips, "--out", tmp_path / "again.jsonl", *again)
    assert answers_in(tmp_path / "again.jsonl") == before["oao"], "the base model beside the adapter is what it was"


def test_labels_media_and_adapted_layers(vllm: Path, tiny: Path, tmp_path: Path) -> None:
    variables = environment()
    variables["PYTHONPATH"] = os.pathsep.join((variables["PYTHONPATH"], str(_ROOT)))
    command = [str(vllm.with_name("python")), str(Path(__file__).with_name("lora_checks.py")), str(tiny), str(tmp_path)]
    finished(subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))


def test_killed_and_resumed_training_gives_the_same_adapter(
    vllm: Path, tiny: Path, clips: Path, tmp_path: Path
) -> None:
    data = rows_of(tmp_path / "train.jsonl", {COARSE: "surprise", ANALYSIS: "The brows rise."})
    more = ("--inputs", "oao,flow", "--epochs", "8", "--batch", "2", "--save-every", "3", "--hold-out", "7")
    more = (*more, "--cache", str(tmp_path / "cache"))
    finished(training(vllm, tiny, data, clips, tmp_path / "whole", *more))
    process = training(vllm, tiny, data, clips, tmp_path / "cut", *more)
    try:
        until_s = time.monotonic() + _TRAINING_S
        while not (tmp_path / "cut" / "checkpoints" / "step-000003").is_dir():
            assert process.poll() is None, process.communicate()[0][-4000:]
            assert time.monotonic() < until_s
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    refused = training(vllm, tiny, data, clips, tmp_path / "cut", *more)
    assert "--resume goes on" in refused.communicate(timeout=_TRAINING_S)[0]
    assert refused.returncode == 2
    finished(training(vllm, tiny, data, clips, tmp_path / "cut", *more, "--resume"))
    resumed = json.loads((tmp_path / "cut" / "adapter" / "run.json").read_text(encoding="utf-8"))
    assert resumed["resumed_at"] >= 3
    weights = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    # Subject 7 was held out: its rows and frames are there to test with, and it was not trained on.
    facts = json.loads((tmp_path / "cut" / "train.json").read_text(encoding="utf-8"))
    assert facts["trained_on"] == ["samm/6"] and facts["held_out"] == ["samm/7"]
    held_out = [json.loads(line) for line in (tmp_path / "cut" / "held-out.jsonl").read_text().splitlines()]
    assert {row["subject"] for row in held_out} == {"7"} and len(held_out) == 2
    assert list((tmp_path / "cut" / "frames" / "samm" / held_out[0]["video"]).iterdir())
