"""What an SB3 zip tells without unpickling anything: the plain fields of ``data``, the tensors.

SB3 writes ``data`` as JSON. What JSON cannot hold stands there twice: pickled, under
``":serialized:"``, which is never decoded here, and as the text of each of its attributes,
which is what these functions read.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.reading.sizes import MAX_MODEL_BYTES, check_members
from pytest_drlcompress.reading.typed import ContentError, check, decode_python_json

OTHER_WAYS = "load it as module:attribute, or export it to an .onnx file and give that"
"""What to do with a policy this package cannot rebuild from its zip."""

_MAX_DATA_BYTES = 256 * 2**20
_Shape = Annotated[list[Annotated[int, Meta(ge=1, le=2**31)]], Meta(max_length=16)]

_MAPPINGS = ("dict", "collections.OrderedDict", "collections.defaultdict")


@dataclass(frozen=True)
class Space:
    """The readable part of a saved gym or gymnasium space; ``None`` where it is not readable.

    ``kind`` is the class name (``"Box"``, ``"Discrete"``, ...), ``low`` and ``high`` float64
    of the flattened box as printed (8 digits), of one element where only that one number is told
    for all of them.
    """

    kind: str | None
    dtype: str | None
    shape: tuple[int, ...] | None
    n: int | None
    start: int | None
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None


@dataclass(frozen=True)
class Sb3Zip:
    """The readable content of a zip written by ``model.save``."""

    path: Path
    data: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    version: str

    def error(self, text: str) -> PolicyError:
        """A ``PolicyError`` that names the file."""
        return PolicyError(f"{self.path}: {text}")

    @property
    def policy_module(self) -> str:
        """The module that defines the policy class.

        Raises:
            PolicyError: it is not readable.
        """
        policy_class = self.data.get("policy_class")
        module = policy_class.get("__module__") if isinstance(policy_class, dict) else None
        if not isinstance(module, str):
            raise self.error(f"the class of its policy is not readable; {OTHER_WAYS}")
        return module

    @property
    def policy_kwargs(self) -> Mapping[str, Any]:
        """Keyword arguments of the policy class: JSON values, or the text of what is none.

        Raises:
            PolicyError: they are not a dictionary, so that nothing can be read of them.
        """
        raw = self.data.get("policy_kwargs") or {}
        if not isinstance(raw, dict) or not _is_mapping(raw.get(":type:")):
            raise self.error(f"its policy_kwargs are not readable; {OTHER_WAYS}")
        return {key: value for key, value in raw.items() if not key.startswith(":")}

    def space(self, name: str) -> Space:
        """The readable part of ``observation_space`` or ``action_space``."""
        raw = self.data.get(name)
        if not isinstance(raw, dict):
            raw = {}
        return Space(
            kind=_class_name(raw.get(":type:")),
            dtype=raw.get("dtype") if isinstance(raw.get("dtype"), str) else None,
            shape=_shape(raw.get("_shape", raw.get("shape"))),
            n=_integer(raw.get("n")),
            start=_integer(raw.get("start")),
            low=_bound(raw, "low"),
            high=_bound(raw, "high"),
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """The keys of a saved Dict space; none of another, or where they are not readable."""
        raw = self.data.get("observation_space")
        text = raw.get("spaces") if isinstance(raw, dict) else None
        if not isinstance(text, str):
            return ()
        return tuple(re.findall(r"['\"]([^'\"]+)['\"]: [A-Z]", text))

    @property
    def saw_vecnormalize(self) -> bool:
        """Whether the model certainly learned behind ``VecNormalize``.

        On-policy algorithms keep the un-normalised observation for ``VecNormalize`` alone;
        off-policy ones always keep one, so theirs tells nothing.
        """
        on_policy = self.policy_module in (
            "stable_baselines3.common.policies",
            "sb3_contrib.common.recurrent.policies",
        )
        return on_policy and self.data.get("_last_original_obs") is not None


def read_zip(path: Path) -> Sb3Zip:
    """Read the JSON fields and the tensors of the zip at ``path``. Nothing is unpickled.

    Raises:
        PolicyError: no such file, not a zip or a damaged one, no ``data`` or ``policy.pth``
            inside, or a ``policy.pth`` that holds more than tensors.
    """
    if not path.is_file():
        raise PolicyError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_whole(archive)
            names = set(archive.namelist())
            _check_names(path, names)
            _check_size(path, archive, "data", _MAX_DATA_BYTES)
            _check_size(path, archive, "policy.pth", MAX_MODEL_BYTES)
            data, policy = archive.read("data"), archive.read("policy.pth")
            version_file = "_stable_baselines3_version"
            version = ""
            if version_file in names:
                _check_size(path, archive, version_file, 1024)
                version = archive.read(version_file).decode()
    except PolicyError:
        raise
    except (zipfile.BadZipFile, EOFError) as error:
        raise PolicyError(f"{path}: not a zip file, or damaged: {error}") from None
    except Exception as error:  # zipfile and its decompressors raise whatever they meet
        raise PolicyError(f"{path}: cannot be read: {_first_line(error)}") from None
    return Sb3Zip(path, _read_data(path, data), _read_tensors(path, policy), version.strip())


def _check_whole(archive: zipfile.ZipFile) -> None:
    # policy.pth is a zip stored inside the zip: of a truncated file, zipfile finds that one
    if min((member.header_offset for member in archive.infolist()), default=0) > 0:
        raise zipfile.BadZipFile("its end is missing")


def _read_data(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        data = decode_python_json(raw)
    except ContentError as error:
        raise PolicyError(f"{path}: 'data' inside is {error}") from None
    if not isinstance(data, dict):
        raise PolicyError(f"{path}: 'data' inside is not a JSON object")
    return data


def _check_names(path: Path, names: set[str]) -> None:
    missing = [name for name in ("data", "policy.pth") if name not in names]
    if missing:
        raise PolicyError(
            f"{path}: no {missing[0]!r} inside, so this is not a Stable-Baselines3 model; it holds"
            f" {_listing(names)}"
        )


def _check_size(path: Path, archive: zipfile.ZipFile, name: str, limit: int) -> None:
    size = archive.getinfo(name).file_size
    if size > limit:
        raise PolicyError(f"{path}: {name!r} inside has {size:,} bytes, more than {limit:,}")


def _read_tensors(path: Path, raw: bytes) -> dict[str, Tensor]:
    where = f"{path}: 'policy.pth' inside"
    try:
        _check_torch_file(raw)
        tensors = torch.load(io.BytesIO(raw), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise PolicyError(
                f"{where} holds more than tensors ({foreign[1]}); it was not unpickled"
            ) from None
        raise PolicyError(f"{where} holds more than tensors, or is damaged") from None
    except Exception as error:  # torch raises whatever its readers meet in damaged files
        raise PolicyError(f"{where} is damaged: {_first_line(error)}") from None
    if not isinstance(tensors, dict):
        raise PolicyError(f"{where} holds a {type(tensors).__name__}, not named tensors")
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise PolicyError(f"{where} names a tensor by {type(name).__name__}, not by text")
        if problem := _tensor_problem(tensor):
            raise PolicyError(f"{where}: {name!r} {problem}")
    return dict(tensors)


def _check_torch_file(raw: bytes) -> None:
    """``torch.save`` stores; it compresses nothing, so that nothing unpacks to more than ``raw``.

    Files of torch before 1.6 are no zips.

    Raises:
        ValueError: a member that would.
    """
    if raw[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(raw)) as inner:
            check_members(inner.infolist(), len(raw))


def _tensor_problem(tensor: Any) -> str:
    """Why ``tensor`` is no weight of a network; empty if it is one."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        return "is not a dense tensor"
    if tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
        kind = "quantized" if tensor.is_quantized else f"{tensor.dtype} on {tensor.device}"
        return f"is {kind}, not a plain tensor with values"
    if tensor.ndim and not tensor.numel():
        return f"is empty: its shape is {tuple(tensor.shape)}"
    held = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > held:
        return f"has {tensor.numel():,} elements, of which the file holds {held:,}"
    return ""


