"""Quantization-aware training by distillation (``qat``, ``qat@4``, ``qat@2``).

The papers' scheme: symmetric uniform quantization, per tensor for fully connected layers, per
channel for convolutions (Lu et al., section 2.1; Ivanov et al., section 2.3). ONNX Runtime
decides where to quantize; the network is trained with fake quantizers in those places to give
the unquantized one's actions on its own rollouts, and what it learned is written into ONNX
Runtime's quantized model. So the artifact executes the kernels that ``ptsq`` does.
"""

import itertools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.compression.distillation.distill import distill
from pytest_drlcompress.compression.distillation.loss import (
    action_loss,
    reproducible_training,
    split,
)
from pytest_drlcompress.compression.quantization.equalize import STRENGTH, migration
from pytest_drlcompress.compression.quantization.fake_quant import (
    FakeQuantized,
    insert_fake_quantizers,
)
from pytest_drlcompress.compression.quantization.packed import PackedWeight, write_packed
from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.compression.quantization.quantizer import quantize
from pytest_drlcompress.compression.recipe import Step
from pytest_drlcompress.compression.step import Observations, Result, StepKind
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.onnx_graph.export import export_program
from pytest_drlcompress.onnx_graph.placement import only_weights, read_placement, write_arrays
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import Scale

_CALIBRATION = 2048
_OFTEN = 0.01
"""Share of the observations in which a unit must be active to have a say in its layer's range."""


def _qat(network: nn.Module, step: Step, observations: Observations) -> Result:
    weight_bits, activation_bits = _bits(step)
    packed = step.options["storage"] == "packed"
    rollouts = observations.sample(int(step.options["samples"]))
    # rollouts come in the order of time: shuffled, any part of them is a fair sample
    rollouts = rollouts[np.random.default_rng(0).permutation(len(rollouts))]
    calibration = rollouts[:_CALIBRATION]
    if step.options["equalize"]:
        network = equalize_network(network, calibration)
    shape, dtype = rollouts.shape[1:], rollouts.dtype
    exported = export_onnx(network, shape, dtype)
    template = quantize_statically(exported, calibration)
    placement = read_placement(template)
    if packed:
        placement = only_weights(placement)
    trunk, head = split(network)
    program, _ = export_program(trunk, shape, dtype)
    quantized = insert_fake_quantizers(
        program.module(check_guards=False),
        placement,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )
    with reproducible_training():
        teacher = trunk if observations.teacher is None else split(observations.teacher)[0]
        trained = _train(quantized, teacher, head, torch.from_numpy(rollouts), step)
    if packed:
        model = _write_packed(exported, quantized, weight_bits)
    else:
        model = write_arrays(template, quantized.arrays())
    weights = sum(placement.arrays[layer.weight.codes].size for layer in placement.layers)
    provenance = {
        "rollouts": observations.describe(int(step.options["samples"])),
        "distillation": trained,
        "weight_bits": weight_bits,
        "activation_bits": 32 if packed else activation_bits,
        "stored_weight_bits": weight_bits if packed else 8,
        "packed_weight_bytes": math.ceil(weights * weight_bits / 8),
    }
    return Result(model, provenance)


QAT = StepKind(
    "qat",
    "export",
    _qat,
    "quantization-aware training by distillation: 8-bit weights and activations (qat@4: 4-bit"
    " weights, stored in 8)",
    amount=(1.5, 8.5),
    default_amount=8,
    options={
        "a": 8, "equalize": True, "storage": "8bit", "samples": 20_000, "steps": 3000, "lr": 1e-3
    },
    image_options={"samples": 4096, "steps": 600, "lr": 1e-4},
    choices={"storage": ("8bit", "packed")},
    quantizes=True,
)  # fmt: skip


