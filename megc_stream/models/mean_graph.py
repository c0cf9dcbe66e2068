"""MEAN's weights as arrays, and the ONNX graph that computes one network or the average of many."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EPSILON", "MeanHead", "MeanStream", "MeanWeights", "build_mean", "check_features", "mean_reference"]

EPSILON = 1e-3
"""Epsilon of the batch normalisation, Keras' default."""

_OPSET = 17
_IR_VERSION = 8
_STREAMS = ("u", "v", "strain")
# Maps of each stream in the graph, padded with empty ones: ONNX Runtime's fast convolutions work on blocks of 16.
_SLOTS = (4, 4, 8)
_BLOCK = 16
_FILTERS = 8
_POOLED = 7
_UNITS = _POOLED * _POOLED * _FILTERS


@dataclass(frozen=True, eq=False)
class MeanStream:
    """Convolution and batch normalisation of one input channel with F filters; float32.

    Parameters
    ----------
    kernel
        (F, 1, 5, 5).
    bias, gamma, beta, mean, variance
        (F,); the last four are those of the batch normalisation.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]

    def scale_and_shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the batch normalisation as ``scale * x + shift``, each (F,)."""
        scale = self.gamma.astype(np.float64) / np.sqrt(self.variance.astype(np.float64) + EPSILON)
        return scale, self.beta - scale * self.mean


@dataclass(frozen=True, eq=False)
class MeanHead:
    """Convolution and dense layer of one head; float32.

    Parameters
    ----------
    kernel, bias
        (8, 14, 5, 5) and (8,); the 14 maps are those of u (3), v (3) and strain (8).
    dense, dense_bias
        (outputs, 392) and (outputs,); the 392 units are 7 rows of 7 columns of 8 filters (channels last).
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    dense: NDArray[np.float32]
    dense_bias: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MeanWeights:
    """One MEAN network (Liong, See and Chan 2023): streams of u, v and strain, and two heads."""

    streams: tuple[MeanStream, MeanStream, MeanStream]
    spot: MeanHead
    recog: MeanHead

    @property
    def classes(self) -> int:
        """Number of emotion classes."""
        return int(self.recog.dense_bias.shape[0])

    @property
    def recognition_trained(self) -> bool:
        """Whether the recognition head was ever trained: biases start at exactly zero and leave it at the first step.

        Published folds whose left-out person had no rated expression hold a head that is still random.
        """
        return bool(np.any(self.recog.bias) or np.any(self.recog.dense_bias))


def check_features() -> NDArray[np.float32]:
    """Return the input (1, 42, 42, 3) in [0, 1) whose outputs every built file carries, the same on every machine."""
    ramp = np.arange(1, 42 * 42 * 3 + 1) * ((math.sqrt(5) - 1) / 2)
    features: NDArray[np.float32] = np.modf(ramp)[0].reshape(1, 42, 42, 3).astype(np.float32)
    return features


def mean_reference(
    weights: MeanWeights, features: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute MEAN layer by layer, as published, in float64: spotting scores (B, 1) and probabilities (B, C).

    Convolution 5x5 "same" + ReLU, batch normalisation, max pool 3 per channel of ``features`` (B, 42, 42, 3);
    concatenation; per head convolution 5x5 "same" + ReLU, max pool 2, flatten (channels last), dense; softmax.
    """
    pixels = features.astype(np.float64).transpose(0, 3, 1, 2)
    maps = []
    for index, stream in enumerate(weights.streams):
        scale, shift = stream.scale_and_shift()
        active = np.maximum(_convolve(pixels[:, index : index + 1], stream.kernel, stream.bias), 0)
        maps.append(_pool(active * scale[:, None, None] + shift[:, None, None], 3))
    trunk = np.concatenate(maps, axis=1)
    outputs = []
    for head in (weights.spot, weights.recog):
        pooled = _pool(np.maximum(_convolve(trunk, head.kernel, head.bias), 0), 2)
        outputs.append(pooled.transpose(0, 2, 3, 1).reshape(len(features), -1) @ head.dense.T + head.dense_bias)
    spot, logits = outputs
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return spot, powers / powers.sum(axis=1, keepdims=True)


