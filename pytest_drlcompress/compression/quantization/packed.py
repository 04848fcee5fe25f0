"""Weights of 4 or 2 bits, packed: ONNX Runtime's ``MatMulNBits`` reads them as they are stored.

ONNX Runtime turns an INT4 weight behind a ``DequantizeLinear`` into this operator only where no
ReLU follows and the input is not quantized; elsewhere it unpacks the whole matrix at every
inference (1.31). So the operator is written out. It multiplies in fp32: what it computes does
not depend on the processor.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.onnx_graph.placement import LINEAR

_DOMAIN = "com.microsoft"
_BLOCKS = (16, 32, 64, 128, 256)
"""Inputs that share one scale; the operator knows these."""

_FP32_ACTIVATIONS = 1
"""``accuracy_level``: 4 would let the processor decide whether activations become int8."""


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """``scale * (codes - 2 ** (bits - 1))``: ``codes`` ``(outputs, inputs)``, ``scale`` ``()``."""

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]


def write_packed(
    model: bytes,
    weights: Mapping[str, PackedWeight],
    biases: Mapping[str, NDArray[np.float32]],
    bits: int,
) -> bytes:
    """``model`` with each linear layer replaced; weights and biases by the name of the tensor.

    Raises:
        RecipeError: a layer that is no matrix product, such as a convolution.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    for node in graph.node:
        if node.op_type not in LINEAR:
            continue
        if node.op_type != "Gemm" or node.input[1] not in weights:
            raise RecipeError(
                f"layer {node.name!r} is a {node.op_type}: only fully connected layers can be"
                " packed; leave storage=packed out"
            )
        weight = weights[node.input[1]]
        outputs, inputs = weight.codes.shape
        block = next((size for size in _BLOCKS if size >= inputs), _BLOCKS[-1])
        rows = pack(weight.codes, bits, block)
        arrays: dict[str, NDArray[Any]] = {
            f"{node.input[1]}_packed": rows,
            f"{node.input[1]}_scales": np.full(rows.shape[:2], weight.scale, np.float32).ravel(),
        }
        names = [node.input[0], *arrays]
        if len(node.input) > 2:
            arrays[node.input[2]] = biases[node.input[2]]
            names += ["", "", node.input[2]]
        gone = {*node.input[1:], *arrays}
        kept = [tensor for tensor in graph.initializer if tensor.name not in gone]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits", names, node.output, node.name, domain=_DOMAIN, K=inputs,
                N=outputs, bits=bits, block_size=block, accuracy_level=_FP32_ACTIVATIONS,
            )
        )  # fmt: skip
    if not any(entry.domain == _DOMAIN for entry in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return bytes(proto.SerializeToString())


def pack(codes: NDArray[Any], bits: int, block: int) -> NDArray[np.uint8]:
    """``codes`` ``(outputs, inputs)`` as ``(outputs, blocks, block * bits // 8)`` bytes.

    The first code of a byte is in its lowest bits. What fills the last block is the middle code,
    which stands for zero.
    """
    outputs, inputs = codes.shape
    blocks, share = math.ceil(inputs / block), 8 // bits
    padded = np.full((outputs, blocks * block), 2 ** (bits - 1), np.uint8)
    padded[:, :inputs] = codes
    parts = padded.reshape(outputs, blocks, block // share, share)
    # the codes of a byte do not overlap: their sum is their union
    shifted = parts << (bits * np.arange(share, dtype=np.uint8))
    return np.asarray(shifted.sum(axis=-1, dtype=np.uint8))
