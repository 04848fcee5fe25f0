"""The written-out updates of SAC, TD3 and DDPG are SB3's updates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3 import DDPG, SAC, TD3

from conftest import ROOT
from pytest_drlcompress.compression.in_training.callback import SparseTraining
from pytest_drlcompress.training import off_policy
from pytest_drlcompress.training.models import make_env, make_model, set_threads
from pytest_drlcompress.training.recipes import read_recipes

THEIRS = {"sac": SAC, "td3": TD3, "ddpg": DDPG}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    set_threads()
    yield
    torch.set_num_threads(before)


def model_of(algorithm, **changes):
    """A model with 600 transitions of Hopper in its memory and no update made."""
    recipe = read_recipes(ROOT / "baselines" / "recipes.toml")[f"{algorithm}-hopper"]
    hyperparameters = {**recipe.hyperparameters, "learning_starts": 1000, "batch_size": 64}
    recipe = replace(recipe, steps=1000, hyperparameters=hyperparameters, **changes)
    model = make_model(recipe, make_env(recipe), seed=3)
    model.learn(600)
    return model


def after(model, update, steps):
    """The parameters after ``steps`` updates from the model's present state, which is restored."""
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    optimizers = [model.actor.optimizer, model.critic.optimizer]
    entropy = getattr(model, "log_ent_coef", None)
    if entropy is not None:
        optimizers.append(model.ent_coef_optimizer)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 (SB3's replay buffer draws from it)
    update(model, steps, 64)
    found = {name: value.clone() for name, value in model.policy.state_dict().items()}
    if entropy is not None:
        found["entropy"] = entropy.detach().clone()
        entropy.data.zero_()
    model.policy.load_state_dict(before)
    model._n_updates = 0
    for optimizer in optimizers:
        optimizer.state.clear()
    return found, before


def both(algorithm, steps, **changes):
    """The parameters after SB3's updates, after ours of the same model, and before."""
    model = model_of(algorithm, **changes)
    theirs, before = after(model, THEIRS[algorithm].train, steps)
    ours, _ = after(model, type(model).train, steps)
    return theirs, ours, before


@pytest.mark.parametrize("critic_norm", [False, True])
@pytest.mark.parametrize("algorithm", THEIRS)
def test_in_single_precision_it_is_sb3s(algorithm, critic_norm, monkeypatch):
    monkeypatch.setattr(off_policy, "fastest_dtype", lambda: torch.float32)
    theirs, ours, before = both(algorithm, 12, critic_norm=critic_norm)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, rtol=0, atol=2e-5), name
    moved = {
        name: (value - before[name]).abs().max() for name, value in theirs.items() if name in before
    }
    # twelve steps of Adam at 3e-4: what is compared has moved by ten times the tolerance
    assert min(value for name, value in moved.items() if "target" not in name) > 2e-4


@pytest.mark.parametrize("critic_norm", [False, True])
@pytest.mark.parametrize("algorithm", THEIRS)
def test_bfloat16_goes_the_same_way(algorithm, critic_norm, monkeypatch):
    monkeypatch.setattr(off_policy, "fastest_dtype", lambda: torch.bfloat16)
    theirs, ours, before = both(algorithm, 12, critic_norm=critic_norm)
    for part in ("critic.", "actor."):
        names = [name for name in theirs if name.startswith(part)]
        moves = [
            torch.cat([(found[name] - before[name]).flatten() for name in names])
            for found in (ours, theirs)
        ]
        assert torch.cosine_similarity(*moves, dim=0) > 0.95, part


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_other_activations_are_left_to_sb3(algorithm):
    theirs, ours, _ = both(algorithm, 3, activation="Tanh")
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("algorithm", THEIRS)
def test_critics_alone_are_normalised(algorithm):
    plain, normed = model_of(algorithm), model_of(algorithm, critic_norm=True)
    for critic in (normed.critic, normed.critic_target):
        for network in critic.q_networks:
            assert [type(layer).__name__ for layer in network] == [
                "Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm", "ReLU", "Linear"
            ]  # fmt: skip
        assert off_policy._mlps(critic) is not None  # not left to SB3
    assert str(normed.actor) == str(plain.actor)


def test_quantization_in_training_is_not_passed_by():
    model = model_of("sac")
    layer = model.actor.latent_pi[0]
    handle = layer.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    blind, before = after(model, type(model).train, 3)
    handle.remove()
    assert torch.equal(blind["actor.latent_pi.0.weight"], before["actor.latent_pi.0.weight"])


def test_masks_hold_through_the_updates():
    model = model_of("sac")
    sparsity = SparseTraining(0.9, total_steps=1250)
    model.learning_starts = 0
    model.learn(500, callback=sparsity, reset_num_timesteps=False)
    weights = [layer.weight for layer in (model.actor.latent_pi[0], model.actor.latent_pi[2])]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert zeros / sum(weight.numel() for weight in weights) > 0.85
