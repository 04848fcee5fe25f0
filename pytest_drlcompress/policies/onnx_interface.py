"""ONNX graphs as exporters write them, brought to one input and one output with a batch.

Exporters differ in what they add: a value head and log probabilities beside the action, inputs
that are constant in deployment (an action mask), an observation without a batch. What is
deployed and measured is the graph from the observation to the action; what the action does not
need is removed. States that are carried from step to step follow both, in one order. A graph that
is already so stays as it is, to the byte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.environments.parts import Part
from pytest_drlcompress.policies.onnx_parts import split_observation, takes_packed
from pytest_drlcompress.policies.onnx_states import COUNTER, find_states, separate
from pytest_drlcompress.runtime.onnxruntime import make_session

_ACTIONS = ("action", "actions", "mean")
_OBSERVATIONS = ("observation", "observations", "obs", "obs_0", "input")


@dataclass(frozen=True)
class Interface:
    """What the user says of a graph's inputs and outputs.

    ``output`` names the action (empty: chosen); ``constants`` are the values of other inputs,
    ``links`` the outputs that states go on with, or ``step`` for the number of the step.
    """

    output: str = ""
    constants: Mapping[str, float] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, output: str, inputs: Sequence[str]) -> "Interface":
        """From options: ``inputs`` are texts ``NAME=NUMBER``, ``NAME=step`` or ``NAME=OUTPUT``."""
        constants, links = {}, {}
        for name, _, value in (text.partition("=") for text in inputs):
            try:
                constants[name] = float(value)
            except ValueError:
                links[name] = value
        return cls(output, constants, links)


@dataclass(frozen=True)
class Adapted:
    """``model`` has one input and one output, states aside; ``notes`` say what was chosen."""

    model: bytes
    notes: tuple[str, ...] = ()


def adapt(
    model: bytes,
    interface: Interface,
    observation: tuple[int, ...] | None = None,
    action: tuple[int, ...] | None = None,
    *,
    discrete: bool = False,
    parts: Sequence[Part] = (),
) -> Adapted:
    """``model`` with one input ``(batch, *observation)`` and one output ``(batch, *action)``.

    ``observation`` and ``action`` are the shapes in the environment, ``None`` where there is none
    to fit; ``discrete`` says whether its actions are integers, ``parts`` what its observations are
    packed from, for each of which the graph may have an input.

    Raises:
        ArtifactError: ONNX Runtime cannot load or run it, or it is not clear which input is the
            observation or which output the action.
    """
    work = onnx.load_model_from_string(model)
    notes: list[str] = []
    initialized = {tensor.name for tensor in work.graph.initializer}
    inputs = [value for value in work.graph.input if value.name not in initialized]
    states = find_states(
        work,
        inputs,
        interface.links,
        never=(*interface.constants, *_OBSERVATIONS, *_ACTIONS, interface.output),
    )
    others = [value for value in inputs if value.name not in states]
    if parts and not takes_packed(_unsaid(others, interface), parts):
        seen = _unsaid(others, interface)
        source = split_observation(work, seen, parts)
        others = [source, *(value for value in others if value not in seen)]
        notes.append(f"inputs {', '.join(value.name for value in seen)} are given one observation")
    else:
        source = _choose_input(others, interface)
    if len(others) > 1:
        _fix_constants(work, source, others, interface, notes)
    outputs = [value.name for value in work.graph.output if value.name not in states.values()]
    _fix_sizes(source, observation, notes)
    shape = _dimensions(source)
    single = _is_single(shape, observation)
    found = _run(work, source, shape)
    fits = {n: v for n, v in found.items() if n not in states.values() or n in interface.links}
    sink = _choose_output(fits or found, interface, action, discrete=discrete, single=single)
    if len(outputs) > 1:
        notes.append(f"output {sink!r} of {', '.join(outputs)}")
    work = _ordered(work, source, sink, states, notes)
    if single:
        _add_batch(work, shape)
        notes.append(f"observation {source.name!r} has no batch: one is added")
    got, target = found[sink].shape, action
    if target is None:
        target = got if single else got[1:]
    row = (1, *target)
    if got != row and found[sink].size == np.prod(target, dtype=int):  # else the caller refuses
        _reshape_output(work, row if single else (-1, *target))
        if not single:
            notes.append(f"output {sink!r} is reshaped from {list(got)} to {list(row)}")
    carried = [
        f"input {name!r} counts the steps"
        if interface.links.get(name) == COUNTER
        else f"state {name!r} goes on with {following!r}"
        for name, following in states.items()
    ]
    return Adapted(work.SerializeToString() if notes else model, (*notes, *carried))


def _ordered(
    model: onnx.ModelProto,
    source: Any,
    sink: str,
    states: Mapping[str, str],
    notes: list[str],
) -> onnx.ModelProto:
    """The nodes between inputs and outputs that count, these in their order."""
    following = [separate(model, sink) if name == sink else name for name in states.values()]
    wanted = [source.name, *states], [sink, *following]
    initialized = {tensor.name for tensor in model.graph.initializer}
    given = (
        [value.name for value in model.graph.input if value.name not in initialized],
        [value.name for value in model.graph.output],
    )
    added = sink in states.values() or any(name.endswith(".next") for name in states.values())
    if given == wanted and not added:
        return model
    if not notes:
        notes.append(f"inputs {', '.join(wanted[0])}; outputs {', '.join(wanted[1])}")
    return Extractor(model).extract_model(*wanted)


def _choose_input(inputs: Sequence[Any], interface: Interface) -> Any:
    left = _unsaid(inputs, interface) or list(inputs)
    if len(left) == 1:
        return left[0]
    # others without a value are named below
    usual = [value for name in _OBSERVATIONS for value in left if value.name == name]
    if not usual:
        raise ArtifactError(
            f"it has inputs {', '.join(v.name for v in left) or 'none'}, and a policy is given an"
            " observation only: name the value of each other one, such as"
            f" --drlc-input={left[-1].name if left else 'time_step'}=0"
        )
    return usual[0]


def _unsaid(inputs: Sequence[Any], interface: Interface) -> list[Any]:
    """The inputs that have no value."""
    return [value for value in inputs if value.name not in interface.constants]


def _fix_sizes(source: Any, observation: tuple[int, ...] | None, notes: list[str]) -> None:
    """Give the sizes that the graph leaves open, but for the batch, those of the environment."""
    dimensions = source.type.tensor_type.shape.dim
    if observation is None or len(dimensions) != len(observation) + 1:
        return
    for dimension, size in zip(list(dimensions)[1:], observation, strict=True):
        if not dimension.HasField("dim_value"):
            dimension.dim_value = size
            notes.append(f"an open size of {source.name!r} is {size}")


def _fix_constants(
    model: onnx.ModelProto,
    source: Any,
    inputs: Sequence[Any],
    interface: Interface,
    notes: list[str],
) -> None:
    graph = model.graph
    for value in inputs:
        if value.name == source.name:
            continue
        if value.name not in interface.constants:
            raise ArtifactError(
                f"input {value.name!r} has no value beside the observation {source.name!r}: say"
                f" --drlc-input={value.name}=NUMBER if it is constant, =step if it is the number of"
                " the step, =OUTPUT if it is a state that goes on with that output"
            )
        number = interface.constants[value.name]
        shape = [size if isinstance(size, int) else 1 for size in _dimensions(value)]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        graph.initializer.append(
            numpy_helper.from_array(np.full(shape, number).astype(dtype), value.name)
        )
        graph.input.remove(value)
        notes.append(f"input {value.name!r} is {number:g}")
        if shape and source.type.tensor_type.shape.dim:
            # a constant of one row may meet the observation in a Concat, which does not broadcast
            source.type.tensor_type.shape.dim[0].dim_value = 1
    del graph.value_info[:]


def _choose_output(
    found: Mapping[str, NDArray[Any]],
    interface: Interface,
    action: tuple[int, ...] | None,
    *,
    discrete: bool,
    single: bool,
) -> str:
    if len(found) == 1:
        return next(iter(found))
    listed = ", ".join(f"{name} {list(value.shape)}" for name, value in found.items())
    if interface.output:
        if interface.output not in found:
            raise ArtifactError(
                f"it has no output {interface.output!r} (--drlc-output); its outputs are {listed}"
            )
        return interface.output
    if action is None:
        fitting = list(found)
    else:
        wanted = action if single else (1, *action)
        fitting = [
            name
            for name, value in found.items()
            if value.shape == wanted and (value.dtype.kind in "iu" or not discrete)
        ]
    named = [name for name in _ACTIONS if name in fitting] or [
        name for name in _ACTIONS if name in found
    ]
    if named:
        return named[0]
    if len(fitting) == 1:
        return fitting[0]
    problem = "several of its outputs fit" if fitting else "none of its outputs fits"
    raise ArtifactError(
        f"{problem} the action ({listed}): name the one that is it, as in"
        f" --drlc-output={(fitting or list(found))[0]}"
    )


def _dimensions(value: Any) -> list[int | str | None]:
    return [
        d.dim_value if d.HasField("dim_value") else (d.dim_param or None)
        for d in value.type.tensor_type.shape.dim
    ]


def _is_single(shape: list[int | str | None], observation: tuple[int, ...] | None) -> bool:
    """Whether the input takes one observation without a batch."""
    if observation is not None:
        return len(shape) == len(observation) and tuple(shape) == observation
    return len(shape) == 1 and isinstance(shape[0], int)


def _run(
    model: onnx.ModelProto, source: Any, shape: list[int | str | None]
) -> dict[str, NDArray[Any]]:
    """Every output for a zero observation."""
    session = make_session(model.SerializeToString())
    if any(not isinstance(size, int) for size in shape[1:]):
        raise ArtifactError(
            f"input {source.name!r} has shape {shape}; every size but the batch must be fixed"
        )
    initialized = {tensor.name for tensor in model.graph.initializer}
    zeros = {
        value.name: np.zeros(
            [size if isinstance(size, int) else 1 for size in _dimensions(value)],
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in model.graph.input
        if value.name not in initialized
    }
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, zeros), strict=True))
    except Exception as error:  # the bindings raise several unrelated classes
        text = " ".join(str(error).split())
        raise ArtifactError(f"the model fails on a zero observation: {text}") from None


def _add_batch(model: onnx.ModelProto, shape: list[Any]) -> None:
    graph = model.graph
    value = next(v for v in graph.input if v.name not in {t.name for t in graph.initializer})
    kind, inner = value.type.tensor_type.elem_type, value.name
    name = f"{inner}.batch"
    graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), f"{inner}.shape"))
    graph.node.insert(0, helper.make_node("Reshape", [name, f"{inner}.shape"], [inner], name=name))
    value.CopyFrom(helper.make_tensor_value_info(name, kind, [1, *shape]))


def _reshape_output(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    graph = model.graph
    value = graph.output[0]
    kind, inner = value.type.tensor_type.elem_type or TensorProto.FLOAT, value.name
    name = f"{inner}.batch"
    graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}.shape"))
    graph.node.append(helper.make_node("Reshape", [inner, f"{name}.shape"], [name], name=name))
    batch = "batch" if shape[0] == -1 else 1
    value.CopyFrom(helper.make_tensor_value_info(name, kind, [batch, *shape[1:]]))
