"""Episodes in the order of their seeds, many environments stepped together.

One loop serves every environment and every controller. A ``VectorEnv`` advances the
environments; the loop assigns seeds to its slots, runs the controller once per step on all
slots (always the same batch shape, so that no result can depend on how many are busy),
and hands the episodes out in the order of their seeds: a verdict that read them in the
order of finishing would see falls first. An episode that fails is kept until its turn comes
as well: what a gate sees does not depend on what else was in flight.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import ActionError, DrlcError, EpisodeError
from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.environments.engine import VectorEnv


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


class Actor(Protocol):
    """Chooses actions: a ``Controller``, or a reference such as the random policy."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions ``(slots, *action_shape)``."""
        ...


class Noise(Protocol):
    """Disturbs what the policy sees and does, by random numbers of each episode's own seed."""

    def begin(self, slot: int, seed: int) -> None:
        """Restart the slot's random numbers."""
        ...

    def observe(self, observations: NDArray[Any]) -> NDArray[Any]:
        """What the policy sees of ``observations`` ``(slots, *shape)``; called once a step."""
        ...

    def disturb(self, actions: NDArray[Any]) -> NDArray[Any]:
        """What the environments get, inside the action space; called once after ``observe``."""
        ...


def run_episodes(
    envs: VectorEnv,
    actor: Actor,
    action: ActionSpec,
    seeds: Iterable[int],
    *,
    record: bool = False,
    noise: Noise | None = None,
    on_start: Callable[[int, int], None] = lambda slot, seed: None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Iterator[Episode]:
    """Run one episode for each seed and yield them in that order.

    ``on_start(slot, seed)`` is called before an episode's first step, ``on_steps(n)`` after
    each step of ``n`` environments. Closing the iterator drops the episodes in flight.

    Raises:
        ActionError: an action outside the action space, NaN included, or of another shape.
        EpisodeError: the environment or the policy failed, or a reward or an observation
            is not finite. Episodes with earlier seeds are yielded first.
    """
    running = _Running(envs, action, seeds, on_start, noise, record=record)
    for slot in range(envs.slots):
        running.start(slot)
    while True:
        while running.ready:
            yield running.next_result()
        if running.done:
            return
        observations = envs.observations
        if noise is not None:
            observations = noise.observe(observations)
        running.see(observations)
        actions = _act(actor, observations, action)
        running.check_actions(actions)
        if noise is not None:
            actions = noise.disturb(actions)
        if running.count:
            rewards, over = envs.step(actions, running.busy)
            steps = running.count
            running.advance(rewards, over)
            on_steps(steps)


class _Running:
    """Which episode each slot is in, and the results whose turn has not come.

    At 40,000 steps a second every microsecond here is a per cent or so: the checks of each step
    are one number for all slots, and only where that looks wrong, slot by slot.
    """

    def __init__(
        self,
        envs: VectorEnv,
        action: ActionSpec,
        seeds: Iterable[int],
        on_start: Callable[[int, int], None],
        noise: Noise | None,
        *,
        record: bool,
    ) -> None:
        self._envs, self._on_start, self._noise = envs, on_start, noise
        self._action, self._coming = action, iter(seeds)
        # what is inside these is inside the action space, in every dimension
        self._least, self._most = action.least, action.most
        slots = envs.slots
        self.busy: NDArray[np.bool_] = np.zeros(slots, np.bool_)
        self.count = 0
        self._position, self._seeds = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self._totals, self._lengths = np.zeros(slots), np.zeros(slots, np.int64)
        self._seen: list[list[NDArray[Any]]] | None = [[] for _ in range(slots)] if record else None
        self._results: dict[int, Episode | EpisodeError] = {}
        self._started = self._handed_out = 0
        self._failed = False

    @property
    def ready(self) -> bool:
        """Whether the result whose turn it is is there."""
        return self._handed_out in self._results

    @property
    def done(self) -> bool:
        """Whether every result has been handed out."""
        return self.count == 0 and self._handed_out == self._started

    def start(self, slot: int) -> None:
        """Give ``slot`` the next seed, if one is left."""
        seed = None if self._failed else next(self._coming, None)
        if seed is None:
            return
        self._seeds[slot], self._position[slot] = seed, self._started
        self._totals[slot], self._lengths[slot] = 0.0, 0
        self._started += 1
        try:
            self._envs.reset(slot, seed)
        except EpisodeError as error:
            self._fail(slot, error)
            return
        self._on_start(slot, seed)
        if self._noise is not None:
            self._noise.begin(slot, seed)
        if self._seen is not None:
            self._seen[slot] = []
        self._set(slot, busy=True)

    def next_result(self) -> Episode:
        """The episode whose turn it is.

        Raises:
            EpisodeError: it failed.
        """
        result = self._results.pop(self._handed_out)
        self._handed_out += 1
        if isinstance(result, EpisodeError):
            raise result
        return result

    def see(self, observations: NDArray[Any]) -> None:
        """Check and record what the policy is about to see."""
        # a sum: a dot product of so many numbers wakes the threads of OpenBLAS
        if observations.dtype.kind == "f" and not math.isfinite(observations.sum()):
            flat = observations.reshape(len(observations), -1)
            for slot in np.flatnonzero(self.busy & ~np.isfinite(flat).all(1)).tolist():
                message = f"the environment returned NaN or infinity before {self._where(slot)}"
                self._fail(slot, EpisodeError(message))
        if self._seen is not None:
            for slot in np.flatnonzero(self.busy).tolist():
                self._seen[slot].append(observations[slot].copy())

    def check_actions(self, actions: NDArray[Any]) -> None:
        """Take out the slots whose action is outside the action space."""
        if self._least <= actions.min() and actions.max() <= self._most:
            return
        action = self._action
        if action.contains(actions if self.count == len(actions) else actions[self.busy]):
            return
        for slot in np.flatnonzero(self.busy).tolist():
            if not action.contains(actions[slot : slot + 1]):
                value = np.array2string(np.asarray(actions[slot]), precision=4, threshold=8)
                message = f"action {value} at {self._where(slot)} is outside {action.describe()}"
                cause = action.cause_outside(np.asarray(actions[slot : slot + 1]))
                self._fail(slot, ActionError(message, cause))

    def advance(self, rewards: NDArray[np.float64], over: NDArray[np.bool_]) -> None:
        """Count the step that was made; hand out what ended and start what comes next."""
        if self._envs.failures:
            for slot, error in self._envs.failures.items():
                self._fail(slot, EpisodeError(f"{error} at {self._where(slot)}"))
        if not math.isfinite(rewards.sum()):
            for slot in np.flatnonzero(self.busy & ~np.isfinite(rewards)).tolist():
                message = f"the environment returned reward {rewards[slot]} at {self._where(slot)}"
                self._fail(slot, EpisodeError(message))
        self._totals += rewards  # of idle slots too: they begin with 0 again
        self._lengths += self.busy
        if np.count_nonzero(over):
            for slot in np.flatnonzero(over & self.busy).tolist():
                self._end(slot)
                self.start(slot)

    def _end(self, slot: int) -> None:
        position = int(self._position[slot])
        rows = None if self._seen is None else np.stack(self._seen[slot])
        self._results[position] = Episode(
            int(self._seeds[slot]), float(self._totals[slot]), int(self._lengths[slot]), rows
        )
        self._set(slot, busy=False)

    def _fail(self, slot: int, error: EpisodeError) -> None:
        position = int(self._position[slot])
        self._results[position] = error
        self._failed = True
        self._set(slot, busy=False)
        for later in np.flatnonzero(self.busy & (self._position > position)).tolist():
            self._set(later, busy=False)

    def _set(self, slot: int, *, busy: bool) -> None:
        self.count += int(busy) - int(self.busy[slot])
        self.busy[slot] = busy

    def _where(self, slot: int) -> str:
        return f"step {self._lengths[slot] + 1} of the episode with seed {self._seeds[slot]}"


def _act(actor: Actor, observations: NDArray[Any], action: ActionSpec) -> NDArray[Any]:
    try:
        actions = actor.act(observations)
    except DrlcError:
        raise
    except Exception as error:  # a runtime raises its own classes
        text = " ".join(str(error).split())
        raise EpisodeError(
            f"the policy failed on observations of shape {observations.shape[1:]}: {text}"
        ) from error
    if actions.shape != (len(observations), *action.shape):
        raise ActionError(
            f"the policy's action has shape {actions.shape[1:]}, the action space is"
            f" {action.describe()}"
        )
    return actions
