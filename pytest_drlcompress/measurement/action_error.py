"""How far a candidate's actions are from the fp32 artifact's, on the same observations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.runtime.controller import Controller


@dataclass(frozen=True)
class ActionError:
    """Errors over ``count`` observations.

    For a box, ``mean`` and ``maximum`` are absolute errors as shares of the action range
    ``high - low`` of their dimension, ``by_dimension`` the mean of each (``(actions,)``) and
    ``sqnr_db`` the signal-to-quantization-noise ratio 10 log10(sum a^2 / sum (a - b)^2) in dB,
    infinite where there is no error. For discrete actions ``mean`` is the share of greedy
    actions changed (in any of their integers), ``maximum`` 1 or 0.
    """

    mean: float
    maximum: float
    count: int
    sqnr_db: float
    by_dimension: tuple[float, ...] = ()

    @property
    def worst_dimension(self) -> int:
        """The action dimension with the largest mean error."""
        return int(np.argmax(self.by_dimension)) if self.by_dimension else 0


def measure_action_error(
    reference: Controller, candidate: Controller, observations: NDArray[Any], action: ActionSpec
) -> ActionError:
    """Compare two controllers on ``observations`` of shape ``(count, *observation_shape)``."""
    return compare_actions(reference.act(observations), candidate.act(observations), action)


def compare_actions(
    expected: NDArray[Any], actual: NDArray[Any], action: ActionSpec
) -> ActionError:
    """The error of ``actual`` against ``expected``, both ``(count, *action_shape)``."""
    if action.discrete:
        changed = (expected != actual).reshape(len(expected), -1).any(axis=1)
        share = float(changed.mean())
        return ActionError(share, float(changed.any()), len(expected), float("nan"))
    exact = expected.reshape(len(expected), -1).astype(np.float64)
    error = np.abs(actual.reshape(exact.shape) - exact)
    width = (action.high.astype(np.float64) - action.low).ravel()
    # an unbounded action has no range: its own spread on these observations stands in
    width = np.where(np.isfinite(width), width, np.ptp(exact, axis=0))
    relative = error / np.where(width > 0, width, 1.0)
    noise = float(np.square(error).sum())
    signal = float(np.square(exact).sum())
    sqnr = float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))
    return ActionError(
        mean=float(relative.mean()),
        maximum=float(relative.max()),
        count=len(expected),
        sqnr_db=sqnr,
        by_dimension=tuple(float(v) for v in relative.mean(axis=0)),
    )
