"""SB3's policies of SAC, TD3 and DDPG with layer normalisation in the critics.

The critic's estimates of actions that nobody has tried grow without bound, and the actor climbs
them; with its hidden layers normalised they stay within what its last layer's weights allow (Ball
et al. 2023, section 4.2; Nauman et al. 2024). The actor, which is what is deployed, is SB3's own.
"""

from typing import TYPE_CHECKING, Any

from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

if TYPE_CHECKING:
    from stable_baselines3.common.policies import ContinuousCritic


class NormedSACPolicy(SACPolicy):
    """See the module."""

    def make_critic(self, *arguments: Any, **keywords: Any) -> "ContinuousCritic":
        """SB3's critic, normalised."""
        return _normed(super().make_critic(*arguments, **keywords))


class NormedTD3Policy(TD3Policy):
    """See the module; DDPG's too."""

    def make_critic(self, *arguments: Any, **keywords: Any) -> "ContinuousCritic":
        """SB3's critic, normalised."""
        return _normed(super().make_critic(*arguments, **keywords))


def policy_class(algorithm: str) -> type[SACPolicy] | type[TD3Policy]:
    """The policy with normalised critics of ``sac``, ``td3`` or ``ddpg``."""
    return NormedSACPolicy if algorithm == "sac" else NormedTD3Policy


def _normed(critic: "ContinuousCritic") -> "ContinuousCritic":
    """``critic`` with layer normalisation between each hidden layer and its activation."""
    for index, network in enumerate(critic.q_networks):
        assert isinstance(network, nn.Sequential)
        layers: list[nn.Module] = []
        for layer in network:
            layers.append(layer)
            if isinstance(layer, nn.Linear) and layer is not network[-1]:
                layers.append(nn.LayerNorm(layer.out_features, device=critic.device))
        critic.q_networks[index] = nn.Sequential(*layers)
        critic.add_module(f"qf{index}", critic.q_networks[index])
    return critic
