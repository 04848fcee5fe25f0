"""What an episode can return at most and at least, for tasks whose own rules say so.

The declared range of the retention gate is a guess from recorded episodes; where the task itself
bounds a return, there is nothing to guess.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from pytest_drlcompress.environments.spec import EnvSpec

_PENDULUM = -200 * (math.pi**2 + 0.1 * 8**2 + 0.001 * 2**2)
"""200 steps at the largest angle, speed and torque."""

_BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "CartPole-v0": (1, 200),  # 1 a step
        "CartPole-v1": (1, 500),
        "Acrobot-v1": (-500, 0),  # -1 a step but the last
        "MountainCar-v0": (-200, -1),  # -1 a step
        "MountainCarContinuous-v0": (-0.1 * 999, 100),  # 100 at the goal, -0.1 u^2 a step
        "Pendulum-v1": (_PENDULUM, 0),
        "FrozenLake-v1": (0, 1),  # 1 at the goal
        "InvertedPendulum-v5": (0, 1000),  # 1 a step
    }
)


def return_bounds(spec: EnvSpec) -> tuple[float | None, float | None]:
    """The least and the most an undisturbed episode of ``spec`` can return; ``None``: unknown.

    Keyword arguments and wrappers may change a reward: nothing is known of an environment with any.
    """
    return (None, None) if spec.kwargs or spec.wrap else _BOUNDS.get(spec.id, (None, None))
