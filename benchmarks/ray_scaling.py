# ruff: noqa: INP001 (a script)
"""Throughput of 1 to 16 Ray workers on environments that wait, and what an episode costs.

``python benchmarks/ray_scaling.py``; needs ``pytest-drlcompress[ray]``. A step sleeps for 50 ms, so
that 16 workers fit two cores: what keeps them from 16 times the throughput of one is Ray and us.
"""

import time

import gymnasium as gym
import numpy as np

from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.executors.ray.executor import RayExecutor
from pytest_drlcompress.evaluation.executors.ray.run import RayRun
from pytest_drlcompress.evaluation.executors.ray.supply import Helpers
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout

WORKERS = (1, 2, 4, 8, 16)
STEPS = 10


class Waiting(gym.Env):  # type: ignore[type-arg]
    """An episode of ``STEPS`` steps of ``delay`` seconds."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, delay: float = 0.05) -> None:
        self.delay = delay

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]  # noqa: ARG002, D102
        self.steps = 0
        return np.zeros(2), {}

    def step(self, action):  # type: ignore[no-untyped-def]  # noqa: ARG002, D102
        time.sleep(self.delay)
        self.steps += 1
        return np.zeros(2), 1.0, self.steps >= STEPS, False, {}


def seconds(spec: EnvSpec, executor: int | Executor, episodes: int) -> float:
    """What ``episodes`` take."""
    started = time.monotonic()
    list(rollout(spec, ZeroActor(spec.action), range(episodes), workers=executor, slots=4))
    return time.monotonic() - started


def main() -> None:
    """Measure and print."""
    gym.register("drlcBenchmarks/Waiting-v0", Waiting, disable_env_checker=True)
    slow = EnvSpec.parse("drlcBenchmarks/Waiting-v0")
    quick = EnvSpec.parse("drlcBenchmarks/Waiting-v0:delay=0")
    run = RayRun(workers=max(WORKERS))
    seconds(quick, run, 100)
    while len(run.pool.nodes) == 0 or len(run.pool._free) < max(WORKERS):  # noqa: SLF001
        time.sleep(0.1)
    actors = [worker.actor for worker in run.pool.take(max(WORKERS))]
    print("workers  steps/s  of ideal")
    for count in WORKERS:
        executor = RayExecutor(Helpers(actors[:count]), thread=False)
        seconds(quick, executor, 8 * count)
        rate = 16 * count * STEPS / seconds(slow, executor, 16 * count)
        print(f"{count:7}  {rate:7.1f}  {rate / (count / 0.05):.1%}", flush=True)
    one = RayExecutor(Helpers(actors[:1]), thread=False)
    there, here = min(seconds(quick, one, 2000) for _ in range(3)), seconds(quick, 1, 2000)
    print(
        f"an episode of {STEPS} steps that take no time: {there / 2:.2f} ms there,"
        f" {here / 2:.2f} ms here"
    )
    run.close()


if __name__ == "__main__":
    main()
