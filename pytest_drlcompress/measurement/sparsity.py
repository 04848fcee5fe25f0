"""How sparse is an artifact? Measured in its own weights as the file stores them.

Not in the training state: a mask says what was meant, and quantization may turn zeros into
something else (a zero point) or other weights into zeros. Biases are never counted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_drlcompress.onnx_graph.weights import LayerWeight, layer_weights


@dataclass(frozen=True)
class Sparsity:
    """Zeros among the weights of an artifact's linear layers.

    ``total`` and ``by_layer`` (by the name of the weight's initializer, in the order of the
    graph) are shares; ``weights`` and ``nonzero`` count all layers together.
    """

    total: float
    by_layer: Mapping[str, float]
    weights: int
    nonzero: int


def measure_sparsity(model: bytes) -> Sparsity:
    """The sparsity of the ONNX file ``model``; 0 for one without linear layers."""
    return sparsity_of(layer_weights(model))


def sparsity_of(layers: Sequence[LayerWeight]) -> Sparsity:
    """The sparsity of these layers together."""
    weights = sum(layer.stored.size for layer in layers)
    nonzero = sum(layer.nnz for layer in layers)
    return Sparsity(
        total=1 - nonzero / weights if weights else 0.0,
        by_layer={short_name(layer): layer.sparsity for layer in layers},
        weights=weights,
        nonzero=nonzero,
    )


def off_schedule(
    schedule: Mapping[str, float], prunings: Sequence[Sequence[float]], weights: int
) -> str:
    """The first of ``prunings`` (step, scheduled, reached) that is not on the cubic schedule.

    As text; empty where all are within one of ``weights``, and there are as many as there should
    be. The formula of Ivanov et al., equation 1, stands here once more on purpose: what is held to
    a schedule must not be held to the same code. ``schedule`` has ``final``, ``start``,
    ``interval`` and ``count``.
    """
    final, start = float(schedule["final"]), float(schedule["start"])
    interval, count = float(schedule["interval"]), int(schedule["count"])
    if not prunings or prunings[-1][0] < start + (count - 1e-3) * interval:
        return f"the schedule's {count} prunings were not all made"
    slack = 1 / weights + 1e-6
    for step, _, reached in prunings:
        done = min(max(math.floor((step - start) / interval + 1e-3), 0), count) / count
        wanted = final * (1 - (1 - done) ** 3)
        if abs(reached - wanted) > slack:
            return (
                f"at step {step:,.0f} {reached:.2%} of the weights were zero; the cubic schedule"
                f" says {wanted:.2%}"
            )
    return ""


def short_name(layer: LayerWeight) -> str:
    """The initializer's name without what a quantizer appended: the same before and after."""
    return layer.initializer.removesuffix("_quantized")
