"""ONNX files as policies."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from policy_loading import CARTPOLE, PENDULUM, load, refusal

from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.runtime.onnxruntime import OnnxController


def gemm(
    path: Path,
    weight: Any,
    *,
    post: str = "Tanh",
    batch: int | str = "batch",
    external: str = "",
) -> Path:
    """A model of one linear layer and ``post`` at ``path``."""
    matrix = np.asarray(weight, np.float32)
    attributes = {"axis": 1, "keepdims": 0} if post == "ArgMax" else {}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node(post, ["h"], ["y"], **attributes),
        ],
        "policy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, matrix.shape[0]])],
        [
            helper.make_tensor_value_info(
                "y", TensorProto.INT64 if post == "ArgMax" else TensorProto.FLOAT, None
            )
        ],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def test_onnx_policy(tmp_path: Path) -> None:
    path = gemm(tmp_path / "My.onnx", [[1], [2], [3]])
    policy = load(path)
    assert (policy.id, policy.algorithm, policy.env) == ("my", "", PENDULUM)
    assert policy.source == path.read_bytes()
    discrete = load(gemm(tmp_path / "argmax.onnx", np.eye(4, 2), post="ArgMax"), CARTPOLE)
    assert isinstance(discrete.source, bytes)


def test_onnx_with_weights_beside_it(tmp_path: Path) -> None:
    weight = np.arange(3, dtype=np.float32).reshape(3, 1) / 10
    path = gemm(tmp_path / "model.onnx", weight, external="weights.bin")
    assert (tmp_path / "weights.bin").exists()
    policy = load(path)
    assert isinstance(policy.source, bytes)
    (tmp_path / "weights.bin").unlink()
    row = np.array([[1, 2, 3]], np.float32)
    got = OnnxController(policy.source).act(row)
    np.testing.assert_allclose(got, np.tanh(row @ weight), atol=1e-6)
    assert "weights beside it cannot be read" in refusal(path)


def test_onnx_that_cannot_be_read(tmp_path: Path) -> None:
    path = gemm(tmp_path / "model.onnx", np.zeros((3, 1)))
    raw = path.read_bytes()
    for content in (b"", b"hello", raw[:-9]):
        path.write_bytes(content)
        assert str(path) in refusal(path)


@pytest.mark.parametrize(
    ("shape", "post", "env", "message"),
    [
        ((4, 1), "Tanh", PENDULUM, r"observations of shape (4,); environment 'Pendulum-v1' gives"),
        ((3, 2), "Tanh", PENDULUM, "float32 of shape (1, 2); the action space"),
        ((4, 2), "Tanh", CARTPOLE, "end it with ArgMax"),
        ((3, 1), "Cosh", EnvSpec.parse("InvertedPendulum-v5"), "observations of shape (3,)"),
    ],
)
def test_onnx_that_does_not_fit(
    shape: tuple[int, int], post: str, env: EnvSpec, message: str, tmp_path: Path
) -> None:
    assert message in refusal(gemm(tmp_path / "m.onnx", np.zeros(shape), post=post), env)


def test_onnx_outside_the_action_space(tmp_path: Path) -> None:
    # log 0 is minus infinity
    path = gemm(tmp_path / "m.onnx", np.zeros((3, 1)), post="Log")
    assert "leaves the action space" in refusal(path)
