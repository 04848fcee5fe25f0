"""Attribution names the quantizer, and the observation's dimension, that makes the error."""

import numpy as np
import pytest
import torch
from samples import Samples
from torch import nn

from pytest_drlcompress.compression.pipeline import compress, export_policy
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.measurement.action_error import measure_action_error
from pytest_drlcompress.measurement.attribution import attribute_error
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.onnxruntime import OnnxController

ENV = EnvSpec.parse("Hopper-v5")
SMALL = 4
SPANS = np.where(np.arange(11) == SMALL, 0.05, 10).astype(np.float32)


class TinyDimension(Samples):
    """One dimension is tiny beside the others."""

    def sample(self, count):
        return np.random.default_rng(0).uniform(-1, 1, (count, 11)).astype(np.float32) * SPANS


@pytest.fixture(scope="module")
def policy():
    """A policy that listens to the tiny dimension above all."""
    torch.manual_seed(0)
    first = nn.Linear(11, 16)
    with torch.no_grad():
        first.weight.mul_(0.02)
        first.weight[:, SMALL] *= 500
    network = nn.Sequential(first, nn.ReLU(), nn.Linear(16, 3), nn.Tanh())
    return Policy("test", ENV, network.eval())


@pytest.fixture(scope="module")
def exported(policy):
    return export_policy(policy)


def attribute(policy, exported, recipe):
    artifact = compress(policy, parse_recipe(recipe), builtin_registry(), TinyDimension(), exported)
    return artifact, attribute_error(
        artifact.model, exported.model, TinyDimension().sample(256), ENV.action
    )


@pytest.mark.parametrize("recipe", ["ptsq", "ptdq", "ptsq:per_channel=true"])
def test_the_tiny_dimension_is_named(policy, exported, recipe):
    _, found = attribute(policy, exported, recipe)
    assert found[0].layer == 1
    observation = next(c for c in found if (c.layer, c.part) == (1, "activation"))
    assert observation.dimension == SMALL
    assert observation.error > 10 * max(c.error for c in found if c.layer == 2)
    assert "observation input (per-tensor scale" in str(observation)
    assert "dimension 4 spans 0.05" in str(observation)
    assert [c.error for c in found] == sorted((c.error for c in found), reverse=True)
    parts = {(c.layer, c.part) for c in found}
    assert parts == {(n, p) for n in (1, 2) for p in ("activation", "weight")}


@pytest.mark.parametrize("recipe", ["ptsq:equalize=true", "ptdq:equalize=true"])
def test_equalizing_takes_it_away(policy, exported, recipe):
    _, found = attribute(policy, exported, recipe.partition(":")[0])
    before = next(c.error for c in found if (c.layer, c.part) == (1, "activation"))
    _, after = attribute(policy, exported, recipe)
    observation = {c.part: c.error for c in after if c.layer == 1}
    assert observation["activation"] < before / 5
    assert len(after) == 4  # the scaled weights are recognised as a rounding of the fp32 ones


def test_the_first_layer_explains_the_whole_error(policy, exported):
    # the other layer is negligible in this policy
    artifact, found = attribute(policy, exported, "ptsq")
    whole = measure_action_error(
        OnnxController(exported.model),
        OnnxController(artifact.model),
        TinyDimension().sample(256),
        ENV.action,
    ).mean
    first = [c.error for c in found if c.layer == 1]
    assert max(first) <= 1.2 * whole
    assert whole <= 1.2 * sum(first)


def test_trained_weights_are_one_entry(policy, exported):
    _, found = attribute(policy, exported, "qat:steps=5,samples=300")
    assert [c.part for c in found].count("all weights") == 1
    assert not [c for c in found if c.part == "weight"]


def test_an_fp32_model_has_no_quantizers(policy, exported):
    assert (
        attribute_error(exported.model, exported.model, TinyDimension().sample(16), ENV.action)
        == ()
    )
