"""SB3's DQN (Mnih et al. 2015) on images: environments, network and policy for its ``DQN``.

The emulators are those of PQN, behind SB3's interface; the networks are the project's own, as the
feature extractor of SB3's ``CnnPolicy``. Rewards are clipped to their sign and a lost life ends
what can be earned, for the learner alone.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from pytest_drlcompress.environments.atari.vector import make_vector
from pytest_drlcompress.policies.network import Argmax, Pixels
from pytest_drlcompress.training.image_learner import image_specification
from pytest_drlcompress.training.image_networks import make_image_network
from pytest_drlcompress.training.recipes import TrainingRecipe

if TYPE_CHECKING:
    from ale_py import AtariVectorEnv
    from stable_baselines3.common.base_class import BaseAlgorithm


class Emulators(VecEnv):
    """``recipe.n_envs`` games as SB3 steps them, on ``threads`` threads.

    Observations are ``uint8`` of ``(n_envs, stack, 84, 84)``. What is seen when a game ends is the
    beginning of the next one: no value is ever taken of a last screen.

    Raises:
        TrainingError: the recipe's environment is no Atari game with ``preprocessing=gymnasium``.
    """

    def __init__(self, recipe: TrainingRecipe, threads: int = 1) -> None:
        spec, atari = image_specification(recipe)
        self._vector: AtariVectorEnv = make_vector(
            spec.id, atari, recipe.n_envs,
            autoreset="SameStep", life_loss_info=True, threads=threads,
        )  # fmt: skip
        self._actions: NDArray[np.int64] = np.zeros(recipe.n_envs, np.int64)
        super().__init__(
            recipe.n_envs,
            self._vector.single_observation_space,
            self._vector.single_action_space,
        )

    def reset(self) -> NDArray[np.uint8]:
        """Begin games with the seeds that ``seed`` has given."""
        seeds = [seed for seed in self._seeds if seed is not None]
        observations: NDArray[np.uint8]
        observations, _ = self._vector.reset(seed=np.array(seeds) % 2**31 if seeds else None)
        self._reset_seeds()
        return observations.copy()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions ``(n_envs,)`` for ``step_wait``."""
        self._actions = np.asarray(actions, np.int64)

    def step_wait(self) -> Any:
        """Observations, signs of rewards, ends, and nothing more to say of each game."""
        observations, rewards, over, cut, _ = self._vector.step(self._actions)
        nothing: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        return observations.copy(), np.sign(rewards).astype(np.float32), over | cut, nothing

    def close(self) -> None:
        """Release the emulators."""
        self._vector.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Games have one attribute: nothing renders them."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:  # noqa: ARG002
        """They have none that can be set."""
        raise AttributeError(attr_name)

    def env_method(self, method_name: str, *_: Any, **__: Any) -> list[Any]:
        """They have no methods."""
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:  # noqa: ARG002
        """They are not."""
        return [False for _ in self._get_indices(indices)]


class ImageFeatures(BaseFeaturesExtractor):
    """All but the last layer of an image network; SB3 has divided the bytes by 255."""

    def __init__(self, observation_space: spaces.Box, network: str) -> None:
        # the number of actions shapes only the layer that is left out
        *body, last = list(make_image_network(network, observation_space.shape[0], 1))[1:]
        assert isinstance(last, nn.Linear)
        super().__init__(observation_space, last.in_features)
        self.layers = nn.Sequential(*body)

    def forward(self, observations: Tensor) -> Tensor:
        """Features ``(batch, features_dim)`` of ``(batch, stack, 84, 84)`` in ``[0, 1]``."""
        features: Tensor = self.layers(observations)
        return features


def image_arguments(recipe: TrainingRecipe) -> dict[str, Any]:
    """What SB3's ``DQN`` is given for images, before a recipe's own hyperparameters.

    Screens are stored once, as ``uint8``: the one after a step is the one before the next.
    """
    return {
        "optimize_memory_usage": True,
        # SB3 cannot tell both apart in half the memory: a game that is cut counts as ended
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
        "policy_kwargs": {
            "features_extractor_class": ImageFeatures,
            "features_extractor_kwargs": {"network": recipe.network},
            "net_arch": [],
            "optimizer_kwargs": {"fused": True},
        },
    }


def greedy_policy(model: "BaseAlgorithm") -> nn.Sequential:
    """The deployed policy, a copy in float32 on the CPU: the action of the largest Q value."""
    q_net: Any = model.policy.q_net
    layers: Sequence[nn.Module] = [*q_net.features_extractor.layers, *q_net.q_net]
    network = nn.Sequential(Pixels(), *copy.deepcopy(layers), Argmax()).cpu()
    for parameter in network.parameters():
        parameter.grad = None
    return network.eval()
