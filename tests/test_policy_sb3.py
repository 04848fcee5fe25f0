"""SB3 zips against SB3 itself: the same observations must give the same actions."""

import base64
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy
from zoo import zoo_path

from pytest_drlcompress.errors import PolicyError
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.policies.environment import EnvSpec
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.sb3 import load_sb3

SMALL = {"net_arch": [24, 16]}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class TinyImages(gym.Env[NDArray[Any], Any]):
    """Random 36x36 pictures of two channels; ``high`` is the largest pixel value."""

    def __init__(self, high: int = 255, *, last: bool = False, dtype: str = "uint8") -> None:
        shape = (36, 36, 2) if last else (2, 36, 36)
        self.observation_space = gym.spaces.Box(0, high, shape, np.dtype(dtype).type)
        self.action_space = gym.spaces.Discrete(4)


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


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    classes = {"TinyImages": TinyImages, "OddBox": OddBox, "Unbounded": Unbounded, "Ram": Ram}
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
    return generator.normal(0, 2, (count, *shape)).astype(np.float32)


def actions(policy: Policy, rows: NDArray[Any]) -> NDArray[Any]:
    with torch.no_grad():
        return np.asarray(policy.network(torch.from_numpy(rows)).numpy())


def shake(model: Any) -> None:
    # freshly initialised actors are almost constant; real weights are not
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)


def off(**policy_kwargs: Any) -> dict[str, Any]:
    """Settings of a small off-policy model; made afresh, since SB3 writes into them."""
    return {"buffer_size": 10, "device": "cpu", "policy_kwargs": SMALL | policy_kwargs}


def on(**policy_kwargs: Any) -> dict[str, Any]:
    """Settings of a small on-policy model."""
    return {"n_steps": 64, "device": "cpu", "policy_kwargs": SMALL | policy_kwargs}


def raw_pixels() -> dict[str, Any]:
    return off(normalize_images=False, features_extractor_kwargs={"normalized_image": True})


PENDULUM, CARTPOLE, ODD = "Pendulum-v1", "CartPole-v1", "drlc-test/OddBox-v0"
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


def test_reading_does_not_depend_on_the_pickled_fields(tmp_path: Path) -> None:
    """Every ``:serialized:`` text may be poison: it is never decoded."""
    SAC("MlpPolicy", "Pendulum-v1", **off()).save(tmp_path / "model.zip")
    marker = tmp_path / "executed"
    poison = pickle.dumps(_Touch(marker))
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
    torch.save({"action_net.weight": _Touch(marker)}, buffer)
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


# --- zips that cannot be read --------------------------------------------------------------


@pytest.fixture(scope="module")
def ppo_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ppo") / "model.zip"
    PPO("MlpPolicy", "Pendulum-v1", **on()).save(path)
    return path


@pytest.fixture
def zip_copy(ppo_zip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(ppo_zip, tmp_path / "model.zip"))


def test_missing_file(tmp_path: Path) -> None:
    assert "nothing.zip: no such file" in refusal(tmp_path / "nothing.zip")


def test_not_a_zip(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    assert "not a zip file, or damaged" in refusal(tmp_path / "text.zip")


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_truncated_zip(zip_copy: Path, keep: float) -> None:
    raw = zip_copy.read_bytes()
    zip_copy.write_bytes(raw[: int(len(raw) * keep)])
    assert "not a zip file, or damaged" in refusal(zip_copy)


def test_flipped_bytes_fail_the_checksum(zip_copy: Path) -> None:
    raw = bytearray(zip_copy.read_bytes())
    with zipfile.ZipFile(zip_copy) as archive:
        start = archive.getinfo("policy.pth").header_offset + 2000
    raw[start : start + 8] = b"\xff" * 8
    zip_copy.write_bytes(raw)
    assert "damaged: Bad CRC-32" in refusal(zip_copy)


@pytest.mark.parametrize("member", ["policy.pth", "data"])
def test_missing_member(zip_copy: Path, member: str) -> None:
    replace_member(zip_copy, member, None)
    assert f"no {member!r} inside" in refusal(zip_copy)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"{", "not valid JSON"), (b"[]", "not a JSON object"), (b"\xff\xfe", "not valid JSON")],
)
def test_invalid_data(zip_copy: Path, data: bytes, message: str) -> None:
    replace_member(zip_copy, "data", data)
    assert message in refusal(zip_copy)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04rubbish", b"\x80\x02."])
def test_corrupt_policy_pth(zip_copy: Path, content: bytes) -> None:
    replace_member(zip_copy, "policy.pth", content)
    assert "'policy.pth' inside" in refusal(zip_copy)


