"""Activation bytes computed from the graph are those that ONNX Runtime's arena hands out."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from pytest_drlcompress.compression.quantization.post_training import quantize_statically
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.measurement.activations import live_activation_bytes, peak_activation_bytes
from pytest_drlcompress.policies.export import export_onnx
from tests.samples import Samples

FLOAT = np.dtype(np.float32)


def arena_bytes(model, folder):
    """What ONNX Runtime's own profile says the arena holds after each node, weights aside."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False  # one block for everything hides what lives when
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    session.run(None, {source.name: np.zeros([1, *source.shape[1:]], np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    steps = [e["args"] for e in events if e.get("cat") == "Node"]
    if "mem_bytes_requested_in_use" not in steps[0]:
        pytest.skip("this ONNX Runtime's profile says nothing of its arena")
    in_use = [int(step["mem_bytes_requested_in_use"]) for step in steps]
    before = in_use[0] - int(steps[0]["mem_requested_in_use_delta"])
    return [count - before for count in in_use]


class Residual(nn.Module):
    """A skip connection: its buffer must outlive the layers it skips."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(11, 64), nn.Linear(64, 64)
        self.last = nn.Linear(64, 3)

    def forward(self, x):
        kept = torch.relu(self.first(x))
        return torch.tanh(self.last(torch.sigmoid(self.second(kept)) + kept))


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(11, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3), nn.Tanh()
    )


@pytest.mark.parametrize("recipe", ["fp32", "ptdq", "ptsq", "ptsq:equalize=true"])
def test_every_node_has_what_the_arena_gives_it(recipe, exporter, tmp_path):
    model = export_onnx(mlp(), (11,), FLOAT)
    if recipe != "fp32":
        registry = builtin_registry()
        (step,) = registry.resolve(parse_recipe(recipe)).steps
        model = registry.kinds[step.name].apply(model, step, Samples()).value
    compare(model, 44, arena_bytes(model, tmp_path))


def test_a_skip_connection_keeps_its_buffer(exporter, tmp_path):
    model = export_onnx(Residual(), (11,), FLOAT)
    arena = arena_bytes(model, tmp_path)
    compare(model, 44, arena)
    assert max(arena) == 3 * 256


@pytest.mark.parametrize("quantize", [False, True])
def test_images(quantize, exporter, tmp_path):
    network = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 2),
    )  # fmt: skip
    model = export_onnx(network, (2, 8, 8), FLOAT)
    if quantize:
        samples = np.random.default_rng(0).normal(size=(16, 2, 8, 8)).astype(np.float32)
        model = quantize_statically(model, samples)
    compare(model, 4 * 2 * 8 * 8, arena_bytes(model, tmp_path))
    peak = peak_activation_bytes(model)
    # 8 x 6 x 6 after the first convolution beside its input or its successor
    assert peak == (4 * (128 + 288) if not quantize else 4 * 128 + 128)


def compare(model, observation, arena):
    live = live_activation_bytes(model)
    # the observation lies in the caller's buffer; the first node is its only user
    assert [live[0] - observation, *live[1:]] == arena
    assert peak_activation_bytes(model) == max(live)
