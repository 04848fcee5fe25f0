"""SB3's DQN on images in the training room: resumed to the same weights, its policy gated."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from conftest import ROOT
from pytest_drlcompress.compression.in_training.plan import SparsePlan
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import RandomActor, rollout
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import describe
from pytest_drlcompress.policies.store import load_network
from pytest_drlcompress.training import train as training
from pytest_drlcompress.training.dqn import Emulators, greedy_policy
from pytest_drlcompress.training.image_networks import greedy, make_image_network
from pytest_drlcompress.training.models import check_hyperparameters, make_model
from pytest_drlcompress.training.recipes import TrainingRecipe, read_recipes
from pytest_drlcompress.training.sparse import train_sparse

PONG = "ALE/Pong-v5:preprocessing=gymnasium,max_frames=200"
TINY = TrainingRecipe(
    "tiny", "dqn", PONG, steps=240, segment=120, n_envs=2, network="nature",
    hyperparameters={
        "buffer_size": 200, "learning_starts": 20, "batch_size": 8, "target_update_interval": 40,
        "exploration_fraction": 1.0,
    },
)  # fmt: skip
"""Sixty rows of two games a segment, a buffer of a hundred rows: the second one wraps around."""


@pytest.fixture(scope="module")
def one_episode() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "EVALUATION_SEEDS", range(900_000, 900_001))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, one_episode: None) -> tuple[Path, list[Any]]:
    """The folder of a training, and the model's plain fields after each segment."""
    work, fields = tmp_path_factory.mktemp("dqn"), []

    def read(state: training.TrainingState) -> None:
        with zipfile.ZipFile(work / f"segment-{state.segment}/model.zip") as model:
            fields.append(json.loads(model.read("data")))

    training.train(TINY, work, on_segment=read)
    return work, fields


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    model = DQN.load(folder / "segment-2/model.zip", device="cpu")
    return dict(model.policy.state_dict())


def _replay(folder: Path) -> dict[str, Any]:
    with np.load(folder / "segment-2/replay.npz") as stored:
        return dict(stored)


