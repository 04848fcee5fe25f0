"""ONNX Runtime's own QuantizeLinear and DequantizeLinear, node by node."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_drlcompress.testing.grid import Grid, MakeQuantizer, fail, show, worst

# Beyond this many scales ONNX Runtime (1.31, CPU) itself leaves the definition: its kernels for
# 2 and 4 bits, and for blocks along any but the last axis, pass through int32 and wrap.
_LARGEST_QUOTIENT = 2.0**30


def onnxruntime_quantize(
    x: NDArray[np.float32],
    scale: ArrayLike,
    zero_point: ArrayLike,
    kind: str,
    *,
    axis: int | None = None,
    group: int | None = None,
) -> NDArray[Any]:
    """QuantizeLinear to ``kind`` (``"int8"``, ``"uint8"``, ``"int4"``, ``"uint4"``, ``"int2"``,
    ``"uint2"``), returned as int8 or uint8. Shapes of scale and zero point are ONNX's.

    Raises:
        ArtifactError: ONNX Runtime has no such kernel.
    """  # fmt: skip
    values = np.asarray(x, np.float32)
    return _run("QuantizeLinear", values, scale, zero_point, kind, axis=axis, block_size=group)


def onnxruntime_dequantize(
    q: NDArray[Any],
    scale: ArrayLike,
    zero_point: ArrayLike,
    kind: str,
    *,
    axis: int | None = None,
    group: int | None = None,
) -> NDArray[Any]:
    """DequantizeLinear from ``kind``: float32; the rest as ``onnxruntime_quantize``."""
    codes = np.asarray(q, _carrier(kind))
    return _run("DequantizeLinear", codes, scale, zero_point, kind, axis=axis, block_size=group)


def check_onnxruntime_agreement(make: MakeQuantizer, x: NDArray[np.float32]) -> None:
    """Integers and values are those of ONNX Runtime's nodes, to the last bit.

    Integer ranges that no ONNX type has ([-127, 127], 3 bits) are compared after clipping the
    runtime's integers to them, which is the same. Values up to 2**30 scales from zero.
    """
    name = "check_onnxruntime_agreement"
    quantizer = make(x)
    grid = Grid.of(name, quantizer, x.shape)
    if grid.qmin < 0:
        kind = "int4" if grid.qmin >= -8 and grid.qmax <= 7 else "int8"
    else:
        kind = "uint4" if grid.qmax <= 15 else "uint8"
    with np.errstate(over="ignore"):
        probes = [
            np.where(np.abs(p / grid.scale) < _LARGEST_QUOTIENT, p, 0) for p in grid.probes(x)
        ]
    values = np.stack(probes).astype(np.float32)
    q = np.stack([np.asarray(quantizer.quantize(probe)) for probe in values])
    back = np.stack([np.asarray(quantizer.dequantize(codes), np.float32) for codes in q])
    # One kernel for a single scale, one for a vector of them: any pattern of scales is a vector
    # with one for each element, the probes of that element being a row.
    single = np.size(quantizer.scale) == 1 and np.size(quantizer.zero_point) == 1
    scale, zero_point = grid.scale.ravel(), grid.zero_point.ravel()
    axis = None if single else 0
    if single:
        scale, zero_point = scale[0], zero_point[0]
    flat, flat_q = values.reshape(len(values), -1).T, q.reshape(len(q), -1).T
    theirs = onnxruntime_quantize(flat, scale, zero_point, kind, axis=axis).T.reshape(q.shape)
    theirs = np.clip(theirs.astype(int), grid.qmin, grid.qmax)
    why = "the deployed model would compute something else than what was tested here"
    if (q != theirs).any():
        index, _ = worst(np.abs(q.astype(np.float64) - theirs))
        here = index[1:]
        fail(
            name,
            f"{show(values[index])} (at {list(here)}, scale {show(grid.scale[here])}, zero point"
            f" {grid.zero_point[here]:.0f}) became {q[index]}, in ONNX Runtime"
            f" {theirs[index]}",
            why,
        )
    runtime = onnxruntime_dequantize(flat_q, scale, zero_point, kind, axis=axis).T.reshape(q.shape)
    differs = np.ascontiguousarray(runtime).view(np.uint32) != back.view(np.uint32)
    if differs.any():
        index, _ = worst(differs.astype(np.float64))
        fail(
            name,
            f"the integer {q[index]} stands for {show(back[index])}, in ONNX Runtime for"
            f" {show(runtime[index])}",
            why,
        )


def _run(
    operator: str,
    data: NDArray[Any],
    scale: ArrayLike,
    zero_point: ArrayLike,
    kind: str,
    **where: int | None,
) -> NDArray[Any]:
    from onnx import TensorProto, helper

    from pytest_drlcompress.runtime.onnxruntime import make_session

    integer = getattr(TensorProto, kind.upper())
    carrier = TensorProto.UINT8 if kind.startswith("u") else TensorProto.INT8
    source, sink = TensorProto.FLOAT, integer
    if operator == "DequantizeLinear":
        source, sink = sink, source
    # NumPy has no type below 8 bits: such integers enter and leave through Cast.
    outside = {integer: carrier, TensorProto.FLOAT: TensorProto.FLOAT}
    node = helper.make_node(operator, ["d", "scale", "z"], ["r"])
    node.attribute.extend(
        helper.make_attribute(name, value) for name, value in where.items() if value is not None
    )
    nodes = [
        helper.make_node("Cast", ["zero_point"], ["z"], to=integer),
        helper.make_node("Cast", ["data"], ["d"], to=source),
        node,
        helper.make_node("Cast", ["r"], ["result"], to=outside[sink]),
    ]
    feed = {
        "data": np.asarray(data, order="C"),
        "scale": np.asarray(scale, np.float32),
        "zero_point": np.asarray(zero_point).astype(_carrier(kind)),
    }
    types = {"data": outside[source], "scale": TensorProto.FLOAT, "zero_point": carrier}
    inputs = [
        helper.make_tensor_value_info(name, types[name], [None] * values.ndim)
        for name, values in feed.items()
    ]
    output = helper.make_tensor_value_info("result", outside[sink], [None] * data.ndim)
    model = helper.make_model(
        helper.make_graph(nodes, operator, inputs, [output]),
        opset_imports=[helper.make_opsetid("", 25 if kind.endswith("2") else 21)],
        ir_version=10,
    )
    return np.asarray(make_session(model.SerializeToString()).run(None, feed)[0])


def _carrier(kind: str) -> type[np.integer[Any]]:
    return np.uint8 if kind.startswith("u") else np.int8
