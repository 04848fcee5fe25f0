"""Sparsity: schedule, distributions, masks, the recipe, and the gate on the artifact's zeros."""

import json

import numpy as np
import pytest
import torch
from samples import Samples
from test_qat import make, make_policy
from torch import nn

from pytest_drlcompress.compression.distillation.standardize import standardize, unstandardize
from pytest_drlcompress.compression.pruning.criteria import CRITERIA, Saliency
from pytest_drlcompress.compression.pruning.distribution import layer_counts, layer_densities
from pytest_drlcompress.compression.pruning.masks import MaskedWeights, linear_weights
from pytest_drlcompress.compression.pruning.schedule import CubicSchedule
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.measurement.sparsity import measure_sparsity
from pytest_drlcompress.onnx_graph.weights import layer_weights

SHAPES = [(256, 17), (256, 256), (6, 256)]
QUICK = "steps=60,rounds=3,samples=400"


class TestSchedule:
    def test_prunes_from_start_to_end(self):
        schedule = CubicSchedule.over(1000, 0.8, start=0.2, end=0.8, count=6)
        assert schedule.steps() == pytest.approx((200, 300, 400, 500, 600, 700, 800))
        assert [schedule.reached(t) for t in (0, 199, 200, 299, 300, 800, 5000)] == [
            0, 0, 1, 1, 2, 7, 7,
        ]  # fmt: skip
        assert schedule.at(500) == schedule.at(599) == pytest.approx(0.8 * (1 - 0.5**3))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"final": 1.0}, "final sparsity"),
            ({"final": 0.0}, "final sparsity"),
            ({"start": 0.8, "end": 0.2}, "0 <= start < end <= 1"),
            ({"count": 0}, "at least one pruning step"),
        ],
    )
    def test_impossible_ones_are_refused(self, arguments, message):
        arguments = {"final": 0.9, "count": 10, **arguments}
        if arguments["count"] == 0:
            with pytest.raises(RecipeError, match=message):
                CubicSchedule(0.9, 0, 1, 0)
        else:
            with pytest.raises(RecipeError, match=message):
                CubicSchedule.over(100, **arguments)


class TestDistribution:
    def test_erdos_renyi_shares(self):
        """epsilon (n_in + n_out) / (n_in n_out), and h and w for convolutions."""
        dense = layer_densities([(8, 4), (10, 20)], 0.9, "erdos-renyi")
        assert dense[0] / dense[1] == pytest.approx((12 / 32) / (30 / 200))
        shapes = [(8, 4, 3, 3), (10, 20, 5, 5)]
        conv = layer_densities(shapes, 0.9, "erdos-renyi")
        assert conv[0] / conv[1] == pytest.approx((18 / 288) / (40 / 5000))

    def test_layers_are_never_more_than_full_and_the_others_take_the_rest(self):
        dense = layer_densities(SHAPES, 0.5, "erdos-renyi")
        assert dense[0] == dense[2] == 1.0
        sizes = [np.prod(shape) for shape in SHAPES]
        assert np.dot(dense, sizes) == pytest.approx(0.5 * sum(sizes))
        assert layer_counts(SHAPES, 0.5, "erdos-renyi")[0] == 256 * 17

    def test_counts_never_exceed_what_lives(self):
        alive = (100, 3000, 900)
        counts = layer_counts(SHAPES, 0.95, "uniform", at_most=alive)
        assert all(c <= a for c, a in zip(counts, alive, strict=True))
        assert sum(counts) == round(0.05 * sum(np.prod(s) for s in SHAPES))

    def test_unknown_ones_are_refused(self):
        with pytest.raises(RecipeError, match="unknown distribution 'even'"):
            MaskedWeights({"a": nn.Parameter(torch.ones(2, 2))}, "even")
        with pytest.raises(RecipeError, match="no linear layer"):
            MaskedWeights({}, "uniform")


class TestMasks:
    def test_a_lower_sparsity_changes_nothing(self):
        weight = nn.Parameter(torch.randn(10, 10))
        masked = MaskedWeights({"a": weight}, "uniform")
        masked.prune(0.5)
        before = weight.detach().clone()
        masked.prune(0.3)
        assert torch.equal(weight, before)
        assert masked.sparsity == 0.5

    def test_the_moments_are_zero_as_well(self):
        weight = nn.Parameter(torch.randn(10, 10))
        optimizer = torch.optim.Adam([weight], 1e-2, amsgrad=True)
        weight.square().sum().backward()
        optimizer.step()
        masked = MaskedWeights({"a": weight}, "global")
        masked.prune(0.8)
        masked.apply(optimizer)
        dead = masked.masks["a"] == 0
        for moment in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            assert not optimizer.state[weight][moment][dead].any()
            assert optimizer.state[weight][moment][~dead].all()

    def test_a_resumed_training_finds_its_masks_in_the_zeros(self):
        network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
        masked = MaskedWeights(linear_weights(network), "erdos-renyi")
        masked.prune(0.7)
        again = MaskedWeights(linear_weights(network), "erdos-renyi")
        again.adopt_zeros()
        for name, mask in masked.masks.items():
            assert torch.equal(mask, again.masks[name])


