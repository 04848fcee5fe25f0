"""A model that SB3 has in memory: its actor as a network of ours."""

import copy
from typing import TYPE_CHECKING, Any

from torch import nn

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.network import (
    Argmax,
    clip_layer,
    normalize_layer,
    squash_layers,
)

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecNormalize


def extract_network(
    algorithm: str, model: "BaseAlgorithm", spec: EnvSpec, statistics: "VecNormalize | None"
) -> nn.Sequential:
    """A copy of the model's deterministic actor with normalisation and action bounds folded in."""
    layers: list[nn.Module] = []
    if statistics is not None:
        rms: Any = statistics.obs_rms
        layers.append(
            normalize_layer(rms.mean, rms.var, epsilon=statistics.epsilon, clip=statistics.clip_obs)
        )
    policy: Any = model.policy
    low, high = spec.action.low, spec.action.high
    extractor = (
        getattr(policy, "features_extractor", None)
        or (policy.q_net if algorithm == "dqn" else policy.actor).features_extractor
    )
    if any(parameter.numel() for parameter in extractor.parameters()):
        raise PolicyError("only the actors of an MlpPolicy can be taken out of a model in training")
    if algorithm == "sac":
        layers += [*policy.actor.latent_pi, policy.actor.mu, *squash_layers(low, high)]
    elif algorithm in ("td3", "ddpg"):
        # SB3 ends this actor with its own tanh
        layers += [*list(policy.actor.mu)[:-1], *squash_layers(low, high)]
    elif algorithm == "dqn":
        layers += [*policy.q_net.q_net, Argmax()]
    else:
        body = policy.mlp_extractor.policy_net
        layers += [*body, policy.action_net, clip_layer(low, high)]
    network = nn.Sequential(*copy.deepcopy(layers))
    for parameter in network.parameters():
        parameter.grad = None
    return network.eval()
