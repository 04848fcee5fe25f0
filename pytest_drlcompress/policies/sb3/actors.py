"""The actors of SB3's policies, rebuilt as layers from the names and shapes of their tensors.

Only the layouts that SB3's own classes produce are accepted: ``Linear`` at every second
index with the activation between (``create_mlp``), and Nature CNN (Mnih et al. 2015) in
front. Anything else is an error, since weights alone do not tell what runs between them.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.policies.network import (
    ACTIVATIONS,
    Argmax,
    ArgmaxParts,
    LikelyBits,
    Reshape,
    clip_layer,
    squash_layers,
)
from pytest_drlcompress.policies.recurrent_network import LstmCell
from pytest_drlcompress.policies.sb3.zip import OTHER_WAYS, Sb3Zip

Layers = list[nn.Module]
Activation = Callable[[], nn.Module]
M = TypeVar("M", nn.Linear, nn.Conv2d)

ON_POLICY = "stable_baselines3.common.policies"
RECURRENT = "sb3_contrib.common.recurrent.policies"
_MODULES = MappingProxyType(
    {
        "stable_baselines3.sac.policies": "sac",
        "stable_baselines3.td3.policies": "td3",
        "stable_baselines3.dqn.policies": "dqn",
        "sb3_contrib.tqc.policies": "tqc",
        "sb3_contrib.qrdqn.policies": "qrdqn",
        RECURRENT: "recurrentppo",
        ON_POLICY: "",
    }
)
_ACTIVATION = re.compile(
    r"(?:functools\.partial\()?(?:<class ')?torch\.nn\.modules\.activation\.(?P<name>\w+)(?:'>)?"
    r"(?:, (?P<arguments>[^()]*)\))?"
)
"""A class, or a partial one with its arguments, as their ``repr`` says it."""

_EXTRACTORS = tuple(
    f"<class 'stable_baselines3.common.torch_layers.{name}'>"
    for name in ("FlattenExtractor", "NatureCNN", "CombinedExtractor")
)
_NATURE_CNN = MappingProxyType({"cnn.0": (8, 4), "cnn.2": (4, 2), "cnn.4": (3, 1)})
"""Kernel size and stride of Nature CNN's convolutions (their shapes do not tell the stride)."""


def algorithm_of(saved: Sb3Zip) -> str:
    """``"sac"``, ``"ppo"``, ...; ``""`` where an actor-critic policy's algorithm is not told.

    TD3 and DDPG, and PPO, A2C and TRPO, share their policy classes: the critics and the
    hyperparameters tell them apart. The actor is the same in each case.

    Raises:
        PolicyError: the policy class is not one of SB3's that this package can rebuild.
    """
    module = saved.policy_module
    if module not in _MODULES:
        raise saved.error(
            f"its policy class comes from {module!r}, whose computation weights do not tell;"
            f" {OTHER_WAYS}"
        )
    algorithm = _MODULES[module]
    if algorithm == "td3" and "critic.qf1.0.weight" not in saved.tensors:
        return "ddpg"
    if algorithm:
        return algorithm
    for field, name in (("cg_max_steps", "trpo"), ("clip_range", "ppo")):
        if field in saved.data:
            return name
    return "a2c" if "normalize_advantage" in saved.data and "batch_size" not in saved.data else ""


def actor_layers(
    saved: Sb3Zip, action: ActionSpec, front: Callable[[str], Layers]
) -> tuple[Layers, Layers]:
    """The features extractor (empty for flat observations) and the rest of the actor.

    ``front`` gives the extractor whose tensors have a prefix (``nature_cnn``, or
    ``combined.combined``). The rest ends with what brings its output into ``action``.

    Raises:
        PolicyError: tensors, an activation, or a number of outputs that do not fit.
    """
    algorithm, acted = algorithm_of(saved), saved.space("action_space")
    if algorithm in ("dqn", "qrdqn"):
        network = "q_net" if algorithm == "dqn" else "quantile_net"
        extractor = f"{network}.features_extractor"
        linears = _mlp(saved, f"{network}.{network}", at_least=1)
        if algorithm == "qrdqn":
            linears[-1] = _mean_over_quantiles(saved, linears[-1], action.n)
        head: Layers = [Argmax()]
    elif algorithm in ("sac", "tqc", "td3", "ddpg"):
        extractor = "actor.features_extractor"
        linears, clip_mean = _off_policy_linears(saved)
        head = [*clip_mean, *_squash(saved, action)]
    else:
        shared = not _below(saved, "pi_features_extractor")
        extractor = "features_extractor" if shared else "pi_features_extractor"
        linears = [
            *_mlp(saved, "mlp_extractor.shared_net"),  # SB3 before 1.8
            *_mlp(saved, "mlp_extractor.policy_net"),
            _linear(saved, "action_net"),
        ]
        head = _on_policy_head(saved, action)
    if len(action.shape) != 1:
        head += [Reshape(action.shape)] if not action.n else []
    bits = acted.kind == "MultiBinary"
    outputs = sum(action.sizes) or action.n if action.discrete else int(np.prod(action.shape))
    if bits:
        outputs = len(action.sizes)
    if linears[-1].out_features != outputs:
        raise saved.error(
            f"its actor has {linears[-1].out_features} outputs; the environment's action space is"
            f" {action.describe()}"
        )
    for first, second in pairwise(linears):
        if first.out_features != second.in_features:
            raise saved.error(
                f"layers of {first.out_features} outputs and {second.in_features} inputs follow"
                f" each other, so something this file does not show runs between; {OTHER_WAYS}"
            )
    return front(extractor), [*_join(linears, _activation(saved)), *head]


