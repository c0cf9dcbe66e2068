"""Weight files of MEAN as Keras writes them, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from megc_stream.models import MeanHead, MeanStream, MeanWeights


def random_weights(seed: int, classes: int = 3, *, trained: bool = True, flipped: bool = False) -> MeanWeights:
    """A network whose scales of the batch normalisation are positive, or of both signs where ``flipped``."""
    rng = np.random.default_rng(seed)

    def some(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.1, shape).astype(np.float32)

    def stream(count: int) -> MeanStream:
        gamma = 1 + some(count)
        if flipped:
            gamma[::2] *= -1
        return MeanStream(some(count, 1, 5, 5), some(count), gamma, some(count), some(count), np.abs(some(count)))

    def head(outputs: int, touched: bool = True) -> MeanHead:
        return MeanHead(some(8, 14, 5, 5), some(8) * touched, some(outputs, 392), some(outputs) * touched)

    return MeanWeights((stream(3), stream(3), stream(8)), head(1), head(classes, trained))


def write_keras(
    path: Path,
    weights: MeanWeights,
    *,
    whole_model: bool = False,
    first: int = 96,
    change: Callable[[Any], None] | None = None,
) -> Path:
    """Write ``weights`` as ``save_weights`` does, or as a whole saved model; ``change`` may spoil the root group."""
    layers: dict[str, dict[str, np.ndarray]] = {"input_1": {}}
    numbers = [*range(first, first + 4), first + 6]
    convolutions = [*weights.streams, weights.spot, weights.recog]
    for number, layer in zip(numbers, convolutions, strict=True):
        name = f"conv2d_{number}" if number else "conv2d"
        layers[name] = {"kernel": layer.kernel.transpose(2, 3, 1, 0), "bias": layer.bias}
    for number, stream in enumerate(weights.streams):
        parts = {"gamma": stream.gamma, "beta": stream.beta}
        parts |= {"moving_mean": stream.mean, "moving_variance": stream.variance}
        layers[f"batch_normalization_{number + 9}"] = parts
    for name, head in (("spot", weights.spot), ("recog", weights.recog)):
        layers[name] = {"kernel": head.dense.T, "bias": head.dense_bias}
    with h5py.File(path, "w") as stored:
        root = stored.create_group("model_weights") if whole_model else stored
        # Neither in the order of the file nor in that of the alphabet: the numbers decide.
        root.attrs["layer_names"] = [name.encode() for name in reversed(layers)]
        for name, arrays in layers.items():
            group = root.create_group(name)
            inner = f"{name}_42" if name in ("spot", "recog") else name
            group.attrs["weight_names"] = [f"{inner}/{part}:0".encode() for part in arrays]
            for part, values in arrays.items():
                group.create_dataset(f"{inner}/{part}:0", data=values)
        if change is not None:
            change(root)
    return path
