"""What a distilled network is held to: actions, not the values they are chosen by."""

import pytest
import torch
from torch import nn

from pytest_drlcompress.compression.distillation.loss import (
    action_loss,
    reproducible_training,
    split,
)
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.policies.network import Argmax


def test_a_network_is_split_before_its_squashing():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh())
    trunk, head = split(network)
    x = torch.randn(5, 4)
    assert torch.equal(head(trunk(x)), network(x))
    assert trunk[2] is network[2], "training the part trains the network"
    assert [type(layer) for layer in head] == [nn.Tanh]


def test_a_network_without_linear_layers_is_refused():
    with pytest.raises(RecipeError, match="no linear layer"):
        split(nn.Sequential(nn.Flatten(), nn.Tanh()))


def test_the_values_of_states_do_not_drown_the_choice_between_actions():
    """Values of a hundred, of which one in a hundred decides, as in a long CartPole episode."""
    _, head = split(nn.Sequential(nn.Linear(4, 2), Argmax()))
    states = torch.linspace(0, 100, 200)[:, None]
    choice = torch.tensor([[0.5, -0.5], [-0.5, 0.5]]).repeat(100, 1)
    targets = states + choice
    loss = action_loss(head, targets)
    wrong_actions = loss(states - choice, targets)
    wrong_values = loss(targets + 1, targets)
    assert wrong_actions > 50 * wrong_values


def test_training_runs_on_one_thread_and_leaves_the_number_as_it_was():
    before = torch.get_num_threads()
    with torch.no_grad(), reproducible_training():
        assert torch.get_num_threads() == 1
        assert torch.is_grad_enabled()
    assert torch.get_num_threads() == before
