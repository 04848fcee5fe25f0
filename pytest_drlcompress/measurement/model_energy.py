"""An *estimate* of the energy of one inference from counts of operations: no measurement.

Energies of 45 nm circuits (Horowitz, "Computing's energy problem", ISSCC 2014, as tabulated by Han
et al., "EIE", ISCA 2016). It ranks models of one kind; it knows nothing of the processor, the
runtime or the call overhead at hand, and no budget in joules is ever held against it.
"""

import math
from dataclasses import dataclass

import onnx

from pytest_drlcompress.measurement.activations import tensor_sizes
from pytest_drlcompress.onnx_graph.kernels import executed_kernels
from pytest_drlcompress.onnx_graph.weights import layer_weights

FP32_MAC_PJ = 3.7 + 0.9
INT8_MAC_PJ = 0.2 + 0.1
"""An 8-bit product added to a 32-bit sum."""

SRAM_PJ_PER_BYTE = 5 / 4
DRAM_PJ_PER_BYTE = 640 / 4


@dataclass(frozen=True)
class ModelEnergy:
    """Estimated microjoules of one inference and what they are made of.

    ``on_chip_uj``: arithmetic, and each weight read once from on-chip memory. ``dram_uj``: the
    same with weights read from DRAM.
    """

    fp32_macs: int
    int8_macs: int
    weight_bytes: int
    on_chip_uj: float
    dram_uj: float


def estimate_energy(model: bytes) -> ModelEnergy:
    """The estimate for ``model`` as ONNX Runtime executes it: every weight, zero or not.

    Raises:
        ArtifactError: ONNX Runtime cannot load or run the model.
    """
    outputs = {
        node.name or node.output[0]: node.output[0]
        for node in onnx.load_from_string(model).graph.node
    }
    sizes = tensor_sizes(model)
    precision = {kernel.node: kernel.precision for kernel in executed_kernels(model)}
    macs = {"fp32": 0, "int8": 0}
    weight_bytes = 0
    for layer in layer_weights(model):
        shape, _ = sizes[outputs[layer.node]]
        channels = layer.stored.shape[layer.output_axis]
        # a convolution uses its weights at every position of its output
        positions = math.prod(shape) // channels
        stored_as = "fp32" if layer.stored.dtype.kind == "f" else "int8"
        macs[precision.get(layer.node, stored_as)] += int(layer.stored.size) * positions
        weight_bytes += layer.stored_bytes
    arithmetic = macs["fp32"] * FP32_MAC_PJ + macs["int8"] * INT8_MAC_PJ
    return ModelEnergy(
        fp32_macs=macs["fp32"],
        int8_macs=macs["int8"],
        weight_bytes=weight_bytes,
        on_chip_uj=(arithmetic + weight_bytes * SRAM_PJ_PER_BYTE) * 1e-6,
        dram_uj=(arithmetic + weight_bytes * DRAM_PJ_PER_BYTE) * 1e-6,
    )
