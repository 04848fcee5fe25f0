"""Variants made once and kept beside their baseline: ``variants/<recipe>.onnx`` and a JSON file.

A recipe that takes minutes or a whole training is not compressed again in every run. A stored
file stands for the recipe only while it is the file that was written, of this very policy.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.files import sha256_of, write_atomic, write_json
from pytest_drlcompress.policies.store import read_record

FOLDER = "variants"


def variant_path(folder: Path, recipe: str) -> Path:
    """Where the variant of a canonical recipe text lies; no file name has a colon everywhere."""
    return folder / FOLDER / f"{recipe.replace(':', '~')}.onnx"


def store_variant(folder: Path, artifact: Artifact, made: Mapping[str, Any]) -> Path:
    """Write ``artifact`` beside the baseline in ``folder``; the JSON file last.

    ``made`` says how (JSON builtins), beyond the artifact's own provenance.

    Raises:
        BaselineError: ``folder`` is no baseline.
    """
    path = variant_path(folder, artifact.recipe)
    policy_sha256 = str(read_record(folder)["sha256"])
    write_atomic(path, artifact.model)
    write_json(
        path.with_suffix(".json"),
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
    about = path.with_suffix(".json")
    if not path.exists() and not about.exists():
        return None
    try:
        facts = json.loads(about.read_text())
        policy_sha256, stored = str(facts["policy_sha256"]), str(facts["recipe"])
        expected, provenance = str(facts["sha256"]), dict(facts["provenance"])
        found = sha256_of(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaselineError(
            f"the stored variant {path} cannot be used ({type(error).__name__}: {error}); restore"
            " it, or delete it and its .json file"
        ) from None
    if found != expected:
        raise BaselineError(
            f"{path} is not the file that {about.name} describes (its SHA-256 is {found[:12]}...,"
            f" recorded {expected[:12]}...): restore it, or delete both"
        )
    if policy_sha256 != str(read_record(folder).get("sha256")) or stored != recipe:
        return None  # of an earlier policy: compressed anew
    return Artifact(path.read_bytes(), policy, recipe, {**provenance, "made": facts["made"]})
