"""Reference returns, measured in real environments and judged by the real gate."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.reference import RECORDED_SEEDS, Reference
from pytest_drlcompress.evaluation.references import (
    RANDOM_SEEDS,
    ZERO_SEEDS,
    measure_pool,
    measure_references,
)
from pytest_drlcompress.evaluation.retention import (
    RetentionSettings,
    episode_seeds,
    judge,
)
from pytest_drlcompress.evaluation.rollout import rollout

CARTPOLE = EnvSpec("CartPole-v1")
HOPPER = EnvSpec("Hopper-v5")


class Linear:
    """A linear controller for CartPole: push towards where ``weights @ observation`` points."""

    def __init__(self, *weights: float) -> None:
        self._weights = np.array(weights)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        return (observations @ self._weights > 0).astype(np.int64)


GOOD = Linear(0.1, 0.5, 1.0, 1.0)
ANGLE_ONLY = Linear(0.0, 0.0, 1.0, 0.0)


def alone(spec: EnvSpec, seed: int, choose) -> float:
    """The undiscounted return of one episode, by Gymnasium's own loop."""
    env = spec.make()
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(choose(observation))
        total, over = total + float(reward), terminated or truncated
    env.close()
    return total


def test_seed_ranges_are_disjoint_and_below_the_candidates():
    assert 0 < RANDOM_SEEDS < ZERO_SEEDS < RECORDED_SEEDS
    assert ZERO_SEEDS - RANDOM_SEEDS >= 100_000
    with pytest.raises(AssertionError):
        measure_pool(CARTPOLE, GOOD, range(RANDOM_SEEDS - 1, RANDOM_SEEDS + 1))
    with pytest.raises(AssertionError):
        measure_pool(CARTPOLE, GOOD, range(-1, 0))
    with pytest.raises(AssertionError):
        measure_references(CARTPOLE, ZERO_SEEDS - RANDOM_SEEDS + 1, 0)
    with pytest.raises(AssertionError):
        measure_references(CARTPOLE, 0, RECORDED_SEEDS - ZERO_SEEDS + 1)


def test_references_are_the_returns_of_gymnasiums_own_loop_at_the_documented_seeds():
    random, zero = measure_references(CARTPOLE, episodes_random=20, episodes_zero=5)
    assert len(random) == 20
    assert list(zero) == [alone(CARTPOLE, ZERO_SEEDS + i, lambda _: 0) for i in range(5)]
    for i in range(20):
        generator = np.random.default_rng([RANDOM_SEEDS + i, 1])  # as RandomActor documents
        expected = alone(CARTPOLE, RANDOM_SEEDS + i, lambda _, g=generator: int(g.integers(2)))
        assert random[i] == expected


def test_a_pool_is_the_returns_of_gymnasiums_own_loop_and_can_be_extended():
    pool = list(measure_pool(CARTPOLE, ANGLE_ONLY, range(6)))
    assert [episode.seed for episode in pool] == [0, 1, 2, 3, 4, 5]
    assert [episode.total for episode in pool] == [
        alone(CARTPOLE, seed, lambda o: int(o[2] > 0)) for seed in range(6)
    ]
    assert list(measure_pool(CARTPOLE, ANGLE_ONLY, range(2, 6))) == pool[2:]


def test_progress_reports_every_environment_step():
    steps: list[int] = []
    random, zero = measure_references(CARTPOLE, 20, 5, on_steps=steps.append)
    # CartPole pays 1 for each step
    assert sum(steps) == sum(random) + sum(zero)
    steps.clear()
    pool = list(measure_pool(CARTPOLE, ANGLE_ONLY, range(3), on_steps=steps.append))
    assert sum(steps) == sum(episode.length for episode in pool)


def test_standing_still_beats_acting_at_random_in_hopper():
    """Why competence asks for both: beating the random policy alone is no feat here."""
    random, zero = measure_references(HOPPER, 20, 20)
    assert 8 < np.mean(random) < 30
    assert 100 < np.mean(zero) < 200
    returns = tuple(0.5 * (np.mean(random) + np.mean(zero)) + offset for offset in (-1.0, 0.0, 1.0))
    reason = Reference(returns, (0, 1, 2), random, zero).competence()
    assert reason is not None
    assert "beat the zero-action policy" in reason


@pytest.fixture(scope="module")
def reference() -> Reference:
    random, zero = measure_references(CARTPOLE, 50, 50)
    pool = measure_pool(CARTPOLE, GOOD, range(60))
    returns, seeds = zip(*((episode.total, episode.seed) for episode in pool), strict=True)
    return Reference(returns, seeds, random, zero)


def judged(candidate: Linear, sha: str, reference: Reference) -> Verdict:
    settings = RetentionSettings()
    seeds = episode_seeds(sha, str(CARTPOLE), settings, settings.max_episodes)
    returns = (episode.total for episode in rollout(CARTPOLE, candidate, seeds))
    return judge(returns, reference, settings, policy="linear", variant="test")


def test_from_measured_references_to_a_verdict(reference):
    kept = judged(Linear(0.0, 0.0, 3.0, 1.0), "a" * 64, reference)
    assert kept.state is State.PASS
    assert kept.estimate == pytest.approx(1, abs=0.02)
    lost = judged(ANGLE_ONLY, "b" * 64, reference)
    assert lost.state is State.FAIL
    assert lost.estimate < 0.1
    assert judged(ANGLE_ONLY, "b" * 64, reference) == lost
