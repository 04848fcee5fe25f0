"""Atari policies from elsewhere: SB3's zips judged as they were trained, and what does not fit."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sb3_models import refusal
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack

from pytest_drlcompress.core.errors import EnvironmentSpecError, PolicyError
from pytest_drlcompress.environments.atari.vector import MISSING, register_games
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.onnx_file import load_onnx
from pytest_drlcompress.policies.sb3.load import load_sb3
from pytest_drlcompress.training.image_networks import greedy, make_image_network

BREAKOUT = "BreakoutNoFrameskip-v4"


@pytest.fixture(scope="module")
def breakout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A zip of a DQN on RL-Zoo's Atari environment, and its return by ``evaluate_policy``."""
    register_games()
    env = VecFrameStack(
        make_atari_env(BREAKOUT, seed=31, wrapper_kwargs={"clip_reward": False}), n_stack=4
    )
    torch.manual_seed(3)
    model = DQN("CnnPolicy", env, buffer_size=10, device="cpu")
    with torch.no_grad():  # an untrained network would press one button for ever
        model.q_net.q_net[-1].bias -= model.q_net(torch.zeros((1, 4, 84, 84))).flatten()
    path = tmp_path_factory.mktemp("zoo") / "dqn.zip"
    model.save(path)
    env.seed(31)
    returns, lengths = evaluate_policy(
        model, model.get_env(), n_eval_episodes=1, return_episode_rewards=True
    )
    assert lengths[0] > 20
    return path, returns[0]


def test_a_zip_earns_what_sb3_measures(breakout: tuple[Path, float]) -> None:
    path, measured = breakout
    env = EnvSpec.parse(f"{BREAKOUT}:preprocessing=sb3")
    policy = load_sb3(path, env, policy_id="", vecnormalize=None, trust=False)
    assert policy.id == "dqn-breakoutnoframeskip"
    shape, dtype, _ = env.spaces
    model = export_onnx(policy.network, shape, dtype)
    episode = next(iter(rollout(env, model, [31], slots=1, record=True)))
    assert episode.total == measured
    assert episode.observations is not None
    actions = policy.network(torch.from_numpy(episode.observations)).numpy()
    assert np.ptp(actions) > 0


def test_images_that_do_not_fit(breakout: tuple[Path, float], tmp_path: Path) -> None:
    path, _ = breakout
    assert "gives (3, 84, 84): write stack=4" in refusal(
        path, f"{BREAKOUT}:preprocessing=sb3,stack=3"
    )
    assert "write preprocessing=gymnasium" in refusal(path, "ALE/Breakout-v5")
    network = greedy(make_image_network("resnet", 4, 18))
    last = tmp_path / "last.onnx"
    last.write_bytes(export_onnx(_ChannelsLast(network), (84, 84, 4), np.dtype(np.uint8)))
    many = tmp_path / "many.onnx"
    many.write_bytes(export_onnx(network, (4, 84, 84), np.dtype(np.uint8)))
    pong = EnvSpec.parse("ALE/Pong-v5:preprocessing=gymnasium")
    with pytest.raises(PolicyError, match="must come as channels, height, width"):
        load_onnx(last, pong)
    with pytest.raises(PolicyError, match=r"chooses among 18 actions; environment .* has 6"):
        load_onnx(many, pong)
    boxing = EnvSpec.parse("ALE/Boxing-v5:preprocessing=gymnasium")
    assert load_onnx(many, boxing).id == "many"


class _ChannelsLast(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        actions: torch.Tensor = self.network(images.permute(0, 3, 1, 2))
        return actions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ALE/Pong-v5:preprocessing=opencv", "preprocessing=opencv is not one of gymnasium, sb3"),
        ("ALE/Pong-v5:stack=0", "stack=0 must be a whole number >= 1"),
        ("ALE/Pong-v5:sticky=1.5", "must be a probability below 1"),
        ("ALE/Pong-v5:preprocessing=sb3,fire_reset=false", "always has fire_reset=true"),
        ("ALE/Pong-v5:stack=4,frameskip=4", "frameskip cannot be combined with preprocessing"),
        ("ALE/Pong-v5:noop_max=few", "noop_max=few must be a whole number"),
    ],
)
def test_specifications_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(EnvironmentSpecError, match=message) as caught:
        EnvSpec.parse(text)
    assert text in str(caught.value)


def test_the_short_and_the_long_form_are_one_environment() -> None:
    short = EnvSpec.parse("ALE/Pong-v5:preprocessing=gymnasium")
    assert EnvSpec.parse(str(short)) == short
    assert EnvSpec.parse("ALE/Pong-v5:stack=4") == short
    for told in ("sticky=0.25", "terminal_on_life_loss=false", "fire_reset=false", "noop_max=30"):
        assert told in str(short)
    assert EnvSpec.parse("ALE/Pong-v5").atari is None


def test_missing_games_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentSpecError, match="cannot be made"):
        EnvSpec.parse("ALE/Pang-v5:preprocessing=gymnasium").make()
    from ale_py import roms

    monkeypatch.setattr(roms, "get_rom_path", lambda game: None)
    with pytest.raises(EnvironmentSpecError, match="no ROM of 'pong'"):
        EnvSpec.parse("ALE/Pong-v5:preprocessing=gymnasium").make()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ale_py", None)
    for text in ("ALE/Pong-v5", "PongNoFrameskip-v4:preprocessing=sb3"):
        with pytest.raises(EnvironmentSpecError, match=re.escape(MISSING)):
            EnvSpec.parse(text).make()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EnvironmentSpecError, match="OpenCV"):
        EnvSpec.parse("ALE/Pong-v5:preprocessing=sb3").make()