def equalize_network(network: nn.Module, observations: NDArray[Any]) -> nn.Module:
    """``network`` with even spans at every layer's input, the same function otherwise.

    The scales of the observation become a ``Scale`` layer before the first linear one; those of
    the units between two fully connected layers with a ReLU are folded into the two (Nagel et
    al. 2019, section 4.1) and cost nothing. A network that is no ``Sequential`` beginning (after
    normalisation) with a fully connected layer is returned as it is.
    """
    if not isinstance(network, nn.Sequential):
        return network
    layers = list(network)
    linear = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not linear or not isinstance(layers[linear[0]], nn.Linear):
        return network
    with torch.no_grad():
        inputs = [torch.from_numpy(observations)]
        for layer in layers:
            inputs.append(layer(inputs[-1]))
        for previous, position in itertools.pairwise(linear):
            before, after = layers[previous], layers[position]
            if (
                isinstance(before, nn.Linear)
                and isinstance(after, nn.Linear)
                and position - previous == 2
                and type(layers[previous + 1]) is nn.ReLU
            ):
                scale = _scales(inputs[position], after, 0.5)
                scale = _within_reach(scale, inputs[position], before)
                after.weight.mul_(scale)
                before.weight.div_(scale[:, None])
                if before.bias is not None:
                    before.bias.div_(scale)
        first = layers[linear[0]]
        assert isinstance(first, nn.Linear)
        scale = _scales(inputs[linear[0]], first, STRENGTH)
        first.weight.mul_(scale)
        scaling = Scale(scale.numel())
        scaling.factor.copy_(1 / scale)
    layers.insert(linear[0], scaling)
    return nn.Sequential(*layers).eval()


def _scales(inputs: Tensor, layer: nn.Linear, strength: float) -> Tensor:
    """What to divide ``layer``'s ``inputs`` by, and to multiply its columns by."""
    span, weight = inputs.abs().amax(0), layer.weight.abs().amax(0)
    return torch.from_numpy(migration(span.numpy(), weight.numpy(), strength))


def _within_reach(scale: Tensor, units: Tensor, before: nn.Linear) -> Tensor:
    """``scale``, larger for units that hardly ever act where they would set ``before``'s range.

    ``units`` are the activations that ``before``'s rows lead to. One that is active in one
    observation of 2,048, and barely, has a span of next to nothing: its row, divided by that,
    came to 9 times the largest of the others, and 7 of 10 of the layer's weights rounded to zero.
    """
    often = (units > 0).float().mean(0) >= _OFTEN
    rows = before.weight.abs().amax(1)
    reach = torch.where(often, rows / scale, 0).amax()
    if reach == 0:  # no unit acts often, or only by their biases: there is no range to keep to
        return scale
    return torch.where(often, scale, torch.maximum(scale, rows / reach))


def _bits(step: Step) -> tuple[int, int]:
    amount, activation = step.amount or 8, int(step.options["a"])
    if amount != int(amount) or not 2 <= activation <= 8:
        raise RecipeError("bits are whole numbers from 2 to 8, for example qat@4:a=8")
    if step.options["storage"] == "packed" and (amount not in (2, 4) or activation != 8):
        raise RecipeError(
            "storage=packed is for qat@4 and qat@2, whose activations stay in fp32 (no a=)"
        )
    return int(amount), activation


def _write_packed(model: bytes, quantized: FakeQuantized, bits: int) -> bytes:
    tensors = {name: p.detach().numpy() for name, p in quantized.module.named_parameters()}
    weights = {}
    for layer in quantized.layers:
        parameters = quantized.weights[layer.node].parameters_of()
        stored = quantize(tensors[layer.weight.name], parameters).astype(np.int64)
        codes = stored - parameters.zero_point + 2 ** (bits - 1)
        weights[layer.weight.name] = PackedWeight(codes.astype(np.uint8), parameters.scale)
    return write_packed(model, weights, tensors, bits)


def _train(
    quantized: FakeQuantized, teacher: nn.Module, head: nn.Module, rollouts: Tensor, step: Step
) -> dict[str, Any]:
    with torch.no_grad():
        targets = teacher(rollouts)
        if not targets.is_floating_point():
            raise RecipeError("quantization-aware training needs a network with real outputs")
    rate = float(step.options["lr"])
    scales = [grid.log_scale for grid in quantized.grids()]
    own = {id(scale) for scale in scales}
    weights = [p for p in quantized.module.parameters() if id(p) not in own]
    unique = list({id(scale): scale for scale in scales}.values())
    # what pruning set to zero stays zero
    masks = [(p, (p != 0).to(p.dtype)) for p in weights if p.dim() > 1 and bool((p == 0).any())]
    result = distill(
        quantized.module,
        action_loss(head, targets),
        [{"params": weights, "lr": rate}, {"params": unique, "lr": rate}],
        rollouts,
        targets,
        steps=int(step.options["steps"]),
        masks=masks,
        title="quantization-aware training",
    )
    return {
        "held_out_loss_before": result.before,
        "held_out_loss_after": result.after,
        "steps": result.steps,
        "batch": result.batch,
        "kept_step": result.kept_step,
    }
