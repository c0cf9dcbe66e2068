from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

from megc_stream.clock import ManualClock
from megc_stream.output.run_folder import ANNOTATIONS
from megc_stream.output.writer import RunModel, RunWriter
from megc_stream.records import Annotation, StreamInfo
from megc_stream.settings import load_settings

MODEL = RunModel(name="m", sha256="ab" * 32, classes=("negative",), k_s=0.1, k_prime_s=0.185)


def test_remarks_are_kept_and_there_is_no_file_without_any(tmp_path: Path) -> None:
    for name, texts in (("none", []), ("some", ['says "no", twice', "leaves"])):
        folder = tmp_path / name
        folder.mkdir()
        with RunWriter(folder, load_settings(), MODEL, datetime(2025, 1, 1), clock=ManualClock()) as writer:
            writer.write(StreamInfo(source="x", subject="x", video="x", fps=100, width=8, height=8))
            for frame, text in enumerate(texts):
                writer.write(Annotation(source="x", frame=frame, t_capture_s=frame / 4, text=text, author="ada"))
        assert (folder / ANNOTATIONS).exists() == bool(texts)
    with (tmp_path / "some" / ANNOTATIONS).open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {"frame": "0", "t_capture_s": "0.0", "text": 'says "no", twice', "author": "ada"},
            {"frame": "1", "t_capture_s": "0.25", "text": "leaves", "author": "ada"},
        ]
