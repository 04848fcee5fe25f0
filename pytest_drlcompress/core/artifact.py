"""The artifact: the ONNX bytes that would be deployed, and what is known of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

SHORT = 12
"""Hexadecimal digits of a digest where it only has to differ: in records and messages."""


@dataclass(frozen=True)
class Artifact:
    """One deployable file. Every judgement of a variant is made on these bytes.

    ``policy`` is the id of the policy it came from, ``recipe`` the canonical text of how
    (``""`` for a file from elsewhere), ``provenance`` JSON builtins: calibration seeds,
    library versions, what the compression measured. ``cpu_seconds`` is what making it took, and
    ``None`` where it was not made in this run but read from a file.
    """

    model: bytes
    policy: str
    recipe: str
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)
    cpu_seconds: float | None = field(default=None, compare=False)

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the bytes: the artifact's identity in caches and seeds."""
        return hashlib.sha256(self.model).hexdigest()
