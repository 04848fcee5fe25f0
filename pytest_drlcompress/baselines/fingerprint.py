"""What identifies an artifact, in parts, so that a change of it can be traced to its place."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import onnx

from pytest_drlcompress.baselines.changes import Change, find_change
from pytest_drlcompress.baselines.verdicts import Expectation
from pytest_drlcompress.compression.step import StepKind
from pytest_drlcompress.core.artifact import SHORT, Artifact
from pytest_drlcompress.core.extras import versions_of
from pytest_drlcompress.evaluation.cache import processor_id

_VERSIONED = (
    "gymnasium", "mujoco", "numpy", "onnx", "onnxruntime", "onnxscript", "torch", "torch-pruning",
)  # fmt: skip
"""Libraries on which an artifact's bytes can depend, by its export, steps or calibration."""

_MEASURED = ("kept_step",)
"""Whole numbers in a provenance that training measured; another processor may get another."""

_SCALE, _ZERO_POINT, _VALUE = "scales", "zero points", "weights"


def fingerprint(
    artifact: Artifact, variant: str, source: Artifact, kinds: Mapping[str, StepKind]
) -> dict[str, Any]:
    """``artifact`` of the variant named ``variant`` as JSON builtins.

    ``sha256`` and ``bytes`` of the file, ``source`` (digest of the fp32 artifact it was made
    from), ``operators`` (how often each occurs), ``parts`` (a digest each of the graph's nodes
    and of its weights, scales and zero points), ``settings`` (what the recipe's steps were told
    and decided, flattened; measured numbers are left out), ``versions``, ``processor`` and
    ``code`` (the module of each of ``kinds``, the steps by name).
    """
    return {
        "policy": artifact.policy,
        "variant": variant,
        "sha256": artifact.sha256,
        "bytes": len(artifact.model),
        "source": source.sha256[:SHORT],
        **_parts(artifact.model),
        "settings": _settings(artifact),
        "versions": versions_of(_VERSIONED),
        "processor": processor_id()[:SHORT],
        "code": {name: _module(kind) for name, kind in kinds.items()},
    }


def change_since(
    expected: Expectation, facts: Mapping[str, Any], action_error: Callable[[], float]
) -> Change | None:
    """How the artifact of ``facts`` differs from the one recorded; ``None`` if it does not.

    ``action_error`` is asked for the mean error now only where it differs.

    Raises:
        DrlcError: the artifact cannot be run.
    """
    if expected.recorded is None:
        return None
    change = find_change(expected.recorded, expected.artifact, facts, (None, None))
    if change is None:
        return None
    return find_change(
        expected.recorded, expected.artifact, facts, (expected.action_error, action_error())
    )


def _parts(model: bytes) -> dict[str, Any]:
    """``operators`` and ``parts`` of the ONNX bytes; empty where they cannot be read."""
    try:
        graph = onnx.load_from_string(model).graph
    except Exception:  # a user's file may be anything; the gate says what is wrong with it
        return {"operators": {}, "parts": {}}
    roles = {tensor.name: _VALUE for tensor in graph.initializer}
    for node in graph.node:
        for position, name in enumerate(node.input):
            role = _role(node.op_type, position)
            if name in roles and role is not None:
                roles[name] = role
    digests: dict[str, Any] = defaultdict(hashlib.sha256)
    for tensor in sorted(graph.initializer, key=lambda t: t.name):
        digests[roles[tensor.name]].update(tensor.SerializeToString(deterministic=True))
    for node in graph.node:
        digests["nodes"].update(node.SerializeToString(deterministic=True))
    return {
        "operators": dict(sorted(Counter(node.op_type for node in graph.node).items())),
        "parts": {part: digest.hexdigest()[:SHORT] for part, digest in sorted(digests.items())},
    }


def _role(operator: str, position: int) -> str | None:
    """What an input of a quantizing operator is, by the ONNX operator specifications."""
    if operator in ("QuantizeLinear", "DequantizeLinear"):
        return {1: _SCALE, 2: _ZERO_POINT}.get(position)
    if operator in ("MatMulInteger", "ConvInteger"):
        return {2: _ZERO_POINT, 3: _ZERO_POINT}.get(position)
    if operator in ("QLinearMatMul", "QLinearConv"):
        return {
            1: _SCALE,
            2: _ZERO_POINT,
            4: _SCALE,
            5: _ZERO_POINT,
            6: _SCALE,
            7: _ZERO_POINT,
        }.get(position)
    return None


def _settings(artifact: Artifact) -> dict[str, Any]:
    steps = {name: facts for name, facts in artifact.provenance.items() if name != "versions"}
    return dict(sorted(_flat(steps, "")))


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    """Leaves of nested mappings by dotted path; floats are measurements, and left out."""
    if isinstance(value, Mapping):
        return [
            leaf
            for key, inner in value.items()
            if key not in _MEASURED
            for leaf in _flat(inner, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list | tuple):
        whole = all(isinstance(item, int | str) for item in value)
        return [(path, ", ".join(map(str, value)))] if whole else []
    return [] if isinstance(value, float) or value is None else [(path, value)]


def _module(kind: StepKind) -> str:
    """The module that carries out a step."""
    apply = kind.apply
    while isinstance(apply, partial):
        apply = apply.func
    return re.sub(r"\W*<.*", "", getattr(apply, "__module__", ""))
