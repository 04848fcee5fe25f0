"""Every baseline and training recipe as a line of a table, for a terminal or a document."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_drlcompress.baselines.record import FAILURE, read_baseline_record
from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.files import sha256_of
from pytest_drlcompress.gates.kinds import RETENTION
from pytest_drlcompress.policies.load import baseline_ids
from pytest_drlcompress.policies.record_file import RECORD
from pytest_drlcompress.policies.store import WEIGHTS
from pytest_drlcompress.reading.baseline_file import FailureFile, TrainedSteps
from pytest_drlcompress.reading.typed import ContentError, read_json
from pytest_drlcompress.training.recipes import TrainingRecipe

_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Row:
    """What is known of one baseline; ``None`` where nothing is.

    ``state`` is ``"competent"``, ``"not competent"`` (trained, but did not learn its task),
    ``"not trained"`` or ``"damaged"``; ``note`` says more. ``curve`` holds ``[steps, return]``
    of each evaluation during training, ``seconds`` is the training's wall time, ``size`` the
    bytes of the weights, ``verdicts`` what is recorded of its variants.
    """

    id: str
    state: str
    note: str = ""
    mean: float | None = None
    deviation: float | None = None
    length: float | None = None
    random: float | None = None
    zero: float | None = None
    quality: str = ""
    published: float | None = None
    steps: int | None = None
    seconds: float | None = None
    size: int | None = None
    sha256: str = ""
    curve: tuple[tuple[float, float], ...] = ()
    verdicts: Mapping[str, Any] = field(default_factory=dict)


def read_rows(baselines: Path, recipes: Mapping[str, TrainingRecipe], work: Path) -> list[Row]:
    """A row for each recipe, in their order, and one for each other baseline.

    ``work`` holds the checkpoints of trainings that are not finished.
    """
    others = [name for name in baseline_ids(baselines) if name not in recipes]
    return [_row(baselines / name, recipes.get(name), work) for name in [*recipes, *others]]


def summary(rows: Sequence[Row]) -> str:
    """How many baselines there are of each kind."""
    competent = [row for row in rows if row.state == "competent"]
    full = sum(row.quality == "full" for row in competent)
    partial = sum(row.quality == "partial" for row in competent)
    counts = {state: sum(row.state == state for row in rows) for state in _OTHER_STATES}
    others = "".join(f", {count} {state}" for state, count in counts.items() if count)
    quality = f"{full} full, {partial} partial"
    return f"{len(rows)} baselines: {len(competent)} competent ({quality}){others}"


def text_table(rows: Sequence[Row]) -> str:
    """The table for a terminal; below it, what is wrong with a baseline."""
    columns: dict[str, Callable[[Row], str]] = {
        "baseline": lambda row: row.id,
        **_COLUMNS,
        "quality": lambda row: row.quality or "-",
        "steps": lambda row: _number(row.steps),
        "bytes": lambda row: _number(row.size),
        "SHA-256": lambda row: row.sha256[:12] or "-",
        "curve": _sparkline,
        "": lambda row: row.state + (f", {row.note}" if row.note and row.state == _PENDING else ""),
    }
    cells = [list(columns), *([column(row) for column in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = {0, len(widths) - 2, len(widths) - 1}
    lines = [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    troubles = [f"{row.id}: {row.note}" for row in rows if row.note and row.state != _PENDING]
    return "\n".join([*lines, *([""] if troubles else []), *troubles])


def markdown_table(rows: Sequence[Row]) -> str:
    """The table for a document; nothing in it depends on trainings that are not finished."""
    columns: dict[str, Callable[[Row], str]] = {
        "baseline": lambda row: row.id,
        **_COLUMNS,
        "published": lambda row: _number(row.published),
        "quality": lambda row: row.quality or row.state,
        "steps": lambda row: _number(row.steps),
        "hours": lambda row: "-" if row.seconds is None else f"{row.seconds / 3600:.1f}",
        "curve": _sparkline,
    }
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 2) + "|---|"]
    lines += ["| " + " | ".join(cell(row) for cell in columns.values()) + " |" for row in rows]
    failures = [row for row in rows if row.state == "not competent"]
    for row in failures:
        curve = ", ".join(f"{steps:,.0f}: {value:.0f}" for steps, value in row.curve)
        lines += ["", f"**{row.id}** did not learn its task. {row.note} Its curve: {curve}."]
    return "\n".join([*lines, "", f"{summary(rows)}.", *_retention_lines(rows)])


def _retention_lines(rows: Sequence[Row]) -> list[str]:
    """The recorded retention of each variant, and what share of the policies each keeps."""
    judged = [row for row in rows if row.verdicts]
    variants = list(dict.fromkeys(v for row in judged for v in sorted(row.verdicts, key=len)))
    if not variants:
        return []
    lines = [
        "",
        f"| {RETENTION.name} | " + " | ".join(variants) + " |",
        "|---" * (len(variants) + 1) + "|",
    ]
    states: dict[str, list[str]] = {variant: [] for variant in variants}
    for row in judged:
        cells = []
        for variant in variants:
            recorded = row.verdicts.get(variant, {}).get(RETENTION.name)
            if recorded is None:
                cells.append("-")
                continue
            states[variant].append(recorded["state"])
            estimate = recorded.get("estimate")
            cells.append(recorded["state"] + ("" if estimate is None else f" {estimate:.3f}"))
        lines.append(f"| {row.id} | " + " | ".join(cells) + " |")
    passed = [f"{found.count('PASS')} of {len(found)} PASS" for found in states.values()]
    return [*lines, "| | " + " | ".join(passed) + " |"]


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """``values`` as at most ``width`` blocks, from their lowest to their highest."""
    if not values:
        return ""
    chosen = [values[index * len(values) // width] for index in range(width)]
    shown = list(values) if len(values) <= width else [*chosen[:-1], values[-1]]
    low, high = min(values), max(values)
    steps = len(_BLOCKS) - 1
    return "".join(
        _BLOCKS[round((value - low) / (high - low) * steps) if high > low else 0] for value in shown
    )


_PENDING = "not trained"
_OTHER_STATES = ("not competent", _PENDING, "damaged")


def _row(folder: Path, recipe: TrainingRecipe | None, work: Path) -> Row:
    published = None if recipe is None else recipe.published
    try:
        if (folder / RECORD).exists():
            return _trained(folder)
        if (folder / FAILURE).exists():
            return _failed(folder)
    except BaselineError as error:
        return Row(folder.name, "damaged", str(error), published=published)
    return Row(folder.name, _PENDING, _progress(work / folder.name), published=published)


def _trained(folder: Path) -> Row:
    record = read_baseline_record(folder)
    reference, training, weights = record.reference, record.training, folder / WEIGHTS
    if not weights.is_file():
        raise BaselineError(f"{weights} is missing: restore it, or train the policy again")
    reason, sha256 = reference.competence(), sha256_of(weights)
    if sha256 != record.sha256:
        raise BaselineError(
            f"{weights} has SHA-256 {sha256[:12]}, recorded {record.sha256[:12]}: restore it, or"
            " train the policy again"
        )
    return Row(
        folder.name,
        "competent" if reason is None else "not competent",
        _sentence(reason or ""),
        mean=reference.mean,
        deviation=statistics.stdev(reference.returns),
        length=record.length,
        random=reference.random_mean,
        zero=statistics.fmean(reference.zero),
        quality=record.quality,
        published=training.get("published"),
        steps=training.get("trained_steps"),
        seconds=training.get("seconds"),
        size=weights.stat().st_size,
        sha256=sha256,
        curve=_curve(training),
        verdicts=record.verdicts,
    )


def _failed(folder: Path) -> Row:
    path = folder / FAILURE
    try:
        record = read_json(path, FailureFile)
    except (OSError, ContentError) as error:
        raise BaselineError(f"{path} cannot be read: {error}; train the policy again") from None
    policy, training = record["policy"], record["training"]
    return Row(
        folder.name,
        "not competent",
        _sentence(record["reason"]),
        mean=policy["mean"],
        deviation=policy["deviation"],
        length=policy["length"],
        random=policy["random"],
        zero=policy["zero"],
        published=training["published"],
        steps=training["trained_steps"],
        seconds=training["seconds"],
        curve=_curve(training),
    )


def _progress(work: Path) -> str:
    try:
        state = read_json(work / "state.json", TrainedSteps)
    except (OSError, ContentError):
        return ""
    return f"{state['steps']:,} steps so far"


def _sentence(text: str) -> str:
    """The first sentence: the advice after it is for whoever is training."""
    first, dot, _ = text.partition(". ")
    return first + dot.strip()


def _sparkline(row: Row) -> str:
    return sparkline([value for _, value in row.curve])


def _curve(training: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    return tuple((float(steps), float(value)) for steps, value in training.get("curve", ()))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value):,}"  # no "-0"


def _return(row: Row) -> str:
    if row.mean is None or row.deviation is None:
        return "-"
    return f"{row.mean:,.0f} +- {row.deviation:,.0f}"


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "return": _return,
    "length": lambda row: _number(row.length),
    "random": lambda row: _number(row.random),
    "zero": lambda row: _number(row.zero),
}
