"""Post-training quantization by ONNX Runtime: dynamic (``ptdq``) and static (``ptsq``).

Lu et al., section 2.1. Weights are *unsigned* 8-bit (zero point 128 where symmetric): with
signed weights, processors without VNNI instructions add products of uint8 and int8 pairwise
in saturating 16-bit arithmetic, so the same file would act differently on another machine.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from pytest_drlcompress.compression.quantization.equalize import equalize_observation
from pytest_drlcompress.compression.recipe import Step
from pytest_drlcompress.compression.step import Diagnosis, Observations, Result, StepKind
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.onnx_graph.placement import LINEAR
from pytest_drlcompress.runtime.onnxruntime import make_session
from pytest_drlcompress.runtime.recurrent import feed, one_by_one

_STATIC = (*LINEAR, "MaxPool", "Add", "Relu", "Reshape", "Flatten")
_CALIBRATION_BATCH = 256
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def _ptdq(model: bytes, step: Step, observations: Observations) -> Result:
    provenance: dict[str, Any] = {}
    if step.options["equalize"]:
        model, provenance = _equalized(model, observations, int(step.options["samples"]))
    with tempfile.TemporaryDirectory() as folder:
        prepared, target = _prepare(model, Path(folder))
        graph = onnx.load(prepared).graph
        _refuse_recurrent(graph, _RECURRENT - {"LSTM"}, "", "ptdq")
        if any(node.op_type == "Conv" for node in graph.node):
            # ConvInteger finds each tensor's range at run time and is slower than fp32
            raise RecipeError(
                "ONNX Runtime has no fast convolution with ranges found at run time, so ptdq would"
                " leave the convolutions in fp32: use ptsq or qat"
            )
        quantize_dynamic(
            prepared,
            target,
            weight_type=QuantType.QUInt8,
            per_channel=bool(step.options["per_channel"]),
            op_types_to_quantize=["MatMul", "Gemm", "LSTM"],
        )
        return Result(target.read_bytes(), provenance)


def _ptsq(model: bytes, step: Step, observations: Observations) -> Result:
    samples = int(step.options["samples"])
    provenance: dict[str, Any] = {"calibration": observations.describe(samples)}
    calibration = observations.sample(samples)
    if step.options["equalize"]:
        model, provenance["equalize"] = equalize_observation(model, calibration)
    quantized = quantize_statically(
        model,
        calibration,
        per_channel=bool(step.options["per_channel"]),
        method=str(step.options["method"]),
    )
    return Result(quantized, provenance)


def quantize_statically(
    model: bytes, calibration: NDArray[Any], *, per_channel: bool = False, method: str = "minmax"
) -> bytes:
    """``model`` with 8-bit weights and activations between its first and last linear layer.

    ``calibration`` is ``(count, *observation_shape)``; ``method`` is ``"minmax"`` or
    ``"percentile"``. Convolutions always have a scale per channel.

    Raises:
        RecipeError: there is no layer to quantize.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared, target = _prepare(model, Path(folder))
        graph = onnx.load(prepared).graph
        _refuse_recurrent(graph, _RECURRENT, "ptdq", "ptsq")
        convolutions = [node.input[1] for node in graph.node if node.op_type == "Conv"]
        linear = [node.input[1] for node in graph.node if node.op_type in LINEAR]
        channels = linear if per_channel else convolutions
        weights = {tensor.name: tensor for tensor in graph.initializer}
        quantize_static(
            prepared,
            target,
            _Reader(prepared, calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,
            per_channel=False,
            calibrate_method=_METHODS[method],
            nodes_to_quantize=_between_linear_layers(graph),
            op_types_to_quantize=list(_STATIC),
            extra_options={
                "WeightSymmetric": True,
                # uint8 with zero point 0 after ReLU, 128 elsewhere: anything else keeps the
                # layer before the ReLU in fp32
                "ActivationRestrictedAsymmetric": True,
                "OpTypesToExcludeOutputQuantization": ["Gemm"],
                # a ReLU stays in the file, where the runtime fuses it: without it the graph would
                # mean something else wherever its quantizers are looked at one by one
                "QDQKeepRemovableActivations": True,
                "TensorQuantOverrides": {
                    name: _channel_ranges(weights[name]) for name in channels if name in weights
                }
                | _pixel_range(graph),
            },
        )
        return target.read_bytes()


_METHODS = MappingProxyType(
    {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
)


def _suggest(step: Step, diagnosis: Diagnosis) -> str:
    """Calibrate the observation's dimensions to one range, else train, else spend more scales."""
    if diagnosis.worst_layer == 1 and not step.options["equalize"]:
        return f"{step.name}:equalize=true"
    if diagnosis.trainable:
        return "qat"
    return "" if step.options["per_channel"] else f"{step.name}:per_channel=true"


PTDQ = StepKind(
    "ptdq",
    "graph",
    _ptdq,
    "post-training dynamic quantization: 8-bit weights, activations quantized at run time",
    options={"per_channel": False, "equalize": False, "samples": 2048},
    quantizes=True,
    suggest=_suggest,
)
PTSQ = StepKind(
    "ptsq",
    "graph",
    _ptsq,
    "post-training static quantization: 8-bit weights and activations, calibrated ranges",
    options={"per_channel": False, "equalize": False, "samples": 2048, "method": "minmax"},
    choices={"method": tuple(_METHODS)},
    quantizes=True,
    suggest=_suggest,
)


def _channel_ranges(tensor: onnx.TensorProto) -> list[dict[str, Any]]:
    """A scale for each channel; that of a channel without weights is as large as the others'.

    ONNX Runtime would give such a channel a zero point of its own, and its convolution takes one
    for all.
    """
    values = numpy_helper.to_array(tensor)
    spans = np.abs(values.reshape(len(values), -1)).max(1)
    if spans.all():
        return [{"axis": 0}]
    spans[spans == 0] = spans[spans > 0].mean() if spans.any() else 1
    return [{"axis": 0, "rmin": -float(span), "rmax": float(span)} for span in spans]


def _pixel_range(graph: onnx.GraphProto) -> dict[str, list[dict[str, Any]]]:
    """The range of pixels divided by 255, whatever was seen: a step of 1/255 rounds none."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    bytes_in = graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    return {
        node.output[0]: [{"rmin": np.float32(0), "rmax": np.float32(1)}]
        for node in graph.node
        if bytes_in and node.op_type == "Div" and np.all(constants.get(node.input[1]) == 255)
    }


def _refuse_recurrent(
    graph: onnx.GraphProto, operators: frozenset[str], other: str, name: str
) -> None:
    """Refuse ``operators``, which ``name`` would leave in fp32; ``other`` is what could do it."""
    found = sorted({node.op_type for node in graph.node} & operators)
    if not found:
        return
    kernel = f"ONNX Runtime has no integer kernel for {' and '.join(found)} in {name}"
    lstm_only = other and found == ["LSTM"]
    raise RecipeError(
        f"{kernel}, which would leave it in fp32: "
        + (f"use {other}" if lstm_only else "export it as single steps (LSTMCell, GRUCell)")
    )


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Feeds equal batches: the histogram calibrators fail on a ragged last one."""

    def __init__(self, model: Path, observations: NDArray[Any]) -> None:
        inputs = make_session(model.read_bytes()).get_inputs()
        fixed = isinstance(rows := inputs[0].shape[0], int) or one_by_one(inputs)
        batch = (rows if isinstance(rows, int) else 1) if fixed else _CALIBRATION_BATCH
        batch = min(batch, len(observations))
        whole = len(observations) // batch * batch
        batches = observations[:whole].reshape(-1, batch, *observations.shape[1:])
        self._feeds: Iterator[dict[str, NDArray[Any]]] = (feed(inputs, rows) for rows in batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def _equalized(
    model: bytes, observations: Observations, samples: int
) -> tuple[bytes, dict[str, Any]]:
    equalized, scales = equalize_observation(model, observations.sample(samples))
    return equalized, {"calibration": observations.describe(samples), "equalize": scales}


def _prepare(model: bytes, folder: Path) -> tuple[Path, Path]:
    source, prepared, target = (folder / f"{name}.onnx" for name in ("source", "pre", "quantized"))
    source.write_bytes(model)
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    proto = onnx.load(prepared)
    if not any(node.op_type in LINEAR for node in proto.graph.node):
        raise RecipeError("this model has no Gemm, MatMul or Conv node that could be quantized")
    # shapes inferred before Gemm becomes MatMul + Add contradict the ones inferred after
    # (microsoft/onnxruntime#25890)
    del proto.graph.value_info[:]
    for position, node in enumerate(proto.graph.node):
        node.name = node.name or f"node_{position}"  # what is to be quantized is said by name
    onnx.save(proto, prepared)
    return prepared, target


def _between_linear_layers(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes from the first to the last linear layer.

    Normalisation before and squashing, rescaling or clipping after them stay in fp32: they cost
    next to nothing and the action's last digits are made there. So do the sums of a recurrent cell:
    what it remembers would be rounded in every step.
    """
    linear = [i for i, node in enumerate(graph.node) if node.op_type in LINEAR]
    inside = graph.node[linear[0] : linear[-1] + 1]
    recurrent = len(graph.output) > 1
    wanted = [kind for kind in _STATIC if not (kind == "Add" and recurrent)]
    return [node.name for node in inside if node.op_type in wanted]
