from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import msgspec
import pytest
from outcome import Command

from megc_stream.capture import open_source
from megc_stream.cli import vqa_runs, vqa_serving
from megc_stream.cli.vqa_runs import run_questions
from megc_stream.clock import ManualClock
from megc_stream.records import Answer
from megc_stream.settings import CaptureSettings, VqaSettings, load_settings
from megc_stream.vqa import asking, gathering
from megc_stream.vqa.material import Material
from megc_stream.vqa.served import Breaker

SHORT = (
    "What is the coarse expression class?",
    "What is the fine-grained expression class?",
    "What are the action units?",
    "Is the action unit lip corner puller shown on the face?",
    "What is the action unit present, and based on it, what is the fine-grained expression and the coarse expression "
    "class?",
    "Please analyse the micro-expression shown in this video in detail.",
)
LONG = (
    "How many expression events appear in this video?",
    "How many micro-expression events appear in this video?",
    "How many macro-expression events appear in this video?",
    "What distinct action units appear in this video?",
    "What is the expression type of the 1st expression event in this video?",
)
URL = "http://127.0.0.1:9/v1"


@pytest.fixture(scope="session")
def frames(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of images of two short clips, as the challenge hands them out, and of a video."""
    root = tmp_path_factory.mktemp("frames")
    with open_source(str(clip), CaptureSettings(), clock=ManualClock()) as source:
        images = [frame.image for frame, _ in zip(source.frames(), range(60), strict=False)]
    for name, chosen in (("SAMM-1", images[:14]), ("SAMM-2", images[40:56]), ("1_001_2", images)):
        folder = root / "SAMM" / name
        folder.mkdir(parents=True)
        for number, image in enumerate(chosen, start=1):
            cv2.imwrite(str(folder / f"{number:04d}.png"), image)
    return root


def _questions(path: Path, videos: dict[str, tuple[str, ...]]) -> Path:
    rows = [
        {"video_id": f"samm_test_{video}_{number}", "video": video, "question": question, "answer": ""}
        for video, questions in videos.items()
        for number, question in enumerate(questions, start=1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class _Answering:
    """Stands in for the client of a server; ``problem`` makes it fall back."""

    problem: ClassVar[str] = ""
    asked: ClassVar[Counter[str]] = Counter()

    def __init__(self, settings: VqaSettings, clock: object) -> None:
        self.settings = settings
        self.breaker = Breaker(1, 1.0, ManualClock())
        self.counts: Counter[str] = Counter()

    def check(self) -> str:
        return self.settings.model or "tiny"

    def answer(self, question: str, material: Material, embedded: Answer, deadline_s: float = 0.0) -> Answer:
        _Answering.asked[question] += 1
        if _Answering.problem:
            return Answer(question=question, answer=embedded.answer, by="embedded", fallback=_Answering.problem)
        evidence = {
            "model": "tiny",
            "lora": None,
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "repaired": "",
            "embedded": embedded.answer,
        }
        return Answer(question=question, answer=embedded.answer, by="served", evidence=evidence)

    def close(self) -> None:
        pass


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> type[_Answering]:
    monkeypatch.setattr(_Answering, "problem", "")
    monkeypatch.setattr(_Answering, "asked", Counter())
    monkeypatch.setattr(vqa_runs, "ServedAnswerer", _Answering)
    return _Answering


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gather no material; list the clips that were wanted."""
    wanted: list[str] = []

    def gather(source: Path, settings: Any, *, dataset: str = "", **_: Any) -> Material:
        wanted.append(Path(source).stem)
        return Material(scope="event", source=str(source), subject="s", video="v", dataset=dataset, fps=200.0)

    monkeypatch.setattr(vqa_runs, "material_of_clip", gather)
    monkeypatch.setattr(vqa_runs, "material_of_video", gather)
    return wanted


def test_ask_answers_each_question(command: Command, frames: Path) -> None:
    done = command(
        "vqa", "ask", frames / "SAMM" / "SAMM-1", "-q", SHORT[0], "--question", SHORT[3], "--fps", 50,
        "--dataset", "samm", "--json", "answers.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0::2] == [SHORT[0], SHORT[3]]
    assert lines[1] in ("negative", "positive", "surprise")
    assert lines[3] in ("yes", "no")
    assert re.search(r"measured; (negative|positive|surprise) 0\.[0-9]{2}, ", done.err)
    assert re.search(r"measured; lip corner puller [01]\.[0-9]{2}", done.err)
    answers = json.loads(Path("answers.json").read_text())["answers"]
    assert [answer["answer"] for answer in answers] == lines[1::2]
    assert {answer["by"] for answer in answers} == {"embedded"}


def test_a_question_about_many_events_goes_through_the_pipeline(
    command: Command, frames: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vqa_runs, "material_of_clip", lambda *_, **__: pytest.fail("took it for a short clip"))
    done = command("vqa", "ask", frames / "SAMM" / "1_001_2", "-q", LONG[0], "-q", LONG[3])
    assert done.code == 0, done.err
    assert done.out.splitlines()[1] == "0"
    assert quick == ["1_001_2"]
    assert "no face was found; the answers are guesses" in done.err


def test_a_long_clip_taken_as_one_expression_is_said(
    command: Command, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = gathering.material_of_clip

    def long(*arguments: Any, **named: Any) -> Material:
        material = gather(*arguments, **named)
        return msgspec.structs.replace(material, times_s=tuple(20.0 * time_s for time_s in material.times_s))

    monkeypatch.setattr(vqa_runs, "material_of_clip", long)
    done = command("vqa", "ask", frames / "SAMM" / "SAMM-1", "-q", SHORT[0], "--fps", 50)
    assert done.code == 0, done.err
    assert "s were taken as one expression; 'megc-stream run" in done.err


def test_a_camera_is_not_asked_about(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    live = SimpleNamespace(info=SimpleNamespace(live=True, source="camera 0"), close=lambda: closed.append(True))
    monkeypatch.setattr(gathering, "open_source", lambda *_, **__: live)
    done = command("vqa", "ask", "0", "-q", SHORT[0])
    assert (done.code, closed) == (2, [True])
    assert "camera 0: a live source has no end; expected a video file" in done.err


def test_ask_asks_the_server(command: Command, frames: Path, answering: type[_Answering], quick: list[str]) -> None:
    done = command("vqa", "ask", frames / "SAMM" / "SAMM-1", "-q", SHORT[0], "--server", URL, "--model", "x")
    assert done.code == 0, done.err
    assert f"asking x at {URL}" in done.err
    assert "written by tiny (9 + 2 tokens); measured: " in done.err
    answering.problem = "no answer within 30 s"
    done = command("vqa", "ask", frames / "SAMM" / "SAMM-1", "-q", SHORT[0], "--server", URL, "--json", "-")
    assert json.loads(done.out)["answers"][0]["fallback"] == "no answer within 30 s"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "audio"], "input 'audio'"),
        (["--dataset", "mine"], "--dataset mine: unknown; expected samm, casme2 or casme3"),
        (["--question", " "], "--question: got no words; expected a question"),
        (["--server", "nonsense"], "server 'nonsense': not an address"),
        (["--server", "http://me:secret@gpu/v1"], "no user, password or query"),
    ],
)
def test_wrong_use_of_ask(command: Command, frames: Path, arguments: list[str], message: str) -> None:
    done = command("vqa", "ask", frames / "SAMM" / "SAMM-1", "-q", SHORT[0], *arguments)
    assert done.code != 0
    assert message in done.err
    assert "secret" not in done.err