class TestCriteria:
    @pytest.fixture
    def layer(self):
        """Fits ``y = 0.1 x_0``; large weights read inputs that are always zero, which is harmless.

        The weight of ``x_1`` is what training takes to zero.
        """
        layer = nn.Linear(4, 1, bias=False)
        layer.weight.data = torch.tensor([[0.1, 0.3, 2.0, 3.0]])
        return layer

    def gradients(self, layer, saliency):
        generator = torch.Generator().manual_seed(0)
        for _ in range(200):
            inputs = torch.randn(32, 4, generator=generator) * torch.tensor([1.0, 1, 0, 0])
            targets = 0.1 * inputs[:, :1] + 0.05 * torch.randn(32, 1, generator=generator)
            layer.zero_grad()
            (layer(inputs) - targets).square().mean().backward()
            saliency.observe()

    @pytest.mark.parametrize(
        ("criterion", "kept"),
        [
            ("magnitude", [False, False, True, True]),
            ("fisher", [True, True, False, False]),
        ],
    )
    def test_what_is_kept(self, layer, criterion, kept):
        masked = MaskedWeights({"a": layer.weight}, "uniform")
        saliency = Saliency(masked.weights, criterion)
        self.gradients(layer, saliency)
        masked.prune(0.5, saliency.scores())
        assert (masked.masks["a"][0] == 1).tolist() == kept

    def test_movement_is_negative_where_training_takes_the_weight_to_zero(self, layer):
        saliency = Saliency({"a": layer.weight}, "movement")
        self.gradients(layer, saliency)
        scores = saliency.scores()["a"][0]
        assert scores[1] < -0.01
        assert abs(scores[0]) < 0.01
        assert scores[2:].tolist() == [0, 0]

    def test_fisher_is_the_mean_of_squared_gradients(self):
        weight = nn.Parameter(torch.tensor([2.0, 3.0]))
        saliency = Saliency({"a": weight}, "fisher")
        for _ in range(20_000):
            weight.grad = torch.tensor([0.5, 1.0])
            saliency.observe()
        assert saliency.scores()["a"].tolist() == pytest.approx([4 * 0.25, 9.0], rel=1e-3)

    def test_the_dead_never_come_back_however_they_score(self):
        weight = nn.Parameter(torch.ones(4))
        masked = MaskedWeights({"a": weight}, "uniform")
        masked.prune(0.25, {"a": torch.tensor([1.0, 2.0, 3.0, 4.0])})
        masked.prune(0.5, {"a": torch.tensor([9.0, -2.0, -3.0, -4.0])})
        assert masked.masks["a"].tolist() == [0, 1, 1, 0]

    def test_unknown_ones_are_refused(self):
        with pytest.raises(RecipeError, match="unknown criterion 'size'; known: magnitude"):
            Saliency({}, "size")
        with pytest.raises(RecipeError, match="criterion must be one of magnitude, fisher"):
            make(make_policy("relu"), "sparse@90:criterion=size")


