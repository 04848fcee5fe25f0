"""From a policy and a recipe to the artifact that would be deployed."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.compression.recipe import Recipe, Step
from pytest_drlcompress.compression.registry import Registry
from pytest_drlcompress.compression.step import Observations, Result, StepKind
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.extras import versions_of
from pytest_drlcompress.policies.policy import Policy

if TYPE_CHECKING:
    from torch import nn  # which ONNX files do without

_VERSIONED = ("onnx", "onnxruntime", "torch")


def export_policy(policy: Policy) -> Artifact:
    """The policy itself as an artifact: exported in fp32, or the ONNX file as it is.

    Raises:
        PolicyError: torch cannot export the network.
    """
    if isinstance(policy.source, bytes):
        return Artifact(policy.source, policy.id, "fp32")
    from pytest_drlcompress.policies.export import export_onnx

    shape, dtype, _ = policy.env.spaces
    return Artifact(export_onnx(policy.network, shape, dtype), policy.id, "fp32", _versions())


@dataclass(frozen=True, eq=False)
class NetworkStage:
    """What the leading steps of a recipe made of a policy's network.

    ``observations`` is what the steps after them use, ``cpu_seconds`` what they took.
    """

    network: "nn.Module"
    observations: Observations
    provenance: Mapping[str, Any]
    cpu_seconds: float


def network_stage(
    policy: Policy, steps: Sequence[Step], registry: Registry, observations: Observations
) -> NetworkStage:
    """Apply ``steps``, which the registry has resolved, to a copy of the policy's network.

    Raises:
        RecipeError: a step does not apply to this policy.
        PolicyError: the policy is an ONNX file.
    """
    started = time.process_time()
    provenance: dict[str, Any] = {}
    network: Any = copy.deepcopy(policy.network)
    for step in steps:
        network, observations = _apply(registry, step, network, observations, provenance)
    return NetworkStage(network, observations, provenance, time.process_time() - started)


def compress(
    policy: Policy,
    recipe: Recipe,
    registry: Registry,
    observations: Observations,
    exported: Artifact,
    *,
    stage: Callable[[Recipe], NetworkStage] | None = None,
) -> Artifact:
    """Apply ``recipe`` to ``policy``, whose own network is left as it is.

    ``exported`` is ``export_policy(policy)``, which many recipes of one policy share. So may they
    share their steps on the network: ``stage`` gives what ``network_stage`` makes of these.

    Raises:
        RecipeError: the recipe is not valid, or does not apply to this policy.
        PolicyError: the policy is an ONNX file and a step needs the torch network, or torch
            cannot export the result.
    """
    steps = registry.resolve(recipe, images=policy.env.images).steps
    levels = [registry.kinds[step.name].level for step in steps]
    on_network, rest = steps[: levels.count("network")], steps[levels.count("network") :]
    provenance: dict[str, Any] = _versions()
    model: Any = exported.model
    seconds, started = 0.0, time.process_time()
    if "network" in levels or "export" in levels:
        if stage is None or not on_network:
            start = network_stage(policy, on_network, registry, observations)
        else:
            start = stage(Recipe(on_network))
        # what the stage took when it was made, also where it is shared
        seconds, started = start.cpu_seconds, time.process_time()
        observations = start.observations
        provenance.update(start.provenance)
        if "export" in levels:
            model = copy.deepcopy(start.network)  # that step makes the ONNX bytes itself
        else:
            from pytest_drlcompress.policies.export import export_onnx

            shape, dtype, _ = policy.env.spaces
            model = export_onnx(start.network, shape, dtype)
    for step in rest:
        model, observations = _apply(registry, step, model, observations, provenance)
    seconds += time.process_time() - started
    return Artifact(model, policy.id, str(recipe), provenance, seconds)


def _apply(
    registry: Registry,
    step: Step,
    value: Any,
    observations: Observations,
    provenance: dict[str, Any],
) -> tuple[Any, Observations]:
    kind = registry.kinds[step.name]
    try:
        result = kind.apply(value, step, observations)
        _check(kind, result)
    except RecipeError as error:
        raise RecipeError(f"step {str(step)!r}: {error}") from None
    provenance[step.name] = {"step": str(step), **result.provenance}
    return result.value, result.observations or observations


def _check(kind: StepKind, result: Any) -> None:
    """Steps come from others, too: what they return is not known to be of the right type."""
    wanted: type
    wanted, named = bytes, "ONNX bytes"
    if kind.level == "network":
        from torch import nn

        wanted, named = nn.Module, "a torch network"
    if not isinstance(result, Result):
        raise RecipeError(f"it must return a Result with {named}, not {type(result).__name__}")
    if not isinstance(result.value, wanted):
        raise RecipeError(
            f"a step of level {kind.level!r} must return {named}, not {type(result.value).__name__}"
        )


def _versions() -> dict[str, Any]:
    return {"versions": versions_of(_VERSIONED)}
