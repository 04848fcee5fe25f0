"""What a quantized variant really executes, which quantizer costs most, and what to try next."""

from pytest_drlcompress.compression.recipe import Recipe, parse_recipe
from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.measurement.attribution import Contribution, attribute_error
from pytest_drlcompress.onnx_graph.kernels import (
    LayerKernel,
    contains_quantization,
    executed_kernels,
    in_fp32_although_quantized,
)
from pytest_drlcompress.workbench.workbench import Workbench


def broken_layers(bench: Workbench, policy: str, variant: str) -> tuple[LayerKernel, ...]:
    """Layers that execute in fp32 in a variant that says it is quantized; empty if it is right.

    Raises:
        ArtifactError: ONNX Runtime cannot load the variant.
    """
    model, recipe = bench.artifact(policy, variant).model, _recipe(bench, variant)
    claims = recipe is not None and any(
        bench.registry.kinds[s.name].quantizes for s in recipe.steps
    )
    if not claims and not contains_quantization(model):
        return ()
    return in_fp32_although_quantized(executed_kernels(model), claims=claims)


def describe_broken(layers: tuple[LayerKernel, ...]) -> str:
    """One sentence that names each layer and why it is not an int8 kernel."""
    named = "; ".join(f"{layer.node!r} as {layer.operator}: {layer.reason}" for layer in layers)
    return f"Not quantized in effect, ONNX Runtime executes in fp32 {named}."


def contributions(bench: Workbench, policy: str, variant: str) -> tuple[Contribution, ...]:
    """The error of each quantizer alone, the largest first; empty where it cannot be told."""
    model = bench.artifact(policy, variant).model
    if not contains_quantization(model):
        return ()
    try:
        return attribute_error(
            model,
            bench.exported(policy).model,
            bench.probe_observations(policy),
            bench.load(policy).policy.env.action,
        )
    except Exception:  # graphs of any toolchain; this is advice, and must not spoil a verdict
        return ()


def hint(bench: Workbench, policy: str, variant: str) -> str:
    """Where the largest error comes from and which recipe to try; empty without quantizers."""
    found = contributions(bench, policy, variant)
    if not found:
        return ""
    better = _better_recipe(bench, policy, variant, found[0])
    return f"largest error: {found[0]}." + (f" Try: {better}" if better else "")


def _better_recipe(bench: Workbench, policy: str, variant: str, worst: Contribution) -> str:
    recipe = _recipe(bench, variant)
    if recipe is None:
        return ""
    last = recipe.steps[-1]
    before = "".join(f"{step}+" for step in parse_recipe(variant).steps[:-1])
    if last.name in ("ptdq", "ptsq") and worst.layer == 1 and not last.options["equalize"]:
        return f"{before}{last.name}:equalize=true"
    if last.name == "qat":
        return ""
    try:
        _ = bench.load(policy).policy.network
    except PolicyError:  # an ONNX file cannot be trained
        return "" if last.options.get("per_channel") else f"{before}{last.name}:per_channel=true"
    return f"{before}qat"


def _recipe(bench: Workbench, variant: str) -> Recipe | None:
    """``variant`` with its options filled in; ``None`` for an ONNX file."""
    return None if variant.endswith(".onnx") else bench.registry.resolve(parse_recipe(variant))
