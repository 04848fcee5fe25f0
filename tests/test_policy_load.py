"""One entrance for every way to name a policy."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from policy_loading import CARTPOLE, PENDULUM, load, refusal
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from pytest_drlcompress.core.errors import BaselineError, PolicyError, UntrustedPickleError
from pytest_drlcompress.policies.load import baseline_ids, expand
from pytest_drlcompress.policies.loader import LoadOptions
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.store import save_network


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def baselines(tmp_path: Path) -> Path:
    """Two stored policies."""
    folder = tmp_path / "baselines"
    for name in ("ppo-pendulum", "sac-pendulum"):
        network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1), nn.Tanh())
        record = {
            "environment": "Pendulum-v1",
            "algorithm": name.partition("-")[0],
            "sha256": save_network(folder / name, network),
        }
        (folder / name / "baseline.json").write_text(json.dumps(record))
    (folder / "notes").mkdir()
    return folder


# --- baselines -------------------------------------------------------------------------------


def test_baseline_by_id_and_by_folder(baselines: Path) -> None:
    by_id = load("ppo-pendulum", None, baselines=baselines)
    by_folder = load(baselines / "ppo-pendulum", None)
    assert by_id.id == by_folder.id == "ppo-pendulum"
    assert by_id.sha256 == by_folder.sha256
    assert by_id.env == PENDULUM
    assert baseline_ids(baselines) == ["ppo-pendulum", "sac-pendulum"]


def test_unknown_id_lists_the_known_and_guesses(baselines: Path) -> None:
    message = refusal("ppo-pendulun", baselines=baselines)
    assert "known: ppo-pendulum, sac-pendulum" in message
    assert "did you mean 'ppo-pendulum'?" in message
    assert "none under nowhere" in refusal("anything")
    assert "did you mean" not in refusal("zzz", baselines=baselines)


def test_baseline_keeps_its_environment(baselines: Path) -> None:
    assert load("ppo-pendulum", PENDULUM, baselines=baselines).env == PENDULUM
    message = refusal("ppo-pendulum", CARTPOLE, baselines=baselines)
    assert "recorded on 'Pendulum-v1', not on 'CartPole-v1'" in message


def test_damaged_baseline(baselines: Path) -> None:
    (baselines / "ppo-pendulum" / "policy.safetensors").write_bytes(b"x")
    with pytest.raises(BaselineError):
        load("ppo-pendulum", None, baselines=baselines)


# --- files and globs -------------------------------------------------------------------------


def test_files_need_an_environment(tmp_path: Path) -> None:
    for name in ("model.zip", "model.onnx"):
        (tmp_path / name).touch()
        assert "add --drlc-env" in refusal(tmp_path / name, None)
    assert "add --drlc-env" in refusal("some.module:attribute", None)


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "hopper.zip").touch()
    assert refusal(tmp_path / "model.onnx").endswith("no such file")
    message = refusal(tmp_path / "hoper.zip")
    assert f"no such file; did you mean {str(tmp_path / 'hopper.zip')!r}?" in message
    assert "not a baseline" in refusal(tmp_path / "weights.bin")
    assert "not a baseline" in refusal("")


def test_expand(tmp_path: Path, baselines: Path) -> None:
    for name in ("b.zip", "a.zip", "c.onnx", "vecnormalize.pkl", "literal[1].zip"):
        (tmp_path / name).touch()
    assert expand(str(tmp_path / "?.zip")) == [str(tmp_path / n) for n in ("a.zip", "b.zip")]
    assert [Path(p).name for p in expand(str(tmp_path / "*"))] == [
        "a.zip",
        "b.zip",
        "c.onnx",
        "literal[1].zip",
    ]
    assert [Path(p).name for p in expand(f"{baselines}/*")] == ["ppo-pendulum", "sac-pendulum"]
    for text in ("ppo-pendulum", str(tmp_path / "literal[1].zip"), "module:attribute"):
        assert expand(text) == [text]
    with pytest.raises(PolicyError, match="matches no"):
        expand(str(tmp_path / "*.tar"))
    with pytest.raises(PolicyError, match="1 other files match"):
        expand(str(tmp_path / "*.pkl"))


# --- own loaders -----------------------------------------------------------------------------


def actor() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 1), nn.Tanh())


class ActorLoader:
    """As in the protocol's docstring."""

    def matches(self, text: str) -> bool:
        return text.endswith(".safetensors")

    def load(self, text: str, options: LoadOptions) -> Policy:
        network = actor()
        network.load_state_dict(load_file(text))
        return Policy(Path(text).stem, options.environment(text), network, origin=text)


