"""Structured pruning: whole channels of hidden layers leave the network (``l1@30``, ``l2@30``).

torch-pruning finds which weights belong to one channel (DepGraph, Fang et al. 2023, section 3)
and removes those of the smallest group norm; Lu et al., section 2.2. The tensors become smaller,
so that any runtime gains without sparse kernels. What gives the actions is never pruned.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch_pruning as tp
from torch import Tensor, nn

from pytest_drlcompress.compression.pruning.tracing import (
    UNTRACEABLE,
    count_parameters,
    is_layer,
    traced_outputs,
    tracing,
)
from pytest_drlcompress.core.errors import RecipeError

_ROOTS = [tp.ops.TORCH_CONV, tp.ops.TORCH_LINEAR]
_BISECTIONS = 24


@dataclass(frozen=True)
class Plan:
    """Output channels of each hidden layer, by its name: as they are, and as many as stay."""

    width: Mapping[str, int]
    keep: Mapping[str, int]

    @property
    def achieved(self) -> float:
        """The share of all channels that go."""
        return 1 - sum(self.keep.values()) / sum(self.width.values())


def prune(
    network: nn.Module, observation: Tensor, *, p: int, plan: Plan, pruner: Any = None
) -> nn.Module:
    """Remove from each hidden layer the channels of the smallest group norm; changes ``network``.

    ``observation`` is ``(2, *observation_shape)``, ``p`` the degree of the norm. ``pruner`` is
    one of ``make_pruner`` that sparse training has used.

    Raises:
        RecipeError: torch-pruning left other widths than ``plan`` asked for.
    """
    before = [output.shape for output in traced_outputs(network, observation)]
    with tracing():
        (pruner or make_pruner(tp.BasePruner, network, observation, p=p, plan=plan)).step()
        after = [output.shape for output in traced_outputs(network, observation)]
    left = {name: _width(network.get_submodule(name)) for name in plan.keep}
    if left != dict(plan.keep):
        raise RecipeError(f"torch-pruning left channels {left} where {dict(plan.keep)} were asked")
    if before != after:
        raise RecipeError(f"pruning would change the output from {before} to {after}")
    return network


def make_pruner(
    kind: Callable[..., Any], network: nn.Module, observation: Tensor, *, p: int, plan: Plan
) -> Any:
    """A pruner of torch-pruning that carries ``plan`` out at its one ``step()``."""
    layers = {name: module for name, module in network.named_modules() if is_layer(module)}
    # half a channel more than stays, because the pruner cuts the decimals off
    ratios = {layers[name]: 1 - (keep + 0.5) / plan.width[name] for name, keep in plan.keep.items()}
    with tracing():
        return kind(
            network,
            observation,
            importance=tp.importance.GroupMagnitudeImportance(p=p),
            pruning_ratio_dict={layer: max(ratio, 0.0) for layer, ratio in ratios.items()},
            ignored_layers=[module for name, module in layers.items() if name not in plan.keep],
            root_module_types=_ROOTS,
            forward_fn=traced_outputs,
        )


def plan_channels(widths: Mapping[str, int], share: float, round_to: int = 1) -> Plan:
    """Keep ``1 - share`` of each layer, to the nearest multiple of ``round_to``.

    Raises:
        RecipeError: a layer would lose every channel, or no layer would lose one.
    """
    plan = _plan(widths, share, round_to)
    empty = [name for name, keep in plan.keep.items() if keep == 0]
    if empty:
        raise RecipeError(
            f"layer {empty[0]!r} has {widths[empty[0]]} channels and would keep none; prune less"
        )
    if plan.keep == plan.width:
        rounding = f" with round_to={round_to}" if round_to > 1 else ""
        raise RecipeError(
            f"no layer would lose a channel{rounding}: widths are {_text(widths)}; prune more"
        )
    return plan


def plan_parameters(
    network: nn.Module, observation: Tensor, widths: Mapping[str, int], share: float, round_to: int
) -> Plan:
    """The channel share whose pruned network loses nearest to ``share`` of the parameters.

    Raises:
        RecipeError: no such share keeps a channel in every layer, or none removes any.
    """
    total = count_parameters(network)

    def lost(plan: Plan) -> float:
        trial = prune(copy.deepcopy(network), observation, p=2, plan=plan)
        return 1 - count_parameters(trial) / total

    low, high = 0.0, 1.0
    candidates: dict[float, Plan] = {}
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        plan = _plan(widths, middle, round_to)
        if 0 in plan.keep.values():
            high = middle
            continue
        known = next((loss for loss, tried in candidates.items() if tried == plan), None)
        loss = lost(plan) if known is None else known
        candidates[loss] = plan
        low, high = (middle, high) if loss < share else (low, middle)
    possible = {loss: plan for loss, plan in candidates.items() if plan.keep != plan.width}
    if not possible:
        raise RecipeError(f"no layer could lose a channel and keep one: widths {_text(widths)}")
    best = min(possible, key=lambda loss: abs(loss - share))
    if max(possible) < share:
        raise RecipeError(
            f"at most {best:.1%} of the parameters can go with a channel left in every layer;"
            f" asked for {share:.1%}"
        )
    return possible[best]


def prunable_layers(network: nn.Module, observation: Tensor) -> dict[str, int]:
    """Hidden layers by name, and their output channels, in the order of the network.

    A layer is hidden if its channels feed another one and the network's output keeps its shape
    without one of them.

    Raises:
        RecipeError: torch-pruning cannot trace the network, or finds no hidden layer.
    """
    network.requires_grad_(True)  # what needs no gradient is invisible to the tracer
    names = {module: name for name, module in network.named_modules()}
    shapes = [output.shape for output in traced_outputs(network, observation)]
    if not shapes:
        raise RecipeError(UNTRACEABLE + "its output depends on no weights by differentiable steps")
    with tracing():
        groups = list(_dependencies(network, observation).get_all_groups(root_module_types=_ROOTS))
    hidden: dict[str, int] = {}
    for group in groups:
        made = [
            d.target.module for d, _ in group if _prunes(d, "out") and is_layer(d.target.module)
        ]
        feeds = any(_prunes(d, "in") and is_layer(d.target.module) for d, _ in group)
        width = _width(made[0])
        if feeds and width > 1 and _keeps_shapes(network, observation, names[made[0]], shapes):
            hidden.update({names[module]: width for module in made})
    if not hidden:
        raise RecipeError("this network has no hidden layer whose channels could be pruned")
    return {name: hidden[name] for name in names.values() if name in hidden}


def _plan(widths: Mapping[str, int], share: float, round_to: int) -> Plan:
    keep = {
        name: min(int(width * (1 - share) / round_to + 0.5 + 1e-9) * round_to, width)
        for name, width in widths.items()
    }
    return Plan(widths, keep)


def _dependencies(network: nn.Module, observation: Tensor) -> Any:
    return tp.DependencyGraph().build_dependency(
        network, example_inputs=observation, forward_fn=traced_outputs
    )


def _prunes(dependency: Any, side: str) -> bool:
    return str(dependency.handler.__name__).endswith(f"{side}_channels")


def _keeps_shapes(
    network: nn.Module, observation: Tensor, name: str, shapes: list[torch.Size]
) -> bool:
    """Whether the network still runs, with the same output, without one channel of a layer."""
    trial = copy.deepcopy(network)
    layer = trial.get_submodule(name)
    try:
        with tracing():
            graph = _dependencies(trial, observation)
            remove = graph.get_pruner_of_module(layer).prune_out_channels
            graph.get_pruning_group(layer, remove, [0]).prune()
            return [output.shape for output in traced_outputs(trial, observation)] == shapes
    except RecipeError:
        return False


def _width(layer: nn.Module) -> int:
    return int(cast("Tensor", layer.weight).shape[0])


def _text(widths: Mapping[str, int]) -> str:
    return ", ".join(map(str, widths.values()))
