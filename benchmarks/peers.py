"""Other programs on the same clip, in frames per second and milliseconds of CPU per frame.

    python benchmarks/peers.py CLIP [--frames 300] [--landmarker face_landmarker.task]
                               [--python mediapipe=/venv/bin/python] [--python feat=/venv/bin/python]

- megc-stream: the whole analysis (decoding, face, flow, scores, events, files) by ``bench throughput``, and the share
  of its two costly stages.
- mediapipe 1.x: the landmark step alone, FaceLandmarker in video mode on decoded pictures. Its package brings another
  OpenCV, so that it usually lives in an environment of its own: name that one's interpreter with ``--python``. The
  model file is not part of the package.
- MEAN as published: the pre-processing of one pair of crops, OpenCV's DualTVL1 with default parameters, cartToPolar
  and back, strain and the scaled regions (by our kernel, which is faster); crops and network would come on top.
- py-feat: its Detector on the pictures of the clip, where it is installed and has its weights.

What cannot be measured here says why. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.benchmarking.machine import calibration_ms, processor
from megc_stream.capture import open_source
from megc_stream.clock import MonotonicClock
from megc_stream.face import FaceAnalyser
from megc_stream.records import Crop, frames_of
from megc_stream.settings import CaptureSettings, FaceSettings
from megc_stream.spotting import mean_features

_K_S = 0.1
_TIMEOUT_S = 900

# Each reads the RGB pictures of an .npy file, leaves out a first run over ten of them, and prints
# pictures, wall seconds, CPU seconds, version.
_MEDIAPIPE = """
import sys, time, numpy as np, mediapipe as mp
from mediapipe.tasks.python import BaseOptions, vision
pictures, fps, model = np.load(sys.argv[1], mmap_mode="r"), float(sys.argv[2]), sys.argv[3]
options = vision.FaceLandmarkerOptions(
    base_options=BaseOptions(model_asset_path=model), running_mode=vision.RunningMode.VIDEO, num_faces=1
)
found = 0
with vision.FaceLandmarker.create_from_options(options) as landmarker:
    for number, picture in enumerate(pictures):
        if number == 10:
            wall_s, cpu_s, found = time.perf_counter(), time.process_time(), 0
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        found += bool(landmarker.detect_for_video(image, round(number * 1000 / fps)).face_landmarks)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
print(len(pictures) - 10, wall_s, cpu_s, mp.__version__, found)
"""
_FEAT = """
import sys, time, tempfile, pathlib, feat, numpy as np, cv2
pictures = np.load(sys.argv[1], mmap_mode="r")[:40]
detector = feat.Detector(device="cpu")
with tempfile.TemporaryDirectory() as folder:
    files = []
    for number, picture in enumerate(pictures):
        files.append(str(pathlib.Path(folder) / f"{number:04d}.png"))
        cv2.imwrite(files[-1], picture[:, :, ::-1])
    detector.detect_image(files[:10], progress_bar=False)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    found = detector.detect_image(files[10:], progress_bar=False)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
