"""One entrance for every way to name a policy, and the ONNX and torch loaders behind it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from pytest_drlcompress.core.errors import BaselineError, PolicyError, UntrustedPickleError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.load import baseline_ids, expand, load_policy_source
from pytest_drlcompress.policies.loader import LoadOptions, PolicyLoader
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.store import save_network
from pytest_drlcompress.runtime.onnxruntime import OnnxController

PENDULUM = EnvSpec.parse("Pendulum-v1")
CARTPOLE = EnvSpec.parse("CartPole-v1")


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


def load(
    text: str | Path,
    env: EnvSpec | None = PENDULUM,
    *,
    trust: bool = False,
    vecnormalize: str | None = None,
    baselines: Path = Path("nowhere"),
    loaders: Sequence[PolicyLoader] = (),
) -> Policy:
    return load_policy_source(
        str(text),
        env=env,
        trust=trust,
        vecnormalize=vecnormalize,
        baselines=baselines,
        loaders=loaders,
    )


def refusal(text: str | Path, env: EnvSpec | None = PENDULUM, **kwargs: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        load(text, env, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# --- ONNX ------------------------------------------------------------------------------------


def gemm(
    path: Path,
    weight: Any,
    *,
    post: str = "Tanh",
    batch: int | str = "batch",
    external: str = "",
) -> Path:
    """A model of one linear layer and ``post`` at ``path``."""
    matrix = np.asarray(weight, np.float32)
    attributes = {"axis": 1, "keepdims": 0} if post == "ArgMax" else {}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node(post, ["h"], ["y"], **attributes),
        ],
        "policy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, matrix.shape[0]])],
        [
            helper.make_tensor_value_info(
                "y", TensorProto.INT64 if post == "ArgMax" else TensorProto.FLOAT, None
            )
        ],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def test_onnx_policy(tmp_path: Path) -> None:
    path = gemm(tmp_path / "My.onnx", [[1], [2], [3]])
    policy = load(path)
    assert (policy.id, policy.algorithm, policy.env) == ("my", "", PENDULUM)
    assert policy.source == path.read_bytes()
    discrete = load(gemm(tmp_path / "argmax.onnx", np.eye(4, 2), post="ArgMax"), CARTPOLE)
    assert isinstance(discrete.source, bytes)


def test_onnx_with_weights_beside_it(tmp_path: Path) -> None:
    weight = np.arange(3, dtype=np.float32).reshape(3, 1) / 10
    path = gemm(tmp_path / "model.onnx", weight, external="weights.bin")
    assert (tmp_path / "weights.bin").exists()
    policy = load(path)
    assert isinstance(policy.source, bytes)
    (tmp_path / "weights.bin").unlink()
    row = np.array([[1, 2, 3]], np.float32)
    got = OnnxController(policy.source).act(row)
    np.testing.assert_allclose(got, np.tanh(row @ weight), atol=1e-6)
    assert "weights beside it cannot be read" in refusal(path)


def test_onnx_that_cannot_be_read(tmp_path: Path) -> None:
    path = gemm(tmp_path / "model.onnx", np.zeros((3, 1)))
    raw = path.read_bytes()
    for content in (b"", b"hello", raw[:-9]):
        path.write_bytes(content)
        assert str(path) in refusal(path)


@pytest.mark.parametrize(
    ("shape", "post", "env", "message"),
    [
        ((4, 1), "Tanh", PENDULUM, r"observations of shape (4,); environment 'Pendulum-v1' gives"),
        ((3, 2), "Tanh", PENDULUM, "float32 of shape (1, 2); the action space"),
        ((4, 2), "Tanh", CARTPOLE, "end it with ArgMax"),
        ((3, 1), "Cosh", EnvSpec.parse("InvertedPendulum-v5"), "observations of shape (3,)"),
    ],
)
def test_onnx_that_does_not_fit(
    shape: tuple[int, int], post: str, env: EnvSpec, message: str, tmp_path: Path
) -> None:
    assert message in refusal(gemm(tmp_path / "m.onnx", np.zeros(shape), post=post), env)


def test_onnx_outside_the_action_space(tmp_path: Path) -> None:
    # log 0 is minus infinity
    path = gemm(tmp_path / "m.onnx", np.zeros((3, 1)), post="Log")
    assert "leaves the action space" in refusal(path)


# --- module:attribute ------------------------------------------------------------------------

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
