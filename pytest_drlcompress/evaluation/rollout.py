"""Rollouts of an artifact or a reference policy on an environment specification.

An episode's return depends on the artifact, the environment and the seed alone: not on the
number of slots or workers, nor on the other seeds.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError
from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.environments.engine import Engine
from pytest_drlcompress.environments.engines import OUR_ENGINES, Engines
from pytest_drlcompress.environments.perturbation import UNPERTURBED, EpisodeNoise, Perturbation
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.episodes import Actor, Episode, run_episodes
from pytest_drlcompress.evaluation.executors.base import LEAST_SLOTS, Executor
from pytest_drlcompress.evaluation.executors.factory import make_executor
from pytest_drlcompress.evaluation.recurrent import RecurrentActor
from pytest_drlcompress.runtime.controller import Runtime
from pytest_drlcompress.runtime.factory import make_runtime
from pytest_drlcompress.runtime.recurrent import Recurrent

SLOTS = 32
"""Environments stepped together by one worker.

More would be a few per cent faster a step, and would have more episodes in flight, whose steps
are lost when a gate has decided. So several workers share them, down to the executor's
``least_slots`` each.
"""

STEP_TIMEOUT_S = 60.0
"""How long one step of a worker's environments may take before they are taken to hang."""


def rollout(
    spec: EnvSpec,
    actor: Actor | bytes,
    seeds: Sequence[int],
    *,
    record: bool = False,
    on_steps: Callable[[int], None] = lambda steps: None,
    workers: int | Executor = 1,
    slots: int | None = None,
    engines: Engines = OUR_ENGINES,
    runtime: Runtime | None = None,
    perturbation: Perturbation = UNPERTURBED,
    observation_std: NDArray[np.float64] | None = None,
    step_timeout_s: float | None = STEP_TIMEOUT_S,
) -> Generator[Episode, None, None]:
    """Episodes of ``actor`` on ``spec`` in the order of ``seeds``.

    ``actor`` is an artifact's bytes, which each worker loads into ``runtime`` (default: ONNX
    Runtime), a reference policy, or (with one worker) a live controller. ``workers`` is an
    executor, which serves one rollout after the other, or the number of workers of a new local
    one. ``on_steps(n)`` is called in the calling thread with the steps made since the last call.
    Close the iterator when no more episodes are wanted: that stops the workers. ``slots`` is the
    number of environments of each worker (default: by the number of workers). ``engines``
    chooses what steps them.

    ``observation_std`` ``(*observation_shape,)`` scales ``perturbation.observation_noise``.
    ``step_timeout_s`` applies where the engine ``may_hang``. An environment that hangs in a process
    is killed with it; in the thread it is interrupted if it runs Python code, else left behind.
    ``None`` means no limit, and with one worker no thread.

    Raises:
        ActionError: an action outside the action space, or of another shape.
        ArtifactError: the artifact cannot be loaded.
        EnvironmentSpecError: the environment cannot be made.
        EpisodeError: an episode could not be completed, a worker died, or a step took too long.
    """
    count, least = (
        (workers, LEAST_SLOTS)
        if isinstance(workers, int)
        else (workers.workers, workers.least_slots)
    )
    if perturbation.observation_noise and observation_std is None:
        raise TypeError("observation noise needs observation_std, the unit it is given in")
    if perturbation.observation_noise and any(part.sizes for part in spec.parts):
        raise EnvironmentSpecError(
            f"environment {str(spec)!r} has integers among its observations, which noise would turn"
            " into others: leave observation_noise out"
        )
    engine = engines.choose(spec, perturbation)
    stall_s = step_timeout_s if engine.may_hang else None
    work = _Work(
        spec=spec,
        make_actor=_maker(actor, count, runtime or make_runtime(), fill=slots is None),
        slots=slots or max(SLOTS // count, least),
        record=record,
        perturbation=perturbation,
        observation_std=observation_std,
        engines=engines,
        engine=engine,
    )
    return _run(work, seeds, workers, stall_s, on_steps)


class RandomActor:
    """Uniformly random actions, drawn for each episode from its own seed."""

    def __init__(self, action: ActionSpec) -> None:
        self.action = action
        self._generators: dict[int, np.random.Generator] = {}
        self._idle = np.random.default_rng(0)  # for slots without an episode

    def begin(self, slot: int, seed: int) -> None:
        """Restart the slot's random numbers."""
        # a second entropy word: Gymnasium's own reset uses SeedSequence(seed)
        self._generators[slot] = np.random.default_rng([seed, 1])

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """One draw for each slot."""
        generators = [self._generators.get(slot, self._idle) for slot in range(len(observations))]
        if self.action.discrete:
            return np.concatenate([self.action.random_integers(g, 1) for g in generators])
        low, high = _finite_bounds(self.action)
        return np.stack([g.uniform(low, high) for g in generators]).astype(np.float32)


class ZeroActor:
    """The zero action (for a box that excludes zero: its nearest point; discrete: the first)."""

    def __init__(self, action: ActionSpec) -> None:
        self.action = action
        if action.discrete:
            self._still: NDArray[Any] = np.full(action.shape, action.start, np.int64)
        else:
            self._still = np.clip(np.zeros(action.shape, np.float32), action.low, action.high)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The same action for every slot."""
        return np.broadcast_to(self._still, (len(observations), *self._still.shape))


@dataclass(frozen=True, eq=False)
class _Work:
    """A rollout's instructions; implements ``Work``.

    The engine is not sent to other processes: each chooses its own, to the same effect.
    """

    spec: EnvSpec
    make_actor: Callable[[], Actor]
    slots: int
    record: bool
    perturbation: Perturbation
    observation_std: NDArray[np.float64] | None
    engines: Engines
    engine: Engine | None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "engine": None, "registered": self.spec.registration}

    def __setstate__(self, state: dict[str, Any]) -> None:
        registered = state.pop("registered")
        if registered is not None:
            gym.registry[registered.id] = registered
        self.__dict__.update(state)

    def run(
        self, seeds: Iterable[int], on_steps: Callable[[int], None]
    ) -> Generator[Episode, None, None]:
        """Episodes in the order of ``seeds``; ``on_steps(0)`` once the environments are made."""
        engine = self.engine or self.engines.choose(self.spec, self.perturbation)
        noise, actor, action = None, self.make_actor(), self.spec.action
        if self.perturbation.noisy:
            noise = EpisodeNoise(self.perturbation, action, self.slots, self.observation_std)
        with closing(engine.vector_env(self.slots)) as envs:
            on_steps(0)
            yield from run_episodes(
                envs,
                actor,
                action,
                seeds,
                record=self.record,
                noise=noise,
                on_start=getattr(actor, "begin", _ignore),
                on_steps=on_steps,
            )


def _run(
    work: _Work,
    seeds: Sequence[int],
    workers: int | Executor,
    stall_s: float | None,
    on_steps: Callable[[int], None],
) -> Generator[Episode, None, None]:
    with ExitStack() as stack:
        executor = workers
        if isinstance(executor, int):
            executor = stack.enter_context(closing(make_executor(workers=executor)))
        yield from executor.run(work, seeds, stall_s=stall_s, on_steps=on_steps)


@dataclass(frozen=True, eq=False)
class _Tiles:
    """Runs ``actor`` on ``LEAST_SLOTS`` observations at a time.

    With ``fill``, fewer are filled up to so many where their number could matter.
    """

    actor: Actor
    fill: bool = False

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """What ``actor`` does in each slot."""
        count = len(observations)
        if count < LEAST_SLOTS and self.fill:
            batch = np.zeros((LEAST_SLOTS, *observations.shape[1:]), observations.dtype)
            batch[:count] = observations
            return self.actor.act(batch)[:count]
        if count <= LEAST_SLOTS:
            return self.actor.act(observations)
        starts = range(0, count, LEAST_SLOTS)
        return np.concatenate(
            [self.actor.act(observations[start : start + LEAST_SLOTS]) for start in starts]
        )


def _tiled(actor: Actor, *, fill: bool = False) -> Actor:
    if getattr(actor, "states", ()):
        return RecurrentActor(cast("Recurrent", actor), LEAST_SLOTS)
    return _Tiles(actor, fill=fill)


def _tiled_controller(runtime: Runtime, model: bytes, *, fill: bool) -> Actor:
    controller = runtime.load(model)
    # others run their rows one by one
    return _tiled(controller, fill=fill and controller.batch_invariant)


def _maker(
    actor: Actor | bytes, count: int, runtime: Runtime, *, fill: bool
) -> Callable[[], Actor]:
    if isinstance(actor, bytes):
        return partial(_tiled_controller, runtime, actor, fill=fill)
    if isinstance(actor, RandomActor | ZeroActor):
        return partial(type(actor), actor.action)
    if count > 1:
        raise TypeError(
            f"a live {type(actor).__name__} cannot be shared by {count} workers: give the"
            " artifact's bytes"
        )
    return partial(_tiled, actor)


def _finite_bounds(action: ActionSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # an unbounded box has no uniform distribution; Gymnasium samples those around zero too
    return (
        np.where(np.isfinite(action.low), action.low, np.float32(-1)),
        np.where(np.isfinite(action.high), action.high, np.float32(1)),
    )


def _ignore(slot: int, seed: int) -> None:  # noqa: ARG001 (a callback)
    return None
