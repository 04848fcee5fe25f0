"""Actions that are several integers, bits, or integers from some start: stepped and disturbed."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pytest_drlcompress.compression.pipeline import compress, export_policy
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.errors import ActionError
from pytest_drlcompress.environments.perturbation import Perturbation
from pytest_drlcompress.environments.recorded import read_recording
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import RandomActor, ZeroActor, rollout
from pytest_drlcompress.policies.network import ArgmaxParts, LikelyBits
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.onnxruntime import OnnxController
from pytest_drlcompress.workbench.recorded import RecordedObservations

SPACES = {
    "switches": gym.spaces.MultiDiscrete([3, 2, 4]),
    "bits": gym.spaces.MultiBinary(5),
    "from two": gym.spaces.Discrete(3, start=2),
}


class Summing(gym.Env[NDArray[Any], Any]):
    """Rewards an action's sum; refuses what is not in its space, as the space itself says."""

    observation_space = gym.spaces.Box(0, 20, (1,), np.float32)

    def __init__(self, kind: str) -> None:
        self.action_space = SPACES[kind]
        self._step = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:  # noqa: ARG002
        super().reset(seed=seed)
        self._step = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self._step += 1
        seen = np.full(1, self._step, np.float32)
        return seen, float(np.sum(action)), self._step == 20, False, {}


@pytest.fixture(autouse=True)
def registered() -> Any:
    gym.register("drlc-test/Summing-v0", Summing, disable_env_checker=True)
    yield
    del gym.registry["drlc-test/Summing-v0"]


class Constant:
    def __init__(self, action: Any) -> None:
        self.action = np.asarray(action, np.int64)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        return np.stack([self.action] * len(observations))


@pytest.mark.parametrize(
    ("kind", "mean", "least", "inside", "outside"),
    [
        ("switches", 1 + 0.5 + 1.5, 0, [2, 1, 3], [2, 2, 0]),
        ("bits", 2.5, 0, [1, 0, 1, 0, 1], [0, 0, 2, 0, 0]),
        ("from two", 3, 2, 4, 1),
    ],
)
def test_references_policies_and_noise(
    kind: str, mean: float, least: float, inside: Any, outside: Any
) -> None:
    spec = EnvSpec.parse(f"drlc-test/Summing-v0:kind={kind}")
    random = [e.total / 20 for e in rollout(spec, RandomActor(spec.action), range(60))]
    assert np.mean(random) == pytest.approx(mean, abs=0.15)
    assert [e.total for e in rollout(spec, ZeroActor(spec.action), [1])] == [20 * least]
    assert [e.total for e in rollout(spec, Constant(inside), [1])] == [20 * np.sum(inside)]
    with pytest.raises(ActionError, match="Discrete"):
        list(rollout(spec, Constant(outside), [1]))
    noisy = rollout(
        spec, Constant(inside), range(40), perturbation=Perturbation(action_noise=0.999)
    )
    assert np.mean([e.total / 20 for e in noisy]) == pytest.approx(mean, abs=0.2)


def test_an_action_that_counts_from_zero_is_named() -> None:
    action = EnvSpec.parse("drlc-test/Summing-v0:kind=from two").action
    assert "counts from 0, the environment from 2" in action.cause_outside(np.array([1]))


@pytest.mark.parametrize(
    "recipe", ["l2@20", "qat:steps=20,samples=400", "sparse@50:steps=20,samples=200,rounds=1"]
)
@pytest.mark.parametrize("kind", ["switches", "bits"])
def test_networks_that_choose_several_times_are_compressed(
    kind: str, recipe: str, tmp_path: Path
) -> None:
    spec = EnvSpec.parse(f"drlc-test/Summing-v0:kind={kind}")
    torch.manual_seed(0)
    head = LikelyBits() if kind == "bits" else ArgmaxParts(spec.action.sizes)
    outputs = 5 if kind == "bits" else 9
    network = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, outputs), head).eval()
    rows = np.random.default_rng(0).uniform(0, 20, (400, 1)).astype(np.float32)
    np.save(tmp_path / "log.npy", rows)
    observations = RecordedObservations(read_recording(tmp_path / "log.npy"), rows)
    policy = Policy("p", spec, network)
    artifact = compress(
        policy, parse_recipe(recipe), builtin_registry(), observations, export_policy(policy)
    )
    assert spec.action.contains(OnnxController(artifact.model).act(rows))
