"""Small ONNX files in the shape of MEAN, right and wrong."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper, save

GOOD = {"name": "mean-tiny", "classes": '["negative", "positive", "surprise"]', "k_s": "0.1", "k_prime_s": "0.185"}


def write_mean(
    path: Path,
    *,
    size: int = 42,
    classes: int = 3,
    outputs: tuple[str, str] = ("spot", "recog"),
    batch: int | str = "B",
    double: bool = False,
    metadata: dict[str, str] = GOOD,
) -> Path:
    """A model whose spot output is the mean of the features and whose classes are equally likely."""
    zeros = helper.make_tensor("zeros", TensorProto.FLOAT, [1, classes], [0.0] * classes)
    nodes = [
        helper.make_node("Cast", ["features"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["single"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], [outputs[0]]),
        helper.make_node("Add", [outputs[0], "zeros"], ["wide"]),
        helper.make_node("Softmax", ["wide"], [outputs[1]], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [
            helper.make_tensor_value_info(
                "features", TensorProto.DOUBLE if double else TensorProto.FLOAT, [batch, size, size, 3]
            )
        ],
        [
            helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, ["B", 1]),
            helper.make_tensor_value_info(outputs[1], TensorProto.FLOAT, ["B", classes]),
        ],
        [zeros, helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata)
    save(model, path)
    return path
