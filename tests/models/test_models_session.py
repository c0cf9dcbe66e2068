"""One session for all who use the same network."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from mean_files import write_mean

from megc_stream.models import OnnxModel, model_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the files of the sessions that are opened from now on."""
    files: list[str] = []
    real = onnxruntime.InferenceSession

    def note(path: str, *arguments: Any, **options: Any) -> Any:
        files.append(path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    return files


def test_equal_models_share_a_session_while_one_lives(tmp_path: Path, opened: list[str]) -> None:
    path = write_mean(tmp_path / "mean.onnx")
    first, second = OnnxModel(path), OnnxModel(path)
    assert len(opened) == 1
    del first
    third = OnnxModel(tmp_path / ".." / tmp_path.name / "mean.onnx")
    assert len(opened) == 1
    del second, third
    gc.collect()
    OnnxModel(path)
    assert len(opened) == 2


def test_another_number_of_threads_or_another_file_is_another_session(tmp_path: Path, opened: list[str]) -> None:
    path = write_mean(tmp_path / "mean.onnx")
    models = [OnnxModel(path), OnnxModel(path, threads=2)]
    assert len(opened) == 2
    write_mean(path, metadata={"name": "written anew"})
    models.append(OnnxModel(path))
    assert len(opened) == 3
    assert [model.metadata.get("name") == "written anew" for model in models] == [False, False, True]


def test_several_threads_get_the_results_of_one() -> None:
    batches = np.random.default_rng(0).random((40, 1, 42, 42, 3)).astype(np.float32)
    path = model_path("mean-synthetic.onnx")
    expected = [OnnxModel(path).run({"features": features}) for features in batches]
    models = [OnnxModel(path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [[pool.submit(model.run, {"features": features}) for features in batches] for model in models]
    for several in jobs:
        for job, wanted in zip(several, expected, strict=True):
            for got, want in zip(job.result(), wanted, strict=True):
                np.testing.assert_array_equal(got, want)
