"""ONNX Runtime on one thread: IO binding for single observations, plain ``run`` for batches."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.runtime.patrol import NO_PATROL, PATIENCE_S, NoPatrol, Patrol

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


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
    """An artifact in ONNX Runtime; implements ``Controller``.

    Raises:
        ArtifactError: the model cannot be loaded or has not one input and one output with a
            leading batch dimension.
    """

    device = "cpu"

    def __init__(self, model: bytes) -> None:
        self._session = make_session(model)
        self._patrol: Patrol | NoPatrol = Patrol() if _loops(model) else NO_PATROL
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ArtifactError(
                f"a policy has one input and one output; this model has inputs"
                f" {[i.name for i in inputs]} and outputs {[o.name for o in outputs]}"
            )
        source, sink = inputs[0], outputs[0]
        for tensor in (source, sink):
            if tensor.type not in _DTYPES:
                raise ArtifactError(f"tensor {tensor.name!r} has unsupported type {tensor.type}")
        self.observation_dtype: np.dtype[Any] = np.dtype(_DTYPES[source.type])
        self.observation_shape = _static(source.name, source.shape)
        self._source, self._sink = source.name, sink.name
        self._fixed_batch_of_one = bool(source.shape) and source.shape[0] == 1
        self._observation = np.zeros((1, *self.observation_shape), self.observation_dtype)
        self._action = self._probe()
        self.action_shape = tuple(self._action.shape[1:])
        self._binding = self._session.io_binding()
        self._binding.bind_input(
            self._source, "cpu", 0, self._observation.dtype, self._observation.shape,
            self._observation.ctypes.data,
        )  # fmt: skip
        self._binding.bind_output(
            self._sink, "cpu", 0, self._action.dtype, self._action.shape, self._action.ctypes.data
        )
        self._run = _runner(self._session, self._binding, self._patrol)
        # views without the batch, made once
        self._observation_row = self._observation.reshape(self.observation_shape)
        self._action_row = self._action.reshape(self.action_shape)
        self.batch_invariant = not self._fixed_batch_of_one and not _quantizes_dynamically(model)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions for a batch; row by row where the model's result depends on the batch."""
        if self.batch_invariant:
            batch = np.ascontiguousarray(observations, self.observation_dtype)
            with self._patrol:
                try:
                    found = self._session.run(
                        [self._sink], {self._source: batch}, self._patrol.options
                    )
                except Exception as error:  # the bindings raise several unrelated classes
                    raise self._failure(error) from None
            made = np.asarray(found[0])
            if made.shape != (len(batch), *self.action_shape):
                raise ArtifactError(
                    f"output {self._sink!r} has shape {made.shape} for {len(batch)} observations,"
                    f" and {(1, *self.action_shape)} for one"
                )
            return made
        actions = np.empty((len(observations), *self.action_shape), self._action.dtype)
        for row, observation in enumerate(observations):
            actions[row] = self.act_one(observation)
        return actions

    def act_one(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The action for one observation, through preallocated buffers; overwritten next call."""
        self._observation_row[...] = observation
        try:
            self._run()
        except Exception as error:  # the bindings raise several unrelated classes
            raise self._failure(error) from None
        return self._action_row

    def _failure(self, error: Exception) -> ArtifactError:
        text = " ".join(str(error).split())
        if self._patrol.ended:
            return ArtifactError(f"the model took more than {PATIENCE_S:g} s for its actions")
        return ArtifactError(f"the model fails on an observation: {text}")

    def run_network(self) -> None:
        """Run the network alone, on the observation that ``act_one`` saw last."""
        self._run()

    def _probe(self) -> NDArray[Any]:
        try:
            action = self._session.run([self._sink], {self._source: self._observation})[0]
        except Exception as error:  # the bindings raise several unrelated classes
            text = " ".join(str(error).split())
            raise ArtifactError(f"the model fails on a zero observation: {text}") from None
        action = np.asarray(action)
        if action.ndim == 0 or action.shape[0] != 1:
            raise ArtifactError(
                f"output {self._sink!r} has shape {action.shape} for one observation;"
                " a policy's output keeps the batch as its first dimension"
            )
        return np.ascontiguousarray(action)


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


def _quantizes_dynamically(model: bytes) -> bool:
    # DynamicQuantizeLinear takes its scale over the whole batch: measured differences of 1e-2.
    import onnx

    graph = onnx.load_from_string(model).graph
    return any(node.op_type == "DynamicQuantizeLinear" for node in graph.node)