def lstm_cells(saved: Sb3Zip) -> list[LstmCell]:
    """The layers of the LSTM between the features extractor and the rest; none in most actors.

    Raises:
        PolicyError: tensors that are not those of a plain LSTM.
    """
    found = dict(_below(saved, "lstm_actor"))
    cells: list[LstmCell] = []
    while f"weight_ih_l{len(cells)}" in found:
        layer = f"l{len(cells)}"
        weights = [found.pop(f"weight_{kind}_{layer}", torch.empty(0)) for kind in ("ih", "hh")]
        width = weights[0].shape[0] // 4
        if [w.ndim for w in weights] != [2, 2] or weights[1].shape != (4 * width, width):
            raise saved.error(f"layer {layer} of its LSTM is not a plain one; {OTHER_WAYS}")
        biases = [
            found.pop(f"bias_{kind}_{layer}", torch.zeros(4 * width)) for kind in ("ih", "hh")
        ]
        cells.append(LstmCell(*map(_filled, weights, biases)))
    if found:
        raise saved.error(f"its LSTM has tensors {sorted(found)}; {OTHER_WAYS}")
    return cells


def _activation(saved: Sb3Zip) -> Activation:
    default = "Tanh" if saved.policy_module in (ON_POLICY, RECURRENT) else "ReLU"
    text = saved.policy_kwargs.get("activation_fn", f"torch.nn.modules.activation.{default}")
    match = _ACTIVATION.fullmatch(str(text))
    if match is None or match["name"] not in ACTIVATIONS:
        raise saved.error(
            f"its activation function {str(text)!r} is not one of {', '.join(ACTIVATIONS)};"
            f" {OTHER_WAYS}"
        )
    try:
        call = ast.parse(f"f({match['arguments'] or ''})", mode="eval").body
        assert isinstance(call, ast.Call)
        positional = [ast.literal_eval(argument) for argument in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        activation = partial(ACTIVATIONS[match["name"]], *positional, **named)
        activation()
    except (SyntaxError, TypeError, ValueError) as error:
        raise saved.error(
            f"its activation function {str(text)!r} is not readable: {error}; {OTHER_WAYS}"
        ) from None
    return activation


def _off_policy_linears(saved: Sb3Zip) -> tuple[list[nn.Linear], Layers]:
    tensors = saved.tensors
    if not any(name.startswith("actor.log_std") for name in tensors):
        return _mlp(saved, "actor.mu", at_least=1), []  # TD3, DDPG
    latent = _mlp(saved, "actor.latent_pi")
    if "actor.mu.weight" in tensors:
        return [*latent, _linear(saved, "actor.mu")], []
    # gSDE (Raffin et al. 2021): the mean is clipped before tanh
    clip_mean = saved.policy_kwargs.get("clip_mean", 2.0)
    try:
        bound = float(clip_mean)
    except (TypeError, ValueError):
        raise saved.error(f"its clip_mean {clip_mean!r} is not readable; {OTHER_WAYS}") from None
    return [*latent, _linear(saved, "actor.mu.0")], [nn.Hardtanh(-bound, bound)]


def _on_policy_head(saved: Sb3Zip, action: ActionSpec) -> Layers:
    gaussian = "log_std" in saved.tensors
    if gaussian == action.discrete:
        kind = "continuous" if gaussian else "discrete"
        raise saved.error(
            f"it was trained on {kind} actions; the environment's are {action.describe()}"
        )
    if action.sizes:
        bits = saved.space("action_space").kind == "MultiBinary"
        return [LikelyBits() if bits else ArgmaxParts(action.sizes)]
    if action.discrete:
        return [Argmax()]
    if str(saved.policy_kwargs.get("squash_output", False)) == "True":
        return _squash(saved, action)
    if not np.any(np.isfinite([action.low, action.high])):
        return []
    limit = np.finfo(np.float32).max
    return [clip_layer(np.maximum(action.low, -limit), np.minimum(action.high, limit))]


def _squash(saved: Sb3Zip, action: ActionSpec) -> Layers:
    if action.discrete or not np.all(np.isfinite([action.low, action.high])):
        raise saved.error(
            "its actor squashes to a bounded box; the environment's action space is"
            f" {action.describe()}"
        )
    return squash_layers(action.low, action.high)


def _mean_over_quantiles(saved: Sb3Zip, last: nn.Linear, actions: int) -> nn.Linear:
    # QR-DQN views its outputs as (quantiles, actions); the mean of linear maps is linear
    if actions < 1 or last.out_features % actions:
        raise saved.error(
            f"its {last.out_features} quantiles are not divisible by the environment's {actions}"
            " actions"
        )
    weight = last.weight.detach().reshape(-1, actions, last.in_features).mean(0)
    return _filled(weight, last.bias.detach().reshape(-1, actions).mean(0))


def check_extractor(saved: Sb3Zip) -> None:
    """Refuse a features extractor of the user's own.

    Raises:
        PolicyError: its class is not one of SB3's.
    """
    named = saved.policy_kwargs.get("features_extractor_class", _EXTRACTORS[0])
    if named not in _EXTRACTORS:
        raise saved.error(
            f"its features extractor {str(named)!r} is neither flat nor Nature CNN; {OTHER_WAYS}"
        )


def nature_cnn(saved: Sb3Zip, prefix: str) -> Layers:
    """The features extractor of tensors below ``prefix``: Nature CNN, or nothing where it is flat.

    Raises:
        PolicyError: tensors that are not Nature CNN's.
    """
    check_extractor(saved)
    found = _below(saved, prefix)
    if not found:
        return []
    names = {name for name in found if not name.startswith(("cnn.", "linear.0."))}
    if names:
        raise saved.error(
            f"its features extractor has tensors {sorted(names)[:4]}, which are not Nature CNN's;"
            f" {OTHER_WAYS}"
        )
    layers: Layers = []
    for name, (kernel, stride) in _NATURE_CNN.items():
        weight, bias = _weight_and_bias(saved, f"{prefix}.{name}")
        if weight.ndim != 4 or tuple(weight.shape[2:]) != (kernel, kernel):
            raise saved.error(
                f"convolution {name} has weights {tuple(weight.shape)}, not Nature CNN's"
                f" {kernel}x{kernel}; {OTHER_WAYS}"
            )
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], kernel, stride, device="meta")
        layers += [_fill(layer, weight, bias), nn.ReLU()]
    if len(found) != 2 * (len(_NATURE_CNN) + 1):
        raise saved.error(f"its features extractor has tensors {sorted(found)}; {OTHER_WAYS}")
    return [*layers, nn.Flatten(), _linear(saved, f"{prefix}.linear.0"), nn.ReLU()]