def build_mean(networks: Sequence[MeanWeights], metadata: Mapping[str, str], named_by: Sequence[int] = ()) -> bytes:
    """Return an ONNX file: ``features`` (B, 42, 42, 3) -> ``spot`` (B, 1), ``recog`` (B, C), all float32.

    With several networks ``spot`` is the mean of their scores and ``recog`` the mean of their probabilities, in one
    graph: each stream is one convolution with the filters of all networks, the heads are one convolution with a group
    per network. The batch normalisation is folded into the first convolutions. With y = a max(t, 0) + s of a
    convolution t and its pooled value, max over the window of y = max(s, max(a t + s)) where a >= 0 and
    min(s, max(a t + s)) where a < 0, so that only pooled maps have to be clipped; exact but for rounding.

    Parameters
    ----------
    networks
        At least one; all with equally many classes.
    metadata
        Strings stored in the file (``name``, ``classes``, ``k_s``, ...), in the order given. ``check_spot`` and
        ``check_recog`` are added: the outputs for :func:`check_features`, computed by :func:`mean_reference`.
    named_by
        Positions of the networks whose probabilities count; all where empty.

    Returns
    -------
    bytes
        The file; equal arguments give equal bytes.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []
    count, classes = len(networks), networks[0].classes

    def constant(name: str, value: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(operator: str, inputs: str, output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs.split(), output.split(), **attributes))
        return output

    def reshaped(source: str, name: str, *shape: int) -> str:
        return add("Reshape", f"{source} {constant(f'{name}.shape', np.array((0, *shape), np.int64))}", name)

    add("Transpose", "features", "channels", perm=[0, 3, 1, 2])
    add("Split", "channels", " ".join(_STREAMS), axis=1)
    for index, (name, slots) in enumerate(zip(_STREAMS, _SLOTS, strict=True)):
        kernel, bias = _folded([network.streams[index] for network in networks], slots)
        x = f"{name} {constant(f'{name}.kernel', kernel)} {constant(f'{name}.bias', bias)}"
        x = add("Conv", x, f"{name}.conv", kernel_shape=[5, 5], pads=[2, 2, 2, 2])
        x = add("MaxPool", x, f"{name}.pool", kernel_shape=[3, 3], strides=[3, 3])
        if len(bias) > count * slots:
            ends = [
                constant(f"{name}.{end}", np.array([value], np.int64))
                for end, value in (("first", 0), ("end", count * slots), ("axis", 1))
            ]
            x = add("Slice", " ".join([x, *ends]), f"{name}.filled")
        reshaped(x, f"{name}.maps", count, slots, 14, 14)
    x = add("Concat", " ".join(f"{name}.maps" for name in _STREAMS), "pooled", axis=2)
    least, most = _limits(networks)
    x = add("Max", f"{x} {constant('least', least)}", "raised")
    if np.isfinite(most).any():
        x = add("Min", f"{x} {constant('most', most)}", "clipped")
    # Padded here and not by the convolution, which is faster without a border.
    x = add("Pad", f"{x} {constant('border', np.array([0, 0, 0, 2, 2, 0, 0, 0, 2, 2], np.int64))}", "padded")
    x = reshaped(x, "trunk", count * sum(_SLOTS), 18, 18)
    x = f"{x} {constant('heads.kernel', _head_kernels(networks))} {constant('heads.bias', _head_biases(networks))}"
    x = add("Conv", x, "heads.conv", kernel_shape=[5, 5], group=count)
    x = add("Relu", x, "heads.relu")
    x = add("MaxPool", x, "heads.pool", kernel_shape=[2, 2], strides=[2, 2])
    x = reshaped(x, "units", count, 1, 2 * _UNITS)
    dense, dense_bias = _dense(networks)
    x = add("MatMul", f"{x} {constant('dense', dense)}", "heads.dense")
    add("Add", f"{x} {constant('dense.bias', dense_bias)}", "outputs")
    add("Split", f"outputs {constant('sizes', np.array([1, classes], np.int64))}", "spot.all recog.logits", axis=3)
    x = add("Softmax", "recog.logits", "recog.all", axis=3)
    if named_by:
        x = add("Gather", f"{x} {constant('named_by', np.array(named_by, np.int64))}", "recog.named", axis=1)
    add("ReduceMean", "spot.all", "spot", axes=[1, 2], keepdims=0)
    add("ReduceMean", x, "recog", axes=[1, 2], keepdims=0)

    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 42, 42, 3])],
        [
            helper.make_tensor_value_info("spot", TensorProto.FLOAT, ["B", 1]),
            helper.make_tensor_value_info("recog", TensorProto.FLOAT, ["B", classes]),
        ],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="megc_stream"
    )
    helper.set_model_props(model, {**metadata, **_check(networks, named_by)})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _check(networks: Sequence[MeanWeights], named_by: Sequence[int]) -> dict[str, str]:
    outputs = [mean_reference(network, check_features()) for network in networks]
    spot = np.mean([spot for spot, _ in outputs], axis=0)
    recog = np.mean([outputs[index][1] for index in named_by or range(len(networks))], axis=0)
    return {
        f"check_{name}": json.dumps([round(float(value), 7) for value in values[0]])
        for name, values in (("spot", spot), ("recog", recog))
    }


def _folded(streams: Sequence[MeanStream], slots: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel and bias of one convolution for all networks, ``slots`` maps each, filled up to whole blocks."""
    size = -(-len(streams) * slots // _BLOCK) * _BLOCK
    kernel, bias = np.zeros((size, 1, 5, 5), np.float32), np.zeros(size, np.float32)
    for number, stream in enumerate(streams):
        scale, shift = stream.scale_and_shift()
        own = slice(number * slots, number * slots + len(scale))
        kernel[own] = stream.kernel * scale[:, None, None, None]
        bias[own] = stream.bias * scale + shift
    return kernel, bias


def _limits(networks: Sequence[MeanWeights]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the least and the greatest value of each pooled map, (1, N, 16, 1, 1)."""
    least = np.zeros((1, len(networks), sum(_SLOTS), 1, 1), np.float32)
    most = np.full_like(least, np.inf)
    for number, network in enumerate(networks):
        for stream, slots in zip(network.streams, _slots(), strict=True):
            scale, shift = stream.scale_and_shift()
            least[0, number, slots, 0, 0] = np.where(scale >= 0, shift, -np.inf)
            most[0, number, slots, 0, 0] = np.where(scale >= 0, np.inf, shift)
    return least, most


def _slots() -> list[NDArray[np.int64]]:
    """Return which of a network's 16 maps each stream fills."""
    return [np.arange(3), np.arange(3) + _SLOTS[0], np.arange(8) + _SLOTS[0] + _SLOTS[1]]


def _head_kernels(networks: Sequence[MeanWeights]) -> NDArray[np.float32]:
    kernels = np.zeros((len(networks), 2 * _FILTERS, sum(_SLOTS), 5, 5), np.float32)
    filled = np.concatenate(_slots())
    for number, network in enumerate(networks):
        kernels[number][:, filled] = np.concatenate([network.spot.kernel, network.recog.kernel])
    return kernels.reshape(-1, sum(_SLOTS), 5, 5)


def _head_biases(networks: Sequence[MeanWeights]) -> NDArray[np.float32]:
    return np.concatenate([bias for network in networks for bias in (network.spot.bias, network.recog.bias)])


def _dense(networks: Sequence[MeanWeights]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N, 784, 1 + C) and (1, N, 1, 1 + C): the spotting head's units give the first output only."""
    dense = np.zeros((len(networks), 2 * _UNITS, 1 + networks[0].classes), np.float32)
    for number, network in enumerate(networks):
        dense[number, :_UNITS, :1] = _channels_first(network.spot.dense)
        dense[number, _UNITS:, 1:] = _channels_first(network.recog.dense)
    biases = [np.concatenate([network.spot.dense_bias, network.recog.dense_bias]) for network in networks]
    return dense, np.stack(biases)[None, :, None, :]


def _channels_first(dense: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (outputs, 392) with channels last into (392, outputs) with channels first."""
    return dense.reshape(-1, _POOLED, _POOLED, _FILTERS).transpose(3, 1, 2, 0).reshape(_UNITS, -1)


def _convolve(maps: NDArray[np.float64], kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    padded = np.pad(maps, ((0, 0), (0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(2, 3))
    result: NDArray[np.float64] = np.einsum("bcyxij,fcij->bfyx", windows, kernel.astype(np.float64), optimize=True)
    return result + bias[:, None, None]


def _pool(maps: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    batch, channels, height, width = maps.shape
    result: NDArray[np.float64] = maps.reshape(batch, channels, height // size, size, width // size, size).max((3, 5))
    return result