def test_a_server_that_is_not_there_is_said_before_the_work(command: Command, frames: Path) -> None:
    pytest.importorskip("openai", reason="needs the extra 'vqa'")
    done = command(
        "vqa", "ask", frames / "SAMM" / "SAMM-1", "-q", SHORT[0], "--server", "http://127.0.0.1:1/v1", "--timeout", 0.3
    )
    assert done.code == 1
    assert "http://127.0.0.1:1/v1: cannot be reached" in done.err


@pytest.mark.parametrize(("task", "videos"), [("vqa", {"SAMM-1": SHORT, "SAMM-2": SHORT}), ("lvqa", {"1_001_2": LONG})])
def test_run_answers_a_file_that_submit_and_evaluate_take(
    command: Command, frames: Path, task: str, videos: dict[str, tuple[str, ...]]
) -> None:
    questions = _questions(Path("me_test_to_answer.jsonl"), videos)
    done = command("vqa", "run", questions, "--frames", frames, "--out", "pred.jsonl", "--fps", 50, "--json", "-")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    rows = _rows(questions)
    assert result["answered"] == result["questions"] == len(rows)
    assert result["by"] == {"embedded": len(rows)}
    answered = _rows(Path("pred.jsonl"))
    assert [{**row, "answer": ""} for row in answered] == rows
    assert all(row["answer"] for row in answered)
    checked = command("submit", task, questions, "--check", "pred.jsonl")
    assert checked.code == 0, checked.err
    scored = command("evaluate", task, "--pred", "pred.jsonl", "--truth", "pred.jsonl", "--json", "-")
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["rows"] == len(rows)