print(len(pictures) - 10, wall_s, cpu_s, feat.__version__, len(found))
"""


@dataclass(frozen=True)
class Row:
    """One line of the table; without figures the note says why."""

    what: str
    fps: float | None = None
    cpu_ms: float | None = None
    note: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="a video with one face")
    parser.add_argument("--frames", type=int, default=300, help="pictures that the others see")
    parser.add_argument("--pairs", type=int, default=20, help="pairs that the published pre-processing sees")
    parser.add_argument("--landmarker", type=Path, help="MediaPipe's model file face_landmarker.task")
    parser.add_argument("--python", action="append", default=[], help="NAME=INTERPRETER, for mediapipe and feat")
    wanted = parser.parse_args()
    pythons = dict(entry.split("=", 1) for entry in wanted.python)
    cv2.setNumThreads(1)
    rows = [*_ours(wanted.clip), _mean(wanted.clip, wanted.pairs)]
    with tempfile.TemporaryDirectory(prefix="megc-peers-") as folder:
        pictures, fps = _pictures(wanted.clip, wanted.frames, Path(folder) / "pictures.npy")
        what = "mediapipe, landmarks alone"
        if wanted.landmarker is None:
            rows.append(Row(what, note="not measured: --landmarker names no model file"))
        else:
            rows.append(
                _other(what, pythons.get("mediapipe"), _MEDIAPIPE, [pictures, f"{fps:g}", wanted.landmarker.absolute()])
            )
        rows.append(_other("py-feat, Detector", pythons.get("feat"), _FEAT, [pictures]))
    print(f"{processor()}; {wanted.clip.name}; calibration loop {calibration_ms():.1f} ms\n")
    print("| program | frames/s | CPU ms a frame | |\n| --- | --- | --- | --- |")
    for row in rows:
        fps_text = "-" if row.fps is None else f"{row.fps:.1f}"
        cpu_text = "-" if row.cpu_ms is None else f"{row.cpu_ms:.2f}"
        print(f"| {row.what} | {fps_text} | {cpu_text} | {row.note} |")


def _ours(clip: Path) -> Iterator[Row]:
    command = [sys.executable, "-m", "megc_stream", "bench", "throughput", str(clip), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        yield Row("megc-stream, whole analysis", note=f"not measured: {_last_line(done.stderr)}")
        return
    figures = json.loads(done.stdout)
    yield Row("megc-stream, whole analysis", figures["fps_in"], figures["cpu_ms_per_frame"])
    for thread, what in (("reader", "face and crop"), ("spotter", "flow, features and network")):
        share = figures["cpu_cores_by_thread"].get(thread, 0.0) / figures["cpu_cores"]
        yield Row(f"megc-stream, of it {what}", cpu_ms=figures["cpu_ms_per_frame"] * share)


def _mean(clip: Path, pairs: int) -> Row:
    """Return what the published pre-processing takes per pair, which is per frame."""
    crops, fps = _crops(clip, pairs)
    k = frames_of(_K_S, fps)
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    count = 0
    for before, after in zip(crops, crops[k:], strict=False):
        assert before.image is not None and after.image is not None and before.landmarks68 is not None
        flow = solver.calc(before.image, after.image, None)
        length, angle = cv2.cartToPolar(flow[:, :, 0], flow[:, :, 1])
        mean_features(np.dstack([length * np.cos(angle), length * np.sin(angle)]), before.landmarks68)
        count += 1
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return Row("MEAN as published, pre-processing alone", count / wall_s, cpu_s / count * 1e3, f"{count} pairs")


def _crops(clip: Path, pairs: int) -> tuple[list[Crop], float]:
    crops: list[Crop] = []
    with open_source(str(clip), CaptureSettings(), clock=MonotonicClock()) as source:
        fps = source.info.fps
        face = FaceAnalyser(FaceSettings(), fps)
        for frame in source.frames():
            crop = face.process(frame)
            if crop.image is not None:
                crops.append(crop)
            if len(crops) == pairs + frames_of(_K_S, fps):
                break
    return crops, fps


def _pictures(clip: Path, count: int, file: Path) -> tuple[Path, float]:
    """Write the first pictures of a clip as one RGB array, and return its file and the rate."""
    pictures: list[NDArray[np.uint8]] = []
    with av.open(str(clip)) as container:
        rate = container.streams.video[0].average_rate
        for frame in container.decode(video=0):
            pictures.append(frame.to_ndarray(format="rgb24"))
            if len(pictures) == count:
                break
    np.save(file, np.stack(pictures))
    return file, float(rate or 30)


def _other(what: str, python: str | None, script: str, words: list[object]) -> Row:
    command = [python or sys.executable, "-c", script, *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Row(what, note=f"not measured: {error}")
    if done.returncode:
        return Row(what, note=f"not measured: {_last_line(done.stderr)}")
    count, wall_s, cpu_s, version, found = done.stdout.split()[-5:]
    note = f"{version}, a face in {found} of {count} pictures"
    return Row(what, int(count) / float(wall_s), float(cpu_s) / int(count) * 1e3, note)


def _last_line(text: str) -> str:
    return " ".join(text.strip().splitlines()[-1:])


if __name__ == "__main__":
    main()
