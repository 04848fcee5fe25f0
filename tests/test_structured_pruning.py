"""Structured pruning: smaller tensors, the same outputs, and never fewer actions."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from pytest_drlcompress.compression.pipeline import compress, export_policy
from pytest_drlcompress.compression.pruning.structured import (
    plan_channels,
    plan_parameters,
    prunable_layers,
    prune,
)
from pytest_drlcompress.compression.pruning.tracing import (
    count_macs,
    count_parameters,
    traced_outputs,
)
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import PolicyError, RecipeError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.network import Argmax, Normalize, Pixels, Rescale
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.onnxruntime import OnnxController

HOPPER = EnvSpec.parse("Hopper-v5")


class Rollouts:
    """Observations that need no environment."""

    def blank(self, count):
        return torch.zeros((count, 11))

    def sample(self, count):
        return np.random.default_rng(0).standard_normal((count, 11)).astype(np.float32)

    def describe(self, count):
        return {"observations": count}


class Dueling(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.value, self.advantage = nn.Linear(4, 32), nn.Linear(32, 1), nn.Linear(32, 2)

    def forward(self, x):
        h = torch.relu(self.body(x))
        a = self.advantage(h)
        return torch.argmax(self.value(h) + a - a.mean(1, keepdim=True), 1)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.body, self.leave = nn.Linear(4, 32), nn.Linear(32, 32), nn.Linear(32, 2)

    def forward(self, x):
        h = torch.relu(self.enter(x))
        return self.leave(h + torch.relu(self.body(h)))


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 32), nn.Linear(32, 2)

    def forward(self, x):
        return torch.from_numpy(self.head(self.body(x)).detach().numpy())


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 32), nn.Linear(32, 2)

    def forward(self, x):
        return self.head(self.body(x) * torch.ones(32))


def mlp(*, actions=3, width=64, last=nn.Tanh):
    torch.manual_seed(0)
    layers = [nn.Linear(11, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(Normalize(11, 10.0), *layers, nn.Linear(width, actions), last())


def nature():
    return nn.Sequential(
        Pixels(), nn.Conv2d(2, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 6), Argmax(),
    )  # fmt: skip


def pruned_policy(recipe, network=None):
    policy = Policy("p", HOPPER, network or mlp())
    # what changes the network does not look at the exported policy
    unused = Artifact(b"", "p", "fp32")
    return compress(policy, parse_recipe(recipe), builtin_registry(), Rollouts(), unused)


def weights(model):
    graph = onnx.load_from_string(model).graph
    return [numpy_helper.to_array(t) for t in graph.initializer if len(t.dims) == 2]


@pytest.mark.parametrize(("norm", "amount", "kept"), [("l1", 5, 61), ("l2", 70, 19)])
def test_tensors_are_really_smaller(norm, amount, kept):
    artifact = pruned_policy(f"{norm}@{amount}")
    shapes = sorted(tuple(sorted(w.shape)) for w in weights(artifact.model))
    assert shapes == sorted([tuple(sorted((11, kept))), (kept, kept), (3, kept)])
    record = artifact.provenance[norm]
    assert record["channels"] == {"1": [64, kept], "3": [64, kept]}
    expected = 12 * kept + (kept + 1) * kept + (kept + 1) * 3
    assert record["parameters"] == [12 * 64 + 65 * 64 + 65 * 3, expected]
    assert record["macs"] == [11 * 64 + 64 * 64 + 64 * 3, 11 * kept + kept * kept + kept * 3]


@pytest.mark.parametrize("p", [1, 2])
def test_the_artifact_is_the_original_without_its_least_channels(p):
    """Against an independent account: group norms by hand, channels zeroed instead of removed."""
    network = mlp()
    artifact = pruned_policy(f"l{p}@30", network)
    masked = copy.deepcopy(network)
    first, second, head = masked[1], masked[3], masked[5]
    with torch.no_grad():
        pairs = ((first, second), (second, head))
        norms = [
            (made.weight.abs() ** p).sum(1) + (used.weight.abs() ** p).sum(0)
            for made, used in pairs
        ]
        for (layer, following), norm in zip(pairs, norms, strict=True):
            least = norm.argsort()[:19]
            layer.weight[least], layer.bias[least], following.weight[:, least] = 0, 0, 0
    observations = Rollouts().sample(64)
    wanted = masked(torch.from_numpy(observations)).detach().numpy()
    got = OnnxController(artifact.model).act(observations)
    np.testing.assert_allclose(got, wanted, atol=2e-6)
    assert np.abs(network(torch.from_numpy(observations)).detach().numpy() - got).max() > 1e-3


@pytest.mark.parametrize("make", [mlp, nature, Dueling, Residual])
def test_the_onnx_file_gives_the_pruned_modules_actions(make):
    from pytest_drlcompress.policies.export import export_onnx

    network = make()
    shape, kind = {mlp: ((11,), "f4"), nature: ((2, 44, 44), "u1")}.get(make, ((4,), "f4"))
    random = np.random.default_rng(1)
    observations = (random.integers(0, 256, (8, *shape)) if kind == "u1" else
                    random.standard_normal((8, *shape))).astype(kind)  # fmt: skip
    example = torch.from_numpy(observations[:2])
    raw_width = traced_outputs(network.requires_grad_(True), example)[0].shape
    widths = prunable_layers(network, example)
    pruned = prune(copy.deepcopy(network), example, p=2, plan=plan_channels(widths, 0.3))
    assert count_parameters(pruned) < count_parameters(network)
    assert traced_outputs(pruned, example)[0].shape == raw_width
    got = OnnxController(export_onnx(pruned, shape, np.dtype(kind))).act(observations)
    wanted = pruned(torch.from_numpy(observations)).detach().numpy()
    np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_only_hidden_layers_are_found():
    assert prunable_layers(mlp(), torch.zeros(2, 11)) == {"1": 64, "3": 64}
    image = torch.zeros((2, 2, 44, 44), dtype=torch.uint8)
    assert prunable_layers(nature(), image) == {"1": 8, "3": 16, "6": 32}
    assert prunable_layers(Dueling(), torch.zeros(2, 4)) == {"body": 32}
    assert prunable_layers(Residual(), torch.zeros(2, 4)) == {"enter": 32, "body": 32}


def test_two_actions_are_not_broadcast_from_one():
    """Rescaling one action of two with bounds of two gives two again: the width tells nothing."""
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh(), Rescale(2))
    example = torch.zeros(2, 4)
    widths = prunable_layers(network, example)
    assert widths == {"0": 8}
    prune(network, example, p=1, plan=plan_channels(widths, 0.8))
    assert network[2].weight.shape == (2, 2)


def test_a_head_that_would_lose_actions_is_an_error():
    network, example = mlp(), torch.zeros(2, 11)
    network.requires_grad_(True)
    with pytest.raises(RecipeError, match="would change the output"):
        prune(network, example, p=2, plan=plan_channels({"5": 3}, 0.4))


def test_a_width_that_was_not_reached_is_an_error():
    network, example = Residual(), torch.zeros(2, 4)
    prunable_layers(network, example)
    plan = plan_channels({"enter": 32, "body": 32}, 0.5)
    uneven = type(plan)(plan.width, {"enter": 16, "body": 20})
    with pytest.raises(RecipeError, match="torch-pruning left channels"):
        prune(network, example, p=2, plan=uneven)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_amounts_of_parameters(share):
    artifact = pruned_policy(f"l2@{share * 100:g}:of=parameters")
    record = artifact.provenance["l2"]
    before, after = record["parameters"]
    # one channel of each of both layers is about 2 per cent of this network
    assert abs(1 - after / before - share) < 0.02
    assert record["channels_pruned"] < share


def test_round_to_gives_whole_vectors():
    artifact = pruned_policy("l1@30:round_to=16")
    assert artifact.provenance["l1"]["channels"] == {"1": [64, 48], "3": [64, 48]}


def test_the_policy_itself_stays_as_it_is():
    network = mlp()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    pruned_policy("l2@50", network)
    after = network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_frozen_parameters_are_pruned_all_the_same():
    network = mlp().requires_grad_(False)
    with torch.no_grad():
        artifact = pruned_policy("l2@50", network)
    assert artifact.provenance["l2"]["channels_pruned"] == 0.5


def test_pruning_comes_before_quantization():
    artifact = pruned_policy("l2@50+ptdq")
    assert sorted(w.shape for w in weights(artifact.model)) == [(11, 32), (32, 3), (32, 32)]
    with pytest.raises(RecipeError, match="must come before"):
        pruned_policy("ptdq+l2@50")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("l1@0", "strictly between 0 and 100, not 0"),
        ("l1@100", "strictly between 0 and 100, not 100"),
        ("l2@-5", "strictly between 0 and 100"),
        ("l2@150", "strictly between 0 and 100"),
        ("l2@nan", "must be a number"),
        ("l2", "needs an amount, for example l2@30"),
        ("l3@30", "no compression step 'l3'"),
        ("l2@30:of=weights", "of must be one of channels, parameters"),
        ("l2@30:round_to=0", "round_to must be greater than 0"),
        ("l2@30:round_to=1.5", "round_to must be a whole number"),
        ("l2@30:train=rl", "train must be one of none, distill"),
        ("l2@99.9", "has 64 channels and would keep none; prune less"),
        ("l2@0.1", "no layer would lose a channel: widths are 64, 64; prune more"),
        ("l2@5:round_to=16", "no layer would lose a channel with round_to=16"),
        ("l2@99.9:of=parameters", "of the parameters can go with a channel left in every layer"),
    ],
)
def test_bad_amounts_and_options_are_one_clear_line(recipe, message):
    with pytest.raises(RecipeError) as caught:
        pruned_policy(recipe)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Detached(), "cannot trace this network: its output depends on no weights"),
        (Scripted(), "no hidden layer whose channels could be pruned"),
        (nn.Sequential(nn.Linear(4, 2)), "no hidden layer whose channels could be pruned"),
        (nn.Sequential(nn.Flatten(), nn.Tanh()), "its output depends on no weights"),
    ],
)
def test_networks_that_cannot_be_pruned_are_one_clear_line(network, message):
    with pytest.raises(RecipeError) as caught:
        prunable_layers(network, torch.zeros(2, 4))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_onnx_policy_cannot_be_pruned():
    policy = Policy("p", HOPPER, export_policy(Policy("p", HOPPER, mlp())).model)
    with pytest.raises(PolicyError, match="needs the torch policy"):
        compress(
            policy, parse_recipe("l1@30"), builtin_registry(), Rollouts(), export_policy(policy)
        )


def test_macs_of_a_convolution():
    image = torch.zeros((2, 2, 44, 44), dtype=torch.uint8)
    first, second = 8 * 10 * 10 * 2 * 8 * 8, 16 * 4 * 4 * 8 * 4 * 4
    network = nn.Sequential(Pixels(), nn.Conv2d(2, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 16, 4, 2))
    assert count_macs(network, image) == first + second


def test_parameter_plans_hit_the_share_as_nearly_as_channels_allow():
    network, example = mlp(width=32), torch.zeros(2, 11)
    widths = prunable_layers(network, example)
    plan = plan_parameters(network, example, widths, 0.5, 1)
    losses = []
    for shift in (-1, 0, 1):
        moved = type(plan)(plan.width, {name: keep + shift for name, keep in plan.keep.items()})
        trial = prune(copy.deepcopy(network), example, p=1, plan=moved)
        losses.append(abs(1 - count_parameters(trial) / count_parameters(network) - 0.5))
    assert losses[1] == min(losses)


def test_distillation_repairs_what_pruning_broke_and_is_repeatable():
    recipe = "l2@50:train=distill,samples=2048,steps=200"
    once, again = (pruned_policy(recipe) for _ in range(2))
    assert once.model == again.model
    observations = Rollouts().sample(512)
    wanted = mlp()(torch.from_numpy(observations)).detach().numpy()
    bare = pruned_policy(recipe.partition(":")[0])
    trained_error, bare_error = (
        np.abs(OnnxController(a.model).act(observations) - wanted).mean() for a in (once, bare)
    )
    assert trained_error < bare_error / 2
    assert [w.shape for w in weights(once.model)] == [w.shape for w in weights(bare.model)]
    training = once.provenance[recipe[:2]]["training"]
    assert training["held_out_loss"] < training["held_out_loss_pruned"]
