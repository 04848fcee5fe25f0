"""From a training recipe to an SB3 model, and from an SB3 model to a policy network."""

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.network import (
    ACTIVATIONS,
)
from pytest_drlcompress.training.hyperparameters import check_values
from pytest_drlcompress.training.recipes import OFF_POLICY, TrainingRecipe

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


def make_env(recipe: TrainingRecipe, cores: int = 1) -> "VecEnv":
    """The recipe's environments with float32 observations; ``VecNormalize`` if it asks for it.

    An image policy's are emulators, on ``cores`` threads.
    """
    if recipe.network:
        from pytest_drlcompress.training.dqn import Emulators

        return Emulators(recipe, cores)
    import gymnasium as gym
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    spec = EnvSpec.parse(recipe.environment)

    def make() -> gym.Env[Any, Any]:
        # float32, as the actor sees it: half the replay buffer
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*precision lowered by casting")
            return gym.wrappers.DtypeObservation(spec.make(), np.float32)

    env: VecEnv = make_vec_env(make, n_envs=recipe.n_envs)
    if recipe.normalize:
        env = VecNormalize(env, gamma=float(recipe.hyperparameters.get("gamma", 0.99)))
    return env


def algorithm_class(name: str) -> "type[BaseAlgorithm]":
    """The SB3 class of an algorithm's name; SAC, TD3 and DDPG with the project's own update."""
    from sb3_contrib import TRPO
    from stable_baselines3 import DQN, PPO

    from pytest_drlcompress.training.off_policy import FastDDPG, FastSAC, FastTD3

    classes: dict[str, type[BaseAlgorithm]] = {
        "sac": FastSAC, "td3": FastTD3, "ddpg": FastDDPG, "ppo": PPO, "trpo": TRPO,
        "dqn": DQN,
    }  # fmt: skip
    return classes[name]


def make_model(
    recipe: TrainingRecipe, env: "VecEnv", seed: int, device: str = "cpu"
) -> "BaseAlgorithm":
    """A new, untrained SB3 model on ``device``.

    Raises:
        TrainingError: hyperparameters that the algorithm does not have or refuses, or a replay
            buffer that the machine has no memory for.
    """
    check_hyperparameters(recipe)
    arguments: dict[str, Any]
    if recipe.network:
        from pytest_drlcompress.training.dqn import image_arguments

        arguments = {
            **image_arguments(recipe), **recipe.hyperparameters, "buffer_size": buffer_size(recipe),
        }  # fmt: skip
    else:
        arguments = _state_arguments(recipe, env)
    kind: Any = "CnnPolicy" if recipe.network else "MlpPolicy"
    if recipe.critic_norm:
        from pytest_drlcompress.training.critics import policy_class

        kind = policy_class(recipe.algorithm)
    try:
        with warnings.catch_warnings():
            # not after hours, when the last of it is written to
            warnings.filterwarnings("error", ".*enough memory to store the complete replay buffer")
            return algorithm_class(recipe.algorithm)(
                kind, env, seed=seed, device=device, **arguments
            )
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise TrainingError(
            f"{recipe.id}: {recipe.algorithm} on {recipe.environment} refuses its"
            f" hyperparameters: {text}"
        ) from error
    except (MemoryError, UserWarning) as error:
        raise TrainingError(f"{recipe.id}: {error}: lower its buffer_size") from None


def _state_arguments(recipe: TrainingRecipe, env: "VecEnv") -> dict[str, Any]:
    """What an algorithm is given where a policy sees a state of numbers."""
    from stable_baselines3.common.noise import NormalActionNoise

    policy: dict[str, Any] = {
        "net_arch": list(recipe.net_arch),
        "activation_fn": ACTIVATIONS[recipe.activation],
    }
    arguments: dict[str, Any] = {**recipe.hyperparameters, "policy_kwargs": policy}
    if recipe.algorithm in OFF_POLICY:
        policy["optimizer_kwargs"] = {"fused": True}
        arguments["buffer_size"] = buffer_size(recipe)
        if recipe.action_noise:
            size = int(np.prod(env.action_space.shape or (1,)))
            arguments["action_noise"] = NormalActionNoise(
                np.zeros(size), np.full(size, recipe.action_noise)
            )
    else:
        policy["log_std_init"] = recipe.log_std_init
    return arguments


_OF_THE_RECIPE = ("policy", "env", "policy_kwargs", "seed", "device", "_init_setup_model")


def check_hyperparameters(recipe: TrainingRecipe) -> None:
    """Hold a recipe's hyperparameters against the algorithm's own, before hours of training.

    Raises:
        TrainingError: one that the algorithm does not have, or of another kind than its default.
    """
    parameters = inspect.signature(algorithm_class(recipe.algorithm)).parameters
    check_values(
        recipe,
        {name: p.default for name, p in parameters.items() if name not in _OF_THE_RECIPE},
    )


_SCREENS = 100_000
"""Of images, 2.8 GB: RL-Zoo3's."""


def buffer_size(recipe: TrainingRecipe) -> int:
    """Transitions in the replay buffer of an off-policy recipe.

    All of the training's where it says nothing; of images, 100,000.
    """
    default = _SCREENS if recipe.network else recipe.steps
    return int(recipe.hyperparameters.get("buffer_size", default))


def set_threads() -> None:
    """One thread for torch: several trainings run side by side, and small nets gain nothing."""
    torch.set_num_threads(1)
