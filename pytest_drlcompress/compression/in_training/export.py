"""From a model that ``SparseTraining`` trained to the artifact that would be deployed."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pytest_drlcompress.compression.distillation.loss import split
from pytest_drlcompress.compression.in_training.callback import SparseTraining
from pytest_drlcompress.compression.quantization.fake_quant import insert_fake_quantizers
from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.compression.quantization.running_quantizer import RunningQuantizer
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.onnx_graph.export import export_program
from pytest_drlcompress.onnx_graph.placement import read_placement, write_arrays
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import Scale

_CALIBRATION = 512


def export_sparse(model: Any, sparsity: SparseTraining, environment: str) -> Artifact:
    """The model's deterministic actor as it would be deployed: sparse, and int8 after QAT.

    A model trained with ``VecNormalize`` brings its statistics along, folded in.

    Raises:
        RecipeError: a policy that is no ``MlpPolicy``.
        EnvironmentSpecError: an environment that does not exist.
    """
    from stable_baselines3.common.vec_env import VecNormalize

    from pytest_drlcompress.policies.sb3.live import extract_network

    env = model.get_env()
    statistics = env if isinstance(env, VecNormalize) else None
    spec = EnvSpec.parse(environment)
    network = extract_network(type(model).__name__.lower(), model, spec, statistics)
    return export_network(network, sparsity, spec, f"{type(model).__name__.lower()}-{spec}")


def export_network(
    network: nn.Sequential, sparsity: SparseTraining, spec: EnvSpec, policy: str
) -> Artifact:
    """``network`` (the actor with all that belongs to it) on the grids it was trained with."""
    shape, dtype, _ = spec.spaces
    schedule, quantizer = sparsity.schedule, sparsity.quantizer
    steps, provenance = [], {}
    if schedule is not None:
        steps.append(f"sparse@{100 * schedule.final:g}")
        provenance["sparse"] = {
            "where": "in training",
            "total_steps": sparsity.total_steps,
            "trained_steps": sparsity.num_timesteps,
            "distribution": sparsity.distribution,
            "schedule": {
                "final": schedule.final,
                "start": schedule.start,
                "interval": schedule.interval,
                "count": schedule.count,
            },
            "prunings": sparsity.history,
        }
    if quantizer is None or not sparsity.quantizing:
        recipe = "+".join(steps) or "fp32"
        return Artifact(export_onnx(network, shape, dtype), policy, recipe, provenance)
    provenance["qat"] = {"where": "in training", **quantizer.state()}
    model = _on_grids(network, quantizer, shape, dtype)
    return Artifact(model, policy, "+".join([*steps, "qat"]), provenance)


def _on_grids(
    network: nn.Sequential,
    quantizer: RunningQuantizer,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> bytes:
    layers = list(network)
    first = next((i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)), None)
    if first is None:
        raise RecipeError("only networks that begin with a fully connected layer can be exported")
    if quantizer.factor is not None:
        scaling, linear = Scale(quantizer.factor.numel()), layers[first]
        assert isinstance(linear, nn.Linear)
        with torch.no_grad():
            scaling.factor.copy_(quantizer.factor)
            linear.weight.div_(quantizer.factor)
        layers.insert(first, scaling)
    network = nn.Sequential(*layers).eval()
    # the ranges are replaced; what is calibrated on need only be negative somewhere
    noise: NDArray[Any] = np.random.default_rng(0).normal(size=(_CALIBRATION, *shape))
    template = quantize_statically(export_onnx(network, shape, dtype), noise.astype(np.float32))
    placement = read_placement(template)
    if len(placement.layers) != len(quantizer.layers):
        raise RecipeError("the exported model has other layers than the one that was trained")
    trunk, _ = split(network)
    program, _ = export_program(trunk, shape, dtype)
    quantized = insert_fake_quantizers(
        program.module(check_guards=False), placement, weight_bits=8, activation_bits=8
    )
    with torch.no_grad():
        for position, layer in enumerate(placement.layers):
            source, grid = quantizer.input_grid(position), quantizer.weight_grid(position)
            mine = quantized.activations[layer.input.scale]
            # an input that was never negative in training, but might be, has the symmetric grid
            wider = math.log(255 / 127) if mine.zero_point and not source.zero_point else 0.0
            mine.log_scale.copy_(source.log_scale + wider)
            quantized.weights[layer.node].log_scale.copy_(grid.log_scale)
    return write_arrays(template, quantized.arrays())
