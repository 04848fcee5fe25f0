"""Dict, Tuple and integer observations against SB3, torch and ONNX Runtime themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN, RecurrentPPO
from sb3_models import load, off, on, refusal
from several_parts import SPACES, Several
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.errors import EnvironmentSpecError, PolicyError
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.environments.engines import OUR_ENGINES
from pytest_drlcompress.environments.parts import pack
from pytest_drlcompress.environments.perturbation import Perturbation
from pytest_drlcompress.environments.recorded import read_recording
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import build, describe
from pytest_drlcompress.policies.onnx_file import load_onnx
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.sb3.load import load_sb3
from pytest_drlcompress.policies.torch_module import load_torch
from pytest_drlcompress.policies.torchscript import load_torchscript
from pytest_drlcompress.runtime.onnxruntime import OnnxController
from pytest_drlcompress.workbench.workbench import Workbench

COUNT = 200


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def spec(observed: str, acted: str = "box") -> EnvSpec:
    return EnvSpec.parse(f"several_parts:Several:observed={observed},acted={acted}")


def samples(observed: str, count: int = COUNT) -> list[Any]:
    space = SPACES[observed]
    space.seed(0)
    return [space.sample() for _ in range(count)]


def act(policy: Policy, seen: list[Any]) -> NDArray[Any]:
    shape, dtype, _ = policy.env.spaces
    rows = np.stack([pack(policy.env.parts, one) for one in seen])
    if isinstance(policy.source, bytes):
        return OnnxController(policy.source).act(rows)
    return OnnxController(export_onnx(policy.network, shape, dtype)).act(rows)


@pytest.mark.parametrize(
    ("observed", "algorithm", "acted"),
    [
        ("dict", PPO, "box"),
        ("dict", SAC, "box"),
        ("dict", DQN, "choice"),
        ("camera", PPO, "box"),
        ("camera", SAC, "box"),
        ("last", QRDQN, "choice"),
        ("integer", PPO, "box"),
        ("integer", DQN, "choice"),
        ("integers", PPO, "box"),
        ("binary", PPO, "choice"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_sb3_zips_equal_sb3(observed: str, algorithm: Any, acted: str, tmp_path: Path) -> None:
    settings = on() if algorithm is PPO else off()
    kind = "MlpPolicy" if observed.startswith(("int", "bin")) else "MultiInputPolicy"
    model = algorithm(kind, Several(observed, acted), **settings)
    seen = samples(observed, 40 if observed in {"camera", "last"} else COUNT)
    for seed in range(20):
        expected = [greedy(model, one, observed) for one in seen]
        if np.ptp(expected) > 0.01:
            break
        randomize(model, seed)
    assert np.ptp(expected) > 0.01
    model.save(tmp_path / "m.zip")
    policy = load(tmp_path / "m.zip", str(spec(observed, acted)))
    np.testing.assert_allclose(act(policy, seen), expected, atol=2e-5)
    again = build(describe(policy.network))
    again.load_state_dict(policy.network.state_dict())
    rows = torch.from_numpy(np.stack([pack(policy.env.parts, one) for one in seen[:5]]))
    assert torch.equal(again(rows), policy.network(rows))


def greedy(model: Any, seen: Any, observed: str) -> Any:
    if observed == "last":
        seen = seen | {"camera": seen["camera"].transpose(2, 0, 1)}
    return model.predict(seen, deterministic=True)[0]


def randomize(model: Any, seed: int) -> None:
    """SB3 starts with actions near zero, and with one choice."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weights in model.policy.named_parameters():
            if weights.ndim == 2 and "value" not in name:
                weights.normal_(0, 0.5)


