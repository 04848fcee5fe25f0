"""Equalization of the observation: a per-dimension scale folded into the first layer.

One scale for a whole observation wastes most of the 8 bits on a dimension with a small span.
Dividing dimension j by s_j = absmax_j^a / max|W_j|^(1 - a) and multiplying column j of the first
layer's weights by s_j leaves the function as it is and evens out the spans (the migration of
SmoothQuant, Xiao et al. 2023, equation 4, with a = 0.75).
"""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.runtime.recurrent import feed, observations_of

STRENGTH = 0.75
"""The exponent a: how much of the difficulty moves from the observation to the weights."""


def equalize_observation(model: bytes, observations: NDArray[Any]) -> tuple[bytes, dict[str, Any]]:
    """Insert the division before the first Gemm or MatMul of ``model``.

    ``observations`` is ``(count, size)``. Returns the new model and the spans before and after.

    Raises:
        RecipeError: the first layer is not a Gemm or MatMul with constant weights.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    layer = next((n for n in graph.node if n.op_type in ("Gemm", "MatMul", "Conv")), None)
    if layer is None or layer.op_type == "Conv" or layer.input[1] not in weights:
        raise RecipeError("equalize=true needs a policy whose first layer is fully connected")
    transposed = any(a.name == "transB" and a.i == 1 for a in layer.attribute)
    tensor = weights[layer.input[1]]
    matrix = numpy_helper.to_array(tensor)
    columns = matrix if transposed else matrix.T  # (out, in)
    features = _input_of(proto, layer.input[0], observations)
    span = np.abs(features).max(0)
    scale = migration(span, np.abs(columns).max(0))
    scaled = columns * scale
    tensor.CopyFrom(
        numpy_helper.from_array(
            np.ascontiguousarray(scaled if transposed else scaled.T), tensor.name
        )
    )
    graph.initializer.append(numpy_helper.from_array(1 / scale, "equalize.factor"))
    position = list(graph.node).index(layer)
    multiply = onnx.helper.make_node(
        "Mul", [layer.input[0], "equalize.factor"], ["equalized"], name="equalize"
    )
    layer.input[0] = "equalized"
    graph.node.insert(position, multiply)
    after = np.abs(features / scale).max(0)
    spans = {
        "span_before": [float(f"{v:.6g}") for v in span],
        "span_after": [float(f"{v:.6g}") for v in after],
    }
    return bytes(proto.SerializeToString()), spans


def migration(
    span: NDArray[Any], weight: NDArray[Any], strength: float = STRENGTH
) -> NDArray[np.float32]:
    """What to divide each input of a layer by: ``span^a / weight^(1 - a)``, 1 where unused.

    ``span`` and ``weight`` ``(inputs,)`` are the largest magnitudes of the input and of the
    weights it meets.
    """
    scale = np.ones(span.shape, np.float32)
    used = (span > 0) & (weight > 0)
    scale[used] = span[used] ** strength / weight[used] ** (1 - strength)
    return scale


def _input_of(proto: onnx.ModelProto, name: str, observations: NDArray[Any]) -> NDArray[Any]:
    """What reaches the first layer: the observation, or its normalised form."""
    if name == proto.graph.input[0].name:
        return observations_of(observations)
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    probe.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(probe.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.asarray(session.run([name], feed(session.get_inputs(), observations))[0])
