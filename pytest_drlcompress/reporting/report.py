"""One finished run as a document: what the JSON report holds and the others are made from."""

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_drlcompress.core.verdict import State
from pytest_drlcompress.core.version import __version__
from pytest_drlcompress.reporting.compare import SCHEMA_VERSION
from pytest_drlcompress.reporting.rerun import rerun_command
from pytest_drlcompress.reporting.results import Failure, Judged, Results

SCHEMA = Path(__file__).with_name("report.schema.json")
"""Where the JSON Schema of ``--drlc-report=PATH.json`` is."""


@dataclass(frozen=True)
class Report:
    """What was asked, what was judged, and where.

    ``options`` are those that another run of a gate needs, ``root`` is pytest's root
    directory, ``not_run`` the gates that were
    collected and gave no result (a run that stopped early), ``settings``, ``versions`` and
    ``processor`` what figures depend on. ``films`` are what ``playback.film`` made.
    """

    judged: tuple[Judged, ...]
    artifacts: tuple[Mapping[str, Any], ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    not_run: tuple[str, ...]
    arguments: tuple[str, ...]
    options: tuple[str, ...]
    exit_status: int
    created: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    processor: str
    root: Path = Path()
    films: tuple[Mapping[str, Any], ...] = ()

    def command(self, test: str) -> str:
        """The command that runs ``test`` alone, as it was run."""
        return rerun_command(test, self.options, self.root)

    def to_json(self) -> dict[str, Any]:
        """JSON builtins by ``report.schema.json``; floats have six significant digits."""
        verdicts = [j.verdict for j in self.judged]
        return _clean(  # type: ignore[no-any-return]
            {
                "schema_version": SCHEMA_VERSION,
                "tool": {"name": "pytest-drlcompress", "version": __version__},
                "created": self.created,
                "run": {
                    "arguments": list(self.arguments),
                    "exit_status": self.exit_status,
                    "not_run": list(self.not_run),
                    "settings": dict(self.settings),
                    "versions": dict(self.versions),
                    "processor": self.processor,
                    "platform": platform.platform(),
                },
                "counts": {s.value: sum(v.state is s for v in verdicts) for s in State},
                "verdicts": [self._judged_json(judged) for judged in self.judged],
                "artifacts": [dict(facts) for facts in self.artifacts],
                "failures": [
                    {"test": f.test, "message": f.message, "command": self.command(f.test)}
                    for f in self.failures
                ],
                "notes": list(self.notes),
            }
        )

    def _judged_json(self, judged: Judged) -> dict[str, Any]:
        return {
            **judged.verdict.to_json(),
            "test": judged.test,
            "outcome": judged.outcome,
            "message": judged.message,
            "command": self.command(judged.test),
        }


def make_report(
    results: Results,
    *,
    settings: Any,
    gates: set[str],
    reported: set[str],
    notes: list[str],
    arguments: tuple[str, ...],
    exit_status: int,
    root: Path,
) -> Report:
    """The report of a run that ends now; ``settings`` are the plugin's ``Settings``."""
    from pytest_drlcompress.baselines.record import current_versions
    from pytest_drlcompress.core.artifact import SHORT
    from pytest_drlcompress.evaluation.cache import processor_id

    shown = ("min_retention", "alpha", "max_episodes", "seed", "max_action_error", "perturb")
    asked = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name in shown}
    return Report(
        judged=tuple(results),
        artifacts=tuple(facts for _, facts in sorted(results.artifacts.items())),
        failures=tuple(f for test, f in sorted(results.failed.items()) if test in gates),
        notes=tuple(notes),
        not_run=tuple(sorted(gates - reported)),
        arguments=arguments,
        options=tuple(settings.rerun_options()),
        exit_status=exit_status,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=asked,
        versions=current_versions(),
        processor=processor_id()[:SHORT],
        root=root,
        films=tuple(pictures for _, pictures in sorted(results.films.items())),
    )


def _clean(value: Any) -> Any:
    """``value`` without what JSON cannot hold (NaN, infinities), and without noise digits."""
    if isinstance(value, Mapping):
        return {str(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
