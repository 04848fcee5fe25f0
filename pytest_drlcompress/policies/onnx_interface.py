"""ONNX graphs as exporters write them, brought to one input and one output with a batch.

Exporters differ in what they add: a value head and log probabilities beside the action, inputs
that are constant in deployment (an action mask), an observation without a batch. What is
deployed and measured is the graph from the observation to the action; what the action does not
need is removed. A graph that is already so stays as it is, to the byte.
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
from pytest_drlcompress.runtime.onnxruntime import make_session

_ACTIONS = ("action", "actions", "mean")
_OBSERVATIONS = ("observation", "observations", "obs", "obs_0", "input")


@dataclass(frozen=True)
class Interface:
    """What the user says of a graph's inputs and outputs.

    ``output`` names the action (empty: chosen); ``constants`` are the values of other inputs.
    """

    output: str = ""
    constants: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, output: str, inputs: Sequence[str]) -> "Interface":
        """From options: ``inputs`` are texts ``NAME=NUMBER``."""
        pairs = (text.rpartition("=") for text in inputs)
        return cls(output, {name: float(number) for name, _, number in pairs})


@dataclass(frozen=True)
class Adapted:
    """``model`` has one input and one output; ``notes`` say what was chosen to get there."""

    model: bytes
    notes: tuple[str, ...] = ()


def adapt(
    model: bytes,
    interface: Interface,
    observation: tuple[int, ...] | None = None,
    action: tuple[int, ...] | None = None,
    *,
    discrete: bool = False,
) -> Adapted:
    """``model`` with one input ``(batch, *observation)`` and one output ``(batch, *action)``.

    ``observation`` and ``action`` are the shapes in the environment, ``None`` where there is none
    to fit; ``discrete`` says whether its actions are integers.

    Raises:
        ArtifactError: ONNX Runtime cannot load or run it, or it is not clear which input is the
            observation or which output the action.
    """
    work = onnx.load_model_from_string(model)
    notes: list[str] = []
    initialized = {tensor.name for tensor in work.graph.initializer}
    inputs = [value for value in work.graph.input if value.name not in initialized]
    source = _choose_input(inputs, interface)
    if len(inputs) > 1:
        _fix_constants(work, source, inputs, interface, notes)
    outputs = [value.name for value in work.graph.output]
    _fix_sizes(source, observation, notes)
    shape = _dimensions(source)
    single = _is_single(shape, observation)
    found = _run(work, source, shape)
    sink = _choose_output(found, interface, action, discrete=discrete, single=single)
    if len(outputs) > 1:
        work = _only(work, source.name, sink)
        notes.append(f"output {sink!r} of {', '.join(outputs)}")
    if single:
        _add_batch(work, shape)
        notes.append(f"observation {source.name!r} has no batch: one is added")
    got, target = found[sink].shape, action
    if target is None:
        target = got if single else got[1:]
    row = (1, *target)
    if got != row:
        if found[sink].size != np.prod(target, dtype=int):
            return _finished(model, work, notes)  # the caller names both shapes
        _reshape_output(work, row if single else (-1, *target))
        if not single:
            notes.append(f"output {sink!r} is reshaped from {list(got)} to {list(row)}")
    return _finished(model, work, notes)


def _finished(model: bytes, work: onnx.ModelProto, notes: list[str]) -> Adapted:
    return Adapted(work.SerializeToString() if notes else model, tuple(notes))


def _choose_input(inputs: Sequence[Any], interface: Interface) -> Any:
    left = [value for value in inputs if value.name not in interface.constants] or list(inputs)
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
                f"input {value.name!r} has no value beside the observation {source.name!r}: if it"
                f" is constant, say it with --drlc-input={value.name}=NUMBER (a state that the"
                " policy carries from step to step is not supported)"
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
    dtype = helper.tensor_dtype_to_np_dtype(source.type.tensor_type.elem_type)
    zero = np.zeros([size if isinstance(size, int) else 1 for size in shape], dtype)
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, {source.name: zero}), strict=True))
    except Exception as error:  # the bindings raise several unrelated classes
        text = " ".join(str(error).split())
        raise ArtifactError(f"the model fails on a zero observation: {text}") from None


def _only(model: onnx.ModelProto, source: str, sink: str) -> onnx.ModelProto:
    """The nodes between ``source`` and ``sink``."""
    return Extractor(model).extract_model([source], [sink])


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
