"""What is written layer by layer is, byte for byte, what torch's exporter makes of the network."""

import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from conftest import ROOT
from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.onnx_graph.export import OPSET, trace_onnx
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.layerwise import LAYERS, NotWrittenError, write_layerwise
from pytest_drlcompress.policies.network import Argmax, Clip, Normalize, Scale
from pytest_drlcompress.policies.store import load_policy
from pytest_drlcompress.runtime.onnxruntime import OnnxController

FLOATS = np.dtype(np.float32)
NETWORKS = {
    "normalized": nn.Sequential(
        Normalize(7, 1.5), nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 9), nn.Tanh(),
        nn.Linear(9, 3), nn.Tanh(), Clip(3),
    ),
    "choosing": nn.Sequential(
        nn.Linear(7, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 5), Argmax()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["normalized", "choosing", "trpo-hopper", "sac-halfcheetah"])
def test_equal_to_torchs_exporter(name):
    network, width = NETWORKS.get(name), 7
    if network is None:
        policy = load_policy(ROOT / "baselines" / name)
        network, (width,) = policy.network, policy.env.spaces[0]
    written = write_layerwise(network, width, OPSET)
    assert written == trace_onnx(network, (width,), FLOATS)
    assert written == export_onnx(network, (width,), FLOATS)


def test_every_known_layer_is_among_them():
    found = {type(module) for network in NETWORKS.values() for module in network}
    assert found == set(LAYERS)


def hooked(layer):
    layer.register_forward_hook(lambda module, given, result: result * 2)
    return layer


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (nn.Sequential(hooked(nn.Linear(3, 2))), "a hook"),
        (hooked(nn.Sequential(nn.Linear(3, 2))), "a hook"),
        (nn.Sequential(Doubled(3, 2)), "a Doubled is not known"),
        (nn.Sequential(nn.Linear(3, 2), Scale(2)), "a Scale is not known at 1"),
        (nn.Sequential(nn.Linear(3, 2), Normalize(2, 5.0)), "a Normalize is not known at 1"),
        (nn.Sequential(nn.Linear(3, 2), Argmax(), nn.ReLU()), "a Argmax is not known at 1"),
        (nn.Sequential(OrderedDict(only=nn.Linear(3, 2))), "names of their own"),
        (nn.Sequential(nn.Tanh(), nn.Linear(3, 3))[1:], "names of their own"),
        (nn.Sequential(*[nn.Linear(3, 3)] * 2), "occurs twice"),
        (nn.Linear(3, 2), "no Sequential"),
        (nn.Sequential(), "no Sequential"),
        (nn.Sequential(nn.Linear(4, 2)), "0.weight is no float32 tensor of shape"),
        (nn.Sequential(nn.Linear(3, 2, bias=False)), "0.bias is no float32 tensor"),
        (nn.Sequential(nn.Linear(3, 2).half()), "0.weight is no float32 tensor"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))),
            "a ParametrizedLinear is not known",
        ),
    ],
)
def test_what_is_not_known_is_left_to_torch(network, why):
    with pytest.raises(NotWrittenError, match=why):
        write_layerwise(network, 3, OPSET)


def test_a_layer_of_the_users_is_traced():
    network, observations = nn.Sequential(Doubled(3, 2)), np.eye(3, dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(observations)).numpy()
    acted = OnnxController(export_onnx(network, (3,), FLOATS)).act(observations)
    assert acted == pytest.approx(expected, abs=1e-6)


def test_observations_of_another_width_are_refused():
    with pytest.raises(PolicyError, match="torch cannot export this network to ONNX"):
        export_onnx(nn.Sequential(nn.Linear(3, 2)), (4,), FLOATS)


def test_a_baseline_is_exported_without_torchs_compiler():
    """Importing it alone takes longer than most gates."""
    code = (
        "import sys; from pathlib import Path; from pytest_drlcompress import *\n"
        "policy = load_policy(Path('baselines/trpo-hopper'))\n"
        "shape, dtype, _ = policy.env.spaces\n"
        "export_onnx(policy.network, shape, dtype)\n"
        "assert not {'torch._dynamo', 'onnxscript'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
