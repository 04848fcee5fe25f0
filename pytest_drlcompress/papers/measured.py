"""What the files of ``Store`` hold, as the cells of tables: figures, and how they are written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_drlcompress.core.verdict import State
from pytest_drlcompress.papers.store import CONDITIONS
from pytest_drlcompress.papers.targets import Cell, Section

EARLIER = "†"
"""Marks a figure of an earlier gate or reference."""

NOTHING = "-"
"""A cell that is not measured."""

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """``content`` is what ``Store.read`` gives."""

    content: Mapping[str, Figures]

    def cell(self, policy: str, section: Section, recipe: str) -> Figures | None:
        """The figures of a cell; ``None`` where nothing or an error is stored."""
        found: Figures | None = self._stored(policy, section, recipe)
        return None if found is None or "error" in found else found

    def state(self, policy: str, recipe: str) -> State | None:
        """The verdict on a variant's return."""
        found = self.cell(policy, "variants", recipe)
        return None if found is None else State(found["retention"]["state"])

    def estimate(self, policy: str, recipe: str) -> float | None:
        """The share of the return that a variant keeps."""
        found = self.cell(policy, "variants", recipe)
        value: float | None = None if found is None else found["retention"]["estimate"]
        return value

    def most_pruning(self, policy: str, norm: str) -> float | None:
        """The largest share of the channels that is shown to keep the return."""
        found = self.cell(policy, "sweeps", norm)
        value: float | None = None if found is None else found["most"]
        return value

    def has(self, policies: Iterable[str], section: Section, recipes: Iterable[str]) -> list[str]:
        """Those of ``policies`` of which every cell is measured."""
        recipes = list(recipes)
        return [p for p in policies if all(self.cell(p, section, recipe) for recipe in recipes)]

    def missing(self, cells: Iterable[Cell]) -> int:
        """How many of ``cells`` are not measured although their baseline exists, or may yet."""
        return sum(
            self._stored(cell.policy, cell.section, cell.recipe) is None
            for cell in cells
            if "did not learn" not in self.absent(cell.policy)
        )

    def absent(self, policy: str) -> str:
        """Why there is no such baseline; empty where there is one, or nothing is known."""
        return str(self.content.get(policy, {}).get("absent", ""))

    def dense_bytes(self, policy: str) -> int:
        """The size of the policy's own file in fp32."""
        return int(self.content[policy]["bytes"])

    def returns(self, policy: str) -> Figures | None:
        """``baseline``, ``random``, ``zero``: mean returns; ``episodes``: how many of the first."""
        found: Figures | None = self.content.get(policy, {}).get("returns")
        return found

    def gained(self, policy: str, share: float | None) -> float | None:
        """The return of a variant that keeps ``share``."""
        known = self.returns(policy)
        if known is None or share is None:
            return None
        return float(known["random"] + share * (known["baseline"] - known["random"]))

    def verdict_text(self, policy: str, recipe: str) -> str:
        """``PASS 0.996 [0.901, 1.101], 49``: verdict, retention, interval, episodes."""
        stored = self._stored(policy, "variants", recipe)
        if stored is None:
            return NOTHING
        if "error" in stored:
            return "cannot be made"
        text = retention_text(stored["retention"])
        return text + (EARLIER if self.is_earlier(policy, stored) else "")

    def is_earlier(self, policy: str, figures: Figures) -> bool:
        """Whether ``figures`` were held to another reference, or by other rules, than today's."""
        return bool(figures.get(CONDITIONS) != self.content[policy].get(CONDITIONS))

    def _stored(self, policy: str, section: Section, recipe: str) -> Figures | None:
        found: Figures | None = self.content.get(policy, {}).get(section, {}).get(recipe)
        return found


def retention_text(figures: Figures) -> str:
    """A verdict on a return in one cell of a table."""
    text = str(figures["state"])
    if figures["estimate"] is not None:
        text += f" {figures['estimate']:.3f}"
    if figures.get("interval") is not None:
        low, high = figures["interval"]
        text += f" [{low:.3f}, {high:.3f}], {figures['sample_size']}"
    return text


def number(value: float | None) -> str:
    """A return or a number of bytes."""
    return NOTHING if value is None else f"{round(value):,}"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [f"| {' | '.join(headings)} |"]
    lines.append("|" + "---|" * (lines[0].count("|") - 1))
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]
