"""ONNX Runtime on one thread: IO binding for single observations, plain ``run`` for batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.runtime.patrol import NO_PATROL, PATIENCE_S, NoPatrol, Patrol
from pytest_drlcompress.runtime.recurrent import (
    DTYPES,
    observations_of,
    states_of,
)

_NOT_BY_ROW = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "LSTM", "GRU", "RNN"})
"""Operators whose result for a row may depend on the rest of the batch.

A range that is found at run time is the whole batch's: measured differences of 1e-2. The kernels of
recurrent operators split a batch as they see fit.
"""


def make_session(
    model: bytes,
    *,
    optimized_model_path: str = "",
    level: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> ort.InferenceSession:
    """A session on one CPU thread, by default with every graph optimization.

    Raises:
        ArtifactError: ONNX Runtime cannot load the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = level
    # plain allocation is as fast for large tensors and faster for the small ones of a controller
    options.enable_cpu_mem_arena = False
    options.optimized_model_filepath = optimized_model_path
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the bindings raise several unrelated classes
        text = " ".join(str(error).split())
        raise ArtifactError(f"ONNX Runtime cannot load the model: {text}") from None


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime on one CPU thread; implements ``Runtime``."""

    name: str = "onnx"

    def load(self, model: bytes) -> "OnnxController":
        """A session with IO binding; errors as in ``OnnxController``."""
        return OnnxController(model)

    def acts_like(self, model: bytes) -> str:  # noqa: ARG002
        """Itself."""
        return self.name


class OnnxController:
    """An artifact in ONNX Runtime; implements ``Controller`` and ``Recurrent``.

    Raises:
        ArtifactError: the model cannot be loaded or has not one input and one output with a
            leading batch dimension, and an input and an output for each state.
    """

    device = "cpu"

    def __init__(self, model: bytes) -> None:
        self._session = make_session(model)
        self._patrol: Patrol | NoPatrol = Patrol() if _loops(model) else NO_PATROL
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if not inputs or len(inputs) != len(outputs):
            raise ArtifactError(
                "a policy has one input and one output, and one of each for a state that it"
                f" carries; this model has inputs {[i.name for i in inputs]} and outputs"
                f" {[o.name for o in outputs]}"
            )
        source, sink = inputs[0], outputs[0]
        for tensor in (source, sink):
            if tensor.type not in DTYPES:
                raise ArtifactError(f"tensor {tensor.name!r} has unsupported type {tensor.type}")
        self.observation_dtype: np.dtype[Any] = np.dtype(DTYPES[source.type])
        self.observation_shape = _static(source.name, source.shape)
        self.states = states_of(inputs, outputs)
        self._sources, self._sinks = ([t.name for t in tensors] for tensors in (inputs, outputs))
        self._observation = np.zeros((1, *self.observation_shape), self.observation_dtype)
        zeros = [np.zeros((1, *state.shape), state.dtype) for state in self.states]
        # what the graph reads and writes for one row; states are copied from _after to _before
        self._before = [s.to_graph(z) for s, z in zip(self.states, zeros, strict=True)]
        self._action, *self._after = self._probe()
        self.action_shape = tuple(self._action.shape[1:])
        self._binding = self._session.io_binding()
        for name, buffer in zip(self._sources, (self._observation, *self._before), strict=True):
            self._binding.bind_input(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
        for name, buffer in zip(self._sinks, (self._action, *self._after), strict=True):
            self._binding.bind_output(
                name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data
            )
        self._run = _runner(self._session, self._binding, self._patrol)
        # views without the batch, made once
        self._observation_row = self._observation.reshape(self.observation_shape)
        self._action_row = self._action.reshape(self.action_shape)
        fixed = source.shape[0] == 1 or any(state.axis is None for state in self.states)
        self.batch_invariant = not fixed and not _depends_on_batch(model)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions for a batch; row by row where the model's result depends on the batch.

        Of a recurrent policy: with the states that come with ``observations``, else with those of
        an episode's first step.
        """
        rows = observations_of(observations)
        if not self.states:
            return self._act(rows)
        fields = (observations.dtype.names or ())[1:]
        if not fields:
            states = [np.zeros((len(rows), *state.shape), state.dtype) for state in self.states]
            return self.advance(rows, states)[0]
        given = [observations[field] for field in fields]
        if [s.shape[1:] for s in given] != [state.shape for state in self.states]:
            raise ArtifactError(
                f"it carries states of shapes {[state.shape for state in self.states]}, the policy"
                f" {[s.shape[1:] for s in given]}: their actions cannot be compared step by step"
            )
        return self.advance(rows, given)[0]

    def _act(self, observations: NDArray[Any]) -> NDArray[Any]:
        if self.batch_invariant:
            batch = np.ascontiguousarray(observations, self.observation_dtype)
            return self._feed([batch])[0]
        actions = np.empty((len(observations), *self.action_shape), self._action.dtype)
        for row, observation in enumerate(observations):
            actions[row] = self.act_one(observation)
        return actions

    def advance(
        self, observations: NDArray[Any], states: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """Actions for a batch, and the states ``(batch, *shape)`` of the next step."""
        if self.batch_invariant:
            batch = np.ascontiguousarray(observations, self.observation_dtype)
            pairs = zip(self.states, states, strict=True)
            actions, *found = self._feed([batch, *(state.to_graph(rows) for state, rows in pairs)])
            after = zip(self.states, found, strict=True)
            return actions, [state.from_graph(value) for state, value in after]
        actions = np.empty((len(observations), *self.action_shape), self._action.dtype)
        following = [np.empty_like(rows) for rows in states]
        for row, observation in enumerate(observations):
            for state, buffer, rows in zip(self.states, self._before, states, strict=True):
                buffer[...] = state.to_graph(rows[row : row + 1])
            actions[row] = self.act_one(observation)
            for state, buffer, rows in zip(self.states, self._after, following, strict=True):
                rows[row] = state.from_graph(buffer)[0]
        return actions, following

    def act_one(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The action for one observation, through preallocated buffers; overwritten next call.

        States go on from the call before.
        """
        self._observation_row[...] = observation
        try:
            self._run()
        except Exception as error:  # the bindings raise several unrelated classes
            raise self._failure(error) from None
        for before, after in zip(self._before, self._after, strict=True):
            before[...] = after
        return self._action_row

    def _feed(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Every output for a batch."""
        feeds = dict(zip(self._sources, inputs, strict=True))
        with self._patrol:
            try:
                found = self._session.run(self._sinks, feeds, self._patrol.options)
            except Exception as error:  # the bindings raise several unrelated classes
                raise self._failure(error) from None
        made = list(map(np.asarray, found))
        if made[0].shape != (len(inputs[0]), *self.action_shape):
            raise ArtifactError(
                f"output {self._sinks[0]!r} has shape {made[0].shape} for {len(inputs[0])}"
                f" observations, and {(1, *self.action_shape)} for one"
            )
        return made

    def _failure(self, error: Exception) -> ArtifactError:
        text = " ".join(str(error).split())
        if self._patrol.ended:
            return ArtifactError(f"the model took more than {PATIENCE_S:g} s for its actions")
        return ArtifactError(f"the model fails on an observation: {text}")

    def run_network(self) -> None:
        """Run the network alone, on the observation that ``act_one`` saw last."""
        self._run()

    def _probe(self) -> list[NDArray[Any]]:
        """Every output for a zero observation."""
        feeds = dict(zip(self._sources, (self._observation, *self._before), strict=True))
        try:
            found = list(map(np.asarray, self._session.run(self._sinks, feeds)))
        except Exception as error:  # the bindings raise several unrelated classes
            text = " ".join(str(error).split())
            raise ArtifactError(f"the model fails on a zero observation: {text}") from None
        action = found[0]
        if action.ndim == 0 or action.shape[0] != 1:
            raise ArtifactError(
                f"output {self._sinks[0]!r} has shape {action.shape} for one observation;"
                " a policy's output keeps the batch as its first dimension"
            )
        for state, before, after in zip(self.states, self._before, found[1:], strict=True):
            if before.shape != after.shape or before.dtype != after.dtype:
                raise ArtifactError(
                    f"state {state.source!r} is {before.dtype} of shape {before.shape}, but what"
                    f" follows it, {state.sink!r}, is {after.dtype} of shape {after.shape}"
                )
        return list(map(np.ascontiguousarray, found))


def _runner(
    session: ort.InferenceSession, binding: ort.IOBinding, patrol: Patrol | NoPatrol
) -> Callable[[], Any]:
    """What runs ``binding``; a model that loops, on patrol.

    The public ``run_with_iobinding`` first looks for captured WebGPU graphs, and makes RunOptions
    anew for each call: together a sixth of a small policy's latency.
    """
    if isinstance(patrol, Patrol):

        def patrolled() -> None:
            with patrol:
                session.run_with_iobinding(binding, patrol.options)

        return patrolled
    try:
        run, bound = session._sess.run_with_iobinding, binding._iobinding  # noqa: SLF001
    except AttributeError:  # this ONNX Runtime is built otherwise
        return partial(session.run_with_iobinding, binding)
    return partial(run, bound, ort.RunOptions())


def _static(name: str, shape: list[Any]) -> tuple[int, ...]:
    if not shape or not all(isinstance(size, int) for size in shape[1:]):
        raise ArtifactError(
            f"input {name!r} has shape {shape}; a policy's input is (batch, *observation_shape)"
            " with every size but the batch fixed"
        )
    return tuple(int(size) for size in shape[1:])


def _loops(model: bytes) -> bool:
    """Whether what it computes may take any time, whatever its size."""
    import onnx

    proto = onnx.load_from_string(model)
    graphs = [proto.graph, *proto.functions]
    while graphs:
        for node in graphs.pop().node:
            if node.op_type in ("Loop", "Scan"):
                return True
            graphs += [g for a in node.attribute for g in (*a.graphs, a.g) if g.node]
    return False


def _depends_on_batch(model: bytes) -> bool:
    import onnx

    graph = onnx.load_from_string(model).graph
    return any(node.op_type in _NOT_BY_ROW for node in graph.node)
