"""Observation statistics of SB3's ``VecNormalize``, read from its pickle by a closed decoder.

A pickle is a program, so it is read only when the user says so. Even then nothing it names
is imported or called: NumPy's arrays are decoded here, from their raw bytes, and every other
class or function becomes an inert stand-in. What a VecNormalize refers to (``gym`` spaces of
2021, random generators) need therefore not be installed. And that is done in a watched process,
which gives back arrays: what opcodes can still do (take memory, change the stand-ins) ends there.
"""

import io
import math
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import DrlcError, PolicyError, UntrustedPickleError
from pytest_drlcompress.reading.typed import ContentError, read_bytes
from pytest_drlcompress.reading.watched import WatchedError, run_watched

_SECONDS = 10.0
_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Statistics:
    """``clip((x - mean) / sqrt(variance + epsilon), -clip, clip)`` of one flat observation.

    ``mean`` and ``variance`` are float64 of one size; ``enabled`` is ``norm_obs``, and where
    it is ``False`` the arrays are empty and observations pass as they are. Of a dictionary of
    observations the arrays are empty, too, and ``by_key`` holds those of each key that is
    normalized (``norm_obs_keys``).
    """

    path: Path
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    epsilon: float
    clip: float
    enabled: bool
    by_key: Mapping[str, "Statistics"] = field(default_factory=dict)


def find_vecnormalize(path: Path) -> Path | None:
    """The statistics that belong to the zip at ``path``, by the usual names; ``None`` if none.

    RL Zoo keeps ``<name>/vecnormalize.pkl`` beside ``<name>.zip``, ``CheckpointCallback``
    ``<prefix>_vecnormalize_<n>_steps.pkl`` beside ``<prefix>_<n>_steps.zip``.
    """
    folder, stem = path.parent, path.stem
    names = [f"{stem}/vecnormalize.pkl", f"{stem}_vecnormalize.pkl", f"{stem}.pkl"]
    checkpoint = re.fullmatch(r"(.+)_(\d+)_steps", stem)
    if checkpoint:
        names.insert(0, f"{checkpoint[1]}_vecnormalize_{checkpoint[2]}_steps.pkl")
    names += ["vecnormalize.pkl", "vec_normalize.pkl"]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_vecnormalize(path: Path, *, trust: bool) -> Statistics:
    """Read the statistics pickled at ``path``.

    Raises:
        UntrustedPickleError: ``trust`` is ``False``; nothing has been read.
        PolicyError: no such file, not a VecNormalize, or statistics that are not finite.
    """
    if not path.is_file():
        raise PolicyError(f"{path}: no such file (VecNormalize statistics)")
    if not trust:
        raise UntrustedPickleError(
            f"{path} is a pickle, which can run code when it is read: say --drlc-trust if you know"
            " where these VecNormalize statistics come from, or --drlc-vecnormalize=none to go"
            " without them"
        )
    order = msgspec.msgpack.encode((str(path), _read(path)))
    try:
        found = run_watched(f"{__name__}:decode_statistics", order, _SECONDS)
    except WatchedError as error:
        raise PolicyError(f"{path}: not a readable VecNormalize pickle: {error}") from None
    except DrlcError as error:
        raise PolicyError(str(error)) from None
    return msgspec.msgpack.decode(found, type=_Told).statistics(path)


def decode_statistics(payload: bytes) -> bytes:
    """The watched task: from a pickle's bytes to those of its arrays."""
    path, raw = msgspec.msgpack.decode(payload, type=tuple[str, bytes])
    return msgspec.msgpack.encode(
        _Told.of(_statistics(Path(path), _Decoder(io.BytesIO(raw)).load()))
    )


class _Told(msgspec.Struct):
    """``Statistics`` on their way out of the watched process."""

    mean: bytes
    variance: bytes
    epsilon: float
    clip: float
    enabled: bool
    by_key: dict[str, "_Told"]

    @classmethod
    def of(cls, found: Statistics) -> "_Told":
        return cls(
            found.mean.tobytes(),
            found.variance.tobytes(),
            found.epsilon,
            found.clip,
            found.enabled,
            {key: cls.of(one) for key, one in found.by_key.items()},
        )

    def statistics(self, path: Path) -> Statistics:
        return Statistics(
            path,
            np.frombuffer(self.mean),
            np.frombuffer(self.variance),
            self.epsilon,
            self.clip,
            enabled=self.enabled,
            by_key={key: one.statistics(path) for key, one in self.by_key.items()},
        )


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, _MAX_BYTES)
    except (OSError, ContentError) as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from None


