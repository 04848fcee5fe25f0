"""Variants made once and kept beside their baseline: ``variants/<recipe>.onnx.zst``, and JSON.

A recipe that takes minutes or a whole training is not compressed again in every run. A stored
file stands for the recipe only while it is the file that was written, of this very policy. Zeros
and small integers compress well; what is judged are the bytes inside.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zstandard

from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.files import settled, write_described
from pytest_drlcompress.policies.record_file import read_record
from pytest_drlcompress.reading.baseline_file import VariantFile
from pytest_drlcompress.reading.typed import ContentError, read_json

FOLDER = "variants"

_LEVEL = 19
"""Of zstd: made once, read often."""

_LARGEST = 2**30
"""Bytes of an artifact."""


def variant_path(folder: Path, recipe: str) -> Path:
    """Where the variant of a canonical recipe text lies; no file name has a colon everywhere."""
    return folder / FOLDER / f"{recipe.replace(':', '~')}.onnx.zst"


def store_variant(folder: Path, artifact: Artifact, made: Mapping[str, Any]) -> Path:
    """Write ``artifact`` and its JSON file beside the baseline in ``folder``, as one step.

    ``made`` says how (JSON builtins), beyond the artifact's own provenance.

    Raises:
        BaselineError: ``folder`` is no baseline.
    """
    path = variant_path(folder, artifact.recipe)
    policy_sha256 = read_record(folder)["sha256"]
    write_described(
        {path: zstandard.ZstdCompressor(level=_LEVEL).compress(artifact.model)},
        description_path(path),
        {
            "policy": artifact.policy,
            "policy_sha256": policy_sha256,
            "recipe": artifact.recipe,
            "sha256": artifact.sha256,
            "made": dict(made),
            "provenance": dict(artifact.provenance),
        },
    )
    return path


def load_variant(folder: Path, policy: str, recipe: str) -> Artifact | None:
    """The stored variant of ``recipe``; ``None`` where there is none of this very policy.

    Raises:
        BaselineError: the file is missing or not the one its JSON describes, or that is damaged.
    """
    path = variant_path(folder, recipe)
    about = description_path(path)
    if not about.exists():
        return None  # nothing says what a file without one is: compressed anew
    try:
        facts = read_json(about, VariantFile)
        expected = facts["sha256"]
        model = _model(settled(path, lambda file: _digest(file) == expected))
    except (OSError, ContentError, zstandard.ZstdError) as error:
        raise BaselineError(
            f"the stored variant {path} cannot be used ({about.name}: {error}); restore it, or"
            " delete it and its .json file"
        ) from None
    found = hashlib.sha256(model).hexdigest()
    if found != expected:
        raise BaselineError(
            f"{path} is not the file that {about.name} describes (its SHA-256 is {found[:12]}...,"
            f" recorded {expected[:12]}...): restore it, or delete both"
        )
    if facts["policy_sha256"] != read_record(folder)["sha256"] or facts["recipe"] != recipe:
        return None  # of an earlier policy: compressed anew
    provenance = {**facts["provenance"], "made": facts["made"]}
    return Artifact(model, policy, recipe, provenance)


def stored_recipes(folder: Path) -> list[str]:
    """The recipes of the variants that the baseline in ``folder`` brings, sorted.

    A file that cannot be read is among them by its name: its gate says what is wrong.
    """
    recipes = []
    for about in sorted((folder / FOLDER).glob("*.json")):
        try:
            recipes.append(str(read_json(about, VariantFile)["recipe"]))
        except (OSError, ContentError):
            recipes.append(about.name.removesuffix(".json").replace("~", ":"))
    return recipes


def _model(path: Path) -> bytes:
    """The artifact in ``path``, which is as large as it says and no larger than ``_LARGEST``.

    Raises:
        OSError: it cannot be read.
        ContentError: it claims to be too large.
        zstandard.ZstdError: it is not compressed by zstd, or damaged.
    """
    content = path.read_bytes()
    size = zstandard.get_frame_parameters(content).content_size
    if not 0 <= size <= _LARGEST:
        raise ContentError(f"{path.name} does not hold at most {_LARGEST:,} bytes")
    return zstandard.ZstdDecompressor().decompress(content)


def _digest(path: Path) -> str:
    """SHA-256 of the artifact in ``path``; empty where there is none."""
    try:
        return hashlib.sha256(_model(path)).hexdigest()
    except (OSError, ContentError, zstandard.ZstdError):
        return ""


def description_path(path: Path) -> Path:
    """The JSON file beside a stored variant."""
    return path.with_name(path.name.replace(".onnx.zst", ".json"))
