"""Measuring what the retention gate is held against: baseline, random and zero-action returns.

Seeds are fixed, so that a reference can be measured again and compared, and lie in three
disjoint ranges below ``RECORDED_SEEDS``: no reference episode starts like another, or like a
candidate's.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.environments.perturbation import UNPERTURBED, Perturbation
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.episodes import Episode, Pilot
from pytest_drlcompress.evaluation.executors.local import Crew
from pytest_drlcompress.evaluation.reference import RECORDED_SEEDS
from pytest_drlcompress.evaluation.rollout import RandomPilot, ZeroPilot, rollout

RANDOM_SEEDS = RECORDED_SEEDS // 2
"""First seed of the random policy's episodes; the baseline's pool uses those below."""

ZERO_SEEDS = RECORDED_SEEDS // 4 * 3
"""First seed of the zero-action policy's episodes."""


def measure_references(
    spec: EnvSpec,
    episodes_random: int = 100,
    episodes_zero: int = 100,
    *,
    perturbation: Perturbation = UNPERTURBED,
    observation_std: NDArray[np.float64] | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Undiscounted returns of uniformly random actions, and of the zero action.

    ``perturbation`` and ``observation_std`` as in ``rollout``. ``on_steps(n)`` is called after
    each step of ``n`` environments.

    Raises:
        EnvironmentSpecError: the environment cannot be made.
        EpisodeError: it failed in an episode.
    """
    assert episodes_random <= ZERO_SEEDS - RANDOM_SEEDS
    assert episodes_zero <= RECORDED_SEEDS - ZERO_SEEDS
    returns = partial(
        _returns,
        spec,
        on_steps=on_steps,
        perturbation=perturbation,
        observation_std=observation_std,
    )
    return (
        returns(RandomPilot(spec.action), range(RANDOM_SEEDS, RANDOM_SEEDS + episodes_random)),
        returns(ZeroPilot(spec.action), range(ZERO_SEEDS, ZERO_SEEDS + episodes_zero)),
    )


def measure_pool(
    spec: EnvSpec,
    pilot: Pilot | bytes,
    seeds: range,
    *,
    workers: int | Crew = 1,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Generator[Episode, None, None]:
    """Episodes of the baseline in the order of ``seeds``; arguments as in ``rollout``.

    Raises:
        ActionError: the baseline left the action space.
        EnvironmentSpecError: the environment cannot be made.
        EpisodeError: it failed in an episode.
    """
    assert 0 <= seeds.start <= seeds.stop <= RANDOM_SEEDS
    return rollout(spec, pilot, seeds, workers=workers, on_steps=on_steps)


def _returns(spec: EnvSpec, pilot: Pilot, seeds: range, **arguments: Any) -> tuple[float, ...]:
    return tuple(episode.total for episode in rollout(spec, pilot, seeds, **arguments))
