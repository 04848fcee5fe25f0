"""From a torch network to the bytes of an ONNX model, by torch's exporter."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from pytest_drlcompress.core.errors import PolicyError

NO_STATES: Mapping[str, int] = MappingProxyType({})
OPSET = 21
"""The first opset with 4-bit integer types."""


def trace_onnx(
    network: nn.Module,
    observation_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    states: Mapping[str, int] = NO_STATES,
) -> bytes:
    """``export_onnx`` of any network, by torch's exporter.

    Tensors bear the names of the values of ``export_program``.

    Raises:
        PolicyError: torch cannot export the network.
    """
    program, examples = export_program(network, observation_shape, dtype, tuple(states.values()))
    return export_exported(
        program,
        examples,
        inputs=["observation", *(f"{name}_in" for name in states)],
        outputs=["action", *(f"{name}_out" for name in states)],
    )


def export_exported(
    program: torch.export.ExportedProgram,
    examples: tuple[torch.Tensor, ...] = (),
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str],
) -> bytes:
    """A program of ``torch.export`` as ONNX, with these names of its inputs and outputs.

    Raises:
        PolicyError: torch cannot export it.
    """
    with _quiet():
        try:
            exported = torch.onnx.export(
                program,
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                verbose=False,
            )
        except Exception as error:  # the exporter wraps whatever went wrong
            raise _refusal(error) from error
    assert exported is not None
    model = exported.model_proto
    # what the exporter notes about its sources is half of a small policy's bytes
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
        dimensions = value.type.tensor_type.shape.dim
        if len(dimensions) and dimensions[0].dim_param:
            dimensions[0].dim_param = "batch"
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def export_program(
    network: nn.Module,
    observation_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    widths: Sequence[int] = (),
) -> tuple[torch.export.ExportedProgram, tuple[torch.Tensor, ...]]:
    """The exported program behind ``trace_onnx`` and its example inputs.

    Raises:
        PolicyError: torch cannot trace the network.
    """
    kind = torch.uint8 if np.dtype(dtype) == np.uint8 else torch.float32
    # two rows: torch specialises a dynamic dimension that is 1 in the example
    examples = (
        torch.zeros((2, *observation_shape), dtype=kind),
        *(torch.zeros((2, width)) for width in widths),
    )
    batch = {0: torch.export.Dim("batch")}
    dynamic = (batch, (batch,) * len(widths)) if widths else (batch,)
    with _quiet():
        try:
            program = decomposed(
                torch.export.export(network.eval(), examples, dynamic_shapes=dynamic)
            )
        except Exception as error:  # user modules fail in any way
            raise _refusal(error) from error
    return program, examples


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """``program`` in few operators, linear layers whole."""
    decompositions = torch.export.default_decompositions()
    decompositions.pop(torch.ops.aten.linear.default, None)  # type: ignore[no-untyped-call]
    lowered: torch.export.ExportedProgram = program.run_decompositions(decompositions)
    return lowered


def _refusal(error: Exception) -> PolicyError:
    text = " ".join(str(error).split())[:400]
    return PolicyError(f"torch cannot export this network to ONNX: {text}")


@contextlib.contextmanager
def _quiet() -> Any:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    # torch writes its tracing records at DEBUG, and pytest would show them all with a failure
    trace = logging.getLogger("torch.__trace")
    disabled, trace.disabled = trace.disabled, True
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        trace.disabled = disabled
