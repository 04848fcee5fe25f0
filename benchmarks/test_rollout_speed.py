# ruff: noqa: D102, D103, INP001 (written like the tests)
"""How fast episodes run: ours, Stable-Baselines3, Gymnasium's vector environments, bare physics.

    pytest benchmarks/test_rollout_speed.py -s

All contenders fly the same random 2x256 actor and take turns, round after round, so that whatever
else the machine does hits all of them. Rates on one core are per second of CPU time, those
on two cores per second of time. Ratios are medians over rounds of the ratio within a round.
Bare physics is ``mj_step`` with the same frame skip from recorded states of whole episodes under
recorded controls: what no rollout can exceed. Nothing is asserted about speed.
"""

import os
import statistics
import time

import gymnasium as gym
import mujoco
import mujoco.rollout
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from torch import nn

from pytest_drlcompress.environments.engines import engine_choice
from pytest_drlcompress.environments.mujoco.engine import quiet_mujoco
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.local import WorkerPool
from pytest_drlcompress.evaluation.rollout import SLOTS, rollout
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import squash_layers
from pytest_drlcompress.runtime.onnxruntime import OnnxController

ROUNDS = int(os.environ.get("DRLC_BENCHMARK_ROUNDS", "5"))
SECONDS = float(os.environ.get("DRLC_BENCHMARK_SECONDS", "1.0"))
WARM_UP = 0.3
STRETCHES, CHUNK = 250, 4
"""Recorded stretches of physics, at least, and the environment steps of each."""


class EnoughError(Exception):
    """Ends a measurement."""


class Contest:
    """One environment and what flies in it. Each contender returns steps per second."""

    def __init__(self, task, pool):
        torch.set_num_threads(1)
        self.spec, self.pool = EnvSpec.parse(task), pool
        assert engine_choice(self.spec).name == "mujoco", engine_choice(self.spec).reason
        with quiet_mujoco():
            self.single = self.spec.make()
            self.sac = SAC("MlpPolicy", self.single, buffer_size=1, seed=0, device="cpu")
            make = [self.spec.make] * SLOTS
            self.vectors = {
                "sync": gym.vector.SyncVectorEnv(make),
                "async": gym.vector.AsyncVectorEnv(make),
            }
        actor, action = self.sac.actor, self.spec.action
        network = nn.Sequential(
            *actor.latent_pi, actor.mu, *squash_layers(action.low, action.high), nn.Hardtanh()
        )
        shape, dtype, _ = self.spec.spaces
        self.artifact = export_onnx(network.eval(), shape, dtype)
        self.controller = OnnxController(self.artifact)
        for vector in self.vectors.values():
            vector.reset(seed=0)
        self.record()

    def close(self):
        for vector in self.vectors.values():
            vector.close()

    def record(self):
        """Physics states every ``CHUNK`` steps, and the controls in between."""
        env = self.single.unwrapped
        self.model, self.frame_skip = env.model, env.frame_skip
        kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
        size = mujoco.mj_stateSize(self.model, kind)
        self.states, self.controls, seed = [], [], 0
        while len(self.states) < STRETCHES:
            observation, _ = self.single.reset(seed=seed)
            states, controls, over = [], [], False
            while not over:
                states.append(np.zeros(size))
                mujoco.mj_getState(self.model, env.data, states[-1], kind)
                action = self.controller.act(observation[None])[0]
                observation, _, terminated, truncated, _ = self.single.step(action)
                controls.append(action.astype(np.float64))
                over = terminated or truncated
            # counted from the end: a fall has more contacts than what leads to it, and costs more
            starts = range(len(states) % CHUNK, len(states), CHUNK)
            self.states += [states[start] for start in starts]
            self.controls += [controls[start : start + CHUNK] for start in starts]
            seed += 1
        self.states, self.controls = np.array(self.states), np.array(self.controls)

    def evaluate_policy(self):
        steps = 0

        def count(*_):
            nonlocal steps
            steps += 1
            if time.process_time() > end:
                raise EnoughError

        self.single.reset(seed=0)
        start = time.process_time()
        end = start + SECONDS
        with pytest.raises(EnoughError):
            evaluate_policy(self.sac, self.single, 10**9, callback=count, warn=False)
        return steps / (time.process_time() - start)

    def sync(self):
        return self._vector("sync", time.process_time)

    def asynchronous(self):
        return self._vector("async", time.perf_counter)

    def _vector(self, kind, clock):
        vector, steps = self.vectors[kind], 0
        observations, _ = vector.reset(seed=0)
        start = clock()
        while clock() < start + SECONDS:
            observations, *_ = vector.step(self.controller.act(observations))
            steps += SLOTS
        return steps / (clock() - start)

    def ours(self, *, slots=None, clock=time.process_time, workers=1):
        """From when every worker is up, as the others are measured from when they are made."""
        steps, start, ready = 0, 0.0, time.perf_counter() + WARM_UP

        def count(made):
            nonlocal steps, start
            if time.perf_counter() < ready:
                start = clock()
                return
            steps += made
            if clock() > start + SECONDS:
                raise EnoughError

        with pytest.raises(EnoughError):
            list(
                rollout(
                    self.spec,
                    self.artifact,
                    range(10**6),
                    on_steps=count,
                    workers=workers,
                    slots=slots,
                )
            )
        return steps / (clock() - start)

    def ours_many_slots(self):
        return self.ours(slots=64)

    def ours_one_worker(self):
        return self.ours(clock=time.perf_counter)

    def ours_two_workers(self):
        return self.ours(clock=time.perf_counter, workers=self.pool)

    def bare(self):
        model, data = self.model, mujoco.MjData(self.model)
        kind, steps = mujoco.mjtState.mjSTATE_FULLPHYSICS, 0
        start = time.process_time()
        while True:
            for state, controls in zip(self.states, self.controls, strict=True):
                mujoco.mj_setState(model, data, state, kind)
                for control in controls:
                    data.ctrl[:] = control
                    mujoco.mj_step(model, data, nstep=self.frame_skip)
                steps += CHUNK
                if time.process_time() > start + SECONDS:
                    return steps / (time.process_time() - start)

    def bare_two_cores(self):
        data = [mujoco.MjData(self.model) for _ in range(2)]
        controls = np.repeat(self.controls, self.frame_skip, axis=1)
        steps, start = 0, time.perf_counter()
        with mujoco.rollout.Rollout(nthread=2) as pool:
            while time.perf_counter() < start + SECONDS:
                pool.rollout(self.model, data, self.states, controls)
                steps += self.controls.shape[0] * CHUNK
        return steps / (time.perf_counter() - start)


