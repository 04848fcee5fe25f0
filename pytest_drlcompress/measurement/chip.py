"""What does an artifact take on a microcontroller? The generated C, compiled for it and run."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.codegen.bound import error_bound
from pytest_drlcompress.codegen.emit import Source, generate
from pytest_drlcompress.codegen.layouts import Choice
from pytest_drlcompress.codegen.parse import parse_program
from pytest_drlcompress.codegen.program import Program
from pytest_drlcompress.codegen.shrink import shrink
from pytest_drlcompress.codegen.targets import TARGETS, ChipFigures, measure_on_target
from pytest_drlcompress.runtime.onnxruntime import OnnxRuntime

VECTORS = 40
"""Observations that the board acts on; each takes milliseconds to emulate."""


@dataclass(frozen=True, eq=False)
class Generated:
    """The C of an artifact, with what it is held to.

    ``actions`` are ONNX Runtime's for ``observations``; ``tolerance`` is how far the C may be
    from them: 0 where every layer multiplies integers.
    """

    source: Source
    program: Program
    observations: NDArray[Any]
    actions: NDArray[Any]
    tolerance: float


def generate_checked(
    model: bytes,
    observations: NDArray[Any],
    *,
    layout: Choice = "small",
    name: str = "policy",
    shrunk: bool = True,
) -> Generated:
    """The C of ``model`` without its dead units, and ONNX Runtime's actions for the *given* model.

    Where no bound on the difference is known (see ``codegen.bound``), the tolerance is a
    thousandth of the span of the actions.

    Raises:
        ArtifactError: ONNX Runtime cannot load the model, or it cannot be written as C.
    """
    program = parse_program(shrink(model) if shrunk else model)
    controller = OnnxRuntime().load(model)
    # one by one, as a robot does: the order of floating-point sums may depend on the batch
    actions = np.stack([controller.act_one(row).copy() for row in observations])
    tolerance = error_bound(program, observations)
    if not np.isfinite(tolerance):
        tolerance = float(np.ptp(actions)) * 1e-3
    source = generate(program, name=name, layout=layout)
    return Generated(source, program, observations, actions, tolerance)


def measure_chip(
    model: bytes, target: str, observations: NDArray[Any], *, vectors: int = VECTORS
) -> ChipFigures:
    """``model`` on ``target`` (a name in ``codegen.targets.TARGETS``), in its smallest layout.

    ``vectors`` of ``observations``, evenly taken, are acted on.

    Raises:
        ArtifactError: it cannot be written as C, or a tool is missing or fails.
    """
    count = min(vectors, len(observations))
    chosen = np.linspace(0, len(observations) - 1, count).round().astype(int)
    made = generate_checked(model, np.ascontiguousarray(observations[chosen]))
    return measure_on_target(
        made.source,
        made.program,
        TARGETS[target],
        made.observations,
        made.actions,
        tolerance=made.tolerance,
    )