def _is_mapping(type_text: Any) -> bool:
    return type_text is None or type_text in [f"<class '{name}'>" for name in _MAPPINGS]


def _class_name(type_text: Any) -> str | None:
    match = re.fullmatch(r"<class '[\w.]*?(\w+)'>", type_text if isinstance(type_text, str) else "")
    return match[1] if match else None


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        check(value, _Shape)
    except ContentError:
        return None
    return tuple(value)


def _integer(value: Any) -> int | None:
    try:
        found = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if abs(found) <= 2**53 else None


def _bound(raw: Mapping[str, Any], name: str) -> NDArray[np.float64] | None:
    printed = _numbers(raw.get(name))
    if printed is not None:
        return printed
    # Gymnasium also keeps a short form: one number where all are equal
    uniform = _numbers(raw.get(f"{name}_repr"))
    return uniform if uniform is not None and uniform.size == 1 else None


def _numbers(text: Any) -> NDArray[np.float64] | None:
    # a printed array; NumPy abbreviates more than 1,000 elements with "...", which no float is
    if not isinstance(text, str):
        return None
    try:
        return np.array([float(word) for word in re.sub(r"[\[\],]", " ", text).split()])
    except ValueError:
        return None


def _listing(names: set[str]) -> str:
    shown = sorted(names)[:6]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "") if shown else "nothing"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