ROWS = (
    # contender, cores, compared with
    ("evaluate_policy", 1, "bare"),
    ("sync", 1, "bare"),
    ("ours", 1, "bare"),
    ("ours_many_slots", 1, "bare"),
    ("bare", 1, "bare"),
    ("asynchronous", 2, "bare_two_cores"),
    ("ours_one_worker", 2, "bare_two_cores"),
    ("ours_two_workers", 2, "bare_two_cores"),
    ("bare_two_cores", 2, "bare_two_cores"),
)


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(2) as others:
        yield others


@pytest.mark.parametrize("task", ["Hopper-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5"])
def test_rollout_speed(task, pool, benchmark, capsys):
    contest = Contest(task, pool)
    try:
        contest.ours_two_workers()  # the worker starts
        rates = {name: [] for name, _, _ in ROWS}
        for _ in range(ROUNDS):
            for name, _, _ in ROWS:
                rates[name].append(getattr(contest, name)())
    finally:
        contest.close()

    def ratio(name, base):
        return statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))

    lines = [f"{task:20} cores    steps/s  x evaluate_policy  of bare physics"]
    for name, cores, base in ROWS:
        rate = statistics.median(rates[name])
        speedup, share = ratio(name, "evaluate_policy"), ratio(name, base)
        lines.append(f"{name:20} {cores:5} {rate:10,.0f} {speedup:18.1f} {share:16.2f}")
        benchmark.extra_info[name] = {"steps_per_s": rate, "of_bare_physics": share}
    gain = ratio("ours_two_workers", "ours_one_worker")
    lines.append(f"two workers are {gain:.2f} times as fast as one")
    benchmark.extra_info["two_workers"] = gain
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    seeds = range(SLOTS)
    spec = EnvSpec(contest.spec.id, (("max_episode_steps", 100),))
    benchmark.pedantic(lambda: list(rollout(spec, contest.artifact, seeds)), rounds=3)
