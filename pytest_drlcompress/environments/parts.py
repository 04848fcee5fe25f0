"""Observations of several parts (Dict, Tuple) or of integers, packed into one flat array.

Everything between the environment and the network handles one array: batches, recordings,
noise, calibration. So the parts are written one after the other, and the network takes them
apart again. Integers up to 2^24 are exact in the float32 they are packed in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError


@dataclass(frozen=True, eq=False)
class Part:
    """One part: ``name`` is its key (``a.b`` of nested ones, ``"0"`` in a Tuple, ``""`` alone).

    ``sizes`` are the numbers of choices of a part that holds integers, counted from ``starts``;
    empty for a Box and MultiBinary. ``pixels`` says that it is what SB3 takes for an image: bytes
    of rank 3 from 0 to 255.
    """

    name: str
    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sizes: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    pixels: bool = False

    @property
    def width(self) -> int:
        """How many numbers of the flat array are its."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def features(self) -> int:
        """How many numbers it is when each integer is one-hot."""
        return sum(self.sizes) or self.width

    def of(self, observation: Any) -> NDArray[Any]:
        """Its numbers in an observation, flat."""
        for step in self.path:
            observation = observation[step]
        return np.asarray(observation).ravel()


def parts_of(space: gym.Space[Any]) -> tuple[Part, ...]:
    """The parts of an observation space in their order; none of a Box, which stays as it is.

    Raises:
        EnvironmentSpecError: a kind of space that has no fixed number of numbers.
    """
    return () if isinstance(space, gym.spaces.Box) else tuple(_parts(space, ()))


def packed_dtype(parts: Sequence[Part]) -> np.dtype[Any]:
    """Bytes where every part is, else float32."""
    return np.dtype(np.uint8 if all(p.dtype == np.uint8 for p in parts) else np.float32)


def pack(parts: Sequence[Part], observation: Any) -> NDArray[Any]:
    """``observation`` as one flat array of ``packed_dtype``."""
    return np.concatenate([part.of(observation) for part in parts], dtype=packed_dtype(parts),
                          casting="unsafe")  # fmt: skip


def pack_rows(parts: Sequence[Part], arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Recorded arrays ``(count, *part.shape)`` by name as rows ``(count, size)``."""
    flat = [arrays[part.name].reshape(-1, part.width) for part in parts]
    return np.concatenate(flat, axis=1, dtype=packed_dtype(parts), casting="unsafe")


def slices(parts: Sequence[Part]) -> list[slice]:
    """Where each part lies in the flat array."""
    ends = accumulate((part.width for part in parts), initial=0)
    return [slice(start, end) for start, end in pairwise(ends)]


def _parts(space: gym.Space[Any], path: tuple[str | int, ...]) -> Iterator[Part]:
    spaces, name = gym.spaces, ".".join(map(str, path))
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _parts(inner, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for position, inner in enumerate(space.spaces):
            yield from _parts(inner, (*path, position))
    elif isinstance(space, spaces.Box):
        pixels = len(space.shape) == 3 and space.dtype == np.uint8
        pixels = pixels and bool(np.all(space.low == 0) and np.all(space.high == 255))
        yield Part(name, path, tuple(space.shape), np.dtype(space.dtype), pixels=pixels)
    elif isinstance(space, spaces.Discrete):
        n, start = int(space.n), int(space.start)
        yield Part(name, path, (), np.dtype(np.int64), (n,), (start,))
    elif isinstance(space, spaces.MultiDiscrete):
        sizes, starts = (tuple(map(int, a.ravel())) for a in (space.nvec, space.start))
        yield Part(name, path, tuple(space.shape), np.dtype(np.int64), sizes, starts)
    elif isinstance(space, spaces.MultiBinary):
        yield Part(name, path, tuple(space.shape), np.dtype(np.int8))
    else:
        where = f"part {name!r} of its observations" if name else "its observations"
        raise EnvironmentSpecError(
            f"{where} are {type(space).__name__}; supported are Box, Discrete, MultiDiscrete,"
            " MultiBinary, and Dict and Tuple of them"
        )
