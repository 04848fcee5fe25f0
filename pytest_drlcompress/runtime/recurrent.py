"""State that a policy carries from step to step: an LSTM's memory, or the number of the step.

A recurrent artifact's graph has the observation as its first input and the action as its first
output. Each further input is a state, and the output at its place is what comes of it: the input
of the next step. Every state is zero when an episode begins.

Where single steps are looked at (actions compared, quantizers calibrated), an observation comes
with the states of its step: a row of a structured array, whose first field is the observation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import ArtifactError

DTYPES: Mapping[str, Any] = MappingProxyType(
    {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(double)": np.float64,
        "tensor(bool)": np.bool_,
        "tensor(uint8)": np.uint8,
        "tensor(int8)": np.int8,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
    }
)
"""NumPy's types by ONNX Runtime's names."""

OBSERVATION = "observation"
"""The first field of rows with states."""


class Tensor(Protocol):
    """An input or output of a session of ONNX Runtime."""

    name: str
    type: str
    shape: list[Any]


@dataclass(frozen=True)
class State:
    """``source`` is an input, ``sink`` the output that follows it.

    ``shape`` is that of one environment's state, and ``axis`` where the graph has the batch;
    ``None`` where it has none, or one of a fixed size: one environment at a time.
    """

    source: str
    sink: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axis: int | None

    def to_graph(self, rows: NDArray[Any]) -> NDArray[Any]:
        """States ``(batch, *shape)`` as the graph takes them."""
        placed = rows[0] if self.axis is None else np.moveaxis(rows, 0, self.axis)
        return np.ascontiguousarray(placed, self.dtype).reshape(placed.shape)

    def from_graph(self, value: NDArray[Any]) -> NDArray[Any]:
        """States ``(batch, *shape)`` from what the graph gave."""
        if self.axis is None:
            return np.reshape(value, (1, *self.shape))
        return np.moveaxis(value, self.axis, 0)


class Recurrent(Protocol):
    """A controller with ``states``."""

    observation_shape: tuple[int, ...]
    observation_dtype: np.dtype[Any]
    states: tuple[State, ...]

    def advance(
        self, observations: NDArray[Any], states: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """Actions for a batch, and the states ``(batch, *shape)`` of the next step."""
        ...


def states_of(inputs: Sequence[Tensor], outputs: Sequence[Tensor] = ()) -> tuple[State, ...]:
    """The states among ``inputs``, all but the first; ``outputs`` are the action, then theirs.

    Raises:
        ArtifactError: a type that NumPy has not, or sizes left open beside the batch.
    """
    sinks = [tensor.name for tensor in outputs[1:]] or [""] * (len(inputs) - 1)
    batch = inputs[0].shape[0] if inputs[0].shape else None
    found = []
    for tensor, sink in zip(inputs[1:], sinks, strict=True):
        if tensor.type not in DTYPES:
            raise ArtifactError(f"state {tensor.name!r} has unsupported type {tensor.type}")
        free = [i for i, size in enumerate(tensor.shape) if not isinstance(size, int)]
        if len(free) > 1:
            free = [i for i in free if tensor.shape[i] == batch] or free
        axis = free[0] if free else None
        shape = [size for i, size in enumerate(tensor.shape) if i != axis]
        if not all(isinstance(size, int) for size in shape):
            raise ArtifactError(
                f"state {tensor.name!r} has shape {tensor.shape}: every size but the batch must be"
                " fixed"
            )
        dtype = np.dtype(DTYPES[tensor.type])
        found.append(State(tensor.name, sink, tuple(map(int, shape)), dtype, axis))
    return tuple(found)


def observations_of(rows: NDArray[Any]) -> NDArray[Any]:
    """The observations alone of rows that may come with states."""
    return np.asarray(rows[OBSERVATION]) if rows.dtype.names else rows


def feed(inputs: Sequence[Tensor], rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What a session's ``inputs`` are given for ``rows``, which may come with states.

    Inputs beyond the observation and the states are left to the caller. States without a batch
    take one row at a time.

    Raises:
        ArtifactError: as ``states_of``.
    """
    fields = (rows.dtype.names or ())[1:]
    fed = {inputs[0].name: observations_of(rows)}
    for state, field in zip(states_of(inputs[: len(fields) + 1]), fields, strict=True):
        fed[state.source] = state.to_graph(rows[field])
    return fed


def one_by_one(inputs: Sequence[Tensor]) -> bool:
    """Whether a state among ``inputs`` has no batch."""
    return any(state.axis is None for state in states_of(inputs))


def unroll(controller: Recurrent, observations: NDArray[Any]) -> NDArray[Any]:
    """``observations`` ``(steps, *shape)`` of one episode, each with the states of its step."""
    kinds: list[Any] = [(OBSERVATION, controller.observation_dtype, controller.observation_shape)]
    kinds += [(state.source, state.dtype, state.shape) for state in controller.states]
    rows = np.zeros(len(observations), np.dtype(kinds))
    rows[OBSERVATION] = observations
    states = [np.zeros((1, *state.shape), state.dtype) for state in controller.states]
    for step, row in enumerate(rows):
        for state, value in zip(controller.states, states, strict=True):
            row[state.source] = value[0]
        _, states = controller.advance(rows[OBSERVATION][step : step + 1], states)
    return rows
