"""Every target of capture and replay, measured with ``megc-stream bench``, as medians over several runs.

    python benchmarks/capture_targets.py OUT [--only samm,camera-vga,camera-1m,h264,live] [--seconds 60] [--rounds 3]

The material is made once, in OUT: a synthetic face as a folder of 2040x1088 JPEG files of quality 90 at 200 fps, as
1280x720 H.264 and as 640x480 H.264 at 30 fps, and as BMP files for the emulated cameras. It runs forwards and
backwards, so that it has no jumps, with sensor noise (standard deviation 2 grey levels). The eight live sources are
eight FFmpeg servers on loopback (package imageio-ffmpeg), the cameras those of pylon's emulation (package pypylon);
what the emulation itself costs is measured by a run that only takes the pictures. All results are in OUT/results.json.

Leave the machine alone meanwhile. Printed beside each target: the time of a calibration loop, during the run and after
it, and what the host of a virtual machine gave to others, in cores.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from megc_stream.synthesis import synth_clip

Image = NDArray[np.uint8]
Figures = dict[str, Any]

_UNIQUE_S = 5  # length of the face that everything is made of
_LIVE = 8
_NOISE = 2.0
_EMULATION_ALONE = """
import sys, time
from megc_stream.capture import open_source
from megc_stream.clock import MonotonicClock
from megc_stream.settings import load_settings
from pathlib import Path
settings = load_settings(Path(sys.argv[1]))
begin = None
with open_source("pylon:", settings.capture, clock=MonotonicClock()) as source:
    for frame in source.frames():
        now_s = frame.t_capture_s
        if begin is None or now_s - first_s < 1:
            begin, first_s = (time.process_time(), time.monotonic()), now_s if begin is None else first_s
