"""Episodes in the order of their seeds, many environments stepped together.

One loop serves every environment and every controller. A ``Stepper`` advances the
environments; the loop assigns seeds to its slots, runs the controller once per step on all
slots (always the same batch shape, so that no result can depend on how many are busy),
and hands the episodes out in the order of their seeds: a verdict that read them in the
order of finishing would see falls first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.errors import ActionError, EpisodeError
from pytest_drlcompress.policies.environment import ActionSpec


@dataclass(frozen=True)
class Episode:
    """One finished episode: undiscounted return and length in steps.

    ``observations`` is ``(length, *observation_shape)``, what the policy saw, where the
    rollout was asked to record it.
    """

    seed: int
    total: float
    length: int
    observations: NDArray[Any] | None = None


class Stepper(Protocol):
    """``slots`` copies of one environment.

    ``observations`` is ``(slots, *observation_shape)``; ``reset`` and ``step`` update it in
    place and leave rows of slots outside ``busy`` as they were.
    """

    slots: int
    observations: NDArray[Any]

    def reset(self, slot: int, seed: int) -> None:
        """Start the episode of ``seed`` in ``slot``, as ``env.reset(seed=seed)`` does."""
        ...

    def step(
        self, actions: NDArray[Any], busy: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Advance the busy slots; rewards and "episode over" (either kind), both ``(slots,)``."""
        ...

    def close(self) -> None:
        """Release what the environments hold."""
        ...


class Pilot(Protocol):
    """Chooses actions: a ``Controller``, or a reference such as the random policy."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions ``(slots, *action_shape)``."""
        ...


def run_episodes(
    stepper: Stepper,
    pilot: Pilot,
    action: ActionSpec,
    seeds: Sequence[int],
    *,
    record: bool = False,
    on_start: Callable[[int, int], None] = lambda slot, seed: None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Iterator[Episode]:
    """Run one episode for each seed and yield them in that order.

    ``on_start(slot, seed)`` is called before an episode's first step, ``on_steps(n)`` after
    each step of ``n`` environments. Closing the iterator drops the episodes in flight.

    Raises:
        ActionError: an action outside the action space, NaN included.
        EpisodeError: a reward or an observation that is not finite.
    """
    slots = stepper.slots
    index = np.full(slots, -1)
    totals, lengths = np.zeros(slots), np.zeros(slots, int)
    seen: list[list[NDArray[Any]]] = [[] for _ in range(slots)]
    finished: dict[int, Episode] = {}
    started = handed_out = 0

    def start(slot: int) -> None:
        nonlocal started
        index[slot] = -1
        if started < len(seeds):
            stepper.reset(slot, seeds[started])
            on_start(slot, seeds[started])
            index[slot], totals[slot], lengths[slot] = started, 0.0, 0
            seen[slot] = []
            started += 1

    for idle in range(slots):
        start(idle)
    while handed_out < len(seeds):
        busy = index >= 0
        if record:
            for slot in np.flatnonzero(busy).tolist():
                seen[slot].append(stepper.observations[slot].copy())
        actions = pilot.act(stepper.observations)
        if not action.contains(actions[busy]):
            raise _action_error(
                action=action,
                actions=actions,
                index=index,
                seeds=seeds,
                lengths=lengths,
                observations=stepper.observations,
            )
        rewards, over = stepper.step(actions, busy)
        totals[busy] += rewards[busy]
        lengths[busy] += 1
        if not np.all(np.isfinite(rewards[busy])):
            bad = int(np.flatnonzero(busy & ~np.isfinite(rewards))[0])
            raise EpisodeError(
                f"the environment returned reward {rewards[bad]} at step {lengths[bad]} of the"
                f" episode with seed {seeds[index[bad]]}"
            )
        on_steps(int(busy.sum()))
        for slot in np.flatnonzero(over & busy).tolist():
            rows = np.stack(seen[slot]) if record else None
            position = int(index[slot])
            finished[position] = Episode(
                seeds[position], float(totals[slot]), int(lengths[slot]), rows
            )
            start(slot)
        while handed_out in finished:
            episode = finished.pop(handed_out)
            handed_out += 1
            yield episode


def _action_error(
    *,
    action: ActionSpec,
    actions: NDArray[Any],
    index: NDArray[Any],
    seeds: Sequence[int],
    lengths: NDArray[Any],
    observations: NDArray[Any],
) -> EpisodeError:
    for slot in np.flatnonzero(index >= 0).tolist():
        if not action.contains(actions[slot : slot + 1]):
            where = f"step {lengths[slot] + 1} of the episode with seed {seeds[index[slot]]}"
            if not np.all(np.isfinite(observations[slot])):
                return EpisodeError(f"the environment returned NaN or infinity before {where}")
            value = np.array2string(np.asarray(actions[slot]), precision=4, threshold=8)
            return ActionError(f"action {value} at {where} is outside {action.describe()}")
    raise AssertionError("called although every action is inside")
