"""Which inputs of an ONNX graph are states that its outputs carry on from step to step."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pytest_drlcompress.core.errors import ArtifactError

COUNTER = "step"
"""``--drlc-input=NAME=step``: the input is the number of the step, from 0."""

_DIRECTIONS = frozenset(
    "in input out output next new prev previous old last init initial n".split()  # noqa: SIM905
)
_SHORT = {"hn": "h", "cn": "c", "hin": "h", "cin": "c", "hout": "h", "cout": "c"}


def find_states(
    model: onnx.ModelProto,
    inputs: Sequence[Any],
    links: Mapping[str, str],
    *,
    never: Collection[str],
) -> dict[str, str]:
    """The states of ``model`` by their inputs: the output that each goes on with.

    ``links`` are those that the user named; counters among them become nodes of ``model``. The rest
    is found by name (``h_in`` and ``h_out``, ``state`` and ``next_state``, ``h0`` and ``hn``);
    ``never`` are the names of inputs and outputs that are something else.

    Raises:
        ArtifactError: a link to an output that is not there.
    """
    found: dict[str, str] = {}
    outputs = {value.name: value for value in model.graph.output}
    for value in inputs:
        if value.name in links:
            found[value.name] = _linked(model, value, links[value.name], list(outputs))
    if len(inputs) < 2 or len(outputs) < 2:
        return found
    free = [v for v in inputs if v.name not in (*found, *never)]
    targets = [n for n in outputs if n not in (*found.values(), *never)]
    for exact in (True, False):
        for value in free:
            fitting = [
                name
                for name in targets
                if name not in found.values()
                and (key := _key(value.name, exact=exact))
                and key == _key(name, exact=exact)
                and _alike(value, outputs[name])
            ]
            if value.name not in found and len(fitting) == 1:
                found[value.name] = fitting[0]
    return found


def separate(model: onnx.ModelProto, sink: str) -> str:
    """A copy of output ``sink``, for a state that goes on with the action itself."""
    name = f"{sink}.state"
    output = next(value for value in model.graph.output if value.name == sink)
    model.graph.node.append(helper.make_node("Identity", [sink], [name], name=name))
    copied = model.graph.output.add()
    copied.CopyFrom(output)
    copied.name = name
    return name


def _linked(model: onnx.ModelProto, value: Any, target: str, outputs: list[str]) -> str:
    if target == COUNTER:
        return _count(model, value)
    if target not in outputs:
        raise ArtifactError(
            f"it has no output {target!r} for the state {value.name!r} (--drlc-input); its outputs"
            f" are {', '.join(outputs)}"
        )
    return target


def _count(model: onnx.ModelProto, value: Any) -> str:
    """Add one to ``value`` in every step."""
    kind = value.type.tensor_type.elem_type
    one, name = f"{value.name}.one", f"{value.name}.next"
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((), dtype), one))
    model.graph.node.append(helper.make_node("Add", [value.name, one], [name], name=name))
    output = model.graph.output.add()
    output.CopyFrom(value)
    output.name = name
    return name


def _key(name: str, *, exact: bool) -> tuple[str, ...]:
    """What is left of a name without its direction; the 0 of ``h0`` only if ``exact``."""
    words = [_SHORT.get(word, word) for word in re.findall(r"[a-z]+|\d+", name.lower())]
    left = [word for word in words if word not in _DIRECTIONS]
    if not exact and left and left[-1] == "0":
        left = left[:-1]
    return tuple(left)


def _alike(source: Any, sink: Any) -> bool:
    first, second = source.type.tensor_type, sink.type.tensor_type
    ranks = len(first.shape.dim), len(second.shape.dim)
    return first.elem_type == second.elem_type and (ranks[0] == ranks[1] or not ranks[1])
