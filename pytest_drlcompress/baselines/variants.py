"""Variants made once and kept beside their baseline: ``variants/<recipe>.onnx.zst``, and JSON.

A recipe that takes minutes or a whole training is not compressed again in every run. A stored
file stands for the recipe only while it is the file that was written, of this very policy. Zeros
and small integers compress well; what is judged are the bytes inside.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zstandard

from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.files import write_atomic, write_json
from pytest_drlcompress.policies.store import read_record

FOLDER = "variants"

_LEVEL = 19
"""Of zstd: made once, read often."""


def variant_path(folder: Path, recipe: str) -> Path:
    """Where the variant of a canonical recipe text lies; no file name has a colon everywhere."""
    return folder / FOLDER / f"{recipe.replace(':', '~')}.onnx.zst"


def store_variant(folder: Path, artifact: Artifact, made: Mapping[str, Any]) -> Path:
    """Write ``artifact`` beside the baseline in ``folder``; the JSON file last.

    ``made`` says how (JSON builtins), beyond the artifact's own provenance.

    Raises:
        BaselineError: ``folder`` is no baseline.
    """
    path = variant_path(folder, artifact.recipe)
    policy_sha256 = str(read_record(folder)["sha256"])
    write_atomic(path, zstandard.ZstdCompressor(level=_LEVEL).compress(artifact.model))
    write_json(
        _about(path),
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
        BaselineError: the file is not the one its JSON describes, or one of the two is missing.
    """
    path = variant_path(folder, recipe)
    about = _about(path)
    if not path.exists() and not about.exists():
        return None
    try:
        facts = json.loads(about.read_text())
        policy_sha256, stored = str(facts["policy_sha256"]), str(facts["recipe"])
        expected, provenance = str(facts["sha256"]), dict(facts["provenance"])
        model = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
        raise BaselineError(
            f"the stored variant {path} cannot be used ({type(error).__name__}: {error}); restore"
            " it, or delete it and its .json file"
        ) from None
    found = hashlib.sha256(model).hexdigest()
    if found != expected:
        raise BaselineError(
            f"{path} is not the file that {about.name} describes (its SHA-256 is {found[:12]}...,"
            f" recorded {expected[:12]}...): restore it, or delete both"
        )
    if policy_sha256 != str(read_record(folder).get("sha256")) or stored != recipe:
        return None  # of an earlier policy: compressed anew
    return Artifact(model, policy, recipe, {**provenance, "made": facts["made"]})


def stored_recipes(folder: Path) -> list[str]:
    """The recipes of the variants that the baseline in ``folder`` brings, sorted.

    A file that cannot be read is among them by its name: its gate says what is wrong.
    """
    recipes = []
    for about in sorted((folder / FOLDER).glob("*.json")):
        try:
            recipes.append(str(json.loads(about.read_text())["recipe"]))
        except (OSError, ValueError, KeyError, TypeError):
            recipes.append(about.name.removesuffix(".json").replace("~", ":"))
    return recipes


def _about(path: Path) -> Path:
    """The JSON file beside a stored variant."""
    return path.with_name(path.name.replace(".onnx.zst", ".json"))