cpu_s, wall_s = time.process_time() - begin[0], time.monotonic() - begin[1]
print(cpu_s / wall_s)
"""


@dataclass(frozen=True)
class Goal:
    """One line of the table: a figure of a run and what it should be."""

    what: str
    of: Callable[[Figures], float]
    bound: float
    at_most: bool = True

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


def _lost(figures: Figures) -> float:
    return float(figures["dropped"] + (figures["late"] or 0))


def _own_cpu(figures: Figures) -> float:
    return float(figures["cpu_cores"] - figures.get("emulation_cores", 0.0))


_LOST = Goal("frames lost or late", _lost, 0)
_ONE_STREAM = (
    Goal("first score after start, s", lambda f: f["first_score_s"], 3),
    Goal("memory, MB", lambda f: f["rss_mb"], 600),
    Goal("growth of memory, MB", lambda f: f["rss_growth_mb"], 20),
)
_CAMERA = (_LOST, Goal("p99, ms", lambda f: f["capture_to_score_ms"]["p99"], 8), Goal("CPU, cores", _own_cpu, 1.0))
GOALS: dict[str, tuple[Goal, ...]] = {
    "samm": (
        _LOST,
        Goal("p50, ms", lambda f: f["capture_to_score_ms"]["p50"], 6),
        Goal("p99, ms", lambda f: f["capture_to_score_ms"]["p99"], 10),
        Goal("CPU, cores", lambda f: f["cpu_cores"], 1.6),
        *_ONE_STREAM,
    ),
    "camera-vga": (*_CAMERA, *_ONE_STREAM),
    "camera-1m": (*_CAMERA, *_ONE_STREAM),
    "h264": (Goal("times real time", lambda f: f["times_real_time"], 8, at_most=False), *_ONE_STREAM[1:]),
    "live": (_LOST,),
}
TITLES = {
    "samm": "folder of 2040x1088 JPEG quality 90, 200 fps",
    "camera-vga": "emulated camera, 640x480 Mono8, 200 fps",
    "camera-1m": "emulated camera, 1024x1024 Mono8, 200 fps",
    "h264": "1280x720 H.264, 30 fps, as fast as it goes",
    "live": f"{_LIVE} live sources of 640x480 H.264, 30 fps each",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the material and the results")
    parser.add_argument("--only", default=",".join(GOALS), help=f"targets, of {','.join(GOALS)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each target; the median counts")
    wanted = parser.parse_args()
    names = wanted.only.split(",")
    if unknown := set(names) - set(GOALS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: expected some of {','.join(GOALS)}")
    wanted.out.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[Figures]] = {name: [] for name in names}
    troubles: dict[str, str] = {}
    for number in range(wanted.rounds):
        for name in names:
            if name in troubles:
                continue
            print(f"round {number + 1} of {wanted.rounds}: {TITLES[name]}", file=sys.stderr, flush=True)
            try:
                runs[name].append(_run(name, wanted.out, wanted.seconds))
            except (RuntimeError, ImportError, subprocess.TimeoutExpired) as error:
                troubles[name] = str(error)
    (wanted.out / "results.json").write_text(json.dumps(runs, indent=1), encoding="utf-8")
    _print(runs, troubles)


def _print(runs: dict[str, list[Figures]], troubles: dict[str, str]) -> None:
    some = next((several[0] for several in runs.values() if several), None)
    if some is not None:
        print(f"{some['machine']}, {some['cores']} cores")
    print("| source | figure | goal | median | of each run | met | loop during the run, after it, ms | stolen, cores |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, several in runs.items():
        if name in troubles:
            print(f"| {TITLES[name]} | failed: {troubles[name]} | | | | no | | |")
        if not several:
            continue
        stolen = [figures["stolen_cores"] for figures in several if figures["stolen_cores"] is not None]
        stolen_cores = f"{statistics.median(stolen):.2f}" if stolen else ""
        during_ms, after_ms = (
            statistics.median(figures[key] for figures in several)
            for key in ("calibration_in_run_ms", "calibration_ms")
        )
        for goal in GOALS[name]:
            values = [goal.of(figures) for figures in several]
            median = statistics.median(values)
            sign, met = "<=" if goal.at_most else ">=", "yes" if goal.met(median) else "**no**"
            each = ", ".join(map(_number, values))
            print(
                f"| {TITLES[name]} | {goal.what} | {sign} {goal.bound:g} | {_number(median)} | {each} | {met} | "
                f"{during_ms:.1f}, {after_ms:.1f} | {stolen_cores} |"
            )


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _run(name: str, out: Path, seconds: float) -> Figures:
    """Run one target once, and return what ``megc-stream bench`` says of it."""
    limit = ["--seconds", f"{seconds:g}"]
    match name:
        case "samm":
            return _bench(out, "latency", [str(_samm_folder(out, seconds)), "--fps", "200", *limit], seconds)
        case "h264":
            clip = _video(out / "face_720p.mp4", seconds, 1280, 720)
            return _bench(out, "throughput", [str(clip), *limit], seconds)
        case "live":
            clip = _video(out / "face_vga.mp4", seconds + 30, 640, 480)
            with _serving(clip, _LIVE) as addresses:
                return _bench(out, "latency", [*addresses, *limit], seconds)
        case _:
            width, height = (640, 480) if name == "camera-vga" else (1024, 1024)
            config = _camera(out, width, height, seconds)
            os.environ["PYLON_CAMEMU"] = "1"
            alone = _output([sys.executable, "-c", _EMULATION_ALONE, str(config)], seconds)
            figures = _bench(out, "latency", ["pylon:", "--config", str(config)], seconds)
            return {**figures, "emulation_cores": float(alone)}


def _bench(out: Path, what: str, words: Sequence[str], seconds: float) -> Figures:
    result = out / "bench.json"
    _output([sys.executable, "-m", "megc_stream", "bench", what, *words, "--json", str(result)], seconds)
    figures: Figures = json.loads(result.read_text(encoding="utf-8"))
    return figures


def _output(command: list[str], seconds: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300 + 10 * seconds)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.strip().splitlines()[-1:]) or f"exit code {done.returncode}")
    return done.stdout


@contextmanager
def _serving(clip: Path, count: int) -> Iterator[list[str]]:
    """Serve a clip over and over, at its own rate, by one FFmpeg for each client."""
    from imageio_ffmpeg import get_ffmpeg_exe

    with ExitStack() as stack:
        addresses = []
        for _ in range(count):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            address = f"http://127.0.0.1:{port}/face.ts"
            play = ["-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy"]
            serve = ["-flush_packets", "1", "-f", "mpegts", "-listen", "1", address]
            server = subprocess.Popen([get_ffmpeg_exe(), *play, *serve], stderr=subprocess.DEVNULL)
            stack.callback(server.wait, 10)
            stack.callback(server.kill)
            addresses.append(address)
        time.sleep(3)  # they listen for one client each, so nobody can ask them whether they are there
        yield addresses


def _base(out: Path, fps: int) -> list[Image]:
    """Return the face, 640x480 grey, in as many pictures as there are in 5 s, once forwards and once backwards."""
    clip = out / f"face_{fps}.mkv"
    if not clip.with_suffix(".csv").exists():
        synth_clip(clip, fps=fps, seconds=_UNIQUE_S, events=2, overwrite=True)
    with av.open(str(clip)) as container:
        images = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    return [*images, *reversed(images)]


def _framed(image: Image, width: int, height: int, number: int) -> Image:
    """Return the face enlarged to the height of a picture, cut or continued in grey to its width, with noise."""
    rng = np.random.default_rng(number % 8)
    large = cv2.resize(image, (round(image.shape[1] * height / image.shape[0]), height), interpolation=cv2.INTER_CUBIC)
    canvas = np.full((height, width), 90, np.float32)
    cut = max(0, (large.shape[1] - width) // 2)
    large = large[:, cut : cut + width]
    left = (width - large.shape[1]) // 2
    canvas[:, left : left + large.shape[1]] = large
    canvas += rng.standard_normal((height, width), np.float32) * _NOISE
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def _samm_folder(out: Path, seconds: float) -> Path:
    """Return a folder of JPEG files as SAMM-LV has them; equal pictures are one file with several names."""
    folder = out / "006_1"
    folder.mkdir(exist_ok=True)
    wanted = round(200 * seconds)
    names = [folder / f"006_1_{number + 1:05d}.jpg" for number in range(wanted)]
    if names[-1].exists():
        return folder
    images = _base(out, 200)
    for number, name in enumerate(names):
        if name.exists():
            continue
        if number >= len(images):
            os.link(names[number % len(images)], name)
            continue
        picture = _framed(images[number], 2040, 1088, number)
        name.write_bytes(simplejpeg.encode_jpeg(picture[:, :, None], quality=90, colorspace="GRAY"))
    mean_kb = statistics.mean(name.stat().st_size for name in names) / 1e3
    print(f"{folder}: {wanted} files of {mean_kb:.0f} kB", file=sys.stderr)
    return folder


def _video(path: Path, seconds: float, width: int, height: int) -> Path:
    """Return an H.264 clip of 30 fps, long enough."""
    wanted = round(30 * seconds)
    if path.exists():
        with av.open(str(path)) as container:
            if container.streams.video[0].frames >= wanted:
                return path
    images = [_framed(image, width, height, number) for number, image in enumerate(_base(out=path.parent, fps=30))]
    with av.open(str(path), "w") as container:
        options = {"crf": "20", "preset": "veryfast", "g": "30", "bf": "0"}
        stream = container.add_stream("libx264", rate=30, width=width, height=height, options=options)
        stream.pix_fmt = "yuv420p"
        for number in range(wanted):
            frame = av.VideoFrame.from_ndarray(images[number % len(images)], format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _camera(out: Path, width: int, height: int, seconds: float) -> Path:
    """Return the settings of an emulated camera that shows the face over and over."""
    folder = (out / f"camera_{width}x{height}").absolute()
    if not folder.is_dir():
        folder.mkdir()
        for number, image in enumerate(_base(out, 200)):
            cv2.imwrite(str(folder / f"{number:05d}.bmp"), _framed(image, width, height, number))
    config = out / f"camera_{width}x{height}.toml"
    config.write_text(
        f"[capture]\nfps = 200\nmax_seconds = {seconds}\n"
        f"[capture.camera]\nwidth = {width}\nheight = {height}\nexposure_s = 0.0001\n"
        f'[capture.camera.features]\nTestImageSelector = "Off"\nImageFilename = {json.dumps(str(folder))}\n'
        'ImageFileMode = "On"\n',
        encoding="utf-8",
    )
    return config


if __name__ == "__main__":
    main()
