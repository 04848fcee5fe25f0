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
from pytest_drlcompress.training import image_learner
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


STEADY = replace(
    TINY, hyperparameters={**TINY.hyperparameters, "average": 0.9, "learning_rate_end": 0.0}
)


def _stored(folder: Path) -> dict[str, Any]:
    return dict(torch.load(next(folder.glob("segment-*/*.pt")), weights_only=True))


@pytest.mark.parametrize(
    "recipe", [replace(TINY, network="resnet"), STEADY], ids=["plain", "averaged"]
)
def test_a_killed_training_resumes_to_the_same_weights(
    tmp_path: Path, recipe: TrainingRecipe
) -> None:
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
    first, second = _stored(tmp_path / "whole"), _stored(tmp_path / "cut")
    if recipe is STEADY:  # it goes on over the segments: two times eight steps of the optimizer
        assert first["average"]["n_averaged"] == 16
    assert first.keys() == second.keys()
    assert ("average" in first) == (recipe is STEADY)
    for part in first.keys() - {"optimizer"}:
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    fresh = make_image_network(recipe.network, 4, 6).state_dict()
    assert not torch.equal(first["network"]["1.weight"], fresh["1.weight"])


def test_the_average_is_that_of_the_weights_after_each_step() -> None:
    after: list[torch.Tensor] = []

    class Watched(Pqn):
        def _descend(self, loss: torch.Tensor) -> None:
            super()._descend(loss)
            after.append(self.network[-1].weight.detach().clone())

    learner = Watched(STEADY, 0, 0, None)
    learner.learn(32, lambda steps: None)
    assert len(after) == 8
    average = after[0]
    for weight in after[1:]:
        average = 0.9 * average + 0.1 * weight
    torch.testing.assert_close(learner.deployed[-1].weight, average)
    assert not torch.equal(learner.deployed[-1].weight, learner.network[-1].weight)


def test_the_average_is_what_is_kept(tmp_path: Path) -> None:
    training.train(replace(STEADY, segment=64), tmp_path)
    stored, best = _stored(tmp_path), load_network(tmp_path / "best")
    rounded = {name: stored[name][key].to(torch.bfloat16).float() for name, key in (
        ("average", "module.1.weight"), ("network", "1.weight"),
    )}  # fmt: skip
    assert torch.equal(best[1].weight, rounded["average"])
    assert not torch.equal(best[1].weight, rounded["network"])


def test_the_learning_rate_falls_over_the_recipes_steps(tmp_path: Path) -> None:
    settings = {**STEADY.hyperparameters, "learning_rate": 1e-3, "learning_rate_end": 2e-4}
    recipe = replace(STEADY, hyperparameters={**settings, "warmup": 2})
    rates = []

    class Watched(Pqn):
        def _descend(self, loss: torch.Tensor) -> None:
            rates.append(self._optimizer.param_groups[0]["lr"])
            super()._descend(loss)

    Watched(recipe, 0, 0, None).learn(80, lambda steps: None)
    # four steps of the optimizer every 16 of the environments; the recipe ends after 64
    wanted = [1e-3 / 2, 8e-4, 6e-4, 4e-4, 2e-4]
    assert rates[::4] == pytest.approx(wanted)
    assert rates[3::4] == pytest.approx(wanted)


def test_a_recipe_without_average_and_decay_is_the_one_it_was() -> None:
    assert training.fingerprint(TINY) == "7ff80df097b95017"
    assert len({training.fingerprint(recipe) for recipe in (TINY, STEADY)}) == 2


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


@pytest.mark.parametrize("fastest", [torch.bfloat16, torch.float32])
def test_products_are_in_the_precision_that_the_processor_is_fast_at(
    monkeypatch: pytest.MonkeyPatch, fastest: torch.dtype
) -> None:
    monkeypatch.setattr(image_learner, "fastest_dtype", lambda device: fastest)
    torch.manual_seed(0)
    network = make_image_network("resnet", 4, 6)
    hidden: list[Any] = []
    network[-2].register_forward_hook(lambda layer, given, result: hidden.append(result))
    images = torch.randint(0, 256, (5, 4, 84, 84), dtype=torch.uint8)
    values = q_values(network, images)
    assert hidden[0].dtype == fastest
    assert values.dtype == torch.float32
    exact = network(images)
    torch.testing.assert_close(values, exact, rtol=0, atol=0.05 * exact.abs().max().item())


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
        "momentum is unknown to pqn; known: learning_rate, learning_rate_end, average": replace(
            TINY, hyperparameters={"momentum": 0.9}
        ),
        "average must be below 1, as 0.999 is, not 1": replace(
            TINY, hyperparameters={"average": 1}
        ),
        "learning_rate_end must be a number >= 0, not 'low'": replace(
            TINY, hyperparameters={"learning_rate_end": "low"}
        ),
        "rollout must be a whole number >= 1, not 0": replace(TINY, hyperparameters={"rollout": 0}),
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
