"""Sparsity after training (``sparse@95``): gradual pruning by on-policy distillation.

The cubic schedule of Ivanov et al. prunes while the network learns to give its own former
actions. The *sparse* student acts, the dense teacher says what it would have done there (DAgger,
Ross et al. 2011): where a student strays, it then learns to come back, which the teacher's own
rollouts cannot show. No reward is needed, and minutes instead of a whole training.
"""

import copy
import dataclasses
from typing import Any

import torch
from torch import nn

from pytest_drlcompress.compression.distillation.dagger import (
    DaggerDataset,
    VisitedObservations,
)
from pytest_drlcompress.compression.distillation.distill import batch_size
from pytest_drlcompress.compression.distillation.loss import (
    image_layout,
    reproducible_training,
    split,
)
from pytest_drlcompress.compression.distillation.on_policy import Schedule, learn_on_policy
from pytest_drlcompress.compression.distillation.standardize import standardize, unstandardize
from pytest_drlcompress.compression.pruning.criteria import CRITERIA, Saliency
from pytest_drlcompress.compression.pruning.distribution import DISTRIBUTIONS
from pytest_drlcompress.compression.pruning.masks import MaskedWeights, linear_weights
from pytest_drlcompress.compression.pruning.schedule import CubicSchedule
from pytest_drlcompress.compression.recipe import Step
from pytest_drlcompress.compression.step import Observations, Result, SparsityTarget, StepKind

_BATCH = 128
_PRUNED_BY = 0.5
"""Share of the steps after which the final sparsity is reached; the rest is recovery."""

_PRUNINGS = 100


def _sparse(network: nn.Module, step: Step, observations: Observations) -> Result:
    assert step.amount is not None
    teacher = copy.deepcopy(network)
    with reproducible_training():
        network, dataset, figures = train_sparse(
            network,
            observations,
            sparsity=step.amount / 100,
            distribution=str(step.options["distribution"]),
            steps=int(step.options["steps"]),
            rounds=int(step.options["rounds"]),
            samples=int(step.options["samples"]),
            rate=float(step.options["lr"]),
            criterion=str(step.options["criterion"]),
        )
    seen = dataset.observations.numpy()
    provenance = {"rollouts": observations.describe(len(seen)), **figures}
    return Result(network, provenance, VisitedObservations(observations, seen, teacher))


def _target(step: Step) -> SparsityTarget:
    assert step.amount is not None
    return SparsityTarget(step.amount / 100, str(step.options["distribution"]))


SPARSE = StepKind(
    "sparse",
    "network",
    _sparse,
    "gradual pruning to N % zeros on the cubic schedule, by on-policy distillation",
    amount=(0, 100),
    options={
        "distribution": "erdos-renyi",
        "steps": 40_000,
        "rounds": 40,
        "samples": 6_000,
        "lr": 1e-3,
        "criterion": "fisher",
    },
    image_options={"steps": 6_000, "rounds": 8, "samples": 2_000, "lr": 3e-4},
    choices={"distribution": DISTRIBUTIONS, "criterion": CRITERIA},
    sparsity=_target,
)


def train_sparse(
    network: nn.Module,
    observations: Observations,
    *,
    sparsity: float,
    distribution: str,
    steps: int,
    rounds: int,
    samples: int,
    rate: float,
    criterion: str,
    batch: int | None = None,
    pruned_by: float = _PRUNED_BY,
) -> tuple[nn.Module, DaggerDataset, dict[str, Any]]:
    """A sparse network that acts as ``network`` does, what it learned from, and figures.

    ``samples`` observations are collected at the start and in each of ``rounds`` rounds, evenly
    spread over the steps before the last tenth. The same arguments give the same weights.

    Raises:
        RecipeError: there is no linear layer, or training diverged.
    """
    original = copy.deepcopy(network).eval()
    teacher, _ = split(original)
    dataset = DaggerDataset(teacher)
    first = observations.sample(samples)
    dataset.add(first)
    batch = batch or batch_size(dataset.observations, _BATCH)
    network = image_layout(standardize(network, first), dataset.observations)
    weights = MaskedWeights(linear_weights(network), distribution)
    saliency = Saliency(weights.weights, criterion)
    schedule = CubicSchedule.over(
        steps, sparsity, start=0.0, end=pruned_by, count=min(_PRUNINGS, steps)
    )
    pruned = 0
    history: list[list[float]] = []

    def prune(done: int, optimizer: torch.optim.Optimizer) -> None:
        nonlocal pruned
        if schedule.reached(done) > pruned:
            pruned = schedule.reached(done)
            weights.prune(schedule.at(done), saliency.scores())
            history.append([done, schedule.at(done), weights.sparsity])
            weights.apply(optimizer)

    held_out = learn_on_policy(
        network,
        original,
        dataset,
        observations,
        # at the full rate while weights go
        Schedule(steps, rounds, samples, rate, batch, constant=pruned_by),
        title="sparse training",
        remedy="lower lr, or prune less",
        before_step=prune,
        after_gradient=saliency.observe,
        after_step=weights.apply,
    )
    network = unstandardize(network)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    weights = MaskedWeights(linear_weights(network), distribution)
    weights.adopt_zeros()
    return (
        network,
        dataset,
        {
            "sparsity": weights.sparsity,
            "by_layer": {name: 1 - float(m.mean()) for name, m in weights.masks.items()},
            "distribution": distribution,
            "criterion": criterion,
            "steps": steps,
            "rounds": rounds,
            "observations": len(dataset.observations),
            "loss_on_own_rollouts": held_out,
            "schedule": dataclasses.asdict(schedule),
            "prunings": history,
        },
    )
