"""From a policy's torch network to the bytes of an ONNX model with a free batch dimension."""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from pytest_drlcompress.onnx_graph.export import NO_STATES, OPSET, trace_onnx
from pytest_drlcompress.policies.layerwise import NotWrittenError, write_layerwise


def export_onnx(
    network: nn.Module,
    observation_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    states: Mapping[str, int] = NO_STATES,
) -> bytes:
    """Export ``network``: input ``observation`` (batch, *observation_shape), output ``action``.

    ``states`` are the widths of what it takes and gives back beside, by name: inputs ``h_in``
    (batch, width) and outputs ``h_out`` for ``h``.
    Image policies (``uint8`` observations) take ``uint8``; all others take float32, as SB3 does.
    Linear layers stay whole, so that each becomes one Gemm. A common network of states is written
    layer by layer, in milliseconds; torch's exporter traces all others, in seconds.

    Raises:
        PolicyError: torch cannot export the network.
    """
    flat = len(observation_shape) == 1 and np.dtype(dtype) != np.uint8
    if flat and not states:
        with contextlib.suppress(NotWrittenError):
            return write_layerwise(network, observation_shape[0], OPSET)
    return trace_onnx(network, observation_shape, dtype, states)
