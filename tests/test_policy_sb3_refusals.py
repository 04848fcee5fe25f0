"""SB3 zips that are damaged, cannot be rebuilt, or do not fit: one clear refusal each."""

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from sb3_contrib import CrossQ, MaskablePPO
from sb3_models import (
    TinyImages,
    edit_data,
    load,
    off,
    on,
    read_tensors,
    refusal,
    replace_member,
    replace_tensors,
)
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.spec import EnvSpec

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
            "Squaring.*not one of",
        ),
        (
            lambda: SAC(
                "MlpPolicy",
                "Pendulum-v1",
                **off(activation_fn=torch.nn.RReLU),
            ),
            "Pendulum-v1",
            "RReLU.*not one of",
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
    ids=[
        "crossq",
        "maskable",
        "own-class",
        "own-activation",
        "random-activation",
        "extractor",
    ],
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


def test_images_of_another_type_are_refused(tmp_path: Path) -> None:
    DQN("CnnPolicy", TinyImages(), buffer_size=10, device="cpu").save(tmp_path / "model.zip")
    gym.register("drlc-test/Dark-v0", TinyImages, kwargs={"last": True, "high": 9})
    gym.register("drlc-test/Floats-v0", TinyImages, kwargs={"high": 1, "dtype": "float32"})
    try:
        # no image to SB3, which would not transpose it
        assert "channels, height, width" in refusal(tmp_path / "model.zip", "drlc-test/Dark-v0")
        assert "uint8 observations" in refusal(tmp_path / "model.zip", "drlc-test/Floats-v0")
    finally:
        del gym.registry["drlc-test/Dark-v0"], gym.registry["drlc-test/Floats-v0"]


class Scalar(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(-1, 1, (), "float32")
    action_space = gym.spaces.Discrete(3)


def test_scalar_observations_are_refused_as_sb3_cannot_act_on_them(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", Scalar(), **on())
    with pytest.raises(IndexError):
        model.predict(Scalar.observation_space.sample())
    model.save(tmp_path / "model.zip")
    gym.register("drlc-test/Scalar-v0", Scalar)
    try:
        assert "give them the shape (1,)" in refusal(tmp_path / "model.zip", "drlc-test/Scalar-v0")
    finally:
        del gym.registry["drlc-test/Scalar-v0"]
