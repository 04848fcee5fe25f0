# ruff: noqa: D103, INP001 (written like the tests)
"""What a training step costs where a policy sees images: in float32, in bfloat16 and as shipped.

``pytest benchmarks/test_image_training_speed.py -s``. The networks of Boxing's two baselines,
random screens; the precisions take steps in turns, on one thread, so that a busy machine slows all.
``test_steps`` is sparse training, ``test_updates`` PQN. Shipped is bfloat16 where the processor has
instructions for it, else float32; sparse training is also laid out in memory for convolutions.
"""

import contextlib
import copy
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from pytest_drlcompress.compression.distillation import on_policy
from pytest_drlcompress.compression.distillation.dagger import DaggerDataset
from pytest_drlcompress.compression.distillation.distill import batch_size
from pytest_drlcompress.compression.distillation.loss import (
    image_layout,
    image_precision,
    split,
)
from pytest_drlcompress.compression.distillation.on_policy import Schedule, learn_on_policy
from pytest_drlcompress.core.precision import fastest_dtype
from pytest_drlcompress.policies.store import load_policy
from pytest_drlcompress.training import image_learner
from pytest_drlcompress.training.image_learner import q_values
from pytest_drlcompress.training.models import set_threads
from pytest_drlcompress.training.pqn import Pqn
from pytest_drlcompress.training.recipes import read_recipes

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
SCREENS, ROUNDS, STEPS = 512, 8, 6
PRECISIONS = {"float32": lambda observations: contextlib.nullcontext(), "shipped": image_precision}


class _EnoughError(Exception):
    """Enough steps."""


@pytest.mark.parametrize("name", ["dqn-boxing-cnn", "dqn-boxing-resnet"])
def test_steps(name, benchmark, monkeypatch):
    set_threads()
    policy = load_policy(BASELINES / name)
    dataset = DaggerDataset(split(policy.network)[0])
    dataset.add(screens(policy.env.spaces[0], SCREENS))
    networks = {precision: copy.deepcopy(policy.network) for precision in PRECISIONS}
    image_layout(networks["shipped"], dataset.observations)
    times = {precision: [] for precision in PRECISIONS}
    for _ in range(ROUNDS):
        for precision, context in PRECISIONS.items():
            monkeypatch.setattr(on_policy, "image_precision", context)
            times[precision].append(step_seconds(networks[precision], dataset))
    show(name, times, benchmark)
    benchmark.pedantic(step_seconds, (networks["shipped"], dataset), rounds=3)


@pytest.mark.parametrize("network", ["nature", "resnet"])
def test_updates(network, benchmark, monkeypatch):
    set_threads()
    recipe = replace(read_recipes(BASELINES / "recipes.toml")["dqn-boxing-cnn"], network=network)
    learner = Pqn(recipe, 0, 0, None)
    rows = torch.from_numpy(screens((4, 84, 84), learner.settings.batch_size))
    contenders = {
        "float32": torch.float32, "bfloat16": torch.bfloat16, "shipped": fastest_dtype()
    }  # fmt: skip

    def update():
        learner._descend(q_values(learner.network, rows).square().mean())  # noqa: SLF001

    times = {precision: [] for precision in contenders}
    for _ in range(ROUNDS):
        for precision, dtype in contenders.items():
            monkeypatch.setattr(image_learner, "fastest_dtype", lambda kind, dtype=dtype: dtype)
            update()
            started = time.process_time()
            update()
            times[precision].append(time.process_time() - started)
    show(network, times, benchmark)
    benchmark.pedantic(update, rounds=3)


def screens(shape, count):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def show(name, times, benchmark):
    print()
    for precision, found in times.items():
        ratio = median(a / b for a, b in zip(times["float32"], found, strict=True))
        print(f"{name:18} {precision:8} {median(found) * 1e3:6.1f} ms a step, {ratio:.2f} x")
        benchmark.extra_info[precision] = {"step_ms": median(found) * 1e3}


def step_seconds(network, dataset):
    """CPU seconds of a step of the loop that sparse training runs, after a first one."""
    started = []

    def before_step(done, _):
        if done == 1:
            started.append(time.process_time())
        if done == STEPS + 1:
            raise _EnoughError

    schedule = Schedule(1000, 0, 0, 1e-4, batch_size(dataset.observations), constant=0.5)
    with contextlib.suppress(_EnoughError):
        learn_on_policy(
            copy.deepcopy(network),
            network,
            dataset,
            None,  # it would be asked for the rounds of which there are none
            schedule,
            title="",
            remedy="",
            before_step=before_step,
        )
    return (time.process_time() - started[0]) / STEPS
