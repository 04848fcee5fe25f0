"""SB3 zips against SB3 itself: the same observations must give the same actions."""

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN, TQC, TRPO
from sb3_models import (
    TinyImages,
    Touch,
    edit_data,
    load,
    off,
    on,
    replace_member,
    replace_tensors,
)
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from torch import nn
from zoo import zoo_path

from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.measurement.action_error import compare_actions
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import build, describe
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.sb3.load import load_sb3
from pytest_drlcompress.runtime.onnxruntime import OnnxController


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class OddBox(gym.Env[NDArray[Any], Any]):
    """Bounds that are neither symmetric nor equal."""

    observation_space = gym.spaces.Box(-5, 5, (2, 3), np.float32)
    action_space = gym.spaces.Box(
        np.array([-2.0, 0.5], np.float32), np.array([1.0, 3.0], np.float32)
    )


class Unbounded(gym.Env[NDArray[Any], Any]):
    """SB3 refuses to train on it, but its early versions did not."""

    observation_space = OddBox.observation_space
    action_space = gym.spaces.Box(
        np.array([-np.inf, 0.5], np.float32), np.array([np.inf, np.inf], np.float32)
    )


class Ram(gym.Env[NDArray[Any], Any]):
    """Bytes that are no picture, which SB3 leaves in [0, 255]."""

    observation_space = gym.spaces.Box(0, 255, (12,), np.uint8)
    action_space = gym.spaces.Discrete(3)


class Spaces(gym.Env[NDArray[Any], Any]):
    """Any action space, and flat or scalar-free observations of any type."""

    def __init__(self, action: str, observed: str = "float32") -> None:
        box = gym.spaces.Box
        self.action_space = {
            "switches": gym.spaces.MultiDiscrete([3, 2, 4]),
            "bits": gym.spaces.MultiBinary(5),
            "matrix": box(-2, 3, (2, 3), np.float32),
            "scalar": box(-1, 1, (), np.float32),
            "five": gym.spaces.Discrete(5),
        }[action]
        integers = np.dtype(observed).kind != "f"
        low, high, shape = (0, 900, (7,)) if integers else (-5, 5, (2, 2, 3))
        self.observation_space = box(low, high, shape, np.dtype(observed).type)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    classes = {"TinyImages": TinyImages, "OddBox": OddBox, "Unbounded": Unbounded, "Ram": Ram}
    classes["Spaces"] = Spaces
    for name, cls in classes.items():
        gym.register(f"drlc-test/{name}-v0", cls)
    yield
    for name in classes:
        del gym.registry[f"drlc-test/{name}-v0"]


def observations(env: EnvSpec, count: int = 300) -> NDArray[Any]:
    shape, dtype, _ = env.spaces
    generator = np.random.default_rng(0)
    if dtype == np.uint8:
        return generator.integers(0, 256, (count, *shape), np.uint8)
    if dtype.kind != "f":
        return generator.integers(0, 900, (count, *shape)).astype(np.float32)
    return generator.normal(0, 2, (count, *shape)).astype(np.float32)


def actions(policy: Policy, rows: NDArray[Any]) -> NDArray[Any]:
    with torch.no_grad():
        return np.asarray(policy.network(torch.from_numpy(rows)).numpy())


def shake(model: Any) -> None:
    # freshly initialised actors are almost constant; real weights are not
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)


def raw_pixels() -> dict[str, Any]:
    return off(normalize_images=False, features_extractor_kwargs={"normalized_image": True})