def _statistics(path: Path, root: Any) -> Statistics:
    state = root.state if isinstance(root, _Inert) else None
    if not isinstance(state, Mapping) or "norm_obs" not in state:
        found = root.origin if isinstance(root, _Inert) else type(root).__name__
        raise PolicyError(f"{path}: holds {found}, not a VecNormalize")
    epsilon, clip = _number(state.get("epsilon", 1e-8)), _number(state.get("clip_obs", 10.0))
    empty = np.zeros(0)
    if not state["norm_obs"]:
        return Statistics(path, empty, empty, epsilon, clip, enabled=False)
    moments = state.get("obs_rms")
    if isinstance(moments, Mapping):
        by_key = {str(k): _moments(path, m, epsilon, clip) for k, m in moments.items()}
        return Statistics(path, empty, empty, epsilon, clip, enabled=True, by_key=by_key)
    return _moments(path, moments, epsilon, clip)


def _moments(path: Path, moments: Any, epsilon: float, clip: float) -> Statistics:
    values = moments.state if isinstance(moments, _Inert) else None
    if not isinstance(values, Mapping) or not {"mean", "var"} <= set(values):
        raise PolicyError(f"{path}: its observation statistics (obs_rms) are not readable")
    mean, variance = _vector(values["mean"]), _vector(values["var"])
    if not (
        mean.shape == variance.shape
        and np.all(np.isfinite(mean))
        and np.all(np.isfinite(variance))
        and np.all(variance >= 0)
        and math.isfinite(epsilon)
        and epsilon > 0
        and clip > 0
    ):
        raise PolicyError(
            f"{path}: the statistics are damaged: mean and variance must be finite and of one"
            " size, variance >= 0, epsilon and clip_obs > 0"
        )
    return Statistics(path, mean, variance, epsilon, clip, enabled=True)


def _number(value: Any) -> float:
    return float(_vector(value)[0]) if isinstance(value, _Array) else float(value)


def _vector(value: Any) -> NDArray[np.float64]:
    if not isinstance(value, _Array):
        raise TypeError(f"an array was expected, not {type(value).__name__}")
    return value.decode()


class _Inert:
    """Stands in for whatever a pickle names: takes every call and keeps the state it is given."""

    origin = ""
    state: Any = None

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *_args: Any, **_kwargs: Any) -> "_Inert":
        return _Inert()

    def append(self, item: Any) -> None:
        """Ignore a list item (opcode APPEND)."""

    def extend(self, items: Any) -> None:
        """Ignore list items (opcode APPENDS)."""

    def add(self, item: Any) -> None:
        """Ignore a set item (opcode ADDITEMS)."""

    def __setitem__(self, key: Any, value: Any) -> None: ...


class _Dtype(_Inert):
    """``numpy.dtype``: kind and size as text (``"f8"``), the byte order from its state."""

    code: Any = ""

    def __init__(self, code: Any = "", *_args: Any) -> None:
        self.code = code

    def resolve(self) -> np.dtype[Any]:
        """The real type; only plain numbers have one."""
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "<"
        if not re.fullmatch(r"[fiub][1248]", str(self.code)) or order not in ("<", ">", "|", "="):
            raise ValueError(f"arrays of type {self.code!r} are not numbers")
        return np.dtype(f"{order}{self.code}")


class _Array(_Inert):
    """``numpy.ndarray``: shape, type and raw bytes, decoded only when asked for."""

    def decode(self) -> NDArray[np.float64]:
        """The flattened array as float64."""
        # (version, shape, dtype, column-major?, bytes): what ndarray.__reduce__ writes
        _, shape, dtype, column_major, raw = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
            raise TypeError("an array of plain numbers was expected")
        values = np.frombuffer(raw, dtype.resolve()).reshape(
            shape, order="F" if column_major else "C"
        )
        return values.astype(np.float64).ravel()


def _reconstruct(*_: Any) -> _Array:
    """``numpy.core.multiarray._reconstruct``: an empty array whose state follows."""
    return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> _Array:
    """``numpy.core.numeric._frombuffer``: an array in pickle protocol 5."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", raw)
    return array


def _scalar(dtype: Any, raw: Any = b"") -> _Array:
    """``numpy.core.multiarray.scalar``: one number."""
    return _frombuffer(raw, dtype, (1,))


class _Decoder(pickle.Unpickler):
    """Runs a pickle's opcodes while resolving none of its names."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Our own decoder for NumPy's four names; for any other an inert class."""
        module = module_name.replace("numpy._core", "numpy.core")
        match f"{module}.{global_name}":
            case "numpy.dtype":
                return _Dtype
            case "numpy.core.multiarray._reconstruct":
                return _reconstruct
            case "numpy.core.numeric._frombuffer":
                return _frombuffer
            case "numpy.core.multiarray.scalar":
                return _scalar
            case name:
                return type("Inert", (_Inert,), {"origin": name})

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references out of the file."""
        raise pickle.UnpicklingError(f"it refers to something outside ({pid!r})")
