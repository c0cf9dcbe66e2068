"""``megc-stream run`` on generated clips: what it writes, and what it says about bad input."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from mean_files import write_mean
from outcome import Command

FILES = {"events.jsonl", "intervals.csv", "scores.parquet", "report.html", "run.json"}


def events_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def without_run(folder: Path) -> list[dict]:
    return [{key: value for key, value in event.items() if key != "run"} for event in events_of(folder)]


def write_video(path: Path, images: list[np.ndarray], fps: int = 30) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps, width=images[0].shape[1], height=images[0].shape[0])
        stream.pix_fmt = "gray"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "gray")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("mode", ["causal", "video"])
def test_run_writes_its_five_files_and_they_agree(command: Command, clip: Path, tmp_path: Path, mode: str) -> None:
    done = command("run", clip, "--out", tmp_path / "r", "--spotting", mode, "--json", "summary.json")
    assert done.code == 0, done.err
    assert done.out.strip() == str(tmp_path / "r" / "report.html")
    assert {file.name for file in (tmp_path / "r").iterdir()} == FILES
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["counts"]["frames"] == 400
    assert record["counts"]["scores"] == 395
    scores = pq.read_table(tmp_path / "r" / "scores.parquet")
    assert scores.num_rows == 395
    assert scores["frame"].to_pylist() == list(range(395))
    assert np.isfinite(scores["smoothed"].to_numpy()[10:380]).all()
    labels = [event for event in events_of(tmp_path / "r") if event["kind"] == "label"]
    with (tmp_path / "r" / "intervals.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["subject"], r["video"], int(r["onset"]), int(r["offset"]), r["emotion"]) for r in rows] == [
        ("ada", "ada_1", e["onset"]["number"], e["offset"]["number"], e["emotion"]) for e in labels
    ]
    summary = json.loads(Path("summary.json").read_text())
    assert len(summary["events"]) == len(labels)
    for event in labels:
        assert event["type"] in ("micro", "macro")
        assert event["final"]
        assert sum(event["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    html = (tmp_path / "r" / "report.html").read_text()
    assert "data:image/png" not in html, "pictures are off by default"


def test_the_same_clip_gives_the_same_events_twice_and_at_native_pace(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    assert command("run", clip, "--out", "a").code == 0
    assert command("run", clip, "--out", "b").code == 0
    assert command("run", clip, "--out", "c", "--speed", "4x").code == 0
    first = without_run(tmp_path / "a")
    assert first == without_run(tmp_path / "b")
    assert first == without_run(tmp_path / "c")


def test_pictures_are_in_the_report_when_asked_for(command: Command, clip: Path, tmp_path: Path) -> None:
    model = write_mean(tmp_path / "tiny.onnx")
    done = command("run", clip, "--out", "r", "--with-images", "--model", model, "--spotting", "video")
    assert done.code == 0, done.err
    labels = [event for event in events_of(tmp_path / "r") if event["kind"] == "label"]
    assert labels
    assert "data:image/png" in (tmp_path / "r" / "report.html").read_text()


def test_results_are_not_overwritten_unless_told(command: Command, clip: Path, tmp_path: Path) -> None:
    model = write_mean(tmp_path / "tiny.onnx")
    assert command("run", clip, "--out", "r", "--model", model).code == 0
    again = command("run", clip, "--out", "r", "--model", model)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert command("run", clip, "--out", "r", "--model", model, "--overwrite").code == 0


def test_a_folder_of_images_keeps_its_own_numbers(command: Command, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s07_x"
    folder.mkdir()
    with av.open(str(clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index < 60 and index != 40:
                cv2.imwrite(str(folder / f"img_{index + 101}.png"), frame.to_ndarray(format="gray"))
    done = command("run", folder, "--out", "r", "--fps", "50")
    assert done.code == 0, done.err
    scores = pq.read_table("r/scores.parquet")
    assert scores["number"].to_pylist()[:3] == [101, 102, 103]
    reasons = dict(zip(scores["frame"].to_pylist(), scores["reason"].to_pylist(), strict=True))
    assert reasons[40] == "frames missing"
    assert 35 not in reasons
    assert json.loads(Path("r/run.json").read_text())["dropped"] == {"missing": 1}
    without_rate = command("run", folder, "--out", "r2")
    assert "30 assumed, --fps sets it" in without_rate.err


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]


def test_bad_sources_are_one_line_each(command: Command, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    for source, code, words in [
        ("nothing.mp4", 1, "nothing.mp4: no such file"),
        ("text.mp4", 1, "text.mp4"),
        ("empty.mp4", 1, "empty.mp4"),
        ("folder", 1, "folder"),
        ("gopher://x", 2, "gopher"),
        ("77", 1, "77"),
    ]:
        done = command("run", source)
        assert done.code == code, (source, done)
        assert words in one_line(done.err)
    assert command("run").code == 2
    assert not (tmp_path / "megc-runs").exists(), "nothing is written for a source that cannot be opened"


def test_no_permission_is_said(command: Command, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may read everything, so the refusal is made by hand where the file is looked at.
    real = Path.stat

    def refuse(self: Path, **arguments: object) -> os.stat_result:
        if self.name == clip.name:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "stat", refuse)
    done = command("run", clip)
    assert done.code == 1
    assert "Permission denied" in one_line(done.err)


def test_a_truncated_file_is_analysed_as_far_as_it_goes(command: Command, clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    done = command("run", "cut.mkv", "--out", "r")
    assert done.code == 1
    assert "cut.mkv" in one_line(done.err)
    assert "the results cover what could be decoded" in done.err
    record = json.loads(Path("r/run.json").read_text())
    assert 100 < record["counts"]["scores"] < 300
    assert {file.name for file in Path("r").iterdir()} == FILES


def test_no_face_is_said_and_the_folder_is_complete(command: Command, tmp_path: Path) -> None:
    noise = [np.random.default_rng(n).integers(0, 255, (240, 320), np.uint8) for n in range(20)]
    done = command("run", write_video(tmp_path / "noise.mkv", noise), "--out", "r")
    assert done.code == 1
    assert "no face in any of 20 frames" in one_line(done.err)
    assert json.loads(Path("r/run.json").read_text())["status"] == "failed"
    assert {file.name for file in Path("r").iterdir()} == FILES


def test_one_frame_is_too_few(command: Command, clip: Path, tmp_path: Path) -> None:
    with av.open(str(clip)) as container:
        image = next(container.decode(video=0)).to_ndarray(format="gray")
    done = command("run", write_video(tmp_path / "one.mkv", [image]), "--out", "r")
    assert done.code == 1
    assert "1 frames are too few to compare" in one_line(done.err)


def test_a_slow_source_is_warned_about(command: Command, clip: Path, tmp_path: Path) -> None:
    with av.open(str(clip)) as container:
        images = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)][:90:3]
    done = command("run", write_video(tmp_path / "slow.mkv", images, 15), "--out", "r")
    assert done.code == 0
    assert "15 frames per second are too slow for micro-expressions" in done.err


def test_two_faces_take_the_largest_or_the_one_asked_for(command: Command, clip: Path, tmp_path: Path) -> None:
    with av.open(str(clip)) as container:
        images = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)][:15]
    both = []
    for image in images:
        small = cv2.resize(image, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
        padded = np.full((image.shape[0], small.shape[1]), 128, np.uint8)
        padded[: small.shape[0]] = small
        both.append(np.ascontiguousarray(np.hstack([image, padded])))
    video = write_video(tmp_path / "two.mkv", both)
    for index in (0, 1):
        done = command("run", video, "--out", f"r{index}", "--face-index", index, "--fps", "30")
        assert done.code == 0, done.err
    done = command("run", video, "--out", "r2", "--face-index", 2)
    assert done.code == 1
    assert "no face number 2" in done.err


def test_an_image_of_another_size_ends_the_run_with_all_before_it_analysed(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    with av.open(str(clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index < 40:
                image = frame.to_ndarray(format="gray")
                cv2.imwrite(str(folder / f"{index:03d}.png"), image if index != 30 else image[:100])
    done = command("run", folder, "--out", "r", "--fps", "50")
    assert done.code == 1
    assert "030.png: is 640x100 px" in one_line(done.err)
    record = json.loads(Path("r/run.json").read_text())
    assert record["status"] == "failed"
    assert record["counts"]["scores"] == 25
    assert record["end"]["frames"] == 30


def test_passwords_and_queries_of_addresses_stay_secret(command: Command, tmp_path: Path) -> None:
    done = command("run", "http://user:SECRET@127.0.0.1:9/x.mkv?token=HIDDEN", "--out", "r")
    assert done.code == 1
    assert "SECRET" not in done.err
    assert "HIDDEN" not in done.err


def test_flags_beat_variables(command: Command, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGC_CAPTURE__SPEED", "0.5")
    monkeypatch.setenv("MEGC_CAPTURE__MAX_SECONDS", "1")
    monkeypatch.setenv("MEGC_OUTPUT__WITH_IMAGES", "true")
    assert command("run", clip, "--out", "r", "--speed", "max", "--no-images").code == 0
    used = json.loads(Path("r/run.json").read_text())["settings"]
    assert used["capture"]["speed"] == 0
    assert used["output"]["with_images"] is False


def test_wrong_models_are_one_line_each(command: Command, clip: Path, tmp_path: Path) -> None:
    wrong = write_mean(tmp_path / "wrong.onnx", size=40)
    for model, words in [
        ("mean-nothing", "'mean-nothing': unknown"),
        ("gone.onnx", "gone.onnx: no such file"),
        (wrong, "expected one input 'features'"),
    ]:
        done = command("run", clip, "--model", model)
        assert done.code == 1
        assert words in one_line(done.err)


def test_wrong_flags_exit_with_2(command: Command, clip: Path) -> None:
    for flags in (
        ["--speed", "fast"],
        ["--speed", "0x"],
        ["--fps", "-3"],
        ["--spotting", "magic"],
        ["--publish", "tcp://0.0.0.0:5999"],
        ["--publish", "nowhere"],
        ["--face-index", "-1"],
        ["--bogus"],
    ):
        assert command("run", clip, *flags).code == 2, flags


def test_a_full_disk_is_one_line_and_keeps_what_fitted(clip: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs a limit on the size of files")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        [sys.executable, "-m", "megc_stream", "run", str(clip), "--out", str(tmp_path / "r")],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in one_line(done.stderr)
    assert (tmp_path / "r" / "intervals.csv").read_text().startswith("subject,video,onset,offset,emotion")


def test_mediapipe_without_its_model_says_what_is_missing(command: Command, clip: Path) -> None:
    done = command("run", clip, "--face", "mediapipe")
    assert done.code == 1
    assert "face_landmarker.task" in one_line(done.err)


def test_ctrl_c_finishes_what_was_read(clip: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "megc_stream", "run", str(clip), "--speed", "native", "--out", str(tmp_path / "r")],
        stderr=subprocess.PIPE,
        text=True,
    )
    scores = tmp_path / "r" / "events.jsonl"
    deadline = time.monotonic() + 120
    while not scores.exists() and time.monotonic() < deadline and process.poll() is None:
        threading.Event().wait(0.05)
    threading.Event().wait(1.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "stopped early" in err
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["status"] == "stopped"
    assert 0 < record["counts"]["frames"] < 400
    assert {file.name for file in (tmp_path / "r").iterdir()} == FILES


def test_published_events_reach_the_subscribe_command(clip: Path, tmp_path: Path) -> None:
    model = write_mean(tmp_path / "tiny.onnx")
    endpoint = f"ipc://{tmp_path}/events"
    base = [sys.executable, "-m", "megc_stream"]
    listener = subprocess.Popen(
        [*base, "subscribe", endpoint, "--topic", "event.label.", "--count", "1", "--timeout", "120"],
        stdout=subprocess.PIPE,
        text=True,
    )
    runner = subprocess.run(
        [
            *(*base, "run", str(clip), "--publish", endpoint, "--model", str(model)),
            *("--spotting", "video", "--speed", "2x", "--out", str(tmp_path / "r")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert runner.returncode == 0, runner.stderr
    out, _ = listener.communicate(timeout=30)
    message = json.loads(out.splitlines()[0])
    assert message["topic"] == "event.label.ada_1."
    assert message["event"]["kind"] == "label"
    logged = [event for event in events_of(tmp_path / "r") if event["kind"] == "label"]
    assert message["event"]["event_id"] == logged[0]["event_id"]


def test_results_survive_where_they_were(command: Command, clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "x_2.mkv")
    done = command("run", "x_2.mkv", "--subject", "006", "--video", "006_1")
    assert done.code == 0
    [folder] = (tmp_path / "megc-runs").iterdir()
    assert folder.name.startswith("006_1-")
    assert json.loads((folder / "run.json").read_text())["source"]["subject"] == "006"


def test_a_damaged_source_does_not_hide_what_was_found_in_the_others(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.mkv").write_bytes(clip.read_bytes()[:250_000])
    sources = "".join(
        f'[[sources]]\nname = "{name}"\nsource = "{path}"\n' for name, path in (("a", "cut.mkv"), ("b", clip))
    )
    (tmp_path / "two.toml").write_text(f"[capture]\nmax_seconds = 2\n{sources}")
    done = command("run", "two.toml", "--out", "r", "--json", "two.json")
    assert done.code == 1
    assert "b: 100 frames, " in done.err
    assert "error: cut.mkv: " in done.err
    assert "what was found is in " in done.err
    assert done.out.splitlines() == [str(Path("r") / "b" / "report.html")]
    first, second = json.loads((tmp_path / "two.json").read_text())["sources"]
    assert first["problem"].startswith("cut.mkv: ")
    assert first["end"] == "damaged"
    assert (second["problem"], second["dropped"], second["late"], second["frames"]) == ("", {}, None, 100)


def test_an_address_that_ends_like_a_settings_file_is_an_address(command: Command) -> None:
    done = command("run", "http://user:secret@127.0.0.1:9/emulated.toml", "--out", "r")
    assert done.code == 1
    assert "cannot be opened" in done.err
    assert "secret" not in done.err
