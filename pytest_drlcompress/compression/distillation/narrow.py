"""A narrower network instead of the policy's own (``narrow@16``, ``narrow@64-32``).

Freshly initialised fully connected layers of the given widths learn the policy's actions by
on-policy distillation, as ``sparse`` does: the student acts, the policy says what it would have
done there (DAgger, Ross et al. 2011). A dense network has no indices and runs fast anywhere, so
that its bytes and microseconds are real where those of zeros are not.
"""

import copy
from typing import Any

import torch
from torch import nn

from pytest_drlcompress.compression.distillation.dagger import (
    DaggerDataset,
    VisitedObservations,
)
from pytest_drlcompress.compression.distillation.loss import reproducible_training, split
from pytest_drlcompress.compression.distillation.on_policy import Schedule, learn_on_policy
from pytest_drlcompress.compression.distillation.standardize import standardize, unstandardize
from pytest_drlcompress.compression.recipe import Step
from pytest_drlcompress.compression.step import Observations, Result, StepKind
from pytest_drlcompress.core.errors import RecipeError

_BATCH = 256
_CONSTANT = 0.3
"""Share of the steps at the full learning rate; it then falls to zero along a cosine."""

_WIDEST = 4096


def _narrow(network: nn.Module, step: Step, observations: Observations) -> Result:
    teacher = copy.deepcopy(network)
    with reproducible_training():
        student, dataset, figures = train_narrow(
            network,
            observations,
            step,
            steps=int(step.options["steps"]),
            rounds=int(step.options["rounds"]),
            samples=int(step.options["samples"]),
            rate=float(step.options["lr"]),
        )
    seen = dataset.observations.numpy()
    provenance = {"rollouts": observations.describe(len(seen)), **figures}
    return Result(student, provenance, VisitedObservations(observations, seen, teacher))


NARROW = StepKind(
    "narrow",
    "network",
    _narrow,
    "a freshly initialised network with N units a hidden layer (or a share of them, below 1), by"
    " on-policy distillation",
    amount=(0, _WIDEST + 1),
    options={"steps": 60_000, "rounds": 40, "samples": 6_000, "lr": 3e-3},
    takes_widths=True,
)


def train_narrow(
    network: nn.Module,
    observations: Observations,
    step: Step,
    *,
    steps: int,
    rounds: int,
    samples: int,
    rate: float,
    batch: int = _BATCH,
) -> tuple[nn.Module, DaggerDataset, dict[str, Any]]:
    """A narrow network that acts as ``network`` does, what it learned from, and figures.

    ``samples`` observations are collected at the start and in each of ``rounds`` rounds, evenly
    spread over the steps before the last tenth. The same arguments give the same weights.

    Raises:
        RecipeError: the network is no sequence of fully connected layers, the widths do not fit
            it, or training diverged.
    """
    original = copy.deepcopy(network).eval()
    teacher, _ = split(original)
    dataset = DaggerDataset(teacher)
    first = observations.sample(samples)
    dataset.add(first)
    widths = hidden_widths(network, step)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = standardize(narrowed(network, widths), first)
    schedule = Schedule(steps, rounds, samples, rate, batch, constant=_CONSTANT)
    held_out = learn_on_policy(
        network,
        original,
        dataset,
        observations,
        schedule,
        title="training of the narrow network",
        remedy="lower lr",
    )
    figures = {
        "widths": list(widths),
        "steps": steps,
        "rounds": rounds,
        "observations": len(dataset.observations),
        "loss_on_own_rollouts": held_out,
    }
    return unstandardize(network), dataset, figures


def hidden_widths(network: nn.Module, step: Step) -> tuple[int, ...]:
    """The hidden widths that ``step`` asks for: one for all, a share of each, or a list.

    Raises:
        RecipeError: the network is no sequence of fully connected layers; the list has another
            length than its hidden layers; a width is not a whole number from 1 to 4096.
    """
    layers = list(network) if isinstance(network, nn.Sequential) else []
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if len(linear) < 2 or any(isinstance(layer, nn.Conv2d) for layer in layers):
        raise RecipeError(
            "narrow is for networks of fully connected layers, at least one of them hidden"
        )
    hidden = [layer.out_features for layer in linear[:-1]]
    amount = step.amount
    if step.widths:
        widths = step.widths
    elif amount is not None and amount < 1:
        widths = tuple(max(1, round(amount * width)) for width in hidden)
    else:
        assert amount is not None
        if amount != int(amount):
            raise RecipeError(f"a width is a whole number, or a share below 1; not {amount:g}")
        widths = (int(amount),) * len(hidden)
    if len(widths) != len(hidden):
        raise RecipeError(
            f"this network has {len(hidden)} hidden layers ({'-'.join(map(str, hidden))}), and"
            f" {'-'.join(map(str, widths))} are {len(widths)} widths"
        )
    if not all(1 <= width <= _WIDEST for width in widths):
        raise RecipeError(f"a width is 1 to {_WIDEST}")
    return widths


def narrowed(network: nn.Module, widths: tuple[int, ...]) -> nn.Sequential:
    """``network`` with freshly initialised linear layers of hidden ``widths``."""
    assert isinstance(network, nn.Sequential)
    remaining, inputs = list(widths), 0
    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.Linear):
            outputs = remaining.pop(0) if remaining else layer.out_features
            layers.append(nn.Linear(inputs or layer.in_features, outputs))
            inputs = outputs
        else:
            layers.append(copy.deepcopy(layer))
    return nn.Sequential(*layers).eval()
