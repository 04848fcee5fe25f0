"""The recipes ``l1@30`` and ``l2@30:train=distill``: structured pruning as compression steps."""

from functools import partial
from typing import Any, cast

from torch import nn

from pytest_drlcompress.compression.pruning.structured import (
    plan_channels,
    plan_parameters,
    prunable_layers,
    prune,
)
from pytest_drlcompress.compression.pruning.structured_training import prune_with_training
from pytest_drlcompress.compression.pruning.tracing import count_macs, count_parameters
from pytest_drlcompress.compression.recipe import Step
from pytest_drlcompress.compression.step import Observations, Result, StepKind


def _apply(network: nn.Module, step: Step, observations: Observations, *, p: int) -> Result:
    share, round_to = cast("float", step.amount) / 100, int(step.options["round_to"])
    observation = observations.blank(2)
    widths = prunable_layers(network, observation)
    if step.options["of"] == "parameters":
        plan = plan_parameters(network, observation, widths, share, round_to)
    else:
        plan = plan_channels(widths, share, round_to)
    before = (count_parameters(network), count_macs(network, observation))
    training: dict[str, Any] = {}
    if step.options["train"] == "distill":
        samples, steps = int(step.options["samples"]), int(step.options["steps"])
        network, training = prune_with_training(
            network, observations.sample(samples), p=p, plan=plan, steps=steps
        )
        training["rollouts"] = observations.describe(samples)
    else:
        prune(network, observation, p=p, plan=plan)
    after = (count_parameters(network), count_macs(network, observation))
    return Result(
        network.eval(),
        {
            "channels": {name: [plan.width[name], plan.keep[name]] for name in plan.keep},
            "channels_pruned": round(plan.achieved, 4),
            "parameters": [before[0], after[0]],
            "parameters_pruned": round(1 - after[0] / before[0], 4),
            "macs": [before[1], after[1]],
            **({"training": training} if training else {}),
        },
    )


def _kind(p: int) -> StepKind:
    return StepKind(
        f"l{p}",
        "network",
        partial(_apply, p=p),
        f"structured pruning by group L{p} norm: so many per cent of each hidden layer's channels",
        amount=(0, 100),
        options={
            "of": "channels", "round_to": 1, "train": "none", "samples": 16384, "steps": 4000
        },
        image_options={"samples": 4096, "steps": 1000},
        choices={"of": ("channels", "parameters"), "train": ("none", "distill")},
    )  # fmt: skip


L1, L2 = _kind(1), _kind(2)
