# ruff: noqa: D103, INP001 (written like the tests)
"""What an update of SAC, TD3 and DDPG costs: Stable-Baselines3's, and ours written out.

``pytest benchmarks/test_training_speed.py -s``. Both make the same updates of the same model, in
turns, on one thread, so that a busy machine slows both. ``float32`` shows how much is the writing
out, the rest is bfloat16.
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from stable_baselines3 import DDPG, SAC, TD3

from pytest_drlcompress.core.precision import fastest_dtype
from pytest_drlcompress.training import off_policy
from pytest_drlcompress.training.models import make_env, make_model, set_threads
from pytest_drlcompress.training.recipes import read_recipes

THEIRS = {"sac": SAC, "td3": TD3, "ddpg": DDPG}
RECIPES = Path(__file__).resolve().parent.parent / "baselines" / "recipes.toml"
ROUNDS, UPDATES = 15, 40


@pytest.mark.parametrize("task", ["halfcheetah", "humanoid"])
@pytest.mark.parametrize("algorithm", THEIRS)
def test_updates(algorithm, task, benchmark, monkeypatch):
    set_threads()
    recipe = read_recipes(RECIPES)[f"{algorithm}-{task}"]
    hyperparameters = {**recipe.hyperparameters, "learning_starts": 2000}
    recipe = replace(recipe, steps=2000, hyperparameters=hyperparameters)
    model = make_model(recipe, make_env(recipe), seed=0)
    started = time.process_time()
    model.learn(1000)
    acting = (time.process_time() - started) / 1000
    contenders = {
        "sb3": (THEIRS[algorithm].train, torch.float32),
        "float32": (type(model).train, torch.float32),
        "ours": (type(model).train, fastest_dtype()),
    }
    times = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, (train, dtype) in contenders.items():
            monkeypatch.setattr(off_policy, "fastest_dtype", lambda dtype=dtype: dtype)
            started = time.process_time()
            train(model, UPDATES, model.batch_size)
            times[name].append((time.process_time() - started) / UPDATES)
    updates = model.gradient_steps / model.train_freq.frequency
    print()
    for name, found in times.items():
        update = median(found)
        rate = 1 / (acting + updates * update)
        ratio = median(a / b for a, b in zip(times["sb3"], found, strict=True))
        print(
            f"{recipe.id:16} {name:8} {update * 1e3:5.1f} ms an update,"
            f" {ratio:.2f} x, {rate:4.0f} steps/s"
        )
        benchmark.extra_info[name] = {"update_ms": update * 1e3, "steps_per_s": rate}
    benchmark.pedantic(type(model).train, (model, UPDATES, model.batch_size), rounds=3)