@pytest.mark.parametrize("keys", [["pose"], ["pose", "camera"]])
@pytest.mark.parametrize("algorithm", [PPO, RecurrentPPO])
def test_vecnormalize_of_some_keys(algorithm: Any, keys: list[str], tmp_path: Path) -> None:
    norm = VecNormalize(DummyVecEnv([lambda: Several("camera")]), norm_obs_keys=keys)
    kind = "MultiInputLstmPolicy" if algorithm is RecurrentPPO else "MultiInputPolicy"
    small = {"lstm_hidden_size": 16} if algorithm is RecurrentPPO else {}
    model = algorithm(kind, norm, **on(**small) | {"n_steps": 8, "batch_size": 8, "n_epochs": 1})
    model.learn(8)
    model.save(tmp_path / "m.zip")
    norm.save(str(tmp_path / "m.pkl"))
    policy = load_sb3(
        tmp_path / "m.zip", spec("camera"), policy_id="", vecnormalize=tmp_path / "m.pkl",
        trust=True,
    )  # fmt: skip
    seen = samples("camera", 60)
    norm.training = False
    batch = {key: np.stack([one[key] for one in seen]) for key in seen[0]}
    expected = model.predict(
        norm.normalize_obs(batch), episode_start=np.ones(60), deterministic=True
    )[0]
    np.testing.assert_allclose(act(policy, seen), expected, atol=2e-5)