PENDULUM, CARTPOLE, ODD = "Pendulum-v1", "CartPole-v1", "drlc-test/OddBox-v0"
SPACES = "drlc-test/Spaces-v0"
IMAGES, RAM = "drlc-test/TinyImages-v0", "drlc-test/Ram-v0"
MLP, CNN = "MlpPolicy", "CnnPolicy"
CASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "sac": (PENDULUM, lambda e: SAC(MLP, e, **off())),
    "sac-odd-box": (ODD, lambda e: SAC(MLP, e, **off())),
    "sac-sde": (PENDULUM, lambda e: SAC(MLP, e, use_sde=True, **off())),
    "sac-sde-clip": (PENDULUM, lambda e: SAC(MLP, e, use_sde=True, **off(clip_mean=0.4))),
    "sac-sde-no-clip": (PENDULUM, lambda e: SAC(MLP, e, use_sde=True, **off(clip_mean=0.0))),
    "sac-linear": (PENDULUM, lambda e: SAC(MLP, e, **off(net_arch=[]))),
    "tqc": (PENDULUM, lambda e: TQC(MLP, e, **off())),
    "tqc-sde": (PENDULUM, lambda e: TQC(MLP, e, use_sde=True, **off())),
    "td3": (PENDULUM, lambda e: TD3(MLP, e, **off(activation_fn=torch.nn.ELU))),
    "td3-odd-box": (ODD, lambda e: TD3(MLP, e, **off())),
    "ddpg": (PENDULUM, lambda e: DDPG(MLP, e, **off())),
    "dqn": (CARTPOLE, lambda e: DQN(MLP, e, **off())),
    "dqn-cnn": (IMAGES, lambda e: DQN(CNN, e, buffer_size=10, device="cpu")),
    "dqn-cnn-raw-pixels": (IMAGES, lambda e: DQN(CNN, e, **raw_pixels())),
    "dqn-mlp-on-images": (IMAGES, lambda e: DQN(MLP, e, **off())),
    "dqn-mlp-on-dark-images": (f"{IMAGES}:high=200", lambda e: DQN(MLP, e, **off())),
    "dqn-mlp-on-bright-images": (f"{IMAGES}:low=9", lambda e: DQN(MLP, e, **off())),
    "dqn-ram": (RAM, lambda e: DQN(MLP, e, **off())),
    "qrdqn": ("Acrobot-v1", lambda e: QRDQN(MLP, e, **off())),
    "qrdqn-cnn": (IMAGES, lambda e: QRDQN(CNN, e, buffer_size=10, device="cpu")),
    "ppo": (PENDULUM, lambda e: PPO(MLP, e, **on())),
    "ppo-odd-box": (ODD, lambda e: PPO(MLP, e, **on())),
    "ppo-discrete": (CARTPOLE, lambda e: PPO(MLP, e, **on())),
    "ppo-sde": (PENDULUM, lambda e: PPO(MLP, e, use_sde=True, **on())),
    "ppo-squash": (ODD, lambda e: PPO(MLP, e, use_sde=True, **on(squash_output=True))),
    "ppo-cnn": (IMAGES, lambda e: PPO(CNN, e, n_steps=64, device="cpu")),
    "ppo-cnn-unshared": (IMAGES, lambda e: PPO(CNN, e, **on(share_features_extractor=False))),
    "ppo-switches": (f"{SPACES}:action=switches", lambda e: PPO(MLP, e, **on())),
    "ppo-bits": (f"{SPACES}:action=bits", lambda e: PPO(MLP, e, **on())),
    "ppo-matrix": (f"{SPACES}:action=matrix", lambda e: PPO(MLP, e, **on())),
    "ppo-scalar-action": (f"{SPACES}:action=scalar", lambda e: PPO(MLP, e, **on())),
    "sac-matrix": (f"{SPACES}:action=matrix", lambda e: SAC(MLP, e, **off())),
    "a2c-uint16": (f"{SPACES}:action=five,observed=uint16", lambda e: A2C(MLP, e, **on())),
    "dqn-channels-last": (f"{IMAGES}:last=true", lambda e: DQN(CNN, e, **off())),
    "ppo-mlp-channels-last": (f"{IMAGES}:last=true", lambda e: PPO(MLP, e, **on())),
    "a2c": (PENDULUM, lambda e: A2C(MLP, e, **on(activation_fn=torch.nn.SiLU))),
    "trpo": (PENDULUM, lambda e: TRPO(MLP, e, **on())),
}


