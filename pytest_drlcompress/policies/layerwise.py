"""Common networks of states as ONNX, written layer by layer: the file that torch's exporter makes.

torch's exporter traces and lowers a network in seconds, whatever its size, and before its first
time imports a compiler. What it makes of the networks below is known, and written here in
milliseconds, byte for byte: an artifact is known by its digest. Whatever else a network holds, it
is left to torch.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from pytest_drlcompress.policies.network import Argmax, Clip, Normalize

IR_VERSION = 10
"""The one of opset 21."""


class NotWrittenError(Exception):
    """A network holds something that only torch's exporter can make an operator of."""


def write_layerwise(network: nn.Module, width: int, opset: int) -> bytes:
    """``network`` with input ``observation`` (batch, width) and output ``action``.

    Raises:
        NotWrittenError: it is not made of the known layers, or does not take such observations.
    """
    _refuse_hooks(network)
    if type(network) is not nn.Sequential or not len(network):
        raise NotWrittenError("it is no Sequential of layers")
    if [name for name, _ in network.named_children()] != list(map(str, range(len(network)))):
        raise NotWrittenError("its layers have names of their own, or one occurs twice")
    writer = _Writer(width)
    for position, layer in enumerate(network):
        _refuse_hooks(layer)
        write = LAYERS.get(type(layer))
        first, last = position == 0, position == len(network) - 1
        misplaced = not {Normalize: first, Argmax: last}.get(type(layer), True)
        if write is None or misplaced:
            raise NotWrittenError(f"a {type(layer).__name__} is not known at {position}")
        write(writer, layer, f"{position}.")
    return writer.model(opset)


def _refuse_hooks(module: nn.Module) -> None:
    # torch has no public way to ask
    if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001
        raise NotWrittenError("a hook may change what a layer gives")


class _Writer:
    """The graph so far: ``value``, of shape ``(batch, width)``, is what its last node gives."""

    def __init__(self, width: int) -> None:
        self.value, self.width, self.element = "observation", width, onnx.TensorProto.FLOAT
        self._input = self._described()
        self._values: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._alike: Counter[str] = Counter()
        # in the order in which they are stored
        self._tensors: dict[str, list[onnx.TensorProto]] = {
            "parameters": [], "buffers": [], "constants": []
        }  # fmt: skip

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> None:
        """One more node, which takes ``value`` and ``inputs``."""
        number, self._alike[name] = self._alike[name], self._alike[name] + 1
        name = f"{name}_{number}" if number else name
        node = helper.make_node(operator, [self.value, *inputs], [name], name=f"node_{name}")
        node.doc_string = ""  # said to be empty, as trace_onnx says
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self._nodes.append(node)
        self.value = name
        self._values.append(self._described())

    def stored(self, group: str, name: str, value: Tensor | None, shape: Sequence[int]) -> str:
        """An initializer, which must be float32 and of that shape."""
        if value is None or value.dtype != torch.float32 or value.shape != tuple(shape):
            raise NotWrittenError(f"{name} is no float32 tensor of shape {tuple(shape)}")
        return self._stored(group, name, value.detach().cpu().numpy())

    def number(self, name: str, value: float) -> str:
        """A constant."""
        return self._stored("constants", name, np.array(value, np.float32))

    def _stored(self, group: str, name: str, array: NDArray[np.float32]) -> str:
        self._tensors[group].append(numpy_helper.from_array(array, name))
        return name

    def _described(self) -> onnx.ValueInfoProto:
        shape: list[str | int | None] = ["batch", self.width] if self.width else ["batch"]
        return helper.make_tensor_value_info(self.value, self.element, shape)

    def model(self, opset: int) -> bytes:
        """All of it, the last value as ``action``."""
        self._nodes[-1].output[0] = self._values[-1].name = "action"
        tensors = [tensor for group in self._tensors.values() for tensor in group]
        constants = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
        graph = helper.make_graph(
            self._nodes,
            "main_graph",
            [self._input],
            [self._values[-1]],
            tensors,
            value_info=[*constants, *self._values[:-1]],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=IR_VERSION,
            producer_name="pytorch",
            producer_version=torch.__version__,
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _linear(writer: _Writer, layer: nn.Linear, prefix: str) -> None:
    shape = (layer.out_features, writer.width)
    weight = writer.stored("parameters", f"{prefix}weight", layer.weight, shape)
    bias = writer.stored("parameters", f"{prefix}bias", layer.bias, shape[:1])
    writer.width = layer.out_features
    writer.node("Gemm", "linear", weight, bias, beta=1.0, transB=1, alpha=1.0, transA=0)


def _normalize(writer: _Writer, layer: Normalize, prefix: str) -> None:
    shape = (writer.width,)
    writer.node("Sub", "sub", writer.stored("buffers", f"{prefix}mean", layer.mean, shape))
    # torch counts what it works out of the batch's size, too
    writer.node("Mul", "mul_2", writer.stored("buffers", f"{prefix}scale", layer.scale, shape))
    low, high = writer.number("val_1", -layer.clip), writer.number("val_3", layer.clip)
    writer.node("Clip", "clamp", low, high)


def _clip(writer: _Writer, layer: Clip, prefix: str) -> None:
    shape = (writer.width,)
    writer.node("Max", "maximum", writer.stored("buffers", f"{prefix}low", layer.low, shape))
    writer.node("Min", "minimum", writer.stored("buffers", f"{prefix}high", layer.high, shape))


def _argmax(writer: _Writer, _layer: Argmax, _prefix: str) -> None:
    writer.width, writer.element = 0, onnx.TensorProto.INT64
    writer.node("ArgMax", "argmax", select_last_index=0, keepdims=0, axis=-1)


Write = Callable[[_Writer, Any, str], None]
LAYERS: MappingProxyType[type[nn.Module], Write] = MappingProxyType(
    {
        nn.Linear: _linear,
        nn.ReLU: lambda writer, layer, prefix: writer.node("Relu", "relu"),
        nn.Tanh: lambda writer, layer, prefix: writer.node("Tanh", "tanh"),
        Normalize: _normalize,
        Clip: _clip,
        Argmax: _argmax,
    }
)
