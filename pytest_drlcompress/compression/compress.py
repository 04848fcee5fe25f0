"""From a policy and a recipe to the artifact that would be deployed."""

import copy
import importlib.metadata
from typing import Any

from pytest_drlcompress.artifact import Artifact
from pytest_drlcompress.compression.export import export_onnx
from pytest_drlcompress.compression.recipe import Recipe, Step
from pytest_drlcompress.compression.registry import Observations, Registry
from pytest_drlcompress.errors import RecipeError
from pytest_drlcompress.policies.policy import Policy

_VERSIONED = ("onnx", "onnxruntime", "torch")


def export_policy(policy: Policy) -> Artifact:
    """The policy itself as an artifact: exported in fp32, or the ONNX file as it is.

    Raises:
        PolicyError: torch cannot export the network.
    """
    if isinstance(policy.source, bytes):
        return Artifact(policy.source, policy.id, "fp32")
    shape, dtype, _ = policy.env.spaces
    return Artifact(export_onnx(policy.network, shape, dtype), policy.id, "fp32", _versions())


def compress(
    policy: Policy,
    recipe: Recipe,
    registry: Registry,
    observations: Observations,
    exported: Artifact,
) -> Artifact:
    """Apply ``recipe`` to ``policy``, whose own network is left as it is.

    ``exported`` is ``export_policy(policy)``, which many recipes of one policy share.

    Raises:
        RecipeError: the recipe is not valid, or does not apply to this policy.
        PolicyError: the policy is an ONNX file and a step needs the torch network, or torch
            cannot export the result.
    """
    steps = registry.resolve(recipe).steps
    provenance: dict[str, Any] = _versions()
    on_network = [step for step in steps if registry.kinds[step.name].level != "graph"]
    model: Any = exported.model
    if on_network:
        network: Any = copy.deepcopy(policy.network)
        for step in on_network:
            network, observations = _apply(registry, step, network, observations, provenance)
        if registry.kinds[on_network[-1].name].level == "export":
            model = network  # the last of these steps made the ONNX bytes itself
        else:
            shape, dtype, _ = policy.env.spaces
            model = export_onnx(network, shape, dtype)
    for step in steps[len(on_network) :]:
        model, observations = _apply(registry, step, model, observations, provenance)
    return Artifact(model, policy.id, str(recipe), provenance)


def _apply(
    registry: Registry,
    step: Step,
    value: Any,
    observations: Observations,
    provenance: dict[str, Any],
) -> tuple[Any, Observations]:
    try:
        result = registry.kinds[step.name].apply(value, step, observations)
    except RecipeError as error:
        raise RecipeError(f"step {str(step)!r}: {error}") from None
    provenance[step.name] = {"step": str(step), **result.provenance}
    return result.value, result.observations or observations


def _versions() -> dict[str, Any]:
    return {"versions": {name: importlib.metadata.version(name) for name in _VERSIONED}}
