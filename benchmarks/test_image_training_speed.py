# ruff: noqa: D103, INP001 (written like the tests)
"""What a step of sparse training costs where a policy sees images: in float32 and as shipped.

``pytest benchmarks/test_image_training_speed.py -s``. The networks of Boxing's two baselines, the
shipped batch size, random screens; the two take steps in turns, on one thread, so that a busy
machine slows both. Where the processor has no bfloat16 they are the same.
"""

import contextlib
import copy
import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from pytest_drlcompress.compression.distillation import on_policy
from pytest_drlcompress.compression.distillation.dagger import DaggerDataset
from pytest_drlcompress.compression.distillation.distill import batch_size
from pytest_drlcompress.compression.distillation.loss import image_precision, split
from pytest_drlcompress.compression.distillation.on_policy import Schedule, learn_on_policy
from pytest_drlcompress.policies.store import load_policy
from pytest_drlcompress.training.models import set_threads

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
    shape = policy.env.spaces[0]
    dataset.add(np.random.default_rng(0).integers(0, 256, (SCREENS, *shape), dtype=np.uint8))
    times = {precision: [] for precision in PRECISIONS}
    for _ in range(ROUNDS):
        for precision, context in PRECISIONS.items():
            monkeypatch.setattr(on_policy, "image_precision", context)
            times[precision].append(step_seconds(policy.network, dataset))
    print()
    for precision, found in times.items():
        ratio = median(a / b for a, b in zip(times["float32"], found, strict=True))
        print(f"{name:18} {precision:8} {median(found) * 1e3:5.1f} ms a step, {ratio:.2f} x")
        benchmark.extra_info[precision] = {"step_ms": median(found) * 1e3}
    benchmark.pedantic(step_seconds, (policy.network, dataset), rounds=3)


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
