"""ONNX files as other tools write them, against the framework that wrote them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sb3_models import on
from stable_baselines3 import PPO
from torch import nn

from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.core.errors import ActionError, ArtifactError, PolicyError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.onnx_file import load_onnx, read_variant
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.onnxruntime import OnnxController

PENDULUM = EnvSpec.parse("Pendulum-v1")
ROWS = np.random.default_rng(0).normal(0, 1, (200, 3)).astype(np.float32)


class Actor(nn.Module):
    """Action, value and log probability, as SB3's documentation exports them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 16), nn.ReLU())
        self.mean, self.value = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        latent = self.body(x)
        action = 2 * torch.tanh(self.mean(latent))
        return action, self.value(latent), -action.sum(-1)


@pytest.fixture(scope="module")
def actor() -> Actor:
    torch.set_num_threads(1)
    return Actor().eval()


def export(
    network: nn.Module, path: Path, example: Any, outputs: list[str], **options: Any
) -> Path:
    names = options.pop("input_names", ["obs"])
    torch.onnx.export(
        network, example, str(path), input_names=names, output_names=outputs, dynamo=False,
        **options,
    )  # fmt: skip
    return path


def act(policy: Policy, rows: NDArray[Any] = ROWS) -> NDArray[Any]:
    assert isinstance(policy.source, bytes)
    return OnnxController(policy.source).act(rows)


def expected(actor: Actor) -> NDArray[Any]:
    with torch.no_grad():
        return np.asarray(actor(torch.from_numpy(ROWS))[0].numpy())


def batch(names: list[str]) -> dict[str, Any]:
    return {"dynamic_axes": {name: {0: "batch"} for name in ["obs", *names]}}


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_of_several_outputs_the_action_is_chosen(opset: int, tmp_path: Path, actor: Actor) -> None:
    names = ["value", "actions", "log_prob"]

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor = actor

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            action, value, log_prob = self.actor(x)
            return value, action, log_prob

    path = export(
        Mixed(), tmp_path / "m.onnx", (torch.zeros(1, 3),), names, opset_version=opset,
        **batch(names),
    )  # fmt: skip
    policy = load_onnx(path, PENDULUM)
    np.testing.assert_allclose(act(policy), expected(actor), atol=1e-6)
    assert policy.provenance["interface"] == ["output 'actions' of value, actions, log_prob"]
    assert isinstance(policy.source, bytes)
    nodes = onnx.load_from_string(policy.source).graph.node
    assert sum(node.op_type == "Gemm" for node in nodes) == 2  # without the value head


def test_the_output_can_be_named_and_must_be_where_several_fit(
    tmp_path: Path, actor: Actor
) -> None:
    names = ["a", "b", "c"]
    path = export(actor, tmp_path / "m.onnx", (torch.zeros(1, 3),), names, **batch(names))
    with pytest.raises(PolicyError, match=r"several of its outputs fit.*a \[1, 1\].*--drlc-output"):
        load_onnx(path, PENDULUM)
    with pytest.raises(PolicyError, match="no output 'x'"):
        load_onnx(path, PENDULUM, interface=Interface("x"))
    policy = load_onnx(path, PENDULUM, interface=Interface("a"))
    np.testing.assert_allclose(act(policy), expected(actor), atol=1e-6)


def test_a_single_observation_and_a_fixed_batch_as_baseline_and_candidate(
    tmp_path: Path, actor: Actor
) -> None:
    one = export(actor, tmp_path / "one.onnx", (torch.zeros(3),), ["action", "v", "p"])
    fixed = export(actor, tmp_path / "fixed.onnx", (torch.zeros(1, 3),), ["action", "v", "p"])
    for path in (one, fixed):
        policy = load_onnx(path, PENDULUM)
        np.testing.assert_allclose(act(policy), expected(actor), atol=1e-6)
        variant = read_variant(path, PENDULUM, Interface())
        assert variant.model == policy.source
        assert isinstance(policy.source, bytes)
        quantized = OnnxController(quantize_statically(policy.source, ROWS))
        np.testing.assert_allclose(quantized.act(ROWS), expected(actor), atol=0.1)


