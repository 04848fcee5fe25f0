"""How far may generated C be from ONNX Runtime where floats are summed?

Running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.3):
a sum of n products in any order is within ``gamma(n) * sum |w x|`` of the true one, so two orders
are within twice that of each other.
"""

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.codegen.program import Elementwise, Keep, Linear, Observation, Program

_UNIT = 2.0**-24
_TANH = 8 * _UNIT
"""ONNX Runtime's tanh and ours are the same formula, each step rounded once."""


def error_bound(program: Program, observations: NDArray[np.float32]) -> float:
    """A bound on the difference of any action for ``observations``; 0 for an exact program.

    Infinite where there is none: a convolution, integers between floats (an error of one ulp may
    become one of a whole step), a division by the value.
    """
    if program.exact:
        return 0.0
    if program.chooses or not all(
        isinstance(stage.sink, Keep)
        and isinstance(stage.source, Observation | Linear)
        and not (isinstance(stage.source, Linear) and (stage.source.integer or stage.source.window))
        and all(step.operator != "div_by" for step in stage.steps)
        for stage in program.stages
    ):
        return np.inf
    rows = observations.reshape(len(observations), -1).astype(np.float64)
    value: NDArray[np.float64] = rows[:, program.observation.live]
    error = np.zeros_like(value)
    for stage in program.stages:
        if isinstance(stage.source, Linear):
            weight, bias = stage.source.weight.astype(np.float64), stage.source.bias
            terms = weight.shape[1] + 2
            gamma = terms * _UNIT / (1 - terms * _UNIT)
            size = (np.abs(value) + error) @ np.abs(weight).T + np.abs(bias)
            error = error @ np.abs(weight).T + 2 * gamma * size
            value = value @ weight.T + bias
        for step in stage.steps:
            value, error = _after(step, value, error)
    return float(error.max())


def _after(
    step: Elementwise, value: NDArray[np.float64], error: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    constant = np.float64(0) if step.constant is None else step.constant.astype(np.float64)
    if step.operator == "relu":
        return np.maximum(value, 0), error
    if step.operator == "tanh":
        return np.tanh(value), error + 2 * _TANH
    if step.operator == "max":
        return np.maximum(value, constant), error
    if step.operator == "min":
        return np.minimum(value, constant), error
    if step.operator in ("mul", "div"):
        factor = constant if step.operator == "mul" else 1 / constant
        value, error = value * factor, error * np.abs(factor)
    elif step.operator == "sub_from":
        value = constant - value
    else:
        value = value + (constant if step.operator == "add" else -constant)
    return value, error + 2 * _UNIT * (np.abs(value) + error)
