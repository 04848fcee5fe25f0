# ruff: noqa: D102, D103, INP001 (written like the tests)
"""How fast Atari episodes run: ours, Stable-Baselines3, Gymnasium, the bare emulator.

    pytest benchmarks/test_atari_speed.py -s

All contenders run Nature CNN on four stacked screens and take turns, round after round, on one
core: rates are steps per second of CPU time, ratios medians over rounds. Stable-Baselines3 runs
its own network behind its own wrappers, as ``evaluate_policy`` does; Gymnasium's vector
environment steps its own wrappers under our ONNX Runtime; the bare emulator takes random
actions: what no rollout can exceed. Nothing is asserted about speed.
"""

import os
import statistics
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack

from pytest_drlcompress.environments.atari.vector import make_vector
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.base import LEAST_SLOTS
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.runtime.onnxruntime import OnnxController
from pytest_drlcompress.training.image_networks import greedy, make_image_network

ROUNDS = int(os.environ.get("DRLC_BENCHMARK_ROUNDS", "5"))
SECONDS = float(os.environ.get("DRLC_BENCHMARK_SECONDS", "2.0"))
ROWS = ("evaluate_policy", "gymnasium_vector", "ours", "emulator")


class EnoughError(Exception):
    """Ends a measurement."""


class Contest:
    """One game and what plays it. Each contender returns steps per second of CPU time."""

    def __init__(self, game):
        torch.set_num_threads(1)
        self.spec = EnvSpec.parse(f"ALE/{game}-v5:preprocessing=gymnasium")
        torch.manual_seed(0)
        network = greedy(make_image_network("nature", 4, self.spec.action.n))
        self.artifact = export_onnx(network, (4, 84, 84), np.dtype(np.uint8))
        self.controller = OnnxController(self.artifact)
        wrapped = make_atari_env(f"{game}NoFrameskip-v4", seed=0)
        self.dqn = DQN("CnnPolicy", VecFrameStack(wrapped, 4), buffer_size=10, device="cpu")
        self.vector = gym.vector.SyncVectorEnv([lambda: _wrapped(game)] * LEAST_SLOTS)
        self.emulators = make_vector(self.spec.id, self.spec.atari, LEAST_SLOTS)

    def close(self):
        self.vector.close()
        self.emulators.close()

    def evaluate_policy(self):
        steps, start = 0, time.process_time()

        def count(*_):
            nonlocal steps
            steps += 1
            if time.process_time() > start + SECONDS:
                raise EnoughError

        with pytest.raises(EnoughError):
            evaluate_policy(self.dqn, self.dqn.get_env(), 10**9, callback=count, warn=False)
        return steps / (time.process_time() - start)

    def gymnasium_vector(self):
        observations, _ = self.vector.reset(seed=0)
        steps, start = 0, time.process_time()
        while time.process_time() < start + SECONDS:
            observations, *_ = self.vector.step(self.controller.act(observations))
            steps += LEAST_SLOTS
        return steps / (time.process_time() - start)

    def ours(self):
        steps, start = 0, 0.0

        def count(made):
            nonlocal steps, start
            if not start and made:  # the emulators are made, the games loaded
                start = time.process_time()
                return
            steps += made
            if start and time.process_time() > start + SECONDS:
                raise EnoughError

        with pytest.raises(EnoughError):
            list(rollout(self.spec, self.artifact, range(10**6), on_steps=count, slots=LEAST_SLOTS))
        return steps / (time.process_time() - start)

    def emulator(self):
        steps, random = 0, np.random.default_rng(0)
        self.emulators.reset(seed=np.arange(LEAST_SLOTS))
        start = time.process_time()
        while time.process_time() < start + SECONDS:
            self.emulators.step(random.integers(self.spec.action.n, size=LEAST_SLOTS))
            steps += LEAST_SLOTS
        return steps / (time.process_time() - start)


def _wrapped(game):
    env = gym.make(f"ALE/{game}-v5", frameskip=1)
    env = gym.wrappers.AtariPreprocessing(env)
    return gym.wrappers.FrameStackObservation(env, 4, padding_type="zero")


@pytest.mark.parametrize("game", ["Pong", "Boxing"])
def test_atari_speed(game, benchmark, capsys):
    contest = Contest(game)
    try:
        rates = {name: [] for name in ROWS}
        for _ in range(ROUNDS):
            for name in ROWS:
                rates[name].append(getattr(contest, name)())
    finally:
        contest.close()
    lines = [f"{game:20}    steps/s  x evaluate_policy  of the emulator"]
    for name in ROWS:
        rate = statistics.median(rates[name])
        against = {
            base: statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))
            for base in ("evaluate_policy", "emulator")
        }
        lines.append(
            f"{name:20} {rate:10,.0f} {against['evaluate_policy']:18.1f}"
            f" {against['emulator']:16.2f}"
        )
        benchmark.extra_info[name] = {"steps_per_s": rate, "of_emulator": against["emulator"]}
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    benchmark.pedantic(lambda: contest.controller.act_one(np.zeros((4, 84, 84), np.uint8)))