def test_policy_pth_that_is_no_dictionary_of_tensors(zip_copy: Path) -> None:
    for value, message in ((torch.ones(2), "not named tensors"), ({"a": 3}, "not a dense tensor")):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        replace_member(zip_copy, "policy.pth", buffer.getvalue())
        assert message in refusal(zip_copy)


def test_nan_weights(zip_copy: Path) -> None:
    tensors = read_tensors(zip_copy)
    tensors["mlp_extractor.policy_net.2.weight"][3, 4] = float("nan")
    replace_tensors(zip_copy, tensors)
    assert "contain NaN or infinity" in refusal(zip_copy)


# --- policies that cannot be rebuilt, or do not fit ------------------------------------------


class Squaring(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


class Doubling(BaseFeaturesExtractor):
    """No tensors betray it; only its name does."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space, features_dim=space.shape[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class OwnPolicy(SACPolicy):
    """Could compute anything."""


@pytest.mark.parametrize(
    ("make", "env_id", "message"),
    [
        (lambda: CrossQ("MlpPolicy", "Pendulum-v1", **off()), "Pendulum-v1", "sb3_contrib.crossq"),
        (
            lambda: RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", **on()),
            "Pendulum-v1",
            "sb3_contrib.common.recurrent",
        ),
        (
            lambda: MaskablePPO("MlpPolicy", "CartPole-v1", **on()),
            "CartPole-v1",
            "sb3_contrib.common.maskable",
        ),
        (lambda: SAC(OwnPolicy, "Pendulum-v1", **off()), "Pendulum-v1", "test_policy_sb3"),
        (
            lambda: SAC(
                "MlpPolicy",
                "Pendulum-v1",
                **off(activation_fn=Squaring),
            ),
            "Pendulum-v1",
            "Squaring.*not one of ReLU",
        ),
        (
            lambda: SAC(
                "MlpPolicy",
                "Pendulum-v1",
                **off(activation_fn=torch.nn.Softplus),
            ),
            "Pendulum-v1",
            "Softplus.*not one of ReLU",
        ),
        (
            lambda: PPO(
                "MlpPolicy",
                "Pendulum-v1",
                **on(features_extractor_class=Doubling),
            ),
            "Pendulum-v1",
            "Doubling.*neither flat nor Nature CNN",
        ),
    ],
    ids=["crossq", "recurrent", "maskable", "own-class", "own-activation", "softplus", "extractor"],
)
def test_what_weights_do_not_tell_is_refused(
    make: Callable[[], Any], env_id: str, message: str, tmp_path: Path
) -> None:
    make().save(tmp_path / "model.zip")
    with pytest.raises(PolicyError, match=f"(?s){message}.*module:attribute.*onnx"):
        load(tmp_path / "model.zip", env_id)


def test_layer_norm_is_refused(zip_copy: Path) -> None:
    tensors = read_tensors(zip_copy)
    for part in ("weight", "bias"):
        tensors[f"mlp_extractor.policy_net.4.{part}"] = torch.ones(16)
    replace_tensors(zip_copy, tensors)
    assert "not a plain stack of linear layers" in refusal(zip_copy)


def test_unreadable_fields_are_refused_not_guessed(zip_copy: Path) -> None:
    original = zip_copy.read_bytes()
    for key, value, message in (
        ("policy_class", {":type:": "<class 'abc.ABCMeta'>"}, "class of its policy"),
        ("policy_kwargs", {":type:": "<class 'my.Settings'>"}, "policy_kwargs are not readable"),
        ("policy_kwargs", {"activation_fn": "functools.partial(...)"}, "activation function"),
    ):
        zip_copy.write_bytes(original)
        edit_data(zip_copy, lambda data, k=key, v=value: data | {k: v})
        assert message in refusal(zip_copy)


def test_observation_width_names_both_sizes_and_the_settings(tmp_path: Path) -> None:
    env = EnvSpec.parse("Ant-v4:pad_observation=84,time_feature=1000")
    PPO("MlpPolicy", env.make(), **on()).save(tmp_path / "model.zip")
    message = refusal(tmp_path / "model.zip", "Ant-v4")
    assert "takes 112 observations, environment 'Ant-v4' gives 27" in message
    assert "'Ant-v4:pad_observation=85'" in message
    assert "'Ant-v4:pad_observation=84,time_feature=1000'" in message
    one_short = refusal(tmp_path / "model.zip", "Ant-v4:pad_observation=84")
    assert "'Ant-v4:pad_observation=84,time_feature=1000'" in one_short
    # v5 observes contact forces (105 numbers) where v4 has none
    assert "gives 105; if" in refusal(tmp_path / "model.zip", "Ant-v5")
    assert "another version of the environment" in refusal(
        tmp_path / "model.zip", "Ant-v4:pad_observation=90"
    )
    assert load(tmp_path / "model.zip", str(env)).env == env


@pytest.mark.parametrize(
    ("trained_on", "env_id", "message"),
    [
        ("MountainCarContinuous-v0", "Pendulum-v1", r"low bounds \[-1.\]; those .*\[-2.\]"),
        ("CartPole-v1", "Acrobot-v1", "2 discrete actions.*has 3"),
        ("CartPole-v1", "InvertedPendulum-v5", "Discrete actions; .*Box"),
        ("InvertedPendulum-v5", "CartPole-v1", "Box actions; .*Discrete 2"),
        ("Hopper-v5", "Walker2d-v5", r"actions of shape \(3,\); .*\(6,\)"),
    ],
)
def test_action_space_of_another_environment(
    trained_on: str, env_id: str, message: str, tmp_path: Path
) -> None:
    PPO("MlpPolicy", trained_on, **on()).save(tmp_path / "model.zip")
    with pytest.raises(PolicyError, match=message):
        load(tmp_path / "model.zip", env_id)


def test_dict_observations_are_refused(zip_copy: Path) -> None:
    space = {":type:": "<class 'gymnasium.spaces.dict.Dict'>"}
    edit_data(zip_copy, lambda data: data | {"observation_space": space})
    assert "trained on Dict observations" in refusal(zip_copy)


def test_without_readable_spaces_the_tensors_decide(tmp_path: Path) -> None:
    PPO("MlpPolicy", "Hopper-v5", **on()).save(tmp_path / "model.zip")
    hidden = {"observation_space": None, "action_space": None}
    edit_data(tmp_path / "model.zip", lambda data: data | hidden)
    assert load(tmp_path / "model.zip", "Hopper-v5").id == "ppo-hopper"
    assert "3 outputs" in refusal(tmp_path / "model.zip", "Walker2d-v5")
    assert "continuous actions" in refusal(tmp_path / "model.zip", "CartPole-v1")


def test_images_with_channels_last_are_refused(tmp_path: Path) -> None:
    DQN("CnnPolicy", TinyImages(), buffer_size=10, device="cpu").save(tmp_path / "model.zip")
    gym.register("drlc-test/ChannelsLast-v0", TinyImages, kwargs={"last": True})
    gym.register("drlc-test/Floats-v0", TinyImages, kwargs={"high": 1, "dtype": "float32"})
    try:
        assert "channels, height, width" in refusal(
            tmp_path / "model.zip", "drlc-test/ChannelsLast-v0"
        )
        assert "uint8 observations" in refusal(tmp_path / "model.zip", "drlc-test/Floats-v0")
    finally:
        del gym.registry["drlc-test/ChannelsLast-v0"], gym.registry["drlc-test/Floats-v0"]


# --- published policies of 2021 --------------------------------------------------------------

PUBLISHED = {
    # file, environment, mean return of 10 episodes and its tolerance (research on this zoo)
    "sac-halfcheetah": ("sac/HalfCheetah-v3_1/HalfCheetah-v3.zip", "HalfCheetah-v5", 9356, 200),
    "dqn-cartpole": ("dqn/CartPole-v1_1/CartPole-v1.zip", "CartPole-v1", 500, 1),
}


class TorchPilot:
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
    returns = [e.total for e in rollout(policy.env, TorchPilot(policy), range(1000, 1004))]
    assert np.mean(returns) == pytest.approx(mean, abs=tolerance)


# --- helpers -----------------------------------------------------------------------------------


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def load(path: Path, env: str, *, trust: bool = False) -> Policy:
    return load_sb3(path, EnvSpec.parse(env), policy_id="", vecnormalize=None, trust=trust)


def refusal(path: Path, env: str = "Pendulum-v1") -> str:
    with pytest.raises(PolicyError) as caught:
        load(path, env)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message or "policy '" in message
    return message


def read_tensors(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        stored = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    return dict(stored)


def replace_tensors(path: Path, tensors: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    replace_member(path, "policy.pth", buffer.getvalue())


def edit_data(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    replace_member(path, "data", json.dumps(change(data)).encode())


def replace_member(path: Path, name: str, content: bytes | None) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members.pop(name, None)
    if content is not None:
        members[name] = content
    with zipfile.ZipFile(path, "w") as archive:
        for member, raw in members.items():
            archive.writestr(member, raw)