def _mlp(saved: Sb3Zip, prefix: str, at_least: int = 0) -> list[nn.Linear]:
    found = _below(saved, prefix)
    count = len(found) // 2
    expected = {f"{2 * i}.{kind}" for i in range(count) for kind in ("weight", "bias")}
    if set(found) != expected or any(
        t.ndim != (2 if name.endswith("weight") else 1) for name, t in found.items()
    ):
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        raise saved.error(
            f"{prefix} is not a plain stack of linear layers (it has {shapes}); {OTHER_WAYS}"
        )
    if count < at_least:
        raise saved.error(f"policy.pth has no tensor {prefix}.0.weight; {OTHER_WAYS}")
    return [_linear(saved, f"{prefix}.{2 * i}") for i in range(count)]


def _join(linears: Sequence[nn.Linear], activation: Activation) -> Layers:
    layers: Layers = []
    for linear in linears[:-1]:
        layers += [linear, activation()]
    return [*layers, linears[-1]]


def _below(saved: Sb3Zip, prefix: str) -> Mapping[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in saved.tensors.items() if n.startswith(start)}


def _linear(saved: Sb3Zip, name: str) -> nn.Linear:
    weight, bias = _weight_and_bias(saved, name)
    if weight.ndim != 2:
        raise saved.error(f"{name}.weight has shape {tuple(weight.shape)}; {OTHER_WAYS}")
    return _filled(weight, bias)


def _weight_and_bias(saved: Sb3Zip, name: str) -> tuple[Tensor, Tensor]:
    for part in ("weight", "bias"):
        if f"{name}.{part}" not in saved.tensors:
            raise saved.error(f"policy.pth has no tensor {name}.{part}; {OTHER_WAYS}")
    weight, bias = saved.tensors[f"{name}.weight"], saved.tensors[f"{name}.bias"]
    if bias.shape != weight.shape[:1]:
        raise saved.error(f"{name}: weight {tuple(weight.shape)}, bias {tuple(bias.shape)}")
    return weight, bias


def _filled(weight: Tensor, bias: Tensor) -> nn.Linear:
    return _fill(nn.Linear(weight.shape[1], weight.shape[0], device="meta"), weight, bias)


def _fill(layer: M, weight: Tensor, bias: Tensor) -> M:
    # made on "meta", a layer draws no random initial weights: the caller's generator stays put
    layer.to_empty(device="cpu")
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