class Made:
    """Takes every text, and makes of it what it was given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def matches(self, text: str) -> bool:  # noqa: ARG002 (the protocol's name)
        return True

    def load(self, text: str, options: LoadOptions) -> Policy:  # noqa: ARG002
        if isinstance(self.value, Exception):
            raise self.value
        made: Policy = self.value
        return made


def test_an_own_loader_comes_first(tmp_path: Path, baselines: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(actor().state_dict(), path)
    own = (ActorLoader(),)
    assert load(path, loaders=own).id == "mine"
    assert "add --drlc-env" in refusal(path, None, loaders=own)
    assert "not a baseline" in refusal(path)
    assert expand(str(tmp_path / "m*"), own) == [str(path)]
    assert load("ppo-pendulum", None, baselines=baselines, loaders=own).id == "ppo-pendulum"
    mine = Policy("mine", PENDULUM, actor())
    assert load("ppo-pendulum", None, baselines=baselines, loaders=(Made(mine),)) is mine


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (ValueError("no"), "policy 'x': Made fails: ValueError('no')"),
        (PolicyError("in my words"), "in my words"),
        (nn.Linear(3, 1), "policy 'x': Made returned a Linear, not a Policy"),
        (Policy("p", PENDULUM, nn.Linear(4, 1)), "does not fit environment 'Pendulum-v1'"),
        (Policy("p", PENDULUM, b"no model"), "x: "),
    ],
)
def test_what_an_own_loader_does_wrong_is_one_clear_error(value: Any, message: str) -> None:
    assert message in refusal("x", loaders=(Made(value),))


# --- zips and their statistics ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learned behind VecNormalize, its statistics beside it, and one that did not."""
    folder = tmp_path_factory.mktemp("trained")
    wrapped = VecNormalize(DummyVecEnv([PENDULUM.make]))
    model = PPO("MlpPolicy", wrapped, n_steps=64, n_epochs=1, device="cpu", seed=0)
    model.learn(64)
    model.save(folder / "normalized.zip")
    wrapped.save(str(folder / "normalized_vecnormalize.pkl"))
    plain = PPO("MlpPolicy", "Pendulum-v1", n_steps=64, n_epochs=1, device="cpu", seed=0)
    plain.learn(64)
    plain.save(folder / "plain.zip")
    return folder


def test_zip_with_statistics_needs_trust(trained: Path) -> None:
    path = trained / "normalized.zip"
    with pytest.raises(UntrustedPickleError, match=r"--drlc-trust.*--drlc-vecnormalize=none"):
        load(path)
    trusted = load(path, trust=True)
    without = load(path, vecnormalize="none")
    explicit = load(path, trust=True, vecnormalize=str(trained / "normalized_vecnormalize.pkl"))
    assert trusted.id == "ppo-pendulum"
    assert trusted.sha256 == explicit.sha256 != without.sha256
    assert trusted.provenance["vecnormalize"] == "normalized_vecnormalize.pkl"
    assert json.dumps(dict(trusted.provenance))
    assert "none.pkl: no such file" in refusal(path, trust=True, vecnormalize="none.pkl")


def test_zip_that_lost_its_statistics(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "normalized.zip").write_bytes((trained / "normalized.zip").read_bytes())
    message = refusal(tmp_path / "normalized.zip", trust=True)
    assert "trained behind VecNormalize" in message
    assert "--drlc-vecnormalize=PATH" in message
    assert load(tmp_path / "normalized.zip", vecnormalize="none").id == "ppo-pendulum"


def test_zip_without_statistics_needs_nothing(trained: Path) -> None:
    assert load(trained / "plain.zip").provenance["vecnormalize"] == ""