def test_a_killed_training_resumes_to_the_same_weights(
    trained: tuple[Path, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    learn = DQN.train

    def killed(model: DQN, *arguments: Any, **named: Any) -> None:
        if model.num_timesteps > 180:
            raise KilledError
        learn(model, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DQN, "train", killed)
        with pytest.raises(KilledError):
            training.train(TINY, tmp_path)
    state = training.train(TINY, tmp_path)
    assert [step for step, _ in state.curve] == [120, 240]
    whole, resumed = _weights(trained[0]), _weights(tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    name = "features_extractor.layers.0.weight"
    assert not torch.equal(whole[f"q_net.{name}"], whole[f"q_net_target.{name}"])
    first, second = _replay(trained[0]), _replay(tmp_path)
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_a_checkpoint_holds_each_screen_once_and_ends_what_it_cut(
    trained: tuple[Path, list[Any]],
) -> None:
    work, _ = trained
    replay = _replay(work)
    assert replay["observations"].dtype == np.uint8
    assert replay["observations"].shape == (100, 2, 4, 84, 84)
    assert "next_observations" not in replay
    assert (work / "segment-2/replay.npz").stat().st_size < replay["observations"].nbytes / 20
    assert replay["full"]
    assert replay["pos"] == 20  # 2 segments of 60 rows in 100
    assert replay["dones"][59].all()  # a segment begins new games
    assert not replay["dones"][58].any()
    going = replay["dones"][30:58] == 0
    assert 0 < np.count_nonzero(~going) <= 4  # games of fifty steps
    older, newer = replay["observations"][30:58][going], replay["observations"][31:59][going]
    np.testing.assert_array_equal(older[:, 1:], newer[:, :-1])


def test_exploration_falls_over_the_recipes_steps(trained: tuple[Path, list[Any]]) -> None:
    rates = [fields["exploration_rate"] for fields in trained[1]]
    assert rates == pytest.approx([1 - 0.95 / 2, 0.05])


def test_the_stored_policy_acts_as_sb3s(trained: tuple[Path, list[Any]]) -> None:
    spec = EnvSpec.parse(PONG)
    episodes = rollout(spec, RandomActor(spec.action), range(2), record=True, slots=2)
    seen = np.concatenate([episode.observations for episode in episodes])
    for network in ("nature", "resnet"):
        recipe = replace(TINY, network=network)
        env = Emulators(recipe)
        model = make_model(recipe, env, seed=3)
        env.close()
        q_net: Any = model.policy.q_net
        with torch.no_grad():  # an untrained network would press one button for ever
            q_net.q_net[-1].weight *= 50
            q_net.q_net[-1].bias -= q_net(torch.from_numpy(seen)).mean(0)
        policy = greedy_policy(model)
        actions, _ = model.predict(seen, deterministic=True)
        assert np.ptp(actions) > 0
        np.testing.assert_array_equal(policy(torch.from_numpy(seen)).numpy(), actions)
        assert describe(policy) == describe(greedy(make_image_network(network, 4, 6)))
    best = load_network(trained[0] / "best")
    assert describe(best) == describe(greedy(make_image_network("nature", 4, 6)))


def test_the_learner_sees_clipped_rewards_and_lost_lives() -> None:
    diver = replace(TINY, environment="ALE/Seaquest-v5:preprocessing=gymnasium", n_envs=4)
    env = Emulators(diver, threads=2)
    env.seed(5)
    first = env.reset()
    random, rewards, lost, over = np.random.default_rng(0), set(), 0, 0
    for _ in range(500):
        seen, reward, done, _ = env.step(random.integers(0, env.action_space.n, 4))
        rewards |= set(reward)
        black = ~seen[:, 0].any(axis=(1, 2))  # the oldest screen of a game that has just begun
        lost += np.count_nonzero(done & ~black)
        over += np.count_nonzero(done & black)
    assert rewards == {0.0, 1.0}  # a shark pays 20
    assert lost > over > 0
    env.seed(5)
    np.testing.assert_array_equal(env.reset(), first)
    env.close()


def test_its_policy_is_gated(
    trained: tuple[Path, list[Any]], suites: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EnvSpec.parse(PONG)
    shape, dtype, _ = spec.spaces
    path, longer = suites.path / "dqn.onnx", PONG.replace("200", "4000")
    path.write_bytes(export_onnx(load_network(trained[0] / "best"), shape, dtype))
    result = suites.runpytest(
        "suites/test_quantization_error.py",
        f"--drlc-policy={path}", f"--drlc-env={longer}",
        "--drlc-variant=ptsq:samples=256",
    )  # fmt: skip
    result.assert_outcomes(passed=1)


def test_what_cannot_be_trained_is_one_clear_line(tmp_path: Path) -> None:
    def hyper(**changes: Any) -> TrainingRecipe:
        return replace(TINY, hyperparameters={**TINY.hyperparameters, **changes})

    cases = {
        "trace is unknown to dqn; known: learning_rate, buffer_size": hyper(trace=0.9),
        "tiny: .*lower its buffer_size": hyper(buffer_size=10**10),
        "'lenet' is not one of nature, resnet": replace(TINY, network="lenet"),
        "trains on Atari with preprocessing=gymnasium": replace(TINY, environment="Hopper-v5"),
    }
    for text, recipe in cases.items():
        with pytest.raises(TrainingError, match=text):
            training.train(recipe, tmp_path / "work")
    plan = SparsePlan.of(parse_recipe("sparse@95"))
    with pytest.raises(TrainingError, match="is not pruned while it learns: train it, then"):
        train_sparse(TINY, plan, tmp_path / "work")
    path = tmp_path / "recipes.toml"
    path.write_text(
        '[a]\nalgorithm = "sac"\nnetwork = "nature"\nenvironment = "x"\nsteps = 1\nsegment = 1'
    )
    with pytest.raises(TrainingError, match=r"network is for images, which sac does not learn"):
        read_recipes(path)


def test_the_recipes_train_on_what_the_pqn_ones_do() -> None:
    ours = read_recipes(ROOT / "baselines/recipes.toml")
    recipes = read_recipes(ROOT / "baselines/sb3-dqn.toml")
    assert not ours.keys() & recipes.keys()
    assert {name.removeprefix("sb3") for name in recipes} == {
        name for name in ours if name.startswith("dqn-")
    }
    for name, recipe in recipes.items():
        check_hyperparameters(recipe)
        assert recipe.algorithm == "dqn"
        other = ours[name.removeprefix("sb3")]
        same = ("environment", "network", "published")
        assert [getattr(recipe, key) for key in same] == [getattr(other, key) for key in same]
