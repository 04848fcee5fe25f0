"""A small ONNX policy to damage."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def small_model(*, loop: int = 0) -> onnx.ModelProto:
    """A policy of Pendulum; with ``loop`` the last step is done that often."""
    generator = np.random.default_rng(0)
    first, second = (generator.normal(size=s).astype(np.float32) for s in ((3, 8), (8, 1)))
    nodes = [
        helper.make_node("MatMul", ["observation", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["t"]),
        helper.make_node("Tanh", ["t"], ["action" if not loop else "a"]),
    ]
    tensors = [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")]
    if loop:
        value, condition, number = (
            helper.make_tensor_value_info(n, kind, shape)
            for n, kind, shape in (
                ("v", TensorProto.FLOAT, None), ("c", TensorProto.BOOL, []),
                ("i", TensorProto.INT64, []),
            )
        )  # fmt: skip
        outputs = [
            helper.make_tensor_value_info("co", TensorProto.BOOL, []),
            helper.make_tensor_value_info("vo", TensorProto.FLOAT, None),
        ]
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["co"]), helper.make_node("Tanh", ["v"], ["vo"])],
            "body", [number, condition, value], outputs,
        )  # fmt: skip
        nodes.append(helper.make_node("Loop", ["n", "", "a"], ["action"], body=body))
        tensors.append(numpy_helper.from_array(np.array(loop, np.int64), "n"))
    graph = helper.make_graph(
        nodes, "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 1])],
        tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
