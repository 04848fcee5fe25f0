"""Sparsity and quantization inside Stable-Baselines3's own ``learn``, for each algorithm."""

import json
import random

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from sb3_contrib import TRPO
from test_training import RECIPES, command, kill_at_a_random_moment, segment, train

from pytest_drlcompress.compression.in_training.callback import SparseTraining, actor_layers
from pytest_drlcompress.compression.in_training.export import export_sparse
from pytest_drlcompress.compression.in_training.plan import SparsePlan
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.core.errors import RecipeError, TrainingError
from pytest_drlcompress.measurement.sparsity import measure_sparsity
from pytest_drlcompress.onnx_graph.kernels import executed_kernels
from pytest_drlcompress.runtime.onnxruntime import OnnxController

OFF_POLICY = {"learning_starts": 50, "batch_size": 16, "train_freq": 4, "gradient_steps": 2}
ON_POLICY = {"n_steps": 50, "batch_size": 25}
MODELS = {
    "sac": (sb3.SAC, "Pendulum-v1", OFF_POLICY),
    "td3": (sb3.TD3, "Pendulum-v1", OFF_POLICY),
    "ddpg": (sb3.DDPG, "Pendulum-v1", OFF_POLICY),
    "ppo": (sb3.PPO, "Pendulum-v1", {**ON_POLICY, "n_epochs": 2}),
    "trpo": (TRPO, "Pendulum-v1", {**ON_POLICY, "n_critic_updates": 1}),
    "dqn": (sb3.DQN, "CartPole-v1", OFF_POLICY),
}


def make_model(algorithm):
    kind, environment, arguments = MODELS[algorithm]
    policy = {"net_arch": [16, 16]}  # SB3 adds to this dictionary
    return kind("MlpPolicy", environment, policy_kwargs=policy, seed=0, device="cpu", **arguments)


class Watch(sb3.common.callbacks.BaseCallback):
    """Remembers which weights were ever zero, and that none of them came back."""

    def __init__(self):
        super().__init__()
        self.dead = {}

    def _on_step(self):
        for name, layer in actor_layers(self.model).items():
            zero = (layer.weight == 0).detach()
            before = self.dead.get(name, torch.zeros_like(zero))
            assert bool(zero[before].all()), (self.num_timesteps, name)
            self.dead[name] = zero
        return True


@pytest.mark.parametrize("algorithm", MODELS)
def test_the_actor_is_pruned_then_quantized_and_nothing_comes_back(algorithm):
    environment, model = MODELS[algorithm][1], make_model(algorithm)
    sparsity = SparseTraining(0.8, 500, prunings=10, qat=True)
    assert sparsity.learn_steps == 600
    model.learn(sparsity.learn_steps, callback=[sparsity, Watch()])
    steps, scheduled, reached = np.array(sparsity.history).T
    assert steps.tolist() == [100, 130, 160, 190, 220, 250, 280, 310, 340, 370, 400]
    assert scheduled == pytest.approx(0.8 * (1 - (1 - np.arange(11) / 10) ** 3))
    weights = sum(layer.weight.numel() for layer in actor_layers(model).values())
    assert np.abs(reached - scheduled).max() <= 0.5 / weights + 1e-12

    artifact = export_sparse(model, sparsity, environment)
    assert artifact.recipe == "sparse@80+qat"
    assert {kernel.precision for kernel in executed_kernels(artifact.model)} == {"int8"}
    found = measure_sparsity(artifact.model)
    assert found.weights == weights
    assert found.nonzero <= weights - round(0.8 * weights)
    # what is executed is what was trained: attach the quantizer again and compare
    observations = np.stack([model.observation_space.sample() for _ in range(64)])
    if algorithm == "dqn":
        return  # greedy actions of an untrained network are ties within a step
    handles = sparsity.quantizer.attach()
    expected, _ = model.predict(observations, deterministic=True)
    for handle in handles:
        handle.remove()
    actual = OnnxController(artifact.model).act(observations)
    assert np.mean(np.abs(actual - expected).max(1) > 1e-3) <= 0.05


def test_without_qat_the_artifact_is_the_masked_actor():
    model = make_model("sac")
    sparsity = SparseTraining(0.9, 200, prunings=4, distribution="global")
    model.learn(sparsity.learn_steps, callback=sparsity)
    artifact = export_sparse(model, sparsity, "Pendulum-v1")
    assert artifact.recipe == "sparse@90"
    found = measure_sparsity(artifact.model)
    assert found.nonzero == found.weights - round(0.9 * found.weights)
    observations = np.stack([model.observation_space.sample() for _ in range(16)])
    expected, _ = model.predict(observations, deterministic=True)
    assert OnnxController(artifact.model).act(observations) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_quantization_alone_keeps_every_weight(algorithm):
    model = make_model(algorithm)
    plan = SparsePlan.of(parse_recipe("qat"))
    sparsity = plan.callback(500, {})
    model.learn(sparsity.learn_steps, callback=sparsity)
    assert (sparsity.learn_steps, sparsity.finished, sparsity.history) == (600, True, [])
    artifact = export_sparse(model, sparsity, "Pendulum-v1")
    assert artifact.recipe == "qat"
    assert {kernel.precision for kernel in executed_kernels(artifact.model)} == {"int8"}
    found = measure_sparsity(artifact.model)
    assert found.total < 0.05  # rounded to zero, not pruned


def test_impossible_requests_are_refused():
    for sparsity, qat in ((95, False), (95, True), (0, False)):
        with pytest.raises(RecipeError, match="final sparsity"):
            SparseTraining(sparsity, 1000, qat=qat)
    for text in (
        "qat@4",
        "qat:steps=5",
        "sparse@95+ptsq",
        "sparse@95:steps=5",
        "sparse@95+qat@4",
        "l2@30",
    ):
        with pytest.raises(TrainingError, match="cannot be trained"):
            SparsePlan.of(parse_recipe(text))


def sparse_command(folder):
    return [
        *command(folder, "tiny-sac"),
        "--recipe",
        "sparse@80+qat",
        "--steps",
        "600",
        "--segment",
        "120",
    ]


def test_killed_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
        (folder / "recipes.toml").write_text(RECIPES)
    monkeypatch.setattr("test_training.command", lambda folder, _: sparse_command(folder))
    work = "tiny-sac+sparse@80+qat"
    monkeypatch.setattr("test_training.segment", lambda f, _: segment(f, work))
    kill_at_a_random_moment(folders[1], "tiny-sac", random.Random(0))
    for folder in folders:
        run = train(folder, "tiny-sac")
        assert run.returncode == 0, run.stderr
        assert "there is no dense baseline" in run.stdout
    files = [(folder / "work" / work / "best.onnx").read_bytes() for folder in folders]
    assert files[0] == files[1]
    facts = [json.loads((f / "work" / work / "sparsity.json").read_text()) for f in folders]
    assert facts[0]["prunings"] == facts[1]["prunings"]
    for _, scheduled, measured, _ in facts[0]["segments"]:
        assert scheduled - 0.005 <= measured <= scheduled + 0.03
