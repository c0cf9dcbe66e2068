"""MEAN: which file, what it expects, how pairs are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import ModelError
from megc_stream.models.mean_graph import check_features
from megc_stream.models.registry import entries
from megc_stream.models.session import OnnxModel, fetched_models, model_path, sha256_of, shipped_models

__all__ = ["MeanInfo", "MeanModel", "find_mean"]

_INPUT = "features"
_SIZE_PX = 42
_LONGEST_S = 2.0


class MeanInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a MEAN file says of itself: ``k_s`` between the frames of a pair, ``k_prime_s`` half an expected
    expression."""

    name: str
    sha256: str
    classes: tuple[str, ...]
    k_s: float
    k_prime_s: float
    trained_on: str


def find_mean(name: str) -> Path:
    """Return the file of a MEAN model, given by the name of a shipped or fetched model or as the path of an .onnx file.

    Raises
    ------
    ModelError
        Neither exists; names the models there are.
    """
    if name.endswith(".onnx"):
        if not Path(name).is_file():
            raise ModelError(f"model {name}: no such file; expected an .onnx file with MEAN's input and outputs")
        return Path(name)
    shipped = [stem for stem in shipped_models() if stem.startswith("mean-")]
    if name in shipped:
        return model_path(f"{name}.onnx")
    fetched = fetched_models()
    if name in fetched:
        return fetched[name]
    known = entries().get(name.partition("-fold-")[0])
    if known is not None and known.folds:
        raise ModelError(
            f"model '{name}': not fetched yet; 'megc-stream models fetch {known.name}' does it, or says how"
        )
    raise ModelError(
        f"model '{name}': unknown; expected one of {', '.join([*shipped, *fetched]) or 'none'}, or the path of an "
        ".onnx file"
    )


class MeanModel:
    """A MEAN network, ready to score pairs (it has run once).

    Parameters
    ----------
    path
        ONNX file with input ``features`` (B, 42, 42, 3) float32 and outputs ``spot`` (B, 1) and ``recog`` (B, C); its
        metadata hold ``classes`` (JSON list), ``k_s``, ``k_prime_s``.
    providers, threads
        See :class:`megc_stream.models.OnnxModel`.

    Raises
    ------
    ModelError
        Not such a file: names the input, output or metadata at fault.
    """

    def __init__(self, path: Path, providers: Sequence[str] = ("cpu",), threads: int = 1) -> None:
        self._model = OnnxModel(path, providers, threads)
        self.metadata = self._model.metadata
        self._check_shapes(path)
        self.info = self._read_info(path)
        spot, recog = self._first_run(path)
        if spot.shape != (1,) or recog.shape != (1, len(self.info.classes)):
            raise ModelError(
                f"model {path}: recog has {recog.shape[-1]} classes, its metadata name {len(self.info.classes)}; "
                "expected as many names as outputs"
            )

    def score(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return spotting scores (B,) and class probabilities (B, C) of features (B, 42, 42, 3) float32 in [0, 1]."""
        spot, recog = self._model.run({_INPUT: features})
        return spot[:, 0], recog

    def difference(self) -> float | None:
        """Return how far the outputs for :func:`check_features` are from those recorded in the file; None without any.

        Raises
        ------
        ModelError
            The recorded outputs cannot be read.
        """
        if "check_spot" not in self.metadata or "check_recog" not in self.metadata:
            return None
        spot, recog = self.score(check_features())
        try:
            wanted_spot, wanted_recog = (
                np.array(msgspec.json.decode(self.metadata[key], type=list[float]))
                for key in ("check_spot", "check_recog")
            )
            return float(max(np.abs(spot - wanted_spot).max(), np.abs(recog[0] - wanted_recog).max()))
        except (ValueError, msgspec.DecodeError) as error:
            raise ModelError(
                f"model {self.info.name}: recorded outputs cannot be read ({error}); expected one score and "
                f"{len(self.info.classes)} probabilities"
            ) from error

    def _first_run(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # Batches of one and of two: a file with a fixed batch passes one of them at most.
        for batch in (2, 1):
            try:
                result = self.score(np.zeros((batch, _SIZE_PX, _SIZE_PX, 3), np.float32))
            except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ModelError(f"model {path}: cannot score a batch of {batch} ({reason})") from error
        return result

    def _check_shapes(self, path: Path) -> None:
        expected_input = [_SIZE_PX, _SIZE_PX, 3]
        got = self._model.inputs.get(_INPUT)
        kind = self._model.input_types.get(_INPUT)
        if list(self._model.inputs) != [_INPUT] or got is None or got[1:] != expected_input or kind != "tensor(float)":
            raise ModelError(
                f"model {path}: inputs are {self._model.inputs} {self._model.input_types}; "
                f"expected one input '{_INPUT}' (B, 42, 42, 3) float32"
            )
        names = list(self._model.outputs)
        if (
            names != ["spot", "recog"]
            or any(len(shape) != 2 for shape in self._model.outputs.values())
            or self._model.outputs["spot"][1] != 1
        ):
            raise ModelError(
                f"model {path}: outputs are {self._model.outputs}; expected 'spot' (B, 1) and 'recog' (B, C)"
            )

    def _read_info(self, path: Path) -> MeanInfo:
        metadata = self._model.metadata
        try:
            return MeanInfo(
                name=metadata.get("name", path.stem),
                sha256=sha256_of(path),
                classes=msgspec.json.decode(metadata["classes"], type=tuple[str, ...]),
                k_s=_duration(metadata["k_s"]),
                k_prime_s=_duration(metadata["k_prime_s"]),
                trained_on=metadata.get("trained_on", "not stated"),
            )
        except KeyError as error:
            raise ModelError(
                f"model {path}: metadata {error} is missing; expected 'classes', 'k_s' and 'k_prime_s' in the ONNX file"
            ) from error
        except (ValueError, msgspec.DecodeError) as error:
            raise ModelError(
                f"model {path}: metadata cannot be read ({error}); expected a JSON list and two numbers"
            ) from error


def _duration(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 < value <= _LONGEST_S):
        raise ValueError(f"{text} s is no duration between 0 and {_LONGEST_S} s")
    return value
