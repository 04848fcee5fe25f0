"""Variants made once and kept beside their baseline: ``variants/<recipe>.onnx`` and a JSON file.

A recipe that takes minutes or a whole training is not compressed again in every run. A stored
file stands for the recipe only while it is the file that was written, of this very policy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.files import settled, sha256_of, write_described
from pytest_drlcompress.policies.record_file import read_record
from pytest_drlcompress.reading.baseline_file import VariantFile
from pytest_drlcompress.reading.typed import ContentError, read_json

FOLDER = "variants"


def variant_path(folder: Path, recipe: str) -> Path:
    """Where the variant of a canonical recipe text lies; no file name has a colon everywhere."""
    return folder / FOLDER / f"{recipe.replace(':', '~')}.onnx"


def store_variant(folder: Path, artifact: Artifact, made: Mapping[str, Any]) -> Path:
    """Write ``artifact`` and its JSON file beside the baseline in ``folder``, as one step.

    ``made`` says how (JSON builtins), beyond the artifact's own provenance.

    Raises:
        BaselineError: ``folder`` is no baseline.
    """
    path = variant_path(folder, artifact.recipe)
    policy_sha256 = read_record(folder)["sha256"]
    write_described(
        {path: artifact.model},
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
        BaselineError: the file is missing or not the one its JSON describes, or that is damaged.
    """
    path = variant_path(folder, recipe)
    about = path.with_suffix(".json")
    if not about.exists():
        return None  # nothing says what a file without one is: compressed anew
    try:
        facts = read_json(about, VariantFile)
        expected = facts["sha256"]
        path = settled(path, lambda file: sha256_of(file) == expected)
        found = sha256_of(path)
    except (OSError, ContentError) as error:
        raise BaselineError(
            f"the stored variant {path} cannot be used ({about.name}: {error}); restore it, or"
            " delete it and its .json file"
        ) from None
    if found != expected:
        raise BaselineError(
            f"{path} is not the file that {about.name} describes (its SHA-256 is {found[:12]}...,"
            f" recorded {expected[:12]}...): restore it, or delete both"
        )
    if facts["policy_sha256"] != read_record(folder)["sha256"] or facts["recipe"] != recipe:
        return None  # of an earlier policy: compressed anew
    provenance = {**facts["provenance"], "made": facts["made"]}
    return Artifact(path.read_bytes(), policy, recipe, provenance)
