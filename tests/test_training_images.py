"""Image policies in training: PQN and distillation, resumed to the same weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.core.files import write_json
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import RandomActor, rollout
from pytest_drlcompress.policies.store import RECORD, load_network, save_network
from pytest_drlcompress.training import train as training
from pytest_drlcompress.training.hardware import Hardware
from pytest_drlcompress.training.image_learner import q_values
from pytest_drlcompress.training.image_networks import greedy, make_image_network
from pytest_drlcompress.training.pqn import Pqn
from pytest_drlcompress.training.recipes import TrainingRecipe, read_recipes

PONG = "ALE/Pong-v5:preprocessing=gymnasium,max_frames=200"
TINY = TrainingRecipe(
    "tiny", "pqn", PONG, steps=64, segment=32, n_envs=4, network="nature",
    hyperparameters={"rollout": 4, "batch_size": 8, "epsilon_steps": 64},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_evaluation_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EVALUATION_SEEDS", range(900_000, 900_001))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(next(folder.glob("segment-*/*.pt")), weights_only=True)["network"])


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    recipe = replace(TINY, network="resnet")
    whole = training.train(recipe, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(steps: int) -> None:
        if steps > 48:
            raise KilledError

    with pytest.raises(KilledError):
        training.train(recipe, tmp_path / "cut", on_steps=kill)
    resumed = training.train(recipe, tmp_path / "cut")
    assert resumed.curve == whole.curve
    assert [step for step, _ in whole.curve] == [32, 64]
    first, second = _weights(tmp_path / "whole"), _weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)
    fresh = make_image_network("resnet", 4, 6).state_dict()
    assert not torch.equal(first["1.weight"], fresh["1.weight"])


def test_the_stored_policy_is_the_trained_one_in_half_the_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = greedy(make_image_network("resnet", 4, 6))
    save_network(tmp_path, network)
    stored = load_network(tmp_path)
    parameters = sum(p.numel() for p in network.parameters())
    assert (tmp_path / "policy.safetensors").stat().st_size < 2.05 * parameters
    images = torch.randint(0, 256, (5, 4, 84, 84), dtype=torch.uint8)
    assert torch.equal(stored[:-1](images), network[:-1](images))
    assert {p.dtype for p in stored.parameters()} == {torch.float32}


def test_q_lambda_returns_are_those_of_their_definition() -> None:
    learner = Pqn(replace(TINY, hyperparameters={"rollout": 3, "trace": 0.5}), 0, 0, None)
    batch: Any = type("Batch", (), {})()
    batch.rewards = torch.tensor([[1.0], [0.0], [2.0]])
    batch.over = torch.tensor([[0.0], [1.0], [0.0]])
    batch.values = torch.tensor([[9.0], [4.0], [6.0]])
    last = torch.zeros((1, 4, 84, 84), dtype=torch.uint8)
    bootstrap = q_values(learner.network, last).max().item()
    returns = learner._returns(batch, last)[:, 0].tolist()
    third = 2 + 0.99 * bootstrap
    second = 0.0  # the episode ends there: nothing of the third counts
    assert returns == pytest.approx([1 + 0.99 * (0.5 * second + 0.5 * 4), second, third])


def _teacher(folder: Path) -> torch.nn.Sequential:
    torch.manual_seed(1)
    network = make_image_network("nature", 4, 6)
    with torch.no_grad():
        network[-1].weight.mul_(50)
    sha256 = save_network(folder, greedy(network))
    write_json(folder / RECORD, {"environment": PONG, "sha256": sha256})
    return network


def test_a_student_learns_its_teachers_actions(tmp_path: Path) -> None:
    teacher = _teacher(tmp_path / "baselines" / "teacher")
    recipe = TrainingRecipe(
        "student", "distillation", PONG, steps=768, segment=768, n_envs=8, network="resnet",
        teacher="teacher", hyperparameters={"rollout": 16, "batches": 8, "batch_size": 64},
    )  # fmt: skip
    training.train(recipe, tmp_path / "work", baselines=tmp_path / "baselines")
    spec = EnvSpec.parse(PONG)
    episodes = list(rollout(spec, RandomActor(spec.action), range(4), record=True, slots=4))
    seen = torch.from_numpy(np.concatenate([episode.observations for episode in episodes]))
    wanted = greedy(teacher)(seen)
    torch.manual_seed(0)
    untrained = greedy(make_image_network("resnet", 4, 6))(seen)
    student = load_network(tmp_path / "work" / "best")(seen)
    agreement = float((student == wanted).float().mean())
    assert agreement > 0.6
    assert agreement > float((untrained == wanted).float().mean()) + 0.2


def test_what_cannot_be_trained_is_one_clear_line(tmp_path: Path) -> None:
    orphan = replace(TINY, algorithm="distillation", teacher="nobody")
    cases = {
        "learns from nobody, which": orphan,
        "no hyperparameter momentum": replace(TINY, hyperparameters={"momentum": 0.9}),
        "'lenet' is not one of nature, resnet": replace(TINY, network="lenet"),
        "preprocessing=gymnasium": replace(TINY, environment="Hopper-v5"),
    }
    for text, recipe in cases.items():
        with pytest.raises(TrainingError, match=text):
            training.train(recipe, tmp_path / recipe.algorithm, baselines=tmp_path)
    for recipe, text in (
        (TINY, "cannot use --device cuda:99 here"),
        (replace(TINY, network=""), "trains on the CPU: --device is for image policies"),
    ):
        with pytest.raises(TrainingError, match=text):
            training.train(recipe, tmp_path / "gpu", hardware=Hardware("cuda:99"))
    path = tmp_path / "recipes.toml"
    path.write_text(
        '[a]\nalgorithm = "pqn"\nteacher = "b"\nenvironment = "x"\nsteps = 1\nsegment = 1'
    )
    with pytest.raises(TrainingError, match="has a teacher"):
        read_recipes(path)


def test_every_atari_recipe_has_its_teacher() -> None:
    recipes = read_recipes(Path("baselines/recipes.toml"))
    students = [recipe for recipe in recipes.values() if recipe.teacher]
    assert len(students) == 4
    for recipe in students:
        assert recipes[recipe.teacher].environment == recipe.environment