class TestRecipe:
    @pytest.mark.parametrize(
        ("kind", "tail"),
        [
            ("relu", ""),
            ("relu", "+ptdq"),
            ("relu", "+ptsq:equalize=true"),
            ("relu", "+qat:steps=80"),
            ("tanh", "+qat:steps=80"),
        ],
    )
    def test_the_file_has_the_zeros(self, kind, tail):
        artifact = make(make_policy(kind), f"sparse@90:{QUICK}{tail}")
        found = measure_sparsity(artifact.model)
        assert found.nonzero <= round(0.1 * found.weights)
        assert found.total < 0.96
        layers = layer_weights(artifact.model)
        counts = layer_counts([layer.stored.shape for layer in layers], 0.9, "erdos-renyi")
        for layer, count in zip(layers, counts, strict=True):
            assert layer.nnz <= count + 1

    def test_the_criterion_is_fishers_unless_said_otherwise(self):
        policy = make_policy("relu")
        found = {c: make(policy, f"sparse@90:criterion={c},{QUICK}") for c in CRITERIA}
        assert len({artifact.sha256 for artifact in found.values()}) == len(CRITERIA)
        assert make(policy, f"sparse@90:{QUICK}").sha256 == found["fisher"].sha256

    @pytest.mark.parametrize("distribution", ["global", "uniform"])
    def test_distributions(self, distribution):
        artifact = make(make_policy("relu"), f"sparse@90:distribution={distribution},{QUICK}")
        found = measure_sparsity(artifact.model)
        assert found.nonzero == round(0.1 * found.weights)
        shares = list(found.by_layer.values())
        assert (max(shares) - min(shares) < 0.01) == (distribution == "uniform")

    def test_the_same_recipe_gives_the_same_file(self):
        policy = make_policy("relu")
        first, second = (make(policy, f"sparse@80:{QUICK}") for _ in range(2))
        assert first.sha256 == second.sha256
        weights = policy.network[0].weight
        assert bool((weights != 0).all()), "the policy itself was pruned"

    def test_what_follows_sees_where_the_student_went(self):
        artifact = make(make_policy("relu"), f"sparse@90:{QUICK}+ptsq")
        assert artifact.provenance["ptsq"]["calibration"]["policy"] == "the sparse student"

    @pytest.mark.parametrize(
        ("recipe", "message"),
        [
            ("sparse", "needs an amount"),
            ("sparse@100", "strictly between 0 and 100"),
            ("sparse@90:distribution=even", "must be one of global, uniform, erdos-renyi"),
            ("ptsq+sparse@90", "must come before"),
        ],
    )
    def test_wrong_recipes(self, recipe, message):
        with pytest.raises(RecipeError, match=message):
            make(make_policy("relu"), recipe)

    def test_standardizing_and_back_is_the_same_function(self):
        network = make_policy("relu").network
        observations = Samples().sample(500)
        with torch.no_grad():
            expected = network[:5](torch.from_numpy(observations))
            inner = standardize(network, observations)
            inside = inner[:6](torch.from_numpy(observations))
            outside = unstandardize(inner)[:5](torch.from_numpy(observations))
        assert torch.allclose(inside, expected, atol=1e-4)
        assert torch.allclose(outside, expected, atol=1e-4)


GATES = """
import pytest

@pytest.mark.parametrize("variant", ["fp32"], indirect=True)
def test_none(variant, sparsity):
    assert sparsity.measure().estimate == 0
    sparsity.check()

@pytest.mark.drlcompress(target_sparsity=0.5)
@pytest.mark.parametrize("variant", ["ptdq"], indirect=True)
def test_dense(variant, sparsity):
    sparsity.check()

@pytest.mark.drlcompress(target_sparsity=95)
@pytest.mark.parametrize("variant", ["ptdq"], indirect=True)
def test_per_cent(variant, sparsity):
    sparsity.check()

@pytest.mark.parametrize("variant", ["sparse@60:steps=20,rounds=1,samples=300+ptdq"], indirect=True)
def test_sparse(variant, sparsity):
    sparsity.check()
    details = sparsity.measure().details
    assert set(details) == {"total", "by_layer", "nonzero"} and len(details["by_layer"]) == 3
"""


def test_a_gate_that_fails_is_among_the_failures_of_a_report(suites):
    path = suites.path / "test_own.py"
    path.write_text(GATES)
    suites.runpytest(path, "-k", "test_dense", "--drlc-report=out.json")
    report = json.loads((suites.path / "out.json").read_text())
    assert [f["test"].split("::")[1] for f in report["failures"]] == [
        "test_dense[trpo-hopper-ptdq]"
    ]


def test_a_gate_without_a_result_is_noticed(suites):
    path = suites.path / "test_own.py"
    path.write_text(GATES)
    suites.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_protocol(item):\n"
        "    return True\n"
    )
    result = suites.runpytest(path, "-k", "test_dense")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["1 gates never reported a result: test_own.py::test_dense*"])


def test_the_gate(suites):
    path = suites.path / "test_own.py"
    path.write_text(GATES)
    result = suites.runpytest(path, "-rA")
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*target_sparsity is a share below 1 (0.95 for 95 %*, not 95"])
    result.stdout.fnmatch_lines(
        [
            "*sparsity trpo-hopper / ptdq: FAIL*0.013 < 0.50*",
            "*weights too many are not zero. Zero weights by layer: *",
        ]
    )
