"""Recorded observations: what a policy saw in a flight, where no simulator is at hand.

They stand in for the policy's own rollouts, where actions are compared, quantizers calibrated
and networks distilled. They say nothing of returns.
"""

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError, ObservationsError
from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.environments.parts import Part, pack_rows
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.reading.sizes import MAX_ARRAY_BYTES, check_array, check_members

LEAST = 40
"""Fewer observations cannot be shared between calibration and comparison."""

_USUAL_NAMES = ("observations", "observation", "obs")
_SUFFIXES = (".npy", ".npz", ".parquet")
_BLOCKS = 20
_PROBE_EVERY = 4
_ANY_INTEGER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Recording:
    """Arrays by name, each over the same steps in the order of time, and the file they are from."""

    path: Path
    arrays: Mapping[str, NDArray[Any]]

    def rows(self, shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The observations ``(count, *shape)`` as ``dtype``; of any shape where it is ``None``.

        An array with more leading dimensions (episodes, steps) is taken as one sequence. Of
        several arrays that fit, the one named ``observations``, ``observation`` or ``obs`` counts.

        Raises:
            ObservationsError: none or several fit, values that are not finite or do not fit
                ``dtype``, or fewer than ``LEAST``.
        """
        name, array = self._choose(shape)
        where = f"{self.path}: array {name!r}" if name else str(self.path)
        wanted = array.shape[1:] if shape is None else shape
        flat = np.ascontiguousarray(array.reshape(-1, *wanted))
        if len(flat) < LEAST:
            raise ObservationsError(
                f"{where} holds {len(flat)} observations; at least {LEAST} are needed"
            )
        if flat.dtype.kind == "f" and not np.isfinite(flat).all():
            raise ObservationsError(f"{where} contains NaN or infinity: remove those steps")
        with np.errstate(all="ignore"):
            converted = flat.astype(dtype)
        if dtype.kind in "iu" and not np.array_equal(converted, flat):
            raise ObservationsError(f"{where} holds values that are not {dtype}")
        return converted

    def packed(self, parts: Sequence[Part]) -> "Recording":
        """Of arrays named as ``parts``, one that holds them packed; as it is where they are not."""
        if not {part.name for part in parts} <= self.arrays.keys():
            return self
        try:
            return replace(self, arrays={_USUAL_NAMES[0]: pack_rows(parts, self.arrays)})
        except ValueError as error:
            raise ObservationsError(
                f"{self.path}: its arrays do not fit the environment's observations: {error}"
            ) from None

    def episode_length(self, shape: tuple[int, ...]) -> int:
        """Steps of each episode where the array tells episodes apart, else of the recording."""
        array = self._choose(shape)[1]
        return array.shape[1] if array.ndim == len(shape) + 2 else len(array)

    @cached_property
    def sha256(self) -> str:
        """Of names and values, for provenance."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _choose(self, shape: tuple[int, ...] | None) -> tuple[str, NDArray[Any]]:
        fitting = {
            name: array
            for name, array in self.arrays.items()
            if array.dtype.kind in "fiub"
            and array.ndim > (0 if shape is None else len(shape))
            and (not shape or array.shape[-len(shape) :] == shape)
        }
        named = [name for name in _USUAL_NAMES if name in fitting]
        if named:
            return named[0], fitting[named[0]]
        if len(fitting) == 1:
            return next(iter(fitting.items()))
        held = ", ".join(f"{n or 'an array'} {a.shape}" for n, a in self.arrays.items())
        wanted = "" if shape is None else f" of shape {shape}"
        problem = "several arrays may be" if fitting else "no array holds"
        raise ObservationsError(
            f"{self.path}: {problem} observations{wanted} (it holds {held}); name the array"
            " 'observations', with one step in each row"
        )


def read_recording(path: Path) -> Recording:
    """The recording in ``path``: ``.npy``, ``.npz``, ``.parquet``, or a folder of such files.

    The files of a folder are joined in the order of their names. A Parquet table holds either
    columns of lists, or one column of numbers for each dimension of the observation. Nothing is
    unpickled.

    Raises:
        ObservationsError: no such file, or one that cannot be read.
    """
    if not path.exists():
        raise ObservationsError(f"{path}: no such file or folder (recorded observations)")
    if not path.is_dir():
        return Recording(path, _read(path))
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
    if not files:
        raise ObservationsError(f"{path}: holds no {', '.join(_SUFFIXES)} file")
    parts = [_read(file) for file in files]
    names = sorted(set.intersection(*(set(part) for part in parts)))
    joined = {}
    for name in names:
        arrays = [part[name] for part in parts]
        if len({array.shape[1:] for array in arrays}) == 1 and arrays[0].ndim:
            joined[name] = np.concatenate(arrays)
    if not joined:
        raise ObservationsError(f"{path}: its files have no array of one name and shape in common")
    return Recording(path, joined)


def calibration_part(rows: NDArray[Any]) -> NDArray[Any]:
    """The three quarters of ``rows`` that are not ``probe_part``."""
    return np.concatenate([block for probe, block in _blocks(rows) if not probe])


def probe_part(rows: NDArray[Any]) -> NDArray[Any]:
    """A quarter of ``rows``, in blocks from all over the recording: what actions are compared on.

    Blocks, since neighbouring steps look alike: every other row would be calibrated on, nearly.
    """
    return np.concatenate([block for probe, block in _blocks(rows) if probe])


@dataclass(frozen=True, eq=False, kw_only=True)
class RecordedSpec(EnvSpec):
    """Stands where nobody named an environment: spaces as far as they are known, nothing to step.

    ``action`` is unbounded where bounds are not known, and any integer where their number is not.
    """

    id: str = "recorded observations"
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    known_action: ActionSpec

    @property
    def simulated(self) -> bool:
        """There is no environment."""
        return False

    @cached_property
    def spaces(self) -> tuple[tuple[int, ...], np.dtype[Any], ActionSpec]:
        """As told."""
        return self.shape, self.dtype, self.known_action

    @property
    def observation_kind(self) -> str:
        """Arrays."""
        return "Box"

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """None: a recording holds arrays as the policy takes them."""
        return ()

    @property
    def observation_bounds(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Those of the type."""
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            return np.full(self.shape, limits.min), np.full(self.shape, limits.max)
        return np.full(self.shape, -np.inf), np.full(self.shape, np.inf)

    def make(self) -> gym.Env[Any, Any]:
        """Refuse.

        Raises:
            EnvironmentSpecError: always.
        """
        raise EnvironmentSpecError(
            "there is no environment to step: add --drlc-env, for example --drlc-env=Hopper-v5"
        )


def recorded_spec(
    shape: tuple[int, ...], dtype: np.dtype[Any], actions: NDArray[Any]
) -> RecordedSpec:
    """The spaces of a policy that gave ``actions`` for a batch of observations ``shape``."""
    known = tuple(actions.shape[1:])
    infinite = np.full(known, np.inf, np.float32)
    action = ActionSpec(known, -infinite, infinite)
    if actions.dtype.kind in "iu":
        empty = np.zeros(0, np.float32)
        action = ActionSpec(known, empty, empty, int(_ANY_INTEGER))
    return RecordedSpec(shape=shape, dtype=dtype, known_action=action)


def _blocks(rows: NDArray[Any]) -> Iterator[tuple[bool, NDArray[Any]]]:
    for position, block in enumerate(np.array_split(rows, _BLOCKS)):
        yield position % _PROBE_EVERY == _PROBE_EVERY - 1, block


def _read(path: Path) -> dict[str, NDArray[Any]]:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ObservationsError(
            f"{path}: recorded observations are a {', '.join(_SUFFIXES)} file, or a folder of them"
        )
    try:
        if suffix == ".parquet":
            return _read_parquet(path)
        _check_arrays(path)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except ObservationsError:
        raise
    except Exception as error:  # of damaged files, NumPy's and Arrow's readers raise anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise ObservationsError(f"{path}: cannot be read: {text}") from None


def _check_arrays(path: Path) -> None:
    """Nothing takes more memory than the file accounts for.

    Raises:
        ValueError: an array that would.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            check_array(stream, path.stat().st_size)
        return
    with zipfile.ZipFile(path) as archive:
        check_members(archive.infolist(), MAX_ARRAY_BYTES)
        for member in archive.infolist():
            with archive.open(member) as stream:
                check_array(stream, member.file_size)


def _read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError:
        raise ObservationsError(
            f"{path}: reading Parquet needs pyarrow: pip install 'pytest-drlcompress[parquet]'"
        ) from None
    with parquet.ParquetFile(path) as file:
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > MAX_ARRAY_BYTES:
            raise ObservationsError(f"{path}: unpacks to more than {MAX_ARRAY_BYTES:,} bytes")
        table = file.read()
    lists: dict[str, NDArray[Any]] = {}
    numbers: list[NDArray[Any]] = []
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            numbers.append(column.to_numpy())
        elif pa.types.is_nested(field.type):
            lists[field.name] = np.array(column.to_pylist())
    return lists or ({"": np.stack(numbers, axis=1)} if numbers else {})