def test_fp16(tmp_path: Path, actor: Actor) -> None:
    class Action(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor = Actor()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.actor(x)[0]

    example = torch.zeros(1, 3, dtype=torch.float16)
    path = export(Action().half().eval(), tmp_path / "m.onnx", (example,), ["action"], **batch([]))
    actions = act(load_onnx(path, PENDULUM))
    assert actions.dtype == np.float16
    np.testing.assert_allclose(actions, expected(actor), atol=4e-3)


def test_inputs_that_are_constant(tmp_path: Path) -> None:
    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Linear(4, 1)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.body(torch.cat([x, t], -1)))

    network = Timed()
    path = export(
        network, tmp_path / "m.onnx", (torch.zeros(1, 3), torch.zeros(1, 1)), ["action"],
        input_names=["obs", "time_step"],
        dynamic_axes={name: {0: "batch"} for name in ("obs", "time_step", "action")},
    )  # fmt: skip
    with pytest.raises(PolicyError, match="--drlc-input=time_step=NUMBER"):
        load_onnx(path, PENDULUM)
    policy = load_onnx(path, PENDULUM, interface=Interface.of("", ["time_step=0.5"]))
    with torch.no_grad():
        wanted = network(torch.from_numpy(ROWS), torch.full((200, 1), 0.5)).numpy()
    np.testing.assert_allclose(act(policy), wanted, atol=1e-6)
    assert "input 'time_step' is 0.5" in policy.provenance["interface"]


def test_a_file_that_needs_nothing_stays_as_it_is(tmp_path: Path) -> None:
    model = gemm(tmp_path / "m.onnx")
    assert load_onnx(model, PENDULUM).source == model.read_bytes()


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../weights.bin", "outside the model's folder"),
        ("/etc/hostname", "outside the model's folder"),
        ("link.bin", "leads out of"),
        ("nowhere.bin", "is missing"),
        ("we\u202eights\x00.bin", "no plain file name"),
    ],
)
def test_weights_beside_the_file_lie_in_its_folder(
    location: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    path = gemm(folder / "m.onnx", external=location)
    with pytest.raises(PolicyError, match=message):
        load_onnx(path, PENDULUM)
    with pytest.raises(ArtifactError, match=message):
        read_variant(path, PENDULUM, Interface())
    inside = gemm(folder / "m.onnx", external="sub/weights.bin")
    (folder / "sub").mkdir()
    (folder / "sub/weights.bin").write_bytes(np.full(3, 0.1, np.float32).tobytes())
    np.testing.assert_allclose(
        act(load_onnx(inside, PENDULUM)), ROWS.sum(1, keepdims=True) / 10, atol=1e-6
    )


def gemm(path: Path, external: str = "") -> Path:
    weight = numpy_helper.from_array(np.full((3, 1), 0.1, np.float32), "w")
    if external:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=external)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_actions_outside_name_the_likely_cause() -> None:
    narrow = EnvSpec.parse("Humanoid-v5").action
    wide = PENDULUM.action
    assert "before it is scaled" in narrow.cause_outside(np.full((1, 17), 0.9, np.float32))
    assert "before squashing" in wide.cause_outside(np.array([[7.0]], np.float32))
    assert "NaN" in wide.cause_outside(np.array([[np.nan]], np.float32))
    error = ActionError("outside", "because")
    assert (str(error), error.cause) == ("outside", "because")


def test_sb3s_documented_export(tmp_path: Path) -> None:
    """``OnnxableSB3Policy`` of SB3's documentation: action, value, log probability, unclipped."""
    torch.manual_seed(1)
    model = PPO("MlpPolicy", "Pendulum-v1", **on())

    class Onnxable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = model.policy

        def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found: tuple[torch.Tensor, ...] = self.policy(observation, deterministic=True)
            return found

    names = ["action", "value", "log_prob"]
    path = export(Onnxable(), tmp_path / "m.onnx", (torch.zeros(1, 3),), names, **batch(names))
    wanted, _ = model.predict(ROWS, deterministic=True)
    np.testing.assert_allclose(act(load_onnx(path, PENDULUM)), wanted, atol=1e-5)


def test_the_run_says_what_it_chose(pytester: pytest.Pytester, actor: Actor) -> None:
    names = ["value", "action", "log_prob"]
    torch.manual_seed(0)

    class Swapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor = actor

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            action, value, log_prob = self.actor(x)
            return value, action, log_prob

    export(Swapped(), pytester.path / "m.onnx", (torch.zeros(1, 3),), names, **batch(names))
    pytester.makepyfile("def test_it(action_error): action_error.check()")
    result = pytester.runpytest(
        "--drlc-policy=m.onnx", "--drlc-env=Pendulum-v1", "--drlc-variant=m.onnx"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*m.onnx: output 'action' of value, action, log_prob"])
