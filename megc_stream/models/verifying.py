"""Is a model file the one it should be, and does it work?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from megc_stream.errors import ModelError
from megc_stream.models.mean import MeanModel
from megc_stream.models.registry import expected_sha256
from megc_stream.models.session import OnnxModel, sha256_of

__all__ = ["ModelCheck", "verify_model"]

_TOLERANCE = 1e-4
_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class ModelCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of a check: ``problem`` is empty for a good file, ``difference`` the deviation from the outputs
    that the file records (None where it records none)."""

    name: str
    path: Path
    sha256: str
    checksum: Literal["matches", "differs", "not recorded"]
    difference: float | None
    problem: str


def verify_model(name: str, path: Path) -> ModelCheck:
    """Compare a model's checksum with the recorded one, load it, run it once, and compare with recorded outputs.

    Raises
    ------
    ModelError
        No such file.
    """
    if not path.is_file():
        raise ModelError(f"model {path}: no such file")
    sha256, expected = sha256_of(path), expected_sha256(name, path)
    difference, problem = None, ""
    try:
        if list((model := OnnxModel(path)).outputs) == ["spot", "recog"]:
            difference = MeanModel(path).difference()
            if difference is not None and not difference <= _TOLERANCE:
                problem = f"outputs differ by {difference:.1e} from the recorded ones, expected {_TOLERANCE:g} at most"
        else:
            _run_once(path, model)
    except ModelError as error:
        problem = str(error)
    if expected is not None and sha256 != expected:
        problem = f"SHA-256 is {sha256}, expected {expected}; install or fetch it again" + (
            f"; {problem}" * bool(problem)
        )
    return ModelCheck(
        name=name,
        path=path,
        sha256=sha256,
        checksum="not recorded" if expected is None else "matches" if sha256 == expected else "differs",
        difference=difference,
        problem=problem,
    )


def _run_once(path: Path, model: OnnxModel) -> None:
    inputs = {
        name: np.zeros([size if isinstance(size, int) else 1 for size in shape], _TYPES.get(model.input_types[name]))
        for name, shape in model.inputs.items()
    }
    try:
        outputs = model.run(inputs)
    except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
        raise ModelError(f"model {path}: cannot be run ({str(error).splitlines()[0]})") from error
    if not all(np.isfinite(output).all() for output in outputs):
        raise ModelError(f"model {path}: gives outputs that are not finite for an empty picture")
