"""The loop of on-policy distillation, which ``sparse`` and ``narrow`` share.

The student acts, the teacher says what it would have done there (DAgger, Ross et al. 2011), and
the student learns it; round after round, with what it has seen so far.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from pytest_drlcompress.compression.distillation.dagger import DaggerDataset, Mixture
from pytest_drlcompress.compression.distillation.loss import action_loss, image_precision, split
from pytest_drlcompress.compression.step import Observations
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.progress import step_counter


@dataclass(frozen=True)
class Schedule:
    """How long, how often and how fast.

    ``samples`` observations are collected in each of ``rounds`` rounds, evenly spread over the
    ``steps`` before the last tenth. The learning rate is ``rate`` up to the share ``constant`` of
    the steps, and then falls to zero along a cosine.
    """

    steps: int
    rounds: int
    samples: int
    rate: float
    batch: int
    constant: float

    def learning_rate(self, progress: float) -> float:
        """The rate at ``progress``, a share of the steps."""
        after = max(0.0, progress - self.constant) / (1 - self.constant)
        return self.rate * 0.5 * (1 + math.cos(math.pi * after))


def learn_on_policy(
    network: nn.Module,
    original: nn.Module,
    dataset: DaggerDataset,
    observations: Observations,
    schedule: Schedule,
    *,
    title: str,
    remedy: str,
    before_step: Callable[[int, torch.optim.Optimizer], None] = lambda done, optimizer: None,
    after_gradient: Callable[[], None] = lambda: None,
    after_step: Callable[[], None] = lambda: None,
) -> float:
    """Train ``network`` in place to act as ``original`` does; the loss on its own rollouts then.

    ``dataset`` holds the first observations and grows. The callables are for what else happens in
    a step, such as pruning. The same arguments give the same weights.

    Raises:
        RecipeError: there is no linear layer, or training diverged; ``remedy`` says what to try.
    """
    student, head = split(network)
    loss = action_loss(head, dataset.answers)
    steps, rounds, samples = schedule.steps, schedule.rounds, schedule.samples
    optimizer = torch.optim.Adam(student.parameters(), schedule.rate, fused=True)
    precision = image_precision(dataset.observations)
    generator = torch.Generator().manual_seed(0)
    every = max(1, math.ceil(0.9 * steps / max(rounds, 1)))
    number = 0
    with step_counter(title, steps) as on_steps:
        for done in range(steps):
            if done % every == every // 2 and number < rounds:
                number += 1
                both = Mixture(network, original, number)
                dataset.add(observations.visited(both, samples, number))
            before_step(done, optimizer)
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(done / steps)
            rows = torch.randint(len(dataset.observations), (schedule.batch,), generator=generator)
            optimizer.zero_grad()
            with precision:
                given = student(dataset.observations[rows])
            value = loss(given.float(), dataset.answers[rows])
            value.backward()  # type: ignore[no-untyped-call]
            after_gradient()
            optimizer.step()
            after_step()
            on_steps(1)
    last = torch.from_numpy(observations.visited(network, samples, rounds + 1))
    with torch.no_grad():
        held_out = float(loss(student(last), dataset.teacher(last)))
    if not math.isfinite(held_out):
        raise RecipeError(f"training diverged; {remedy}")
    return held_out
