"""From a training recipe to an SB3 model, and from an SB3 model to a policy network."""

import inspect
import math
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.network import (
    ACTIVATIONS,
)
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
    """The SB3 class of an algorithm's name; off-policy ones with the project's own update."""
    from sb3_contrib import TRPO
    from stable_baselines3 import PPO

    from pytest_drlcompress.training.off_policy import FastDDPG, FastSAC, FastTD3

    classes: dict[str, type[BaseAlgorithm]] = {
        "sac": FastSAC, "td3": FastTD3, "ddpg": FastDDPG, "ppo": PPO, "trpo": TRPO,
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
_LEAST = MappingProxyType({"gradient_steps": -1, "learning_starts": 0, "verbose": 0})
"""The whole numbers that may be less than 1; -1 gradient steps are as many as were acted."""


def check_hyperparameters(recipe: TrainingRecipe) -> None:
    """Hold a recipe's hyperparameters against the algorithm's own, before hours of training.

    Raises:
        TrainingError: one that the algorithm does not have, or of another kind than its default.
    """
    parameters = inspect.signature(algorithm_class(recipe.algorithm)).parameters
    known = [name for name in parameters if name not in _OF_THE_RECIPE]
    for name, value in recipe.hyperparameters.items():
        where = f"{recipe.id}: hyperparameter {name}"
        if name not in known:
            raise TrainingError(
                f"{where} is unknown to {recipe.algorithm}; known: {', '.join(known)}"
            )
        default = parameters[name].default
        number = type(value) in (int, float)
        if number and not math.isfinite(value):
            raise TrainingError(f"{where} must be finite, not {value}")
        least = _LEAST.get(name, 1)
        if type(default) is int and (type(value) is not int or value < least):
            raise TrainingError(f"{where} must be a whole number >= {least}, not {value!r}")
        if type(default) is float and not (number and value >= 0):
            raise TrainingError(f"{where} must be a number >= 0, not {value!r}")
        if isinstance(default, bool) and not isinstance(value, bool):
            raise TrainingError(f"{where} must be true or false, not {value!r}")


def buffer_size(recipe: TrainingRecipe) -> int:
    """Transitions in the replay buffer of an off-policy recipe: all of them by default."""
    return int(recipe.hyperparameters.get("buffer_size", recipe.steps))


def set_threads() -> None:
    """One thread for torch: several trainings run side by side, and small nets gain nothing."""
    torch.set_num_threads(1)
