"""The published weight files of MEAN: HDF5 as Keras writes it, read without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import ModelError
from megc_stream.models.mean_graph import MeanHead, MeanStream, MeanWeights

__all__ = ["read_mean_weights"]

_FILTERS = (3, 3, 8)
_MOST_CLASSES = 32
_EXPECTED = (
    "expected the layers of MEAN: 5 conv2d, 3 batch_normalization, 'spot' and 'recog' "
    "(of the published weights those of a folder 'spot_recog')"
)

_Arrays = dict[str, NDArray[np.float32]]


def read_mean_weights(path: Path) -> MeanWeights:
    """Read a weight file of MEAN that Keras wrote, of either layout: the weights alone or the whole model.

    Layers of a kind are taken in the order of the numbers in their names, which is the order in which the published
    code makes them: the streams of u, v and strain, then the spotting head, then the recognition head.

    Raises
    ------
    ModelError
        No such file, no HDF5 file, damaged, or not MEAN: names the file and the layer, weight or shape at fault.
    """
    import h5py

    if not path.is_file():
        raise ModelError(f"weights {path}: no such file; expected a Keras weight file (.hdf5)")
    try:
        with h5py.File(path, "r") as stored:
            return _weights(path, stored)
    except ModelError:
        raise
    except Exception as error:  # h5py raises many kinds for damaged files, and they share no base class but Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"weights {path}: cannot be read as HDF5 ({reason}); it is damaged, cut short or another kind of file: "
            "fetch it again"
        ) from error


def _weights(path: Path, stored: Any) -> MeanWeights:
    root = stored.get("model_weights", stored)
    names = _names(root, "layer_names")
    if names is None:
        raise ModelError(f"weights {path}: attribute 'layer_names' is missing, so Keras did not write it; {_EXPECTED}")
    convolutions, norms = _numbered(names, "conv2d"), _numbered(names, "batch_normalization")
    for kind, found, wanted in (("conv2d", convolutions, 5), ("batch_normalization", norms, 3)):
        if len(found) != wanted:
            raise ModelError(f"weights {path}: {len(found)} {kind} layers instead of {wanted}; {_EXPECTED}")
    for head in ("spot", "recog"):
        if head not in names:
            raise ModelError(f"weights {path}: layer '{head}' is missing; {_EXPECTED}")

    def layer(name: str, shapes: Mapping[str, tuple[int | None, ...]]) -> _Arrays:
        return _layer(path, root, name, shapes)

    streams = []
    for filters, convolution, norm in zip(_FILTERS, convolutions, norms, strict=False):
        first = layer(convolution, {"kernel": (5, 5, 1, filters), "bias": (filters,)})
        parts = layer(norm, dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (filters,)))
        if parts["moving_variance"].min() < 0:
            raise ModelError(f"weights {path}: layer '{norm}' has a negative moving_variance; the file is damaged")
        streams.append(
            MeanStream(
                kernel=first["kernel"].transpose(3, 2, 0, 1),
                bias=first["bias"],
                gamma=parts["gamma"],
                beta=parts["beta"],
                mean=parts["moving_mean"],
                variance=parts["moving_variance"],
            )
        )
    heads = []
    for head, convolution, outputs in zip(("spot", "recog"), convolutions[3:], (1, None), strict=True):
        first = layer(convolution, {"kernel": (5, 5, 14, 8), "bias": (8,)})
        last = layer(head, {"kernel": (392, outputs), "bias": (outputs,)})
        units = last["kernel"].shape[1]
        if last["bias"].shape != (units,) or not (outputs or 2) <= units <= _MOST_CLASSES:
            raise ModelError(
                f"weights {path}: layer '{head}' has {units} outputs and {last['bias'].shape[0]} biases; expected "
                f"equally many, {'1' if outputs else f'2 to {_MOST_CLASSES} classes'}"
            )
        heads.append(MeanHead(first["kernel"].transpose(3, 2, 0, 1), first["bias"], last["kernel"].T, last["bias"]))
    return MeanWeights((streams[0], streams[1], streams[2]), *heads)


def _layer(path: Path, root: Any, name: str, shapes: Mapping[str, tuple[int | None, ...]]) -> _Arrays:
    """Read the named weights of a layer; shapes are checked before anything is read, None fits any length."""
    group = root.get(name)
    if group is None:
        raise ModelError(f"weights {path}: layer '{name}' is named and missing; the file is damaged: fetch it again")
    stored = {weight.rpartition("/")[2].partition(":")[0]: weight for weight in _names(group, "weight_names") or ()}
    arrays: _Arrays = {}
    for part, shape in shapes.items():
        if part not in stored:
            raise ModelError(
                f"weights {path}: layer '{name}' has no '{part}' (found: {', '.join(stored) or 'nothing'}); {_EXPECTED}"
            )
        dataset = group.get(stored[part])
        if dataset is None:
            raise ModelError(
                f"weights {path}: '{part}' of layer '{name}' is named and missing; the file is damaged: fetch it again"
            )
        got = getattr(dataset, "shape", None)
        if got is None or len(got) != len(shape) or any(map(_differ, shape, got)):
            wanted = ", ".join("classes" if length is None else str(length) for length in shape)
            raise ModelError(f"weights {path}: '{part}' of layer '{name}' has shape {got}; expected ({wanted})")
        if dataset.dtype.kind != "f" or dataset.size > 1_000_000:
            raise ModelError(
                f"weights {path}: '{part}' of layer '{name}' is {dataset.dtype} {got}; expected floating-point numbers"
            )
        value = np.ascontiguousarray(dataset[()], np.float32)
        if not np.isfinite(value).all():
            raise ModelError(f"weights {path}: '{part}' of layer '{name}' is not finite; the file is damaged")
        arrays[part] = value
    return arrays


def _differ(wanted: int | None, got: int) -> bool:
    return wanted is not None and wanted != got


def _names(group: Any, attribute: str) -> list[str] | None:
    if attribute not in group.attrs:
        return None
    values = np.asarray(group.attrs[attribute]).ravel()
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]


def _numbered(names: list[str], kind: str) -> list[str]:
    """Return the layers of a kind in the order of their numbers; the first of a fresh session has none."""
    found = [(int(match[1] or 0), name) for name in names if (match := re.fullmatch(rf"{kind}(?:_(\d+))?", name))]
    return [name for _, name in sorted(found)]
