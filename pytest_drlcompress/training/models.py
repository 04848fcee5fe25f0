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


def make_env(recipe: TrainingRecipe) -> "VecEnv":
    """The recipe's environments with float32 observations; ``VecNormalize`` if it asks for it."""
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
    """The SB3 class of an algorithm's name."""
    import stable_baselines3 as sb3
    from sb3_contrib import TRPO

    classes: dict[str, type[BaseAlgorithm]] = {
        "sac": sb3.SAC, "td3": sb3.TD3, "ddpg": sb3.DDPG, "ppo": sb3.PPO, "trpo": TRPO,
    }  # fmt: skip
    return classes[name]


def make_model(recipe: TrainingRecipe, env: "VecEnv", seed: int) -> "BaseAlgorithm":
    """A new, untrained SB3 model.

    Raises:
        TrainingError: hyperparameters that the algorithm does not have or refuses.
    """
    check_hyperparameters(recipe)
    from stable_baselines3.common.noise import NormalActionNoise

    policy: dict[str, Any] = {
        "net_arch": list(recipe.net_arch),
        "activation_fn": ACTIVATIONS[recipe.activation],
    }
    arguments: dict[str, Any] = dict(recipe.hyperparameters)
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
    try:
        return algorithm_class(recipe.algorithm)(
            "MlpPolicy", env, policy_kwargs=policy, seed=seed, device="cpu", **arguments
        )
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise TrainingError(
            f"{recipe.id}: {recipe.algorithm} on {recipe.environment} refuses its"
            f" hyperparameters: {text}"
        ) from error


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


def buffer_size(recipe: TrainingRecipe) -> int:
    """Transitions in the replay buffer of an off-policy recipe: all of them by default."""
    return int(recipe.hyperparameters.get("buffer_size", recipe.steps))


def set_threads() -> None:
    """One thread for torch: several trainings run side by side, and small nets gain nothing."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")