@pytest.mark.parametrize("case", CASES)
def test_actions_equal_sb3(case: str, tmp_path: Path) -> None:
    env_id, make = CASES[case]
    env = EnvSpec.parse(env_id)
    torch.manual_seed(1)
    model = make(env.make())
    shake(model)
    model.save(tmp_path / "model.zip")
    random_state = torch.get_rng_state()
    policy = load_sb3(tmp_path / "model.zip", env, policy_id="", vecnormalize=None, trust=False)
    rows = observations(env)
    expected, _ = model.predict(rows, deterministic=True)
    got = actions(policy, rows)
    assert policy.algorithm == case.partition("-")[0]
    assert np.ptp(expected) > 0  # a constant actor would prove nothing
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert env.action.contains(got)
    assert torch.equal(random_state, torch.get_rng_state())
    assert not policy.network.training
    assert all(parameter.requires_grad for parameter in policy.network.parameters())


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.ReLU6, nn.SELU),
        *(nn.CELU, nn.LogSigmoid, nn.Tanhshrink),
        partial(nn.LeakyReLU, 0.3),
        partial(nn.ELU, alpha=0.5),
        partial(nn.GELU, approximate="tanh"),
        partial(nn.Softplus, beta=2.0, threshold=1),
    ],
    ids=str,
)
def test_activations_equal_sb3_and_are_stored_and_exported(activation: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = SAC(MLP, PENDULUM, **off(activation_fn=activation))
    shake(model)
    model.save(tmp_path / "model.zip")
    policy = load(tmp_path / "model.zip", PENDULUM)
    rows = observations(policy.env)
    expected, _ = model.predict(rows, deterministic=True)
    np.testing.assert_allclose(actions(policy, rows), expected, rtol=0, atol=1e-5)
    assert isinstance(policy.network, nn.Sequential)
    rebuilt = build(json.loads(json.dumps(describe(policy.network))))
    assert [repr(layer) for layer in rebuilt] == [repr(layer) for layer in policy.network]
    exported = OnnxController(export_onnx(policy.network, (3,), np.dtype(np.float32)))
    np.testing.assert_allclose(exported.act(rows), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("action", ["switches", "bits", "matrix", "scalar"])
def test_other_actions_are_exported_and_quantized(action: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    env = EnvSpec.parse(f"{SPACES}:action={action}")
    model = PPO(MLP, env.make(), **on())
    shake(model)
    model.save(tmp_path / "model.zip")
    policy = load(tmp_path / "model.zip", str(env))
    assert isinstance(policy.network, nn.Sequential)
    assert build(json.loads(json.dumps(describe(policy.network)))) is not None
    rows = observations(env)
    expected, _ = model.predict(rows, deterministic=True)
    exported = export_onnx(policy.network, env.observation_shape, np.dtype(np.float32))
    exact = OnnxController(exported).act(rows)
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-5)
    quantized = OnnxController(quantize_statically(exported, rows)).act(rows)
    assert compare_actions(exact, quantized, env.action).mean < 0.1
    assert env.action.contains(quantized)


def test_reading_does_not_depend_on_the_pickled_fields(tmp_path: Path) -> None:
    """Every ``:serialized:`` text may be poison: it is never decoded."""
    SAC("MlpPolicy", "Pendulum-v1", **off()).save(tmp_path / "model.zip")
    marker = tmp_path / "executed"
    poison = pickle.dumps(Touch(marker))
    text = base64.b64encode(poison).decode()

    def poisoned(data: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value | {":serialized:": text} if isinstance(value, dict) else value
            for key, value in data.items()
        }

    edit_data(tmp_path / "model.zip", poisoned)
    assert text.encode() in zipfile.ZipFile(tmp_path / "model.zip").read("data")
    policy = load_sb3(
        tmp_path / "model.zip",
        EnvSpec.parse("Pendulum-v1"),
        policy_id="x",
        vecnormalize=None,
        trust=True,
    )
    assert policy.id == "x"
    assert not marker.exists()
    pickle.loads(poison)
    assert marker.exists()  # the poison works


def test_policy_pth_that_holds_code_is_refused_and_not_run(tmp_path: Path) -> None:
    PPO("MlpPolicy", "Pendulum-v1", **on()).save(tmp_path / "model.zip")
    marker = tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save({"action_net.weight": Touch(marker)}, buffer)
    replace_member(tmp_path / "model.zip", "policy.pth", buffer.getvalue())
    with pytest.raises(PolicyError, match=r"more than tensors .*not unpickled"):
        load(tmp_path / "model.zip", "Pendulum-v1", trust=True)
    assert not marker.exists()


def test_shared_layers_of_old_sb3(tmp_path: Path) -> None:
    """SB3 before 1.8 allowed layers shared by actor and critic; rebuild one by hand."""
    model = PPO("MlpPolicy", "Pendulum-v1", **on())
    shake(model)
    model.save(tmp_path / "model.zip")
    tensors = dict(model.policy.state_dict())
    for part in ("weight", "bias"):
        first = tensors.pop(f"mlp_extractor.policy_net.0.{part}")
        tensors[f"mlp_extractor.shared_net.0.{part}"] = first
        second = tensors.pop(f"mlp_extractor.policy_net.2.{part}")
        tensors[f"mlp_extractor.policy_net.0.{part}"] = second
    replace_tensors(tmp_path / "model.zip", tensors)
    policy = load(tmp_path / "model.zip", "Pendulum-v1")
    rows = observations(policy.env)
    expected, _ = model.predict(rows, deterministic=True)
    np.testing.assert_allclose(actions(policy, rows), expected, rtol=0, atol=1e-5)


def test_unbounded_actions_are_clipped_where_they_are_bounded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = PPO("MlpPolicy", OddBox(), **on())
    shake(model)
    model.save(tmp_path / "model.zip")
    edit_data(tmp_path / "model.zip", lambda data: data | {"action_space": None})
    policy = load(tmp_path / "model.zip", "drlc-test/Unbounded-v0")
    got = actions(policy, observations(policy.env))
    assert got[:, 0].min() < -2  # outside the box it was trained in
    assert got[:, 0].max() > 1
    assert got[:, 1].min() == 0.5
    assert got[:, 1].max() > 1


# --- published policies of 2021 --------------------------------------------------------------

PUBLISHED = {
    # file, environment, mean return of 10 episodes and its tolerance (research on this zoo)
    "sac-halfcheetah": ("sac/HalfCheetah-v3_1/HalfCheetah-v3.zip", "HalfCheetah-v5", 9356, 200),
    "dqn-cartpole": ("dqn/CartPole-v1_1/CartPole-v1.zip", "CartPole-v1", 500, 1),
}


class TorchActor:
    """The torch network itself at the controls."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._dtype = np.uint8 if policy.env.spaces[1] == np.uint8 else np.float32

    def act(self, rows: NDArray[Any]) -> NDArray[Any]:
        return actions(self._policy, rows.astype(self._dtype))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_policies_earn_their_return(name: str) -> None:
    file, env_id, mean, tolerance = PUBLISHED[name]
    policy = load(zoo_path(file), env_id)
    assert policy.id == name
    returns = [e.total for e in rollout(policy.env, TorchActor(policy), range(1000, 1004))]
    assert np.mean(returns) == pytest.approx(mean, abs=tolerance)
