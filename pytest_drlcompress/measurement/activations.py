"""Peak activation memory of an artifact, computed from the graph that ONNX Runtime executes.

Together with the weights this answers the on-chip question (Ivanov et al., Figure 1): does one
inference fit the memory beside the processor, or does it fetch from outside?
"""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.onnx_graph.weights import constant_tensors
from pytest_drlcompress.runtime.onnxruntime import make_session

_OVERWRITES_INPUT = frozenset(
    {
        "Clip", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softmax", "Softplus",
        "Softsign", "Tanh",
    }
)  # fmt: skip
"""Operators whose kernels write their result over an input that nobody else needs; sums and
products do not."""

_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose result is their input under another shape."""


def optimized_graph(model: bytes) -> onnx.GraphProto:
    """The graph of ``model`` with ONNX Runtime's fusions, in execution order.

    Layouts that suit only this processor are left out, so that every machine gets the same graph.

    Raises:
        ArtifactError: ONNX Runtime cannot load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        make_session(model, optimized_model_path=str(path), level=level)
        return onnx.load(path).graph


def tensor_sizes(model: bytes) -> Mapping[str, tuple[tuple[int, ...], int]]:
    """Shape and bytes of every activation of ``model`` for one observation.

    Measured by running it on zeros, with every tensor an output: shape inference knows nothing
    of the operators that ONNX Runtime's fusions bring in.

    Raises:
        ArtifactError: ONNX Runtime cannot load or run the model.
    """
    proto = onnx.load_from_string(model)
    known = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in known:
                proto.graph.output.append(onnx.ValueInfoProto(name=name))
    level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = make_session(proto.SerializeToString(), level=level)
    feeds = {
        value.name: np.zeros(
            [size if isinstance(size, int) else 1 for size in value.shape], _numpy_type(value.type)
        )
        for value in session.get_inputs()
    }
    names = [value.name for value in session.get_outputs()]
    try:
        arrays = session.run(names, feeds)
    except Exception as error:  # the bindings raise several unrelated classes
        text = " ".join(str(error).split())
        raise ArtifactError(f"the model fails on a zero observation: {text}") from None
    found = {**feeds, **dict(zip(names, map(np.asarray, arrays), strict=True))}
    return {name: (tuple(array.shape), array.nbytes) for name, array in found.items()}


def peak_activation_bytes(model: bytes) -> int:
    """The most bytes of activations that exist at once during one inference.

    The observation exists until its last use, the action to the end. Activation functions
    overwrite an input that nobody needs afterwards, as ONNX Runtime's planner lets them. What a
    kernel allocates inside itself is not in the graph and not counted.

    Raises:
        ArtifactError: ONNX Runtime cannot load or run the model.
    """
    return max(live_activation_bytes(model))


def live_activation_bytes(model: bytes) -> list[int]:
    """For each node that executes: bytes that exist while it runs. See ``peak_activation_bytes``.

    Raises:
        ArtifactError: ONNX Runtime cannot load or run the model.
    """
    proto = onnx.load_from_string(model)
    proto.graph.CopyFrom(optimized_graph(model))
    if not any(o.domain == "com.microsoft" for o in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    graph = proto.graph
    sizes = tensor_sizes(proto.SerializeToString())
    constants = {tensor.name for tensor in constant_tensors(graph)}
    observations: set[str] = {value.name for value in graph.input} - constants
    actions: set[str] = {value.name for value in graph.output}
    last_use: dict[str, float] = {
        name: place for place, node in enumerate(graph.node) for name in node.input if name
    }
    last_use.update(dict.fromkeys(actions, math.inf))
    # views and overwritten inputs share a buffer: what lives is buffers, not tensors
    buffer_of: dict[str, str] = {name: name for name in observations}
    live: dict[str, int] = {name: sizes[name][1] for name in observations}
    until: dict[str, float] = {name: last_use.get(name, -1) for name in observations}

    def reused(node: onnx.NodeProto, output: str, place: int) -> str | None:
        """The buffer that ``output`` takes over from the input of ``node``."""
        buffer = buffer_of.get(node.input[0]) if node.input else None
        if buffer is None or sizes[node.input[0]][1] != sizes[output][1]:
            return None
        if node.op_type in _VIEWS:
            return buffer
        # the caller owns the observation, and where the action goes
        free = until[buffer] <= place and buffer not in observations and output not in actions
        return buffer if free and node.op_type in _OVERWRITES_INPUT else None

    bytes_live = []
    for place, node in enumerate(graph.node):
        if node.op_type == "Constant":
            continue
        for name in filter(None, node.output):
            buffer = buffer_of[name] = reused(node, name, place) or name
            live.setdefault(buffer, sizes[name][1])
            until[buffer] = max(until.get(buffer, -1), last_use.get(name, place))
        bytes_live.append(sum(live.values()))
        for buffer in [name for name in live if until[name] <= place]:
            del live[buffer]
    return bytes_live


def _numpy_type(kind: str) -> np.dtype[np.generic]:
    name = kind.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))
