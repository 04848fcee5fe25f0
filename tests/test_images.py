"""Compression of convolutional and residual networks, held to what ONNX Runtime executes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from images import Screens, small_resnet
from onnx import numpy_helper
from torch import nn

from pytest_drlcompress.compression.distillation import loss
from pytest_drlcompress.compression.recipe import parse_recipe
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.compression.step import Result
from pytest_drlcompress.core.errors import PolicyError, RecipeError
from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.measurement.attribution import attribute_error
from pytest_drlcompress.onnx_graph.kernels import executed_kernels
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import build, describe
from pytest_drlcompress.policies.store import load_network, save_network
from pytest_drlcompress.runtime.factory import make_runtime

SHAPE = (4, 20, 20)


def _apply(network: nn.Module, text: str) -> Result:
    registry = builtin_registry()
    (step,) = registry.resolve(parse_recipe(text), images=True).steps
    kind = registry.kinds[step.name]
    value: Any = network
    if kind.level == "graph":
        value = export_onnx(network, SHAPE, np.dtype(np.uint8))
    return kind.apply(value, step, Screens())


def _operators(model: bytes) -> list[str]:
    return [kernel.operator for kernel in executed_kernels(model)]


def test_blocks_are_stored_and_come_back(tmp_path: Path) -> None:
    network = small_resnet()
    save_network(tmp_path, network)
    screens = torch.from_numpy(Screens().sample(64))
    again = load_network(tmp_path)
    assert torch.equal(network(screens), again(screens))
    assert describe(again) == describe(network)
    branch = describe(network)[3]["branch"]
    assert [layer["type"] for layer in branch] == ["relu", "conv2d", "relu", "conv2d"]


def test_an_unknown_layer_in_a_block_is_refused() -> None:
    with pytest.raises(PolicyError, match="unknown type 'pickle'"):
        build([{"type": "residual", "branch": [{"type": "pickle"}]}])
    with pytest.raises(PolicyError, match="cannot be built"):
        build([{"type": "residual"}])


def test_every_layer_runs_in_int8_convolutions_with_a_scale_per_channel() -> None:
    model = _apply(small_resnet(), "ptsq").value
    assert _operators(model) == ["QLinearConv"] * 5 + ["QGemm"] * 2
    scales = {
        tensor.name: numpy_helper.to_array(tensor).shape
        for tensor in onnx.load_from_string(model).graph.initializer
        if tensor.name.endswith("weight_scale")
    }
    assert sorted(scales.values()) == [(), (), *[(8,)] * 5]


def test_a_channel_without_weights_is_quantized_like_the_others() -> None:
    network = small_resnet()
    with torch.no_grad():
        for layer in (network[1], network[3].branch[1]):
            layer.weight[0], layer.bias[0] = 0, 0.3
    quantized = make_runtime().load(_apply(network, "ptsq").value)
    screens = Screens().sample(64)
    wanted = network(torch.from_numpy(screens)).numpy()
    assert np.mean(quantized.act(screens) == wanted) > 0.9


def test_dynamic_quantization_of_convolutions_is_refused() -> None:
    with pytest.raises(RecipeError, match="leave the convolutions in fp32: use ptsq or qat"):
        _apply(small_resnet(), "ptdq")


def test_training_for_int8_keeps_the_kernels_and_helps() -> None:
    result = _apply(small_resnet(), "qat:steps=40,samples=400")
    assert _operators(result.value) == ["QLinearConv"] * 5 + ["QGemm"] * 2
    trained = result.provenance["distillation"]
    assert trained["batch"] == 64
    assert trained["held_out_loss_after"] <= trained["held_out_loss_before"]


def test_channels_leave_through_residual_connections() -> None:
    network = small_resnet()
    result = _apply(network, "l2@50")
    channels = result.provenance["channels"]
    assert channels == {
        name: [8, 4] for name in ("1", "3.branch.1", "3.branch.3", "4.branch.1", "4.branch.3")
    } | {"7": [24, 12]}
    quantized = _apply(result.value, "ptsq").value
    assert _operators(quantized) == ["QLinearConv"] * 5 + ["QGemm"] * 2


def test_sparse_weights_stay_zero_in_int8_and_layers_share_by_erdos_renyi() -> None:
    network = small_resnet()
    result = _apply(network, "sparse@80:steps=30,rounds=1,samples=100")
    weights = [m.weight for m in result.value.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    zeros = sum(int((w == 0).sum()) for w in weights)
    assert zeros == round(0.8 * sum(w.numel() for w in weights))
    # kept of a layer: (n_in + n_out + h + w) / (n_in n_out h w), but for those kept whole
    kept = np.array([float((w != 0).sum()) for w in weights])
    sums = np.array([sum(w.shape) for w in weights])
    full = kept == [w.numel() for w in weights]
    assert (~full).sum() >= 3
    share = (kept / sums)[~full]
    assert share.max() / share.min() < 1.05
    assert all(w.is_contiguous() for w in weights)  # as files and torch's exporter have them
    assert result.observations is not None
    registry = builtin_registry()
    (step,) = registry.resolve(parse_recipe("qat:steps=4,samples=64"), images=True).steps
    model = registry.kinds["qat"].apply(result.value, step, result.observations).value
    stored = [
        numpy_helper.to_array(t).astype(int) - 128
        for t in onnx.load_from_string(model).graph.initializer
        if t.name.endswith("weight_quantized")
    ]
    assert sum(int((codes == 0).sum()) for codes in stored) >= zeros


def test_the_pixels_are_quantized_without_error_and_each_quantizer_is_told() -> None:
    network = small_resnet()
    exact, model = export_onnx(network, SHAPE, np.dtype(np.uint8)), _apply(network, "ptsq").value
    screens = Screens().sample(400) // 2  # darker than a byte can be
    action = ActionSpec((), np.zeros(0, np.float32), np.zeros(0, np.float32), 6)
    found = {str(c): c.error for c in attribute_error(model, exact, screens, action)}
    assert found.pop("observation input (per-tensor scale 0.0039)") == 0
    assert len(found) == 13
    # none of them alone does much more than all together
    runtime = make_runtime()
    together = np.mean(runtime.load(model).act(screens) != runtime.load(exact).act(screens))
    assert max(found.values()) < together + 0.05


@pytest.mark.parametrize("fastest", [torch.bfloat16, torch.float32])
def test_images_are_trained_in_bfloat16_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, fastest: torch.dtype
) -> None:
    monkeypatch.setattr(loss, "fastest_dtype", lambda: fastest)
    layer = nn.Linear(4, 2)
    for observations, expected in (
        (torch.zeros((1, *SHAPE), dtype=torch.uint8), fastest),
        (torch.zeros((1, 4)), torch.float32),
    ):
        with loss.image_precision(observations):
            assert layer(torch.zeros(1, 4)).dtype == expected
    assert layer.weight.dtype == torch.float32


def test_networks_of_images_are_laid_out_for_convolutions_and_act_as_before() -> None:
    network = small_resnet()
    images = torch.from_numpy(Screens().sample(8))
    before = network(images)
    laid_out = loss.image_layout(network, images)
    for layer in (m for m in laid_out.modules() if isinstance(m, nn.Conv2d)):
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(laid_out(images), before)
