"""How large is an artifact? The published figure, the possible one, the real ones, side by side.

"Up to 400x" (Ivanov et al., section 4) counts nonzero weights at one byte each. A file also holds
where they are, biases, scales and the graph, and no maintained runtime executes a sparse file
sparsely. So the claim, the entropy bound, what lies on disk and what an encoding with its indices
takes are all given, and none is called "the" size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
import zstandard
from numpy.typing import NDArray

from pytest_drlcompress.onnx_graph.weights import (
    LayerWeight,
    constant_tensors,
    layer_weights,
    tensor_bytes,
)

_ZSTD_LEVEL = 19
_GAP_BYTE = 255


@dataclass(frozen=True)
class Size:
    """Sizes of one artifact in bytes.

    ``artifact``: the file. ``initializers``: every constant in it, dense, as a runtime loads it.
    ``nnz_claim``: nonzero weights times the bytes of one weight; no indices, no biases: what
    papers quote. ``entropy_bound``: zero-order entropy of the weights (positions of the nonzero
    ones, then their bytes) plus every other constant as it is; no code for independent weights
    is shorter. ``stripped_zstd``: the file without names and notes, compressed by zstd; still
    ONNX once decompressed. ``encodings``: all constants with the weights dense, as ``bitmask``
    and values, as ``csr``, and as ``delta`` (one byte for each gap); indices included.
    ``weights`` and ``nonzero`` count the weights of linear layers.
    """

    artifact: int
    initializers: int
    nnz_claim: int
    entropy_bound: int
    stripped_zstd: int
    encodings: Mapping[str, int]
    weights: int
    nonzero: int

    @property
    def smallest_encoding(self) -> str:
        """The name of the smallest of ``encodings``; ``dense`` where sparsity does not pay."""
        return min(self.encodings, key=lambda name: self.encodings[name])

    @property
    def sparsity(self) -> float:
        """Share of the linear layers' weights that are zero."""
        return 1 - self.nonzero / self.weights if self.weights else 0.0


def measure_size(model: bytes) -> Size:
    """The sizes of the ONNX file ``model``."""
    proto = onnx.load_from_string(model)
    layers = layer_weights(model)
    initializers = sum(map(tensor_bytes, constant_tensors(proto.graph)))
    others = initializers - sum(layer.stored_bytes for layer in layers)
    entropy = sum(map(_entropy_bits, layers))
    return Size(
        artifact=len(model),
        initializers=initializers,
        nnz_claim=sum(math.ceil(layer.nnz * layer.bits / 8) for layer in layers),
        entropy_bound=others + math.ceil(entropy / 8),
        stripped_zstd=len(zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(strip(model))),
        encodings=MappingProxyType(
            {
                "dense": initializers,
                "bitmask": others + sum(map(_bitmask_bytes, layers)),
                "csr": others + sum(map(_csr_bytes, layers)),
                "delta": others + sum(map(_delta_bytes, layers)),
            }
        ),
        weights=sum(layer.stored.size for layer in layers),
        nonzero=sum(layer.nnz for layer in layers),
    )


def strip(model: bytes) -> bytes:
    """``model`` without what only people read; it computes the same.

    Node names, notes, inferred shapes and metadata go; inner tensors get one or two letters. The
    names of inputs and outputs stay. A model with subgraphs or functions keeps its tensor names,
    which those refer to.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    del graph.value_info[:], graph.metadata_props[:], graph.quantization_annotation[:]
    del proto.metadata_props[:]
    proto.doc_string = proto.producer_name = proto.producer_version = graph.doc_string = ""
    for holder in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        holder.doc_string = ""
        del holder.metadata_props[:]
    for node in graph.node:
        node.name = ""
    nested = any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute)
    if not nested and not proto.functions:
        _shorten(graph)
    return bytes(proto.SerializeToString())


def _shorten(graph: onnx.GraphProto) -> None:
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    short: dict[str, str] = {name: name for name in kept}
    taken = iter(_short_names(kept))
    # initializers that are inputs too are among the kept names
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    for name in (*names, *(tensor.name for tensor in graph.initializer)):
        if name not in short:
            short[name] = next(taken)
    for node in graph.node:
        node.input[:] = [short[name] for name in node.input]
        node.output[:] = [short[name] for name in node.output]
    for tensor in graph.initializer:
        tensor.name = short[tensor.name]


def _short_names(kept: set[str]) -> "Sequence[str]":
    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs = [first + second for first in letters for second in letters]
    longer = [pair + other for pair in pairs for other in pairs]
    return [name for name in (*letters, *pairs, *longer) if name not in kept]


def _entropy_bits(layer: LayerWeight) -> float:
    """Bits of positions and values: for 8-bit weights exactly their zero-order entropy.

    Wider values are taken byte by byte, each byte with its own distribution: the exponents of
    floats are alike, their last digits are not.
    """
    values = layer.stored[layer.nonzero]
    share = len(values) / layer.stored.size
    positions = layer.stored.size * _entropy(np.array([share, 1 - share]))
    planes = np.ascontiguousarray(values).view(np.uint8)
    planes = planes.reshape(len(values), values.dtype.itemsize)
    bits = sum(
        len(values) * _entropy(np.bincount(plane) / max(len(values), 1)) for plane in planes.T
    )
    return positions + bits


def _entropy(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log2(some)).sum())


def _values_bytes(layer: LayerWeight) -> int:
    return math.ceil(layer.nnz * layer.bits / 8)


def _bitmask_bytes(layer: LayerWeight) -> int:
    """One bit a weight, then the nonzero values."""
    return math.ceil(layer.stored.size / 8) + _values_bytes(layer)


def _csr_bytes(layer: LayerWeight) -> int:
    """A row for each output channel: row starts, column indices and values.

    Each kind of index has the fewest whole bytes (1, 2 or 4) that hold its largest number.
    """
    rows = layer.stored.shape[layer.output_axis]
    columns = layer.stored.size // rows
    starts = int(rows + 1) * _index_bytes(layer.nnz)
    return starts + layer.nnz * _index_bytes(columns - 1) + _values_bytes(layer)


def _delta_bytes(layer: LayerWeight) -> int:
    """One byte for the zeros before each nonzero weight; 255 stands for 255 more and no weight."""
    places = np.flatnonzero(layer.nonzero)
    gaps = np.diff(places, prepend=-1) - 1
    return int(len(gaps) + (gaps // _GAP_BYTE).sum()) + _values_bytes(layer)


def _index_bytes(largest: int) -> int:
    return 1 if largest < 2**8 else 2 if largest < 2**16 else 4
