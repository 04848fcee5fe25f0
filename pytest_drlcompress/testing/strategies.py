"""hypothesis strategies: float32 arrays of the kinds on which quantizers go wrong."""

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.random import Generator
from numpy.typing import NDArray

Float = NDArray[np.float32]
Shape = tuple[int, ...]


def _normal(rng: Generator, shape: Shape) -> Float:
    return rng.standard_normal(shape).astype(np.float32)


def _uniform(rng: Generator, shape: Shape) -> Float:
    low, high = np.sort(rng.uniform(-1, 1, 2))
    return rng.uniform(low, high, shape).astype(np.float32)


def _one_sided(rng: Generator, shape: Shape) -> Float:
    """As after a ReLU, or its negative; half of it zero."""
    return np.float32(rng.choice([-1, 1])) * np.maximum(_normal(rng, shape), 0)


def _constant(rng: Generator, shape: Shape) -> Float:
    return np.full(shape, rng.standard_normal(), np.float32)


def _outlier(rng: Generator, shape: Shape) -> Float:
    """One value dwarfs all others."""
    values = _normal(rng, shape)
    values.flat[rng.integers(values.size)] = rng.choice([-1, 1]) * 2.0 ** rng.uniform(4, 24)
    return values


def _outlier_channel(rng: Generator, shape: Shape) -> Float:
    values = _normal(rng, shape)
    axis = int(rng.integers(len(shape)))
    index = (slice(None),) * axis + (int(rng.integers(shape[axis])),)
    values[index] *= np.float32(2.0 ** rng.uniform(2, 12))
    return values


def _sparse(rng: Generator, shape: Shape) -> Float:
    return np.where(rng.random(shape) < 0.95, 0, _normal(rng, shape)).astype(np.float32)


def _ties(rng: Generator, shape: Shape) -> Float:
    """Halves, and one 127: half way between two integers once the scale is a power of two."""
    values = rng.integers(-126, 126, shape).astype(np.float32) + np.float32(0.5)
    values.flat[rng.integers(values.size)] = 127
    return values


def _huge_span(rng: Generator, shape: Shape) -> Float:
    """Magnitudes from denormal to 2**100 side by side."""
    sign = rng.choice([-1, 1], shape)
    return (sign * 2.0 ** rng.uniform(-149, 100, shape)).astype(np.float32)


def _denormal(rng: Generator, shape: Shape) -> Float:
    return (rng.uniform(-1, 1, shape) * 2.0**-126).astype(np.float32)


def _zero(rng: Generator, shape: Shape) -> Float:  # noqa: ARG001 (one signature for all)
    return np.zeros(shape, np.float32)


_KINDS: tuple[Callable[[Generator, Shape], Float], ...] = (
    _normal,
    _ties,
    _uniform,
    _one_sided,
    _outlier,
    _outlier_channel,
    _sparse,
    _constant,
    _huge_span,
    _denormal,
    _zero,
)


@st.composite
def arrays(
    draw: st.DrawFn,
    *,
    min_dims: int = 1,
    max_dims: int = 3,
    max_side: int = 10,
    smallest: float = 0.0,
    largest: float = 2.0**100,
) -> Float:
    """Finite float32 arrays: normal, with outliers, ties, denormals, huge spans, constants...

    Small ones are drawn value by value, so that a failure shrinks to the simplest values; the
    others by kind and seed. Magnitudes below ``smallest`` become zero, those above ``largest``
    are clipped to it; narrow both to what your quantizer is made for.
    """
    shape = draw(
        hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=1, max_side=max_side)
    )
    by_value = int(np.prod(shape)) <= 8 and draw(st.booleans())
    if by_value:
        limit = float(np.float32(largest))
        values = draw(hnp.arrays(np.float32, shape, elements=st.floats(-limit, limit, width=32)))
    else:
        kind = draw(st.sampled_from(_KINDS))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        values = np.ldexp(kind(rng, shape), draw(_octaves(kind)))
    values = np.clip(values, -largest, largest).astype(np.float32)
    return np.where(np.abs(values) < smallest, 0, values).astype(np.float32)


def _octaves(kind: Callable[[Generator, Shape], Float]) -> st.SearchStrategy[int]:
    if kind in (_huge_span, _denormal, _zero):
        return st.just(0)  # already where they should be
    return st.sampled_from([0, -3, 5, -20, 30, -100, 70])


@st.composite
def channel_arrays(
    draw: st.DrawFn, *, axis: int = 0, max_dims: int = 3, max_side: int = 6
) -> Float:
    """Arrays of 2 or more dimensions whose 2 or more channels along ``axis`` differ in magnitude.

    In half of them, by powers of two: there each channel's minmax scale divides the tensor's,
    and what is representable per tensor is so per channel.
    """
    shape = list(
        draw(hnp.array_shapes(min_dims=2, max_dims=max_dims, min_side=2, max_side=max_side))
    )
    axis %= len(shape)
    channels = shape.pop(axis)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low = -rng.uniform(0, 1)
    rows = np.clip(rng.standard_normal((channels, int(np.prod(shape)))), low, 1)
    rows[:, 0], rows[:, 1] = 1, low  # every channel spans exactly [low, 1] times its magnitude
    magnitudes = 2.0 ** -rng.uniform(0, 12, (channels, 1))
    if draw(st.booleans()):
        magnitudes = 2.0 ** np.floor(np.log2(magnitudes))
    values = (rows * rng.uniform(1, 2)).astype(np.float32) * magnitudes.astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(values.reshape(channels, *shape), 0, axis))
