"""A trained network as an ONNX file: one small graph, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megc_stream.errors import MissingExtraError

if TYPE_CHECKING:
    from megc_stream.training.network import MeanNetwork

__all__ = ["export_onnx"]

_OPSET = 17
_IR_VERSION = 8
_SAME = {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}


def export_onnx(network: MeanNetwork, out: Path, metadata: Mapping[str, str]) -> None:
    """Write ``network`` as ONNX: ``features`` (B, 42, 42, 3) -> ``spot`` (B, 1), ``recog`` (B, C), all float32.

    ``recog`` holds probabilities. The graph is put together here, layer by layer, instead of being traced: no exporter
    to depend on, and equal weights and metadata give equal bytes.

    Parameters
    ----------
    network
        The network, in any mode: dropout is left out and batch normalisation takes the running statistics.
    out
        The .onnx file to write; its folder exists.
    metadata
        Strings stored in the file (``name``, ``classes``, ``k_s``, ...), in the order given.

    Raises
    ------
    MissingExtraError
        The package onnx is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingExtraError("onnx", "train", "exporting a trained network") from error

    weights = {
        name: np.ascontiguousarray(value.detach().cpu().numpy())
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    nodes: list[Any] = []

    def add(operator: str, inputs: str, output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs.split(), output.split(), **attributes))
        return output

    x = add("Transpose", "features", "channels", perm=[0, 3, 1, 2])
    names = ("u", "v", "strain")
    add("Split", x, " ".join(names), axis=1)
    for index, name in enumerate(names):
        layer, norm = f"streams.{index}.0", f"streams.{index}.2"
        x = add("Conv", f"{name} {layer}.weight {layer}.bias", f"{name}.conv", **_SAME)
        x = add("Relu", x, f"{name}.relu")
        statistics = " ".join(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
        x = add("BatchNormalization", f"{x} {statistics}", f"{name}.norm", epsilon=float(network.streams[index][2].eps))
        add("MaxPool", x, f"{name}.pool", kernel_shape=[3, 3], strides=[3, 3])
    add("Concat", " ".join(f"{name}.pool" for name in names), "trunk", axis=1)
    for head in ("spot", "recog"):
        x = add("Conv", f"trunk {head}.convolution.weight {head}.convolution.bias", f"{head}.conv", **_SAME)
        x = add("Relu", x, f"{head}.relu")
        x = add("MaxPool", x, f"{head}.pool", kernel_shape=[2, 2], strides=[2, 2])
        x = add("Transpose", x, f"{head}.last", perm=[0, 2, 3, 1])
        x = add("Flatten", x, f"{head}.flat", axis=1)
        result = "spot" if head == "spot" else "recog.logits"
        add("Gemm", f"{x} {head}.dense.weight {head}.dense.bias", result, transB=1)
    add("Softmax", "recog.logits", "recog", axis=1)

    classes = weights["recog.dense.bias"].shape[0]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 42, 42, 3])],
        [
            helper.make_tensor_value_info("spot", TensorProto.FLOAT, ["B", 1]),
            helper.make_tensor_value_info("recog", TensorProto.FLOAT, ["B", classes]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="megc_stream"
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    out.write_bytes(model.SerializeToString(deterministic=True))