def test_a_run_goes_on_where_it_was_killed(
    command: Command, frames: Path, answering: type[_Answering], quick: list[str]
) -> None:
    questions = _questions(Path("q.jsonl"), {"SAMM-1": SHORT[:3], "SAMM-2": SHORT[:2]})
    arguments = ("vqa", "run", questions, "--frames", frames, "--out", "pred.jsonl", "--server", URL)
    assert command(*arguments).code == 0
    whole = Path("pred.jsonl").read_bytes()
    assert answering.asked.total() == 5
    journal = Path("pred.jsonl.details.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    # Killed in the middle of the fourth answer.
    journal.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    Path("pred.jsonl").unlink()
    answering.asked.clear()
    quick.clear()
    done = command(*arguments)
    assert done.code == 0, done.err
    assert "3 of 5 questions are answered already" in done.err
    assert answering.asked.total() == 2
    assert Path("pred.jsonl").read_bytes() == whole
    answering.asked.clear()
    quick.clear()
    assert command(*arguments).code == 0
    assert quick == []


def test_answers_that_fell_back_are_asked_for_again(
    command: Command, frames: Path, answering: type[_Answering], quick: list[str]
) -> None:
    questions = _questions(Path("q.jsonl"), {"SAMM-1": SHORT[:2]})
    arguments = ("vqa", "run", questions, "--frames", frames, "--out", "pred.jsonl", "--server", URL)
    answering.problem = "no answer within 30 s"
    done = command(*arguments)
    assert done.code == 0, done.err
    assert "2 embedded answers stand where a served one was asked for" in done.err
    answering.problem = ""
    done = command(*arguments, "--json", "-")
    assert json.loads(done.out)["by"] == {"served": 2}
    assert json.loads(done.out)["replaced"] == 0


def test_a_run_of_other_settings_is_in_the_way(command: Command, frames: Path, quick: list[str]) -> None:
    questions = _questions(Path("q.jsonl"), {"SAMM-1": SHORT[:1]})
    arguments = ("vqa", "run", questions, "--frames", frames, "--out", "pred.jsonl")
    assert command(*arguments).code == 0
    other = command(*arguments, "--fps", 100)
    assert other.code == 2
    assert "give --overwrite" in other.err
    assert command(*arguments, "--fps", 100, "--overwrite").code == 0
    # How long one waits is no matter.
    assert command(*arguments, "--fps", 100, "--timeout", 60).code == 0
    Path("pred.jsonl.details.jsonl").write_text("notes of mine\n")
    strange = command(*arguments)
    assert strange.code == 2
    assert "is no journal of answers" in strange.err


def test_a_clip_that_is_missing_fails_alone(command: Command, frames: Path, quick: list[str]) -> None:
    questions = _questions(Path("q.jsonl"), {"SAMM-1": SHORT[:1], "SAMM-9": SHORT[:1], "SAMM-2": SHORT[:1]})
    done = command("vqa", "run", questions, "--frames", frames, "--out", "pred.jsonl", "--json", "result.json")
    assert done.code == 1
    assert "failed: SAMM-9: clip 'SAMM-9': no folder of images or video file" in done.err
    assert quick == ["SAMM-1", "SAMM-2"]
    assert not Path("pred.jsonl").exists()
    result = json.loads(Path("result.json").read_text())
    assert (result["answered"], result["out"], list(result["failed"])) == (2, None, ["SAMM-9"])


def test_ctrl_c_keeps_what_is_answered(
    frames: Path, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = _questions(tmp_path / "q.jsonl", {"SAMM-1": SHORT[:2], "SAMM-2": SHORT[:1]})
    add = vqa_runs._Journal.add
    added: list[int] = []

    def interrupted(journal: Any, entry: Any) -> None:
        if added:
            raise KeyboardInterrupt
        added.append(entry.row)
        add(journal, entry)

    monkeypatch.setattr(vqa_runs._Journal, "add", interrupted)
    out = tmp_path / "pred.jsonl"
    stopped = run_questions(questions, frames, out, load_settings(), overwrite=False)
    assert (stopped.out, stopped.answered, stopped.questions) == (None, 1, 3)
    monkeypatch.setattr(vqa_runs._Journal, "add", add)
    assert run_questions(questions, frames, out, load_settings(), overwrite=False).skipped == 1


def test_a_live_run_gets_late_answers(
    command: Command, clip: Path, answering: type[_Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ServedAnswerer", answering)
    done = command("run", clip, "--vqa", URL, "--out", "results")
    assert done.code == 0, done.err
    by_event: dict[int, list[dict[str, Any]]] = {}
    for event in _rows(Path("results/events.jsonl")):
        by_event.setdefault(event["event_number"], []).append(event)
    labelled = [revisions for revisions in by_event.values() if "label" in [event["kind"] for event in revisions]]
    assert labelled
    for revisions in labelled:
        assert [event["rev"] for event in revisions] == list(range(len(revisions)))
        label, measured, late = revisions[-3:]
        assert [event["kind"] for event in (label, measured, late)] == ["label", "answer", "answer"]
        assert [event["final"] for event in (label, measured, late)] == [False, False, True]
        assert {answer["by"] for answer in measured["answers"]} == {"embedded"}
        assert {answer["by"] for answer in late["answers"]} == {"served"}
        assert "late" not in measured["run"]
        assert late["run"]["late"] is True
        assert late["aus"] == measured["aus"]
    assert len(Path("results/intervals.csv").read_text().splitlines()) == 1 + len(labelled)
    counts = json.loads(Path("results/run.json").read_text())["counts"]
    assert counts["answers_served"] == 3 * len(labelled)
    assert "Written by the model tiny" in Path("results/report.html").read_text()
    assert "(written by tiny)" in done.err


_FAKE_VLLM = """#!{python}
raise SystemExit("this is no vLLM")
"""


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stands in for vLLM 0.32.0 on a machine with 24 GB of memory."""
    path = tmp_path / "env" / "vllm"
    path.parent.mkdir()
    path.write_text(_FAKE_VLLM.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.delenv("VQA_API_KEY", raising=False)
    monkeypatch.setattr(vqa_serving, "_version", lambda binary: "0.32.0")
    monkeypatch.setattr(vqa_serving, "_device", lambda: ("the GPU (test)", 24 * 10**9))
    return path


def test_serve_prints_the_line(command: Command, vllm: Path) -> None:
    done = command(
        "vqa", "serve", "--vllm", vllm, "--dry-run", "--revision", "abc123", "--offline", "--", "--dtype", "auto"
    )
    assert done.code == 0, done.err
    assert done.out == (
        f"VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 {vllm} serve Qwen/Qwen2.5-VL-3B-Instruct "
        "--host 127.0.0.1 --port 8000 --revision abc123 --tokenizer-revision abc123 --max-model-len 8192 --seed 0 "
        """--limit-mm-per-prompt '{"image": 4, "video": 1}' --trust-request-mm-kwargs --dtype auto\n"""
    )
    assert "vLLM 0.32.0; the GPU (test): 24.0 GB free, about 9.6 GB needed" in done.err
    assert "--server http://127.0.0.1:8000/v1 --model Qwen/Qwen2.5-VL-3B-Instruct" in done.err


@pytest.mark.parametrize(("given", "named"), [((), "vllm"), (("--vllm", "env/bin/vllm"), "env/bin/vllm")])
def test_a_dry_run_prints_the_line_without_vllm_too(
    command: Command, vllm: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], named: str
) -> None:
    monkeypatch.setenv("PATH", str(vllm.parent.parent))
    done = command("vqa", "serve", *given, "--dry-run")
    assert done.code == 0, done.err
    assert f" {named} serve Qwen/Qwen2.5-VL-3B-Instruct --host 127.0.0.1 --port 8000 " in done.out
    assert "install vLLM into an environment of its own" in done.err
    done = command("vqa", "serve", *given)
    assert done.code == 2
    assert done.out == ""
    assert "install vLLM into an environment of its own" in done.err


def test_an_ipv6_address_is_told_as_such(command: Command, vllm: Path) -> None:
    done = command("vqa", "serve", "--vllm", vllm, "--dry-run", "--host", "::1")
    assert done.code == 0, done.err
    assert "--host ::1 --port 8000" in done.out
    assert "--server http://[::1]:8000/v1" in done.err


def test_serve_becomes_vllm(vllm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 12}')
    become: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: become.append(arguments))
    monkeypatch.setenv("VQA_API_KEY", "secret-3")
    done = command("vqa", "serve", "--vllm", vllm, "--lora", f"mine={adapter}", "--host", "0.0.0.0", "--name", "qwen")
    assert done.code == 0, done.err
    ((program, line, environment),) = become
    assert program == str(vllm)
    assert line[line.index("--enable-lora") :] == [
        "--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"mine={adapter}",
    ]  # fmt: skip
    assert line[line.index("--served-model-name") + 1] == "qwen"
    assert environment["VLLM_API_KEY"] == "secret-3"
    assert "secret-3" not in done.out + done.err
    assert 'VLLM_API_KEY="$VQA_API_KEY"' in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "others could ask this server; put a key into VQA_API_KEY"),
        (["--host", "127.example.org"], 2, "others could ask this server; put a key into VQA_API_KEY"),
        (["--model", "./absent"], 2, "--model ./absent: no such folder"),
        (["--lora", "nonsense"], 2, "expected NAME=FOLDER"),
        (["--lora", "a=absent"], 2, "adapter_config.json cannot be read"),
        (["--vllm", "absent"], 2, "--vllm absent: no program there"),
        (["--model", "Qwen/Qwen2.5-VL-32B-Instruct"], 1, "needs about 69.0 GB, the GPU (test) has 24.0 GB free"),
        (["--model", ".", "--revision", "abc"], 2, "is a folder, which has none"),
    ],
)
def test_what_speaks_against_serving(
    command: Command, vllm: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started"))
    done = command("vqa", "serve", *(arguments if "--vllm" in arguments else ["--vllm", vllm, *arguments]))
    assert done.code == code
    assert message in done.err


def test_an_old_vllm_is_refused_and_can_be_forced(
    command: Command, vllm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: become.append(arguments))
    monkeypatch.setattr(vqa_serving, "_version", lambda binary: "0.8.5")
    old = command("vqa", "serve", "--vllm", vllm)
    assert (old.code, become) == (1, [])
    assert "vLLM 0.8.5 is too old; expected at least 0.11" in old.err
    assert command("vqa", "serve", "--vllm", vllm, "--force").code == 0
    assert len(become) == 1


def test_versions_and_memory_are_looked_up_without_importing_vllm(tmp_path: Path) -> None:
    program = tmp_path / "vllm"
    program.write_text(f"#!{sys.executable}\nraise SystemExit(1)\n")
    assert vqa_serving._version(program) == ""  # not installed beside that interpreter
    program.write_text("#!/bin/sh\n")
    assert vqa_serving._version(program) == ""
    _, memory = vqa_serving._device()
    assert memory is None or memory > 1 << 20


def test_the_need_of_a_folder_is_that_of_its_weights(tmp_path: Path) -> None:
    assert vqa_serving._needed_bytes(str(tmp_path)) is None
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 1000)
    assert vqa_serving._needed_bytes(str(tmp_path)) == 2000
