"""Damage to files: by bytes, and by what the bytes mean (JSON values, zip members, tensors).

Every function takes a ``random.Random``, so that a seed, or Hypothesis, decides what is done.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

ODD_VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.0, 1e308,
    "", "x", "\u0000", "9" * 400, "ü" * 1000, "cuda:0", "meta", "../../etc/passwd", "NaN", "inf",
    [], {}, [[]], [0], [1, 2, 3], {"": ""}, {"type": "linear"}, [None] * 50, "PASS", "Infinity",
)  # fmt: skip
ODD_TEXTS = (
    b"NaN", b"-Infinity", b"1e999", b"1" * 5000, b"{" * 3000, b"[" * 100_000, b"\xff\xfe", b"\x00",
    b'"\\ud800"', b"1e-999", b"-", b"nul",
)  # fmt: skip


def damage_bytes(random: Random, content: bytes) -> bytes:
    """``content`` cut, with bytes changed, or with parts repeated, moved or replaced."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 2, 4, 64, 1024)))
        match random.randrange(7):
            case 0:
                del data[at:]
            case 1:
                del data[at:end]
            case 2:
                data[at:end] = random.randbytes(end - at)
            case 3:
                data[at:at] = data[at:end] * random.choice((1, 3, 100))
            case 4:
                data[at:at] = random.choice(ODD_TEXTS)
            case 5:
                data[at:end] = random.choice((b"\x00", b"\xff", b"\x7f")) * (end - at)
            case _ if at < len(data):
                data[at] ^= 1 << random.randrange(8)
    return bytes(data)


def damage_json(random: Random, content: bytes) -> bytes:
    """JSON of which values are others, missing, more, deeper or no JSON at all."""
    document = json.loads(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        document = _damage_value(random, document)
    text = json.dumps(document).encode()
    if random.random() < 0.1:
        place = text.find(b":", random.randrange(len(text) + 1)) + 1
        text = text[:place] + random.choice(ODD_TEXTS) + text[place:]
    return text


def _damage_value(random: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(sorted(value))
        changed = dict(value)
        match random.randrange(6):
            case 0:
                del changed[key]
            case 1:
                changed[random.choice(("", "x", "type", "device", "artifact", ":type:"))] = (
                    changed.pop(key)
                )
            case _:
                changed[key] = _damage_value(random, value[key])
        return changed
    if isinstance(value, list) and value and random.random() < 0.7:
        at = random.randrange(len(value))
        middle = random.choice(([], [value[at]] * 3, [_damage_value(random, value[at])]))
        return [*value[:at], *middle, *value[at + 1 :]]
    return random.choice(ODD_VALUES)


def damage_zip(random: Random, content: bytes) -> bytes:
    """A zip with a member damaged, missing, doubled, compressed or said to be of another size."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = random.randrange(len(members))
    name, inner = members[at]
    match random.randrange(6):
        case 0:
            del members[at]
        case 1:
            members.append(members[at])
        case 2:
            members[at] = (name, bytes(random.choice((0, 1, 10**6))))
        case 3:
            members[at] = (random.choice(("data", "policy.pth", "../x", "x")), inner)
        case _:
            damage = damage_bytes
            if inner[:1] == b"{":
                damage = damage_json
            elif inner[:2] == b"PK":
                damage = random.choice((damage_bytes, damage_zip, damage_zip))
            members[at] = (name, damage(random, inner))
    made = io.BytesIO()
    kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(made, "w", kind) as archive:
        for name, inner in members:
            archive.writestr(name, inner)
    return made.getvalue()


def damage_onnx(random: Random, content: bytes) -> bytes:  # noqa: PLR0912 (one kind a case)
    """An ONNX model with nodes, tensors, shapes, types or attributes that are others."""
    import onnx

    model = onnx.load_model_from_string(content)
    graph = model.graph
    for _ in range(random.choice((1, 1, 2, 4))):
        match random.randrange(10):
            case 0 if graph.node:
                del graph.node[random.randrange(len(graph.node))]
            case 1 if graph.node:
                node = random.choice(graph.node)
                node.op_type = random.choice(
                    ("Loop", "If", "Custom", "Gemm", "MatMul", "DequantizeLinear", "Gather",
                     "Reshape", "ConstantOfShape", "QLinearMatMul", "DynamicQuantizeLinear",
                     "Conv", "")
                )  # fmt: skip
            case 2 if graph.initializer:
                tensor = random.choice(graph.initializer)
                tensor.dims[:] = [random.choice((0, 1, -1, 3, 2**40, 2**62)) for _ in tensor.dims]
            case 3 if graph.initializer:
                random.choice(graph.initializer).data_type = random.randrange(30)
            case 4 if graph.initializer:
                tensor = random.choice(graph.initializer)
                tensor.raw_data = damage_bytes(random, tensor.raw_data[:4096])
            case 5 if graph.initializer:
                tensor = random.choice(graph.initializer)
                tensor.data_location = onnx.TensorProto.EXTERNAL
                entry = tensor.external_data.add()
                entry.key = "location"
                entry.value = random.choice(("x", "/etc/passwd", "../x", "\u202e", "", "a" * 5000))
            case 6:
                value = random.choice((*graph.input, *graph.output))
                value.type.tensor_type.elem_type = random.randrange(25)
            case 7:
                value = random.choice((*graph.input, *graph.output))
                for dimension in value.type.tensor_type.shape.dim:
                    dimension.dim_value = random.choice((0, 1, -1, 11, 2**31, 2**62))
            case 8 if graph.node:
                node = random.choice(graph.node)
                names = random.choice((node.input, node.output))
                if names:
                    names[random.randrange(len(names))] = random.choice(("", "x", "observation"))
            case _:
                for opset in model.opset_import:
                    opset.version = random.choice((0, 1, 7, 18, 99, 2**40))
    return bytes(model.SerializeToString())


class _Mark:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def pickle_that_marks(path: str) -> bytes:
    """A pickle that makes the file at ``path`` when it is read as pickles are."""
    return pickle.dumps({"state": _Mark(path)})


def with_member(content: bytes, name: str, inner: bytes) -> bytes:
    """The zip ``content`` with ``inner`` as its member ``name``."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.namelist():
            new.writestr(member, inner if member == name else old.read(member))
    return made.getvalue()


def mixed(*ways: Callable[[Random, bytes], bytes]) -> Callable[[Random, bytes], bytes]:
    """One of ``ways``; bytes where what they need is not there any more."""

    def damage(random: Random, content: bytes) -> bytes:
        try:
            return random.choice(ways)(random, content)
        except (ValueError, TypeError, zipfile.BadZipFile, IndexError):
            return damage_bytes(random, content)

    return damage
