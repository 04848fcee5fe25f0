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

from pytest_drlcompress.environments.engines import OUR_ENGINES, Engines
from pytest_drlcompress.environments.perturbation import UNPERTURBED, Perturbation
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.episodes import Actor, Episode
from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.reference import RECORDED_SEEDS
from pytest_drlcompress.evaluation.rollout import RandomActor, ZeroActor, rollout

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
    engines: Engines = OUR_ENGINES,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Undiscounted returns of uniformly random actions, and of the zero action.

    ``perturbation``, ``observation_std`` and ``engines`` as in ``rollout``. ``on_steps(n)`` is
    called after each step of ``n`` environments.

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
        engines=engines,
    )
    return (
        returns(RandomActor(spec.action), range(RANDOM_SEEDS, RANDOM_SEEDS + episodes_random)),
        returns(ZeroActor(spec.action), range(ZERO_SEEDS, ZERO_SEEDS + episodes_zero)),
    )


def measure_pool(
    spec: EnvSpec,
    actor: Actor | bytes,
    seeds: range,
    *,
    workers: int | Executor = 1,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Generator[Episode, None, None]:
    """Episodes of the baseline in the order of ``seeds``; arguments as in ``rollout``.

    Raises:
        ActionError: the baseline left the action space.
        EnvironmentSpecError: the environment cannot be made.
        EpisodeError: it failed in an episode.
    """
    assert 0 <= seeds.start <= seeds.stop <= RANDOM_SEEDS
    return rollout(spec, actor, seeds, workers=workers, on_steps=on_steps)


def _returns(spec: EnvSpec, actor: Actor, seeds: range, **arguments: Any) -> tuple[float, ...]:
    return tuple(episode.total for episode in rollout(spec, actor, seeds, **arguments))
