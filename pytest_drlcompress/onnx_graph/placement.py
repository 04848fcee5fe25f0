"""Where a QDQ model quantizes: which tensors, with which scale, and what feeds which layer.

ONNX Runtime decides the placement (``quantize_static``); quantization-aware training puts its
fake quantizers in the same places and writes what it learned back into the same initializers,
so that a trained and a calibrated artifact execute identical kernels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pytest_drlcompress.core.errors import RecipeError

LINEAR = ("Gemm", "MatMul", "Conv")
"""The operators of linear layers."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """One quantized tensor: ``name`` is the fp32 tensor's, ``scale`` and ``zero_point`` those of
    its initializers, ``codes`` the initializer of its integers (``""`` for an activation).

    ``axis`` is the channels' axis where the scale is an array, else ``None``.
    """

    name: str
    scale: str
    zero_point: str
    codes: str = ""
    axis: int | None = None


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """A linear layer whose input and weights are quantized; ``bias`` is ``None`` without one."""

    node: str
    operator: str
    input: Quantized
    weight: Quantized
    bias: Quantized | None


@dataclass(frozen=True, eq=False)
class Placement:
    """All quantized activations and layers of a QDQ model, and its initializers by name."""

    activations: tuple[Quantized, ...]
    layers: tuple[QuantizedLayer, ...]
    arrays: Mapping[str, NDArray[Any]]


def read_placement(model: bytes) -> Placement:
    """Read the Q/DQ nodes of ``model``.

    Raises:
        RecipeError: a linear layer whose input or weights are not quantized.
    """
    graph = onnx.load_from_string(model).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    activations = tuple(
        Quantized(node.input[0], node.input[1], node.input[2])
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in arrays
    )
    by_tensor = {activation.name: activation for activation in activations}

    def constant(name: str) -> Quantized | None:
        node = makers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in arrays:
            return None
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        codes, scale, zero_point = (*node.input, "")[:3]
        return Quantized(
            codes.removesuffix("_quantized"),
            scale,
            zero_point,
            codes,
            axis if arrays[scale].ndim else None,
        )

    def activation(name: str) -> Quantized | None:
        node = makers.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        source = makers.get(node.input[0])
        return by_tensor.get(source.input[0]) if source is not None else None

    layers = []
    for node in graph.node:
        if node.op_type not in LINEAR:
            continue
        source, weight = activation(node.input[0]), constant(node.input[1])
        if source is None or weight is None:
            raise RecipeError(f"ONNX Runtime does not quantize layer {node.name!r}")
        bias = constant(node.input[2]) if len(node.input) > 2 else None
        if bias is None and len(node.input) > 2:
            raise RecipeError(f"ONNX Runtime does not quantize the bias of layer {node.name!r}")
        layers.append(QuantizedLayer(node.name, node.op_type, source, weight, bias))
    return Placement(activations, tuple(layers), arrays)


def only_weights(placement: Placement) -> Placement:
    """``placement`` where activations and biases stay in fp32."""
    layers = tuple(replace(layer, bias=None) for layer in placement.layers)
    return replace(placement, activations=(), layers=layers)


def write_arrays(model: bytes, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """``model`` with the named initializers replaced; shapes and types stay as they are."""
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.name in arrays:
            old, new = numpy_helper.to_array(tensor), np.asarray(arrays[tensor.name])
            assert (old.shape, old.dtype) == (new.shape, new.dtype), tensor.name
            # not ascontiguousarray, which makes arrays of scalars: then no integer kernel fits
            tensor.CopyFrom(numpy_helper.from_array(np.array(new, order="C"), tensor.name))
    return bytes(proto.SerializeToString())
