"""What a search knows of each recipe, kept in a folder so that it can go on where it ended."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.files import write_atomic, write_json


class SearchError(DrlcError):
    """A search that cannot be run or continued as asked."""


@dataclass(frozen=True)
class Trial:
    """One recipe that was tried.

    ``figures`` are measured on the artifact, under the names of budgets. ``kept`` is the share of
    the return in a few screening episodes: a guess that guides the search and shows nothing.
    ``verdict`` is that of the sequential gate, for finalists.
    """

    recipe: str
    entry: str
    steps: int
    figures: Mapping[str, float]
    kept: float
    seconds: float
    verdict: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> bool:
        """Whether the gate has shown that it keeps the return."""
        return self.verdict.get("state") == "PASS"

    def over(self, budgets: Mapping[str, float]) -> list[str]:
        """The budgets that it exceeds."""
        return [name for name, limit in budgets.items() if self.figures[name] > limit]


class Trials:
    """The trials of one policy in ``folder``; every change is on disk at once."""

    def __init__(self, folder: Path, policy: str, sha256: str) -> None:
        self.folder = folder
        self._path = folder / "trials.json"
        self._head = {"policy": policy, "sha256": sha256}
        self.by_recipe: dict[str, Trial] = {}
        if self._path.exists():
            self._read()

    def add(self, trial: Trial, model: bytes | None = None) -> None:
        """Remember ``trial``, and its artifact."""
        self.by_recipe[trial.recipe] = trial
        self.folder.mkdir(parents=True, exist_ok=True)
        if model is not None:
            write_atomic(self.model_path(trial.recipe), model)
        rows = [asdict(each) for each in self.by_recipe.values()]
        write_json(self._path, {**self._head, "trials": rows})

    def model_path(self, recipe: str) -> Path:
        """Where the artifact of ``recipe`` is kept."""
        return self.folder / f"{recipe.replace(':', '~')}.onnx"

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            trials = [Trial(**row) for row in found["trials"]]
            head = {name: found[name] for name in self._head}
        except (ValueError, KeyError, TypeError) as error:
            raise SearchError(f"{self._path} cannot be read ({error}); remove it") from None
        if head != self._head:
            raise SearchError(
                f"{self._path} is of {head['policy']!r}, or of another version of the policy:"
                " choose another --out"
            )
        self.by_recipe = {trial.recipe: trial for trial in trials}
