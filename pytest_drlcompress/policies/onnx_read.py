"""Reading an ONNX file whole: weights that lie beside it, within its folder only, included."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import onnx
from onnx import external_data_helper

from pytest_drlcompress.core.errors import PolicyError


def read_onnx(path: Path) -> bytes:
    """The file at ``path``; where weights lie beside it, the model with them inside.

    Raises:
        PolicyError: no such file, not an ONNX file, or weights beside it that are missing or
            lie outside its folder.
    """
    if not path.is_file():
        raise PolicyError(f"{path}: no such file")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from None
    try:
        model = onnx.load_model_from_string(raw)
    except Exception:  # protobuf's DecodeError, which has no typed import
        raise PolicyError(f"{path}: not an ONNX file, or truncated") from None
    if not model.graph.node:
        raise PolicyError(f"{path}: not an ONNX file, or one with an empty graph")
    outside = [t for t in _tensors(model.graph) if external_data_helper.uses_external_data(t)]
    for tensor in outside:
        _check_location(path, tensor)
    if not outside:
        return raw
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
        return bytes(model.SerializeToString())
    except Exception as error:  # onnx raises its own classes, protobuf another above 2 GiB
        text = " ".join(str(error).split())
        raise PolicyError(f"{path}: its weights beside it cannot be read: {text}") from None


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from _attached(attribute.t, attribute.tensors)
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(inner)


def _attached(
    one: onnx.TensorProto, several: Iterable[onnx.TensorProto]
) -> Iterator[onnx.TensorProto]:
    yield one
    yield from several


def _check_location(path: Path, tensor: onnx.TensorProto) -> None:
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    where = f"{path}: its weights beside it cannot be read: {location!r}"
    parts = PurePosixPath(location).parts
    # onnx's own reader ends the process on some names: only plain ones reach it
    if not location or not location.isprintable() or "\\" in location:
        raise PolicyError(f"{where} is no plain file name")
    if PurePosixPath(location).is_absolute() or ".." in parts:
        raise PolicyError(f"{where} is outside the model's folder")
    file, folder = path.parent / location, path.parent.resolve()
    if not file.is_file():
        raise PolicyError(f"{where} is missing; copy it into {path.parent}")
    if folder not in file.resolve().parents:
        raise PolicyError(f"{where} leads out of the model's folder")
