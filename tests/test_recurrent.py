"""Recurrent policies: SB3's own inference, states carried and reset, int8, and refusals."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from recall import train_recall
from sb3_contrib import RecurrentPPO
from sb3_models import TinyImages, load, read_tensors, refusal, replace_tensors
from torch import nn

from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.errors import ArtifactError, PolicyError, RecipeError
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.environments.engines import OUR_ENGINES
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.policies.onnx_file import load_onnx, read_variant
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.c import CRuntime
from pytest_drlcompress.runtime.onnxruntime import OnnxController
from pytest_drlcompress.runtime.recurrent import unroll
from pytest_drlcompress.workbench.loaded import LoadedPolicy
from pytest_drlcompress.workbench.workbench import Workbench

PENDULUM = EnvSpec.parse("Pendulum-v1")
RECALL = EnvSpec.parse("recall:Recall")
ROWS = np.random.default_rng(0).normal(0, 1, (200, 3)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def recall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recall") / "recall.zip"
    train_recall(path)
    return path


@pytest.fixture(scope="module")
def loaded(recall: Path) -> LoadedPolicy:
    settings = default_settings(policies=(str(recall),), env=str(RECALL), cache=False)
    bench = Workbench(settings, builtin_registry(), OUR_ENGINES, [])
    return bench.load(str(recall))


def controller(policy: Policy) -> OnnxController:
    assert isinstance(policy.source, bytes)
    return OnnxController(policy.source)


def in_two_episodes(model: RecurrentPPO, rows: NDArray[Any]) -> NDArray[Any]:
    """SB3's own actions, the state reset in the middle."""
    actions, state = [], None
    for step, row in enumerate(rows):
        starts = np.array([step % (len(rows) // 2) == 0])
        action, state = model.predict(row, state, starts, deterministic=True)
        actions.append(action)
    return np.array(actions)


def carried(policy: Policy, rows: NDArray[Any]) -> NDArray[Any]:
    """Ours, with states, in two episodes; through both ways of running single steps."""
    halves = np.split(rows, 2)
    actions = []
    for half in halves:
        one, batch = controller(policy), controller(policy)
        single = np.array([one.act_one(row).copy() for row in half])
        np.testing.assert_array_equal(single, batch.act(unroll(batch, half)))
        actions.append(single)
    return np.concatenate(actions)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_lstm_layers": 2, "lstm_hidden_size": 24, "net_arch": [8]},
        {"shared_lstm": True, "enable_critic_lstm": False, "activation_fn": nn.ReLU},
        {"enable_critic_lstm": False, "net_arch": [], "lstm_kwargs": {"bias": False}},
    ],
    ids=["default", "two layers", "shared", "no bias"],
)
def test_recurrent_ppo_equals_sb3(options: dict[str, Any], tmp_path: Path) -> None:
    model = RecurrentPPO(
        "MlpLstmPolicy", "Pendulum-v1", n_steps=8, device="cpu", policy_kwargs=options
    )
    with torch.no_grad():
        model.policy.action_net.weight.normal_(0, 4)  # SB3 starts with actions near zero
    model.save(tmp_path / "m.zip")
    policy = load(tmp_path / "m.zip", "Pendulum-v1")
    expected = in_two_episodes(model, ROWS)
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(carried(policy, ROWS), expected, atol=2e-5)
    assert policy.id == "recurrentppo-pendulum"


def test_images_before_an_lstm_equal_sb3(tmp_path: Path) -> None:
    gym.register("drlc-test/RecurrentImages-v0", TinyImages)
    try:
        model = RecurrentPPO("CnnLstmPolicy", TinyImages(), n_steps=8, device="cpu")
        model.save(tmp_path / "m.zip")
        policy = load(tmp_path / "m.zip", "drlc-test/RecurrentImages-v0")
    finally:
        del gym.registry["drlc-test/RecurrentImages-v0"]
    rows = np.random.default_rng(0).integers(0, 256, (200, 2, 36, 36), np.uint8)
    np.testing.assert_array_equal(carried(policy, rows), in_two_episodes(model, rows))


def test_a_state_is_carried_in_an_episode_and_reset_at_its_start(loaded: LoadedPolicy) -> None:
    model = loaded.exported.model
    totals = [
        [e.total for e in rollout(RECALL, model, range(40), workers=workers, slots=slots)]
        for workers, slots in ((1, None), (2, None), (3, None), (1, 1), (1, 5))
    ]
    assert totals[0] == [10.0] * 40  # of a policy without memory: 5 in the mean
    assert all(other == totals[0] for other in totals)


@pytest.mark.parametrize("recipe", ["ptdq", "ptsq", "ptsq:equalize=true"])
def test_int8_keeps_the_return_on_any_number_of_workers(recipe: str, loaded: LoadedPolicy) -> None:
    artifact = loaded.compressed(parse_recipe(recipe))
    seen = [
        [e.total for e in rollout(RECALL, artifact.model, range(30), workers=workers)]
        for workers in (1, 2, 3)
    ]
    assert seen[0] == seen[1] == seen[2]
    assert np.mean(seen[0]) > 9
    assert len(artifact.model) < len(loaded.exported.model)


def test_calibration_sees_the_states_of_the_policy_itself(loaded: LoadedPolicy) -> None:
    rows = loaded.observations(0, 500)
    assert rows.dtype.names == ("observation", "h_in", "c_in")
    cues = rows["observation"][:, 0] != 0
    assert 0.05 < cues.mean() < 0.15  # one step in ten is an episode's first
    assert not rows["h_in"][cues].any()
    assert rows["h_in"][~cues].any(axis=1).all()
    np.testing.assert_array_equal(loaded.controller.act(rows).shape, (500,))


def test_training_and_c_are_refused_in_one_line(loaded: LoadedPolicy) -> None:
    with pytest.raises(PolicyError, match="is recurrent: it can be quantized after training"):
        loaded.compressed(parse_recipe("qat"))
    with pytest.raises(ArtifactError, match="carries a state from step to step runs in ONNX"):
        CRuntime().load(loaded.exported.model)


def test_an_lstm_of_another_kind_is_refused(recall: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.zip"
    path.write_bytes(recall.read_bytes())
    tensors = read_tensors(path)
    replace_tensors(path, tensors | {"lstm_actor.weight_hr_l0": torch.zeros(4, 16)})
    assert "its LSTM has tensors ['weight_hr_l0']" in refusal(path, str(RECALL))


class Memory(nn.Module):
    """A recurrent actor as others write it: an LSTM or GRU operator over sequences of one."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = getattr(nn, kind)(3, 12)
        self.head = nn.Linear(12, 1)

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = tuple(states) if len(states) > 1 else states[0]
        out, after = self.body(x.unsqueeze(0), given)
        following = after if len(states) > 1 else (after,)
        return 2 * torch.tanh(4 * self.head(out[0])), x.sum(1, keepdim=True), *following


def write(
    network: nn.Module, path: Path, names: list[tuple[str, str]], *, fixed: bool = False
) -> Path:
    axes: dict[str, dict[int, str]] = {"obs": {0: "batch"}, "action": {0: "batch"}}
    axes |= {name: {1: "batch"} for pair in names for name in pair}
    torch.onnx.export(
        network, (torch.zeros(1, 3), *(torch.zeros(1, 1, 12) for _ in names)), str(path),
        input_names=["obs", *(source for source, _ in names)],
        output_names=["action", "value", *(sink for _, sink in names)],
        dynamo=False, dynamic_axes={} if fixed else axes,
    )  # fmt: skip
    return path


def expected(network: nn.Module, states: int) -> NDArray[Any]:
    actions, carry = [], [torch.zeros(1, 1, 12)] * states
    with torch.no_grad():
        for row in torch.from_numpy(ROWS):
            action, _, *carry = network(row[None], *carry)
            actions.append(action[0].numpy())
    return np.array(actions)


@pytest.mark.parametrize("fixed", [False, True], ids=["open batch", "batch of one"])
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("LSTM", [("h_in", "h_out"), ("c_in", "c_out")]),
        ("LSTM", [("h0", "hn"), ("c0", "cn")]),
        ("LSTM", [("state_in_0", "state_out_0"), ("state_in_1", "state_out_1")]),
        ("GRU", [("hidden_state", "next_hidden_state")]),
    ],
)
def test_states_of_onnx_files_are_found_by_their_names(
    kind: str, names: list[tuple[str, str]], fixed: bool, tmp_path: Path
) -> None:
    network = Memory(kind).eval()
    path = write(network, tmp_path / "m.onnx", names, fixed=fixed)
    policy = load_onnx(path, PENDULUM)
    one = controller(policy)
    got = np.array([one.act_one(row).copy() for row in ROWS])
    np.testing.assert_allclose(got, expected(network, len(names)), atol=1e-5)
    assert [f"state {a!r} goes on with {b!r}" for a, b in names] == policy.provenance["interface"][
        -len(names) :
    ]
    totals = [
        [e.total for e in rollout(PENDULUM, policy.source, range(5), workers=1, slots=slots)]
        for slots in (1, 3)
    ]
    assert totals[0] == totals[1]


def test_lstm_operators_ptdq_works_and_ptsq_says_what_does(tmp_path: Path) -> None:
    names = [("h_in", "h_out"), ("c_in", "c_out")]
    path = write(Memory("LSTM").eval(), tmp_path / "m.onnx", names)
    bench = Workbench(
        default_settings(policies=(str(path),), env="Pendulum-v1", cache=False),
        builtin_registry(), OUR_ENGINES, [],
    )  # fmt: skip
    loaded = bench.load(str(path))
    dynamic = loaded.compressed(parse_recipe("ptdq"))
    rows = loaded.observations(0, 100)
    difference = OnnxController(dynamic.model).act(rows) - loaded.controller.act(rows)
    assert 0 < np.abs(difference).max() < 0.3
    with pytest.raises(RecipeError, match=r"no integer kernel for LSTM in ptsq.*use ptdq"):
        loaded.compressed(parse_recipe("ptsq"))
    path = write(Memory("GRU").eval(), tmp_path / "gru.onnx", names[:1])
    gru = bench.load(str(path))
    with pytest.raises(RecipeError, match=r"no integer kernel for GRU in ptdq.*GRUCell"):
        gru.compressed(parse_recipe("ptdq"))


class Timed(nn.Module):
    """Acts on the number of the step and its own last action."""

    def forward(
        self, obs: torch.Tensor, time_step: torch.Tensor, last: torch.Tensor
    ) -> torch.Tensor:
        return torch.tanh(obs[:, :1] + 0.5 * last + torch.sin(0.1 * time_step.float()))


def write_timed(path: Path, kind: torch.dtype) -> Path:
    torch.onnx.export(
        Timed(), (torch.zeros(1, 3), torch.zeros(1, 1, dtype=kind), torch.zeros(1, 1)), str(path),
        input_names=["obs", "time_step", "last"], output_names=["action"], dynamo=False,
        dynamic_axes={name: {0: "batch"} for name in ("obs", "time_step", "last", "action")},
    )  # fmt: skip
    return path


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
def test_a_counter_and_the_last_action_are_states_that_are_named(
    kind: torch.dtype, tmp_path: Path
) -> None:
    path = write_timed(tmp_path / "timed.onnx", kind)
    named = Interface.of("", ["time_step=step", "last=action"])
    policy = load_onnx(path, PENDULUM, interface=named)
    one, last, want = controller(policy), torch.zeros(1, 1), []
    for step, row in enumerate(torch.from_numpy(ROWS)):
        last = Timed()(row[None], torch.full((1, 1), step, dtype=kind), last)
        want.append(last[0].numpy())
    np.testing.assert_allclose([one.act_one(row).copy() for row in ROWS], want, atol=1e-5)
    assert "input 'time_step' counts the steps" in policy.provenance["interface"]
    variant = read_variant(path, PENDULUM, named)
    assert variant.model == policy.source


def test_an_input_that_nobody_explains_says_the_three_ways(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "timed.onnx", torch.float32)
    with pytest.raises(PolicyError, match=r"'time_step'.*=NUMBER.*=step.*=OUTPUT"):
        load_onnx(path, PENDULUM)
    with pytest.raises(PolicyError, match="no output 'h_out' for the state 'last'"):
        load_onnx(path, PENDULUM, interface=Interface.of("", ["time_step=step", "last=h_out"]))


def test_a_recurrent_file_in_canonical_order_stays_as_it_is(loaded: LoadedPolicy) -> None:
    path = Path(loaded.policy.origin).with_suffix(".onnx")
    path.write_bytes(loaded.exported.model)
    assert load_onnx(path, RECALL).source == loaded.exported.model
