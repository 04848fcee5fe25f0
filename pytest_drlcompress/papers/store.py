"""What was measured, one JSON file a baseline: a run that was interrupted goes on from there."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from pytest_drlcompress.core.artifact import SHORT
from pytest_drlcompress.core.errors import ReportError
from pytest_drlcompress.core.files import write_json
from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.evaluation.reference import Reference
from pytest_drlcompress.papers.targets import Cell

CONDITIONS = "conditions"
"""The key, in a file's head and in each cell, of what a return was held to."""


def conditions(reference: Reference, settings: Settings) -> str:
    """What a verdict on a return depends on beside the artifact, as text to read and compare."""
    figures = np.array([*reference.returns, *reference.random], np.float64)
    digest = hashlib.sha256(figures.tobytes()).hexdigest()[:SHORT]
    return (
        f"retention >= {settings.min_retention:g}, alpha {settings.alpha:g}, at most"
        f" {settings.max_episodes} episodes, seed {settings.seed}, reference {digest} of"
        f" {len(reference.returns)} episodes"
    )


@dataclass(frozen=True)
class Store:
    """The files in ``folder``."""

    folder: Path

    def read(self) -> dict[str, dict[str, Any]]:
        """Everything that is there, by baseline.

        Raises:
            ReportError: a file that cannot be read.
        """
        return {path.stem: _read(path) for path in sorted(self.folder.glob("*.json"))}

    def get(self, cell: Cell, head: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is stored of ``cell``; ``None`` where that is nothing, or not of this ``head``.

        Costs do not depend on returns, nor on what these were held to.

        Raises:
            ReportError: the file cannot be read.
        """
        stored = _read(self._path(cell.policy))
        found: dict[str, Any] | None = stored.get(cell.section, {}).get(cell.recipe)
        if found is None or stored.get("policy_sha256") != head["policy_sha256"]:
            return None
        current = cell.section == "costs" or found.get(CONDITIONS) == head[CONDITIONS]
        return found if current else None

    def put(self, cell: Cell, head: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        """Keep ``figures`` of ``cell``; those of an earlier policy of that name are dropped."""
        path = self._path(cell.policy)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            stored = _read(path)
            if stored.get("policy_sha256") != head["policy_sha256"]:
                stored = {}
            stored = {**stored, **head}
            held_to = {} if cell.section == "costs" else {CONDITIONS: head[CONDITIONS]}
            stored.setdefault(cell.section, {})[cell.recipe] = {**figures, **held_to}
            write_json(path, stored)

    def put_absent(self, facts: Mapping[str, Any]) -> None:
        """Keep why there is no such baseline, instead of any cells."""
        path = self._path(str(facts["policy"]))
        if _read(path) != facts:
            write_json(path, dict(facts))

    def _path(self, policy: str) -> Path:
        return self.folder / f"{policy}.json"


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(
            f"{path} cannot be read ({error}): restore it, or delete it to measure again"
        ) from None
    if not isinstance(content, dict):
        raise ReportError(f"{path} holds no object: restore it, or delete it to measure again")
    return content
