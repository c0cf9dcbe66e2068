"""The shipped face models: what they look like, and that the script makes them, byte for byte."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from megc_stream.models import OnnxModel, model_path

pytest.importorskip("onnx", reason="needs onnx (dependency group `test`)")
pytest.importorskip("flatbuffers", reason="needs flatbuffers (dependency group `test`)")

SCRIPT = Path(__file__).resolve().parents[2] / "models" / "convert_mediapipe.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("convert_mediapipe", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.network
def test_the_script_makes_the_shipped_files(script: ModuleType, tmp_path: Path) -> None:
    try:
        wheel = script.fetch_wheel(tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("pip cannot fetch the mediapipe wheel: no index within reach")
    for name, data in script.convert_all(wheel).items():
        assert data == model_path(name).read_bytes(), f"{name} differs from what the script makes"


def test_another_wheel_is_refused(script: ModuleType, tmp_path: Path) -> None:
    wheel = tmp_path / "mediapipe-0.10.21-cp312-cp312-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mediapipe/__init__.py", "")
    with pytest.raises(ValueError, match=script.WHEEL_SHA256):
        script.convert_all(wheel)


def test_other_files_are_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="TFL3"):
        script.read_tflite(b"PK\x03\x04" + bytes(64))


def test_inputs_and_outputs() -> None:
    detector = OnnxModel(model_path("mediapipe-face-detector.onnx"))
    assert detector.inputs == {"image": [1, 128, 128, 3]}
    assert detector.outputs == {"regressors": [896, 16], "scores": [896]}
    mesh = OnnxModel(model_path("mediapipe-face-mesh.onnx"))
    assert mesh.inputs == {"image": [1, 192, 192, 3]}
    assert mesh.outputs == {"landmarks": [478, 3], "score": [1]}
    assert "mediapipe==0.10.21" in mesh.metadata["source"]
    _, score = mesh.run({"image": np.zeros((1, 192, 192, 3), np.uint8)})
    assert score[0] < 0.1
