"""Five planted pruning bugs are each caught by the suite itself, as a user runs it."""

import pytest
import torch

from pytest_drlcompress.compression.pruning import distribution
from pytest_drlcompress.compression.pruning.masks import MaskedWeights
from pytest_drlcompress.compression.pruning.schedule import CubicSchedule
from pytest_drlcompress.testing.masked_adam import MaskedAdam


def linear(self, step):
    return self.final * min(1.0, max(0.0, (step - self.start) / (self.end - self.start)))


def regrown(self, sparsity):
    """Prunes rightly, then exchanges a living weight of each layer for one that was pruned."""
    dead = {name: mask.flatten() == 0 for name, mask in self.masks.items()}
    prune(self, sparsity)
    for name, weight in self.weights.items():
        mask, values = self.masks[name].view(-1), weight.data.view(-1)
        if dead[name].any() and mask.any():
            back = int(dead[name].nonzero()[0])
            mask[torch.where(mask != 0, values.abs(), torch.inf).argmin()] = 0
            mask[back], values[back] = 1, 0.5
    self.apply()


def forgetful(self, optimizer=None):
    """Zeroes the weights once, when they are pruned, and leaves the optimizer to itself."""
    if optimizer is None:
        for name, weight in self.weights.items():
            weight.data.mul_(self.masks[name])


def uniform(shapes, sparsity, asked):
    return layer_densities(shapes, sparsity, "uniform")


def with_biases(self, weights, biases, asked):
    start(self, weights, biases, asked)
    everything = {**self._weights, **{f"{n}.bias": b for n, b in self._biases.items()}}
    self._masked = MaskedWeights(everything, asked)


start, prune = MaskedAdam.__init__, MaskedWeights.prune
layer_densities = distribution.layer_densities
BUGS = {
    "linear-schedule": (CubicSchedule, "at", linear, "check_schedule: at pruning step"),
    "regrown-weights": (MaskedWeights, "prune", regrown, "grew back"),
    "momentum-revives": (MaskedWeights, "apply", forgetful, "momentum brought"),
    "uniform-for-erdos-renyi": (distribution, "layer_densities", uniform, "erdos-renyi asks for"),
    "biases-as-weights": (MaskedAdam, "__init__", with_biases, "Are biases counted"),
}


PROPERTIES = ("test_the_papers_schedule", "test_any_schedule", "test_pruning")


def run_suite(pytester):
    path = "suites/test_sparsity_schedule.py"
    return pytester.runpytest(*(f"{path}::{name}" for name in PROPERTIES))


@pytest.mark.parametrize("bug", BUGS)
def test_the_suite_catches(suites, monkeypatch, bug):
    owner, name, wrong, message = BUGS[bug]
    monkeypatch.setattr(owner, name, wrong)
    result = run_suite(suites)
    assert result.ret == 1
    assert message in result.stdout.str()


def test_the_suite_passes_what_is_right(suites):
    result = run_suite(suites)
    result.assert_outcomes(passed=6)
