"""What an action costs by the usual ways of running a policy, side by side with ours.

All contenders take turns, round after round, so that whatever else the machine does hits all of
them; a speed-up is the median over rounds of the ratio within a round.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pytest_drlcompress.measurement.latency import median_call_seconds, warm_up
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.onnxruntime import make_session

Contender = Callable[[], Any]
ROUNDS = 30


def contest(contenders: Mapping[str, Contender], rounds: int = ROUNDS) -> NDArray[np.float64]:
    """Microseconds per call ``(rounds, contenders)``: medians of blocks of a few milliseconds."""
    calls = {name: warm_up(act) for name, act in contenders.items()}
    names = list(contenders)
    times = np.full((rounds, len(names)), np.nan)
    for number in range(rounds):
        forth = range(len(names))
        for place in forth if number % 2 == 0 else reversed(forth):
            name = names[place]
            times[number, place] = median_call_seconds(contenders[name], calls[name]) * 1e6
    return times


def plain_run(model: bytes, observation: NDArray[Any]) -> Contender:
    """ONNX Runtime as its documentation shows it, on one thread: ``run`` with a dictionary."""
    session = make_session(model)
    (source,) = session.get_inputs()

    def act() -> Any:
        return session.run(None, {source.name: observation[None]})[0][0]

    return act


def torch_eager(network: nn.Module, observation: NDArray[Any]) -> Contender:
    """The torch network in inference mode, from array to array."""

    def act() -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(observation[None]))[0].numpy()

    return act


def sb3_predict(policy: Policy, observation: NDArray[Any]) -> Contender | None:
    """``predict(observation, deterministic=True)`` of an SB3 policy with the same layers.

    Its weights are fresh ones; its time depends on the layers only. ``None`` where the algorithm
    or the network is not one that can be rebuilt.
    """
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.sac.policies import SACPolicy
    from stable_baselines3.td3.policies import TD3Policy

    classes: dict[str, tuple[type[Any], str]] = {
        **dict.fromkeys(("ppo", "a2c", "trpo"), (ActorCriticPolicy, "pi")),
        **dict.fromkeys(("td3", "ddpg"), (TD3Policy, "pi")),
        "sac": (SACPolicy, "pi"),
    }
    if policy.algorithm not in classes or isinstance(policy.source, bytes):
        return None
    layers = [layer for layer in policy.network.modules() if isinstance(layer, nn.Linear)]
    activations = [m for m in policy.network.modules() if isinstance(m, nn.ReLU | nn.Tanh)]
    if not layers or not activations:
        return None
    kind, actor = classes[policy.algorithm]
    critic = "vf" if kind is ActorCriticPolicy else "qf"
    hidden = [layer.out_features for layer in layers[:-1]]
    env = policy.env.make()
    try:
        rebuilt = kind(
            env.observation_space,
            env.action_space,
            lambda _: 1e-3,
            net_arch={actor: hidden, critic: [8]},
            activation_fn=type(activations[0]),
        )
    finally:
        env.close()
    return lambda: rebuilt.predict(observation, deterministic=True)
