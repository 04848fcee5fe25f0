"""``module:attribute`` as a policy: a torch module, or what makes one."""

from pathlib import Path

import pytest
from policy_loading import CARTPOLE, load, refusal

USER_MODULE = """
import torch
from torch import nn

class Actor(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Dropout(0.5), nn.Linear(width, 1))

    def forward(self, x):
        return 2 * torch.tanh(self.net(x))

THE_ACTOR = Actor()
number = 3

def make():
    return Actor(4)

def fail():
    raise RuntimeError("no weights here")

def wrong():
    return "text"

def needs(argument):
    return Actor(argument)

def lost():
    actor = Actor()
    with torch.no_grad():
        actor.net[0].weight[0, 0] = float("nan")
    return actor

class Holder:
    actor = THE_ACTOR
"""


@pytest.fixture
def user_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    name = f"drlc_user_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(USER_MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_torch_policies(user_module: str) -> None:
    import sys

    before = list(sys.path)
    for attribute, policy_id in (
        ("THE_ACTOR", "the-actor"),
        ("make", "make"),
        ("Actor", "actor"),
        ("Holder.actor", "actor"),
    ):
        policy = load(f"{user_module}:{attribute}")
        assert policy.id == policy_id
        assert not policy.network.training  # dropout would make it random
        assert policy.origin == f"{user_module}:{attribute}"
    assert sys.path == before


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("missing", "has no attribute 'missing'"),
        ("number", "is a int, not a torch.nn.Module"),
        ("fail", "no weights here"),
        ("wrong", "returned a str"),
        ("needs", "calling it fails"),
        ("lost", "contain NaN"),
    ],
)
def test_torch_attributes_that_are_no_policy(
    attribute: str, message: str, user_module: str
) -> None:
    assert message in refusal(f"{user_module}:{attribute}")


def test_torch_module_that_does_not_fit(user_module: str) -> None:
    assert "does not fit environment 'CartPole-v1'" in refusal(f"{user_module}:make", CARTPOLE)


def test_torch_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drlc_broken.py").write_text("1 / 0")
    assert "importing 'drlc_broken' fails: ZeroDivisionError" in refusal("drlc_broken:actor")
    assert "No module named 'drlc_absent'" in refusal("drlc_absent:actor")
