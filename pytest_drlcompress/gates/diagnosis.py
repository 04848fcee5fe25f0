"""What a quantized variant really executes, which quantizer costs most, and what to try next."""

from pytest_drlcompress.compression.step import Diagnosis
from pytest_drlcompress.measurement.attribution import Contribution, attribute_error
from pytest_drlcompress.onnx_graph.kernels import (
    LayerKernel,
    contains_quantization,
    executed_kernels,
    in_fp32_although_quantized,
)
from pytest_drlcompress.workbench.candidate import Candidate


def broken_layers(candidate: Candidate) -> tuple[LayerKernel, ...]:
    """Layers that execute in fp32 in a variant that says it is quantized; empty if it is right.

    Raises:
        ArtifactError: ONNX Runtime cannot load the variant.
    """
    model = candidate.artifact.model
    claims = any(kind.quantizes for kind in candidate.kinds.values())
    if not claims and not contains_quantization(model):
        return ()
    return in_fp32_although_quantized(executed_kernels(model), claims=claims)


def describe_broken(layers: tuple[LayerKernel, ...]) -> str:
    """One sentence that names each layer and why it is not an int8 kernel."""
    named = "; ".join(f"{layer.node!r} as {layer.operator}: {layer.reason}" for layer in layers)
    return f"Not quantized in effect, ONNX Runtime executes in fp32 {named}."


def contributions(candidate: Candidate) -> tuple[Contribution, ...]:
    """The error of each quantizer alone, the largest first; empty where it cannot be told."""
    model = candidate.artifact.model
    if not contains_quantization(model):
        return ()
    try:
        return attribute_error(
            model,
            candidate.loaded.exported.model,
            candidate.loaded.probe_observations,
            candidate.loaded.policy.env.action,
        )
    except Exception:  # graphs of any toolchain; this is advice, and must not spoil a verdict
        return ()


def hint(candidate: Candidate) -> str:
    """Where the largest error comes from and which recipe to try; empty without quantizers."""
    found = contributions(candidate)
    if not found:
        return ""
    better = _better_recipe(candidate, found[0])
    return f"largest error: {found[0]}." + (f" Try: {better}" if better else "")


def _better_recipe(candidate: Candidate, worst: Contribution) -> str:
    recipe = candidate.variant.recipe
    if recipe is None:
        return ""
    last = candidate.steps[-1]
    suggest = candidate.kinds[last.name].suggest
    if suggest is None:
        return ""
    # an ONNX file cannot be trained
    trainable = not isinstance(candidate.loaded.policy.source, bytes)
    step = suggest(last, Diagnosis(worst.layer, trainable))
    return "+".join([*map(str, recipe.steps[:-1]), step]) if step else ""
