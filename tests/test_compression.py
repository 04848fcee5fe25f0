"""Export and post-training quantization, on a network whose size does not matter."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from samples import ENV, Samples
from torch import nn

from pytest_drlcompress.compression.pipeline import compress, export_policy
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.compression.step import Diagnosis, Result, StepKind
from pytest_drlcompress.core.errors import PolicyError, RecipeError
from pytest_drlcompress.onnx_graph.kernels import executed_kernels
from pytest_drlcompress.policies.network import clip_layer, normalize_layer, squash_layers
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.onnxruntime import OnnxController


def make_policy(kind):
    torch.manual_seed(0)
    low, high = -np.ones(3, np.float32), np.ones(3, np.float32)
    activation = nn.ReLU if kind == "squashed" else nn.Tanh
    body = [nn.Linear(11, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 3)]
    if kind == "squashed":
        layers = [*body, *squash_layers(low, high)]
    elif kind == "rescaled":
        layers = [*body, *squash_layers(low * 0.4, high * 0.4)]
    else:
        front = normalize_layer(np.zeros(11), np.ones(11), epsilon=1e-8, clip=10.0)
        layers = [front, *body, clip_layer(low, high)]
    return Policy("test", ENV, nn.Sequential(*layers).eval())


def make(policy, recipe):
    artifact = compress(
        policy, parse_recipe(recipe), builtin_registry(), Samples(), export_policy(policy)
    )
    return artifact, OnnxController(artifact.model)


KINDS = ("squashed", "rescaled", "normalized")


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_model_is_the_network(kind):
    policy = make_policy(kind)
    _, controller = make(policy, "fp32")
    observations = Samples().sample(64)
    with torch.no_grad():
        expected = policy.network(torch.from_numpy(observations)).numpy()
    np.testing.assert_allclose(controller.act(observations), expected, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["fp32", "ptdq", "ptsq", "ptsq:equalize=true"])
def test_one_observation_gives_what_its_row_gives(kind, recipe):
    _, controller = make(make_policy(kind), recipe)
    observations = Samples().sample(40)
    rows = controller.act(observations)
    for observation, row in zip(observations, rows, strict=True):
        np.testing.assert_array_equal(controller.act_one(observation), row)


@pytest.mark.parametrize("recipe", ["ptdq", "ptsq"])
def test_quantized_weights_are_unsigned_bytes(recipe):
    artifact, _ = make(make_policy("squashed"), recipe)
    graph = onnx.load_from_string(artifact.model).graph
    matrices = [numpy_helper.to_array(t) for t in graph.initializer if len(t.dims) == 2]
    assert [m.dtype for m in matrices] == [np.uint8] * 3
    assert len(artifact.model) < 0.6 * len(make(make_policy("squashed"), "fp32")[0].model)


def test_equalizing_leaves_the_function_and_evens_out_the_observation():
    policy = make_policy("squashed")
    observations = Samples().sample(500)
    _, exact = make(policy, "fp32")
    errors = {}
    for recipe in ("ptsq", "ptsq:equalize=true"):
        artifact, controller = make(policy, recipe)
        errors[recipe] = np.abs(controller.act(observations) - exact.act(observations)).mean()
    assert errors["ptsq:equalize=true"] < 0.8 * errors["ptsq"]
    spans = artifact.provenance["ptsq"]["equalize"]
    assert max(spans["span_after"]) / min(spans["span_after"]) < 0.2 * (
        max(spans["span_before"]) / min(spans["span_before"])
    )


def test_the_policy_itself_is_left_alone():
    policy = make_policy("squashed")
    before = policy.sha256
    del policy.__dict__["sha256"]
    make(policy, "ptsq:equalize=true")
    assert policy.sha256 == before


def test_the_same_recipe_gives_the_same_bytes():
    policy = make_policy("normalized")
    assert make(policy, "ptsq")[0].sha256 == make(policy, "ptsq")[0].sha256


def test_an_onnx_policy_can_be_quantized_but_not_changed():
    model = export_policy(make_policy("squashed")).model
    policy = Policy("file", ENV, model)
    artifact, _ = make(policy, "ptsq")
    assert len(artifact.model) < len(model)
    with pytest.raises(PolicyError, match="is an ONNX file"):
        _ = policy.network


def test_a_model_without_linear_layers_is_refused():
    network = nn.Sequential(nn.Tanh())
    policy = Policy("none", ENV, network)
    with pytest.raises(RecipeError, match="no Gemm, MatMul or Conv"):
        make(policy, "ptdq")


def test_a_saturated_tanh_counts_as_inside_the_action_space():
    policy = make_policy("squashed")
    with torch.no_grad():
        policy.network[4].bias.fill_(8.99)  # where ONNX Runtime's tanh is 1.0000002
        policy.network[4].weight.mul_(0.01)
    actions = make(policy, "fp32")[1].act(Samples().sample(2000))
    assert ENV.action.contains(actions)
    assert not ENV.action.contains(actions * np.float32(1.00001))
    assert not ENV.action.contains(actions * np.float32(np.nan))


def test_a_file_with_unnamed_nodes_is_quantized_all_the_same():
    """ONNX leaves a node's name optional, and ONNX Runtime takes names to say what to quantize."""
    model = onnx.load_from_string(export_policy(make_policy("squashed")).model)
    for node in model.graph.node:
        node.name = ""
    artifact, _ = make(Policy("file", ENV, model.SerializeToString()), "ptsq")
    assert [kernel.precision for kernel in executed_kernels(artifact.model)] == ["int8"] * 3


@pytest.mark.parametrize(
    ("level", "returns", "message"),
    [
        ("network", lambda network: network, "must return a Result with a torch network, not Seq"),
        ("network", lambda _: Result(b""), "must return a torch network, not bytes"),
        ("graph", lambda model: Result(onnx.load_from_string(model)), "ONNX bytes, not ModelProto"),
    ],
)
def test_a_step_that_returns_the_wrong_thing_is_one_clear_error(level, returns, message):
    policy = make_policy("squashed")
    kind = StepKind("own", level, lambda value, step, observations: returns(value), "")
    registry = builtin_registry().with_kinds([kind])
    with pytest.raises(RecipeError, match=f"step 'own': .*{message}"):
        compress(policy, parse_recipe("own"), registry, Samples(), export_policy(policy))


@pytest.mark.parametrize(
    ("recipe", "diagnosis", "suggested"),
    [
        ("ptdq", Diagnosis(1, trainable=True), "ptdq:equalize=true"),
        ("ptsq", Diagnosis(1, trainable=False), "ptsq:equalize=true"),
        ("ptsq", Diagnosis(2, trainable=True), "qat"),
        ("ptsq:equalize=true", Diagnosis(1, trainable=True), "qat"),
        ("ptsq", Diagnosis(2, trainable=False), "ptsq:per_channel=true"),
        ("ptsq:per_channel=true", Diagnosis(2, trainable=False), ""),
    ],
)
def test_what_to_try_in_place_of_post_training_quantization(recipe, diagnosis, suggested):
    registry = builtin_registry()
    (step,) = registry.resolve(parse_recipe(recipe)).steps
    assert registry.kinds[step.name].suggest(step, diagnosis) == suggested
