"""From the bytes of an ONNX model to a ``Program``."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pytest_drlcompress.codegen.dead_inputs import without_dead_inputs
from pytest_drlcompress.codegen.program import (
    Codes,
    Elementwise,
    Keep,
    LargestIndex,
    Linear,
    Observation,
    Operator,
    Program,
    Quantize,
    Stage,
    Window,
)
from pytest_drlcompress.core.errors import ArtifactError, CodeGenerationError

_BINARY: dict[str, tuple[Operator, Operator]] = {
    "Add": ("add", "add"),
    "Sub": ("sub", "sub_from"),
    "Mul": ("mul", "mul"),
    "Div": ("div", "div_by"),
    "Max": ("max", "max"),
    "Min": ("min", "min"),
}
_UNARY: dict[str, Operator] = {"Relu": "relu", "Tanh": "tanh"}
_KEEPS_ORDER = frozenset({"Flatten", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Dropout"})
_DTYPES = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.UINT8: np.uint8}


def parse_program(model: bytes) -> Program:
    """Read ``model``: one chain of layers from one input to one output.

    Raises:
        ArtifactError: these are not the bytes of an ONNX model.
        CodeGenerationError: an operator, a type or a structure that cannot be written as C; the
            message names the node.
    """
    try:
        proto = onnx.load_from_string(model)
        proto = onnx.shape_inference.infer_shapes(proto)
    except Exception as error:  # protobuf and onnx raise several unrelated classes
        raise ArtifactError(f"not an ONNX model: {' '.join(str(error).split())}") from None
    return without_dead_inputs(_Reader(proto.graph).read())


class _Reader:
    """Follows the chain and collects stages."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                values = [numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"]
                if values:
                    self.constants[node.output[0]] = values[0]
        inputs = [i for i in graph.input if i.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise CodeGenerationError(
                "the C code takes one input and gives one output; a policy that carries a state"
                " from step to step runs in ONNX Runtime (--drlc-runtime=onnx)"
            )
        self.makers = {output: node for node in graph.node for output in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.users[name].append(node)
        self.stages: list[Stage] = []
        self.steps: list[Elementwise] = []
        kind = inputs[0].type.tensor_type.elem_type
        if kind not in _DTYPES:
            name = onnx.TensorProto.DataType.Name(kind)
            raise CodeGenerationError(
                f"input {inputs[0].name!r} is {name}; the C code takes float32 or uint8"
            )
        self.shape = _static_shape(inputs[0])
        self.observation_shape = self.shape
        size = math.prod(self.shape)
        self.source: Observation | Codes | Linear | None = Observation(
            size, np.dtype(_DTYPES[kind]), np.arange(size)
        )
        self.codes: Quantize | None = None
        self.name = inputs[0].name
        self.reshaped = False
        self.exact = True

    def read(self) -> Program:
        for node in self._chain():
            self._take(node)
        if not self.stages or self.source is not None:
            self._close(Keep())
        linear = [s.source for s in self.stages if isinstance(s.source, Linear)]
        if not linear:
            raise CodeGenerationError("there is no layer in this model")
        return Program(
            tuple(self.stages),
            self.observation_shape,
            self.shape,
            exact=self.exact and all(layer.integer for layer in linear),
        )

    def _chain(self) -> Iterator[onnx.NodeProto]:
        end = self.graph.output[0].name
        while self.name != end:
            users = self.users[self.name]
            if len(users) != 1:
                names = ", ".join(_name(user) for user in users) or "nothing"
                raise CodeGenerationError(
                    f"tensor {self.name!r} goes to {names}; the C code is one chain of layers"
                )
            yield users[0]
            self.name = users[0].output[0]

    def _take(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        if isinstance(self.stages[-1].sink if self.stages else None, LargestIndex):
            if kind not in (*_KEEPS_ORDER, "Cast"):
                raise _unsupported(node, "something follows ArgMax")
        elif kind == "QuantizeLinear":
            self._quantize(node)
        elif kind == "DequantizeLinear":
            self._dequantize(node)
        elif kind in ("Gemm", "MatMul"):
            self._dense(node)
        elif kind == "Conv":
            self._convolution(node)
        elif kind in _BINARY or kind in _UNARY or kind == "Clip":
            self._elementwise(node)
        elif kind in _KEEPS_ORDER:
            self._reshape(node)
        elif kind == "Cast":
            self._cast(node)
        elif kind == "ArgMax":
            self._argmax(node)
        else:
            raise _unsupported(node, f"there is no C code for {kind}")

    def _close(self, sink: Quantize | Keep | LargestIndex) -> None:
        """End the stage at hand."""
        if self.source is None:
            self._as_floats()
        assert self.source is not None
        units = math.prod(self.shape)
        steps = tuple(_broadcast(step, self.shape) for step in self.steps)
        self.stages.append(Stage(self.source, steps, sink, units))
        self.source, self.steps = None, []
        self.codes = sink if isinstance(sink, Quantize) else None
        source = self.stages[-1].source
        if isinstance(source, Linear) and source.window and self.codes is None:
            self.exact = False  # there is no kernel for a convolution of integers to floats

    def _quantize(self, node: onnx.NodeProto) -> None:
        grid = self._grid(node)
        if self.source is None and self.codes is not None and _same(self.codes, grid):
            self.reshaped = False  # integers that were reshaped, and are integers again
            return
        if any(s.operator == "relu" for s in self.steps) and grid.zero_point != grid.low:
            self.exact = False  # ONNX Runtime keeps such a ReLU, and the layer before it, in floats
        self._close(grid)

    def _as_floats(self) -> None:
        """The integers at hand become the source of a stage of their own."""
        if self.codes is None:
            raise CodeGenerationError(f"tensor {self.name!r} is used before any layer")
        self.source = Codes(self.codes.scale, self.codes.zero_point)
        self.codes = None

    def _grid(self, node: onnx.NodeProto) -> Quantize:
        scale, zero = self._parameters(node)
        if scale.size != 1:
            raise _unsupported(node, "activations are quantized per channel")
        if zero.dtype not in (np.uint8, np.int8):
            raise _unsupported(node, f"activations are quantized to {zero.dtype}")
        limits = np.iinfo(zero.dtype)
        return Quantize(
            np.float32(scale.ravel()[0]), int(zero.ravel()[0]), int(limits.min), int(limits.max)
        )

    def _parameters(self, node: onnx.NodeProto) -> tuple[NDArray[Any], NDArray[Any]]:
        missing = [name for name in node.input[1:] if name and name not in self.constants]
        if missing:
            raise _unsupported(node, f"{missing[0]!r} is not constant")
        scale = self.constants[node.input[1]]
        given = len(node.input) > 2 and bool(node.input[2])
        zero = self.constants[node.input[2]] if given else np.zeros(scale.shape, np.uint8)
        return scale.astype(np.float32), zero

    def _dequantize(self, node: onnx.NodeProto) -> None:
        if self.codes is None:
            raise _unsupported(node, "it takes no quantized tensor")
        scale, zero = self._parameters(node)
        if scale.size != 1 or zero.size != 1:
            raise _unsupported(node, "activations are quantized per channel")
        self.codes = replace(
            self.codes, scale=np.float32(scale.ravel()[0]), zero_point=int(zero.ravel()[0])
        )

    def _constant(self, name: str, node: onnx.NodeProto) -> NDArray[np.float32]:
        """``name`` in float32, dequantized where it is stored in integers."""
        if name in self.constants:
            return self.constants[name].astype(np.float32)
        codes = self._integers(name, node)
        if codes is None:
            raise _unsupported(node, f"{name!r} is not constant")
        integers, scale, axis = codes
        if scale.ndim:
            scale = scale.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
        return np.asarray(integers.astype(np.float32) * scale, np.float32)

    def _integers(
        self, name: str, node: onnx.NodeProto
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int] | None:
        """The integers less their zero point, scale and channels' axis of a quantized constant."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        if maker.input[0] not in self.constants:
            return None
        scale, zero = self._parameters(maker)
        codes = self.constants[maker.input[0]].astype(np.int64)
        axis = next((a.i for a in maker.attribute if a.name == "axis"), 1) % max(codes.ndim, 1)
        if any(a.name == "block_size" and a.i for a in maker.attribute):
            raise _unsupported(node, f"{name!r} has a scale per block")
        offset = zero.astype(np.int64)
        if scale.size == 1:
            return codes - offset.ravel()[0], scale.reshape(()), axis
        sizes = [-1 if i == axis else 1 for i in range(codes.ndim)]
        return codes - offset.reshape(sizes), scale.ravel(), axis

    def _dense(self, node: onnx.NodeProto) -> None:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if given.get("transA") or given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1:
            raise _unsupported(node, "it has transA, alpha or beta")
        inputs = math.prod(self.shape)
        transpose = not given.get("transB", 0)

        def oriented(weight: NDArray[Any], axis: int) -> tuple[NDArray[Any], int]:
            if weight.ndim != 2:
                raise _unsupported(node, f"its weight has shape {weight.shape}")
            return (weight.T, 1 - axis) if transpose else (weight, axis)

        layer = self._linear(node, oriented)
        if layer.weight.shape[1] != inputs:
            raise _unsupported(node, f"it takes {layer.weight.shape[1]} inputs, not {inputs}")
        self.source, self.shape = layer, (len(layer.weight),)

    def _convolution(self, node: onnx.NodeProto) -> None:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = given.get("group", 1) == 1 and set(given.get("dilations", [1])) == {1}
        padded = given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
        pads = given.get("pads", [0, 0, 0, 0])
        if not plain or padded or len(self.shape) != 3 or len(pads) != 4:
            raise _unsupported(node, "it has groups, dilations, auto_pad, or not two dimensions")
        layer = self._linear(node, lambda weight, axis: (weight, axis))
        channels, rows, columns = self.shape
        kernel = (int(layer.weight.shape[2]), int(layer.weight.shape[3]))
        down, right = given.get("strides", [1, 1])
        output = (
            (rows + pads[0] + pads[2] - kernel[0]) // down + 1,
            (columns + pads[1] + pads[3] - kernel[1]) // right + 1,
        )
        window = Window(
            channels, (rows, columns), kernel, (down, right), (pads[0], pads[1]), output
        )
        self.source = replace(layer, window=window)
        self.shape = (len(layer.weight), *output)

    def _linear(self, node: onnx.NodeProto, oriented: Any) -> Linear:
        quantized = self._integers(node.input[1], node)
        biased = len(node.input) > 2 and bool(node.input[2])
        bias = self._integers(node.input[2], node) if biased else None
        codes = self.codes
        if codes is not None and quantized is not None and (bias is not None or not biased):
            weight, axis = oriented(quantized[0], quantized[2])
            scale = np.asarray(codes.scale * quantized[1], np.float32)
            if scale.ndim and axis != 0:
                raise _unsupported(node, "its weight has a scale per input")
            constant = np.zeros(len(weight), np.int64) if bias is None else bias[0]
            # a reshape between the quantizer and the layer keeps the layer in floats
            self.exact &= not self.reshaped
            self.codes, self.reshaped = None, False
            return Linear(weight, constant.ravel(), scale, codes.zero_point, name=_name(node))
        weight, _ = oriented(self._constant(node.input[1], node), 0)
        constant = np.zeros(len(weight), np.float32)
        if biased:
            constant = np.broadcast_to(self._constant(node.input[2], node).ravel(), len(weight))
        if self.source is not None or self.codes is not None:
            self._close(Keep())
        return Linear(np.ascontiguousarray(weight), constant, name=_name(node))

    def _elementwise(self, node: onnx.NodeProto) -> None:
        if self.source is None:
            self._as_floats()
        if node.op_type in _UNARY:
            self.steps.append(Elementwise(_UNARY[node.op_type]))
            return
        if node.op_type == "Clip":
            bounds: tuple[Operator, ...] = ("max", "min")
            for operator, name in zip(bounds, node.input[1:], strict=False):
                if name:
                    self.steps.append(Elementwise(operator, self._constant(name, node)))
            return
        if len(node.input) != 2:
            raise _unsupported(node, f"it has {len(node.input)} inputs")
        right = node.input[0] == self.name
        constant = self._constant(node.input[1 if right else 0], node)
        self.steps.append(Elementwise(_BINARY[node.op_type][0 if right else 1], constant))

    def _reshape(self, node: onnx.NodeProto) -> None:
        # the batch comes first and row-major order is kept, so the elements stay where they are
        shape = next(
            (_static_shape(v) for v in self.graph.value_info if v.name == node.output[0]), None
        )
        self.reshaped = self.source is None
        known = shape is not None and math.prod(shape) == math.prod(self.shape)
        if any(step.constant is not None and step.constant.ndim for step in self.steps):
            self.steps = [_broadcast(step, self.shape) for step in self.steps]
        self.shape = shape if known and shape is not None else (math.prod(self.shape),)

    def _cast(self, node: onnx.NodeProto) -> None:
        to = next(a.i for a in node.attribute if a.name == "to")
        if to != onnx.TensorProto.FLOAT:
            raise _unsupported(node, f"it casts to {onnx.TensorProto.DataType.Name(to)}")

    def _argmax(self, node: onnx.NodeProto) -> None:
        given = {a.name: a.i for a in node.attribute}
        last = given.get("axis", 0) in (-1, len(self.shape))
        if not last or given.get("select_last_index", 0) or len(self.shape) != 1:
            raise _unsupported(node, "it is not the first largest value of the last axis")
        self._close(LargestIndex())
        self.shape = (1,) if given.get("keepdims", 1) else ()


def _broadcast(step: Elementwise, shape: tuple[int, ...]) -> Elementwise:
    if step.constant is None:
        return step
    constant = step.constant
    if constant.size == 1:
        return replace(step, constant=constant.reshape(()))
    if constant.ndim > len(shape):  # a leading batch of one
        constant = constant.reshape(constant.shape[constant.ndim - len(shape) :])
    return replace(step, constant=np.broadcast_to(constant, shape).ravel())


def _same(first: Quantize, second: Quantize) -> bool:
    return (first.scale, first.zero_point, first.low) == (
        second.scale, second.zero_point, second.low
    )  # fmt: skip


def _static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    return tuple(int(size) for size in sizes)


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _unsupported(node: onnx.NodeProto, why: str) -> CodeGenerationError:
    return CodeGenerationError(
        f"node {_name(node)!r} ({node.op_type}) cannot be written as C: {why}"
    )
