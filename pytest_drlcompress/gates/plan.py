"""What retention gates will cost: episodes and minutes expected, before anything is run."""

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.evaluation.eprocess import (
    POOL_SHARE,
    ReturnRange,
    log_e_values,
    log_threshold,
)
from pytest_drlcompress.evaluation.reference import Reference
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout
from pytest_drlcompress.gates.kinds import RETENTION
from pytest_drlcompress.workbench.candidate import Candidate
from pytest_drlcompress.workbench.loaded import LoadedPolicy

_PROBE_S = 0.3
"""How long the speed of an environment is measured."""

_SIMULATED_GATES = 50

_LEAST_POOL = 200
"""What a policy without a recorded pool needs at least."""

_USUAL_EPISODES = 50
"""What a policy of which nothing is known may need: a tight one that keeps everything."""


@dataclass(frozen=True)
class PlannedGate:
    """One gate. ``why`` says where ``episodes`` comes from."""

    policy: str
    variant: str
    episodes: int
    why: str


def plan_gate(candidate: Candidate, limit: float) -> PlannedGate:
    """The episodes that the retention gate of ``candidate`` is expected to run.

    As many as when it was recorded with this limit, where it was and the baseline's pool decides
    as it did then; else as many as a candidate takes that keeps everything.
    """
    settings, record = candidate.settings, candidate.loaded.record
    cap = settings.max_episodes
    if record is None:
        why = "nothing is recorded of it; at best"
        return PlannedGate(candidate.policy, candidate.id, min(_USUAL_EPISODES, cap), why)
    recorded = record.verdicts.get(candidate.id, {}).get(RETENTION.name, {})
    if recorded.get("limit") == limit and recorded.get("sample_size"):
        episodes = min(int(recorded["sample_size"]), cap)
        return PlannedGate(candidate.policy, candidate.id, episodes, "as recorded")
    expected = _expected_episodes(record.reference, limit, settings)
    return PlannedGate(candidate.policy, candidate.id, expected, "if it keeps everything")


def plan_lines(gates: Iterable[tuple[LoadedPolicy, PlannedGate]], settings: Settings) -> list[str]:
    """The plan as lines to print: one for each policy, and the sum."""
    by_policy: dict[str, tuple[LoadedPolicy, list[PlannedGate]]] = {}
    for loaded, gate in gates:
        by_policy.setdefault(gate.policy, (loaded, []))[1].append(gate)
    lines, count, total, most = [], 0, 0.0, 0.0
    for policy, (loaded, planned) in by_policy.items():
        length, rate = _length(loaded), _steps_per_second(loaded)
        pool = _LEAST_POOL if loaded.record is None else 0
        episodes = pool + sum(gate.episodes for gate in planned)
        minutes = episodes * length / rate / 60
        count += len(planned)
        total += minutes
        most += (pool + len(planned) * settings.max_episodes) * length / rate / 60
        parts = ", ".join(f"{gate.variant} {gate.episodes} ({gate.why})" for gate in planned)
        own = f", {pool} of its own for the reference" if pool else ""
        lines.append(
            f"{policy}: {parts}{own}; {episodes:,} episodes of {length:,.0f} steps at"
            f" {rate:,.0f} steps/s: {minutes:.1f} min"
        )
    summary = (
        f"plan: {count} retention gates, {total:.1f} min expected, {most:.0f} min if each took"
        f" {settings.max_episodes:,} episodes. Cached episodes cost nothing; compression and the"
        " other gates come on top. Nothing was run."
    )
    return [*lines, summary]


def _expected_episodes(reference: Reference, limit: float, settings: Settings) -> int:
    """The mean of gates on returns drawn from the pool itself."""
    if reference.competence(settings.alpha) is not None:
        return 0
    rng = np.random.default_rng(settings.seed)
    returns = rng.choice(np.array(reference.returns), (_SIMULATED_GATES, settings.max_episodes))
    declared = ReturnRange(reference.random_mean, reference.low, reference.high)
    bounds = reference.mean_bounds(POOL_SHARE * settings.alpha)
    sides = log_e_values(returns, bounds, declared, limit)
    crossed = np.maximum(*sides) >= log_threshold(settings.alpha)
    used = np.where(crossed.any(1), crossed.argmax(1) + 1, settings.max_episodes)
    return round(float(used.mean()))


def _length(loaded: LoadedPolicy) -> float:
    """Steps of an episode: the recorded mean, else the most there can be."""
    if loaded.record is not None and loaded.record.length is not None:
        return loaded.record.length
    import gymnasium as gym

    return float(gym.spec(loaded.policy.env.id).max_episode_steps or 1000)


def _steps_per_second(loaded: LoadedPolicy) -> float:
    """What all workers together make of it, by a moment of doing nothing in the environment."""
    spec, steps, started = loaded.policy.env, 0, 0.0

    def count(made: int) -> None:
        nonlocal steps, started
        # the first call tells that the environments are made
        started, steps = (started or time.monotonic()), steps + made

    actor, engines = ZeroActor(spec.action), loaded.tools.engines
    episodes = rollout(spec, actor, range(10_000), slots=16, on_steps=count, engines=engines)
    with closing(episodes):
        for _ in episodes:
            if time.monotonic() - started > _PROBE_S:
                break
    elapsed = max(time.monotonic() - started, 1e-3)
    return max(steps, 1) / elapsed * loaded.tools.executor.workers
