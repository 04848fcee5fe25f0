"""What a search may try for one policy, and what it would cost, before anything is trained."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pytest_drlcompress.frontier import ladder
from pytest_drlcompress.frontier.costs import Figures, measure_costs

if TYPE_CHECKING:
    from pytest_drlcompress.workbench.loaded import LoadedPolicy

_UNTRAINED = "narrow@{width}:rounds=1,samples=256,steps=1+qat:samples=256,steps=1"
_CALLS = 2_000
_FAR = 4


def quick_arms(loaded: "LoadedPolicy", budgets: Mapping[str, float]) -> list[ladder.Arm]:
    """What takes seconds, unless the weights alone are far beyond the budget on bytes."""
    limit, (_, weights) = _bytes(budgets), _layers(loaded)
    return [] if limit is not None and weights > _FAR * limit else ladder.quick_arms()


def arms(
    loaded: "LoadedPolicy",
    budgets: Mapping[str, float],
    target: str,
    say: Callable[[str], None],
) -> tuple[list[ladder.Arm], str]:
    """What can be trained within ``budgets``, and why no narrow network is among it."""
    hidden, weights = _layers(loaded)
    limit = _bytes(budgets)
    found: list[ladder.Arm] = []
    why = "the policy has no hidden layers that could be narrower"
    if hidden:
        widest, why = ladder.widest_that_fits(
            max(1, max(hidden) // 2), partial(_untrained_costs, loaded, budgets, target), budgets
        )
        if widest:
            say(f"untrained networks show: {widest} units a layer fit the budgets")
            found += ladder.narrow_arms(widest)
        else:
            say(f"not even one unit a layer fits: {why}")
    if weights and (found or not hidden):
        level = ladder.sparsest_needed(weights, limit)
        found += [ladder.sparse_arm(level)] if level is not None else []
        if limit is None or weights <= limit:
            found.append(ladder.qat_arm())
    return found, why


def with_latency(loaded: "LoadedPolicy", figures: Figures, model: bytes) -> Figures:
    """``figures`` and the median time of one action of ``model`` in the run's runtime.

    Raises:
        ArtifactError: the runtime cannot load it.
    """
    from pytest_drlcompress.measurement.latency import median_call_seconds, warm_up

    observation = loaded.probe_observation
    act = partial(loaded.tools.runtime.load(model).act_one, observation)
    warm_up(act)
    return {**figures, "latency_us": median_call_seconds(act, _CALLS) * 1e6}


def _untrained_costs(
    loaded: "LoadedPolicy", budgets: Mapping[str, float], target: str, width: int
) -> Figures:
    from pytest_drlcompress.compression.recipe import parse_recipe

    model = loaded.compressed(parse_recipe(_UNTRAINED.format(width=width))).model
    figures = measure_costs(model, loaded.probe_observations, target, tuple(budgets))
    return with_latency(loaded, figures, model)


def _bytes(budgets: Mapping[str, float]) -> float | None:
    """The smallest budget on what the weights are part of."""
    return min((budgets[n] for n in ("flash", "weights", "file") if n in budgets), default=None)


def _layers(loaded: "LoadedPolicy") -> tuple[list[int], int]:
    """Widths of the hidden layers, and weights in all; none of an ONNX file."""
    from torch import nn

    if isinstance(loaded.policy.source, bytes):
        return [], 0
    network = loaded.policy.network
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    weights = sum(layer.weight.numel() for layer in layers)
    if any(isinstance(layer, nn.Conv2d) for layer in layers):
        return [], weights
    return [layer.out_features for layer in layers[:-1] if isinstance(layer, nn.Linear)], weights