class Actor(nn.Module):
    """Takes each part as it is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 8), nn.Linear(3, 8)
        self.mean = nn.Linear(8, 2)

    def join(self, pose: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        hot = nn.functional.one_hot(mode, 3).float()
        return 2 * torch.tanh(self.mean(torch.relu(self.first(pose.flatten(1)) + self.second(hot))))


class OfDict(Actor):
    def forward(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.join(seen["pose"], seen["mode"])


class OfTuple(Actor):
    def forward(self, seen: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return self.join(seen[0], seen[1])


class OfInputs(Actor):
    def forward(self, pose: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        return self.join(pose, mode)


class OfOneHot(Actor):
    def forward(self, pose: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        return 2 * torch.tanh(
            self.mean(torch.relu(self.first(pose.flatten(1)) + self.second(mode)))
        )


def expected_of(seen: list[Any], keys: tuple[Any, Any]) -> NDArray[Any]:
    pose, mode = (torch.from_numpy(np.stack([one[key] for one in seen])) for key in keys)
    with torch.no_grad():
        return np.asarray(Actor().join(pose, mode).numpy())


def test_torch_modules_get_a_dictionary_or_a_tuple() -> None:
    for observed, name, keys in (
        ("dict", "OfDict", ("pose", "mode")),
        ("tuple", "OfTuple", (0, 1)),
    ):
        policy = load_torch(f"test_several_parts:{name}", spec(observed))
        seen = samples(observed)
        np.testing.assert_allclose(act(policy, seen), expected_of(seen, keys), atol=1e-5)


def test_torchscript_files_take_each_part_as_an_argument(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(OfInputs().eval()), str(tmp_path / "m.pt"))
    seen = samples("tuple")
    policy = load_torchscript(tmp_path / "m.pt", spec("tuple"), None, Interface())
    np.testing.assert_allclose(act(policy, seen), expected_of(seen, (0, 1)), atol=1e-5)
    torch.jit.save(torch.jit.script(OfDict().eval()), str(tmp_path / "d.pt"))
    with pytest.raises(PolicyError, match="takes 1 arguments, the environment observes bits, mode"):
        load_torchscript(tmp_path / "d.pt", spec("dict"), None, Interface())


@pytest.mark.parametrize("names", [["pose", "mode"], ["obs_pose", "obs_mode"], ["a", "b"]])
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("hot", [False, True])
def test_onnx_files_with_an_input_for_each_part(
    names: list[str], fixed: bool, hot: bool, tmp_path: Path
) -> None:
    network = OfOneHot() if hot else OfInputs()
    mode = torch.zeros(1, 3) if hot else torch.zeros(1, dtype=torch.int64)
    axes = {} if fixed else {name: {0: "batch"} for name in [*names, "action"]}
    torch.onnx.export(
        network.eval(), (torch.zeros(1, 2, 3), mode), str(tmp_path / "m.onnx"),
        input_names=names, output_names=["action"], dynamo=False, dynamic_axes=axes,
    )  # fmt: skip
    policy = load_onnx(tmp_path / "m.onnx", spec("tuple" if names[0] == "a" else "dict"))
    observed, keys = ("tuple", (0, 1)) if names[0] == "a" else ("dict", ("pose", "mode"))
    seen = samples(observed)
    np.testing.assert_allclose(act(policy, seen), expected_of(seen, keys), atol=1e-5)
    assert policy.provenance["interface"][0].endswith("are given one observation")


def test_an_input_that_is_no_part_is_named(tmp_path: Path) -> None:
    torch.onnx.export(
        OfInputs(), (torch.zeros(1, 2, 3), torch.zeros(1, dtype=torch.int64)),
        str(tmp_path / "m.onnx"), input_names=["pose", "mode"], output_names=["a"], dynamo=False,
    )  # fmt: skip
    with pytest.raises(PolicyError, match=r"'pose' of shape \[1, 2, 3\] is not clearly one"):
        load_onnx(tmp_path / "m.onnx", spec("nested"))


def test_what_sb3_does_not_take_is_refused(tmp_path: Path) -> None:
    PPO("MultiInputPolicy", Several("dict"), **on()).save(tmp_path / "m.zip")
    assert "was trained on Dict observations" in refusal(tmp_path / "m.zip", str(spec("tuple")))
    assert "observations bits, mode" in refusal(tmp_path / "m.zip", str(spec("camera")))
    with pytest.raises(EnvironmentSpecError, match="observations are Text; supported are Box"):
        _ = spec("words").spaces


def bench_of(path: Path, env: EnvSpec, **options: Any) -> Workbench:
    settings = default_settings(policies=(str(path),), env=str(env), cache=False, **options)
    return Workbench(settings, builtin_registry(), OUR_ENGINES, [])


@pytest.mark.parametrize("recipe", ["ptdq", "ptsq", "qat:steps=20", "l2@30"])
def test_recipes_apply(recipe: str, tmp_path: Path) -> None:
    model = PPO("MultiInputPolicy", Several("dict"), **on())
    model.save(tmp_path / "m.zip")
    loaded = bench_of(tmp_path / "m.zip", spec("dict")).load(str(tmp_path / "m.zip"))
    artifact = loaded.compressed(parse_recipe(recipe))
    onnx.checker.check_model(onnx.load_from_string(artifact.model))
    assert loaded.controller_of(artifact).act(loaded.observations(0, 30)).shape == (30, 2)


def test_returns_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    PPO("MultiInputPolicy", Several("dict"), **on()).save(tmp_path / "m.zip")
    loaded = bench_of(tmp_path / "m.zip", spec("dict")).load(str(tmp_path / "m.zip"))
    model = loaded.exported.model
    one, two = (
        [e.total for e in rollout(spec("dict"), model, range(40), workers=workers)]
        for workers in (1, 2)
    )
    assert one == two
    assert len(set(one)) == 40
    with pytest.raises(EnvironmentSpecError, match="integers among its observations"):
        next(
            rollout(
                spec("dict"), model, range(2), perturbation=Perturbation(observation_noise=0.1),
                observation_std=np.ones(1),
            )
        )  # fmt: skip


def test_a_recording_of_dictionaries(tmp_path: Path) -> None:
    PPO("MultiInputPolicy", Several("dict"), **on()).save(tmp_path / "m.zip")
    seen = samples("dict", 80)
    arrays = {key: np.stack([one[key] for one in seen]) for key in seen[0]}
    np.savez(tmp_path / "flight.npz", **arrays)
    parts = spec("dict").parts
    rows = read_recording(tmp_path / "flight.npz").packed(parts).arrays["observations"]
    np.testing.assert_array_equal(rows, np.stack([pack(parts, one) for one in seen]))
    bench = bench_of(tmp_path / "m.zip", spec("dict"), observations=tmp_path / "flight.npz")
    loaded = bench.load(str(tmp_path / "m.zip"))
    assert loaded.probe_observations.shape == (20, rows.shape[1])
