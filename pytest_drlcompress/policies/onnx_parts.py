"""An ONNX graph with an input for each part of the observation, given the packed one instead."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.environments.parts import Part, packed_dtype

PACKED = "packed_observation"


def takes_packed(inputs: Sequence[Any], parts: Sequence[Part]) -> bool:
    """Whether the only one of ``inputs`` is the packed observation."""
    if len(inputs) != 1:
        return False
    sizes = _sizes(inputs[0])
    kinds = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8
    width = sum(part.width for part in parts)
    return inputs[0].type.tensor_type.elem_type in kinds and sizes[1:] == [width]


def split_observation(model: onnx.ModelProto, inputs: Sequence[Any], parts: Sequence[Part]) -> Any:
    """Put the packed observation before ``inputs``, one of each part; returns the new input.

    An input belongs to the part of its name, else to the only part that has its shape. Integers
    may be taken as they are or one-hot.

    Raises:
        ArtifactError: an input that belongs to no part, or to several, or has no batch.
    """
    graph = model.graph
    pairs = [(value, _part_of(value, inputs, parts)) for value in inputs]
    fixed = any(_sizes(value)[:1] == [1] for value in inputs)
    kind = helper.np_dtype_to_tensor_dtype(packed_dtype(parts))
    widths = numpy_helper.from_array(np.array([p.width for p in parts], np.int64), "parts.widths")
    outputs = [f"part.{position}" for position in range(len(parts))]
    nodes = [helper.make_node("Split", [PACKED, "parts.widths"], outputs, name="parts", axis=1)]
    graph.initializer.append(widths)
    for value, part in pairs:
        nodes += _shaped(graph, value, part, outputs[list(parts).index(part)])
        graph.input.remove(value)
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])
    del graph.value_info[:]
    size = sum(part.width for part in parts)
    packed = helper.make_tensor_value_info(PACKED, kind, [1 if fixed else "batch", size])
    rest = list(graph.input)
    del graph.input[:]
    graph.input.extend([packed, *rest])
    return graph.input[0]


def _part_of(value: Any, inputs: Sequence[Any], parts: Sequence[Part]) -> Part:
    named = [part for part in parts if part.name == value.name]
    named = named or [p for p in parts if p.name and value.name.endswith((f"_{p.name}", p.name))]
    sizes = _sizes(value)[1:]
    fitting = [part for part in parts if sizes in _shapes(part)]
    found = named if len(named) == 1 else fitting
    if len(inputs) == len(parts) == 1:
        found = list(parts)
    if len(found) == 1 and sizes in _shapes(found[0]):
        return found[0]
    listed = ", ".join(f"{part.name or 'observation'} {list(part.shape)}" for part in parts)
    raise ArtifactError(
        f"input {value.name!r} of shape {_sizes(value)} is not clearly one of the environment's"
        f" observations ({listed}): give it the name and shape of one, with a batch, or say"
        f" --drlc-input={value.name}=NUMBER if it is constant"
    )


def _shapes(part: Part) -> list[list[Any]]:
    """The shapes without batch in which a graph may take ``part``."""
    shapes: list[list[Any]] = [list(part.shape), [part.width]]
    return [*shapes, [sum(part.sizes)]] if part.sizes else shapes


def _shaped(graph: Any, value: Any, part: Part, source: str) -> list[onnx.NodeProto]:
    """From the flat ``source`` to the input ``value``: its shape, its type, one-hot."""
    sizes, kind, name = _sizes(value), value.type.tensor_type.elem_type, value.name
    one_hot = bool(part.sizes) and sizes[1:] == [sum(part.sizes)] != list(part.shape)
    nodes = []
    if one_hot:
        choices = np.concatenate(
            [np.arange(start, start + n) for start, n in zip(part.starts, part.sizes, strict=True)]
        )
        owner = np.repeat(np.arange(len(part.sizes)), part.sizes)
        for suffix, array in (("choices", choices.astype(np.float32)), ("owner", owner)):
            graph.initializer.append(numpy_helper.from_array(array, f"{name}.{suffix}"))
        nodes += [
            helper.make_node("Gather", [source, f"{name}.owner"], [f"{name}.each"], axis=1),
            helper.make_node("Equal", [f"{name}.each", f"{name}.choices"], [f"{name}.hot"]),
        ]
        source = f"{name}.hot"
    shape = np.array([-1, *sizes[1:]], np.int64)
    graph.initializer.append(numpy_helper.from_array(shape, f"{name}.shape"))
    nodes += [
        helper.make_node("Reshape", [source, f"{name}.shape"], [f"{name}.part"]),
        helper.make_node("Cast", [f"{name}.part"], [name], to=kind),
    ]
    return nodes


def _sizes(value: Any) -> list[Any]:
    return [
        d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim
    ]
