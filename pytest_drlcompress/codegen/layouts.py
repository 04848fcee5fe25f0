"""How the weights of a layer stand in memory: dense, by row (CSR), in blocks of rows, in tiles.

Every index has the fewest whole bytes that hold its largest value. ``"small"`` takes the layout
with the fewest bytes in all, ``"fast"`` the one that compilers make the fastest code of, and
``"vector"`` the same with tiles, which pay where there are instructions for them (AVX2, AVX-512
VNNI). Integer sums are the same in all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.codegen.program import Linear
from pytest_drlcompress.core.errors import CodeGenerationError

Layout = Literal["dense", "csr", "block", "tile"]
Choice = Literal["dense", "csr", "block", "tile", "small", "fast", "vector"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
BLOCK_ROWS = 8
"""Rows of a block: one index for so many weights of one column."""

TILE_ROWS = 16
TILE_COLUMNS = 4
"""A tile of integers is what one instruction for vectors of 64 bytes multiplies by four codes."""

_COMPACT: tuple[Layout, ...] = ("dense", "csr", "block")
_FEW = 0.05
_INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True, eq=False)
class Table:
    """A constant array of the C file: ``values`` has its C type as dtype."""

    name: str
    values: NDArray[Any]
    role: str

    @property
    def ctype(self) -> str:
        """The element type in C."""
        return "float" if self.values.dtype == np.float32 else f"{self.values.dtype}_t"

    @property
    def nbytes(self) -> int:
        """Bytes in flash."""
        return int(self.values.nbytes)


@dataclass(frozen=True, eq=False)
class LayerTables:
    """The tables of one layer: ``tables`` by role (``weight``, ``bias``, ``count``, ``column``)."""

    layout: Layout
    tables: dict[str, Table]

    @property
    def nbytes(self) -> int:
        """Bytes in flash."""
        return sum(table.nbytes for table in self.tables.values())


def smallest(values: NDArray[Any]) -> NDArray[Any]:
    """``values`` (integers) in the smallest type that holds them."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in _INTEGERS:
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return values.astype(dtype)
    raise CodeGenerationError(f"weights or biases of {low} to {high} do not fit 32 bits")


def _typed(values: NDArray[Any], *, wide: bool) -> NDArray[Any]:
    narrow = smallest(values)
    return narrow.astype(np.int32) if wide else narrow


def encode(
    layer: Linear, number: int, layout: Choice, *, unsigned_codes: bool = False
) -> LayerTables:
    """The tables of layer ``number``; a convolution is always dense.

    Tiles need weights of 8 bits and ``unsigned_codes`` for inputs, and are dense without.
    """
    if layer.window is not None:
        return _encode(layer, number, "dense")
    if layout == "fast" or layout == "vector":  # noqa: PLR1714  # mypy narrows only this
        layout = _fastest(layer, tiles=layout == "vector")
    if layout == "tile" and not (unsigned_codes and _fits_tiles(layer)):
        layout = "dense"
    if layout != "small":
        return _encode(layer, number, layout)
    return min((_encode(layer, number, each) for each in _COMPACT), key=lambda t: t.nbytes)


def _fits_tiles(layer: Linear) -> bool:
    return layer.integer and smallest(layer.weight).dtype == np.int8


def _fastest(layer: Linear, *, tiles: bool) -> Layout:
    """Vectors of products beat skipping zeros until few weights are left.

    Sums of floats keep their order, so only those of several rows can be vectors.
    """
    if np.count_nonzero(layer.weight) < _FEW * layer.weight.size:
        return "csr"
    if not layer.integer:
        return "block"
    return "tile" if tiles and len(layer.weight) >= TILE_ROWS else "dense"


def _encode(layer: Linear, number: int, layout: Layout) -> LayerTables:
    makers = {"dense": _dense, "csr": _csr, "block": _block, "tile": _tile}
    arrays = {"bias": folded_bias(layer), **makers[layout](layer.weight)}
    if layout == "tile":
        # whole vectors of sums start from it
        arrays["bias"] = np.pad(smallest(arrays["bias"]), (0, -len(layer.bias) % TILE_ROWS))
    names = {"weight": "weights", "bias": "biases", "count": "counts", "column": "columns"}
    tables = {
        role: Table(
            f"{names[role]}{number}",
            values
            if values.dtype == np.float32
            else _typed(values, wide=layout == "tile" and role == "bias"),
            role,
        )
        for role, values in arrays.items()
    }
    return LayerTables(layout, tables)


def folded_bias(layer: Linear) -> NDArray[Any]:
    """The bias with the input's zero point accounted for, so that codes multiply as they are.

    Where a convolution pads, the border's inputs count as zero: its zero point is not folded in.
    """
    if not layer.integer or subtracts_zero_point(layer):
        return layer.bias
    units = len(layer.weight)
    return np.asarray(layer.bias - layer.zero_point * layer.weight.reshape(units, -1).sum(1))


def subtracts_zero_point(layer: Linear) -> bool:
    """Whether the zero point is taken off each input instead."""
    return layer.window is not None and any(layer.window.padding) and layer.zero_point != 0


def _dense(weight: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"weight": weight.reshape(len(weight), -1)}


def _csr(weight: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return _live([weight[row : row + 1] for row in range(len(weight))])


def _block(weight: NDArray[Any]) -> dict[str, NDArray[Any]]:
    missing = -len(weight) % BLOCK_ROWS
    padded = np.concatenate([weight, np.zeros((missing, weight.shape[1]), weight.dtype)])
    return _live(list(padded.reshape(-1, BLOCK_ROWS, weight.shape[1])))


def _tile(weight: NDArray[Any]) -> dict[str, NDArray[Any]]:
    rows, columns = -len(weight) % TILE_ROWS, -weight.shape[1] % TILE_COLUMNS
    padded = np.pad(weight, ((0, rows), (0, columns)))
    tiles = padded.reshape(-1, TILE_ROWS, padded.shape[1] // TILE_COLUMNS, TILE_COLUMNS)
    return {"weight": np.ascontiguousarray(tiles.transpose(0, 2, 1, 3))}


def _live(groups: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Of each group of rows the columns that are not all zero, their values column by column."""
    columns = [np.flatnonzero((group != 0).any(0)) for group in groups]
    values = [group[:, live].T.ravel() for group, live in zip(groups, columns, strict=True)]
    return {
        "count": np.array([len(live) for live in columns]),
        "column": np.concatenate(columns),
        "weight": np.concatenate(values),
    }
