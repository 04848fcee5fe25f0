"""``--benchmark-compare``: a run by its name, and our latencies beside the recorded ones.

pytest-benchmark keeps runs as ``.benchmarks/<machine>/0001_<name>.json`` and finds them by number.
It compares whatever it finds; times of other hardware say nothing, so our table leaves them out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.gates.kinds import LATENCY

_HARDWARE = ("brand_raw", "arch", "count", "family", "model", "stepping", "flags")


@dataclass(frozen=True)
class RecordedRun:
    """One run of pytest-benchmark: when, on this hardware or on which other, our latencies.

    ``latencies`` maps (policy, variant) to the median microseconds of one action.
    """

    when: str
    other_hardware: str
    latencies: Mapping[tuple[str, str], float]


@dataclass(eq=False)
class Comparison:
    """Listens to pytest-benchmark and remembers the runs it compares with."""

    runs: list[RecordedRun] = field(default_factory=list)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_compare_machine_info(
        self, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
    ) -> None:
        """A run of pytest-benchmark has been loaded."""
        self.runs.append(recorded_run(machine_info, compared_benchmark))

    def lines(self, verdicts: Sequence[Verdict]) -> list[str]:
        """A line for each latency that a run on the same hardware recorded as well."""
        return [line for run in self.runs for line in comparison_lines(run, verdicts)]


def recorded_run(here: Mapping[str, Any], stored: Mapping[str, Any]) -> RecordedRun:
    """Read one of pytest-benchmark's files; ``here`` is this machine as it describes it."""
    there = stored.get("machine_info", {})
    same = _hardware(here) == _hardware(there)
    latencies = {}
    for benchmark in stored.get("benchmarks", ()):
        extra = benchmark.get("extra_info", {})
        microseconds = extra.get("latency", {}).get("candidate_us")
        if microseconds:
            latencies[extra["policy"], extra["variant"]] = float(microseconds)
    return RecordedRun(
        when=str(stored.get("datetime", "at an unknown time"))[:19],
        other_hardware="" if same else str(there.get("cpu", {}).get("brand_raw", "unknown")),
        latencies=latencies,
    )


def comparison_lines(run: RecordedRun, verdicts: Iterable[Verdict]) -> list[str]:
    """What to print of ``verdicts`` beside ``run``."""
    now = {
        (v.policy, v.variant): float(v.details["candidate_us"])
        for v in verdicts
        if v.gate == LATENCY.name and v.details.get("candidate_us")
    }
    if not now or not run.latencies:
        return []
    if run.other_hardware:
        what = f"latencies recorded {run.when} are of other hardware ({run.other_hardware})"
        return [f"{what}: not compared"]
    return [
        f"{LATENCY.name} {policy} / {variant}: {now[policy, variant]:.2f} us, recorded {run.when}:"
        f" {before:.2f} us, {now[policy, variant] / before:.2f}x"
        for (policy, variant), before in run.latencies.items()
        if (policy, variant) in now
    ]


def find_named_run(config: pytest.Config) -> None:
    """Let ``--benchmark-compare=NAME`` mean the newest run saved by ``--benchmark-save=NAME``.

    Numbers, globs and paths are left to pytest-benchmark, as is a storage that is no folder.
    """
    asked = getattr(config.option, "benchmark_compare", None)
    storage = str(getattr(config.option, "benchmark_storage", ""))
    if not isinstance(asked, str) or not storage.startswith("file://"):
        return
    if re.fullmatch(r"\d+", asked) or Path(asked).is_file() or set(asked) & set("*?[/"):
        return
    pattern = re.compile(rf"\d{{4}}_{re.escape(asked)}\.json")
    folder = Path(storage.removeprefix("file://")).resolve()
    found = [path for path in folder.glob("*/*.json") if pattern.fullmatch(path.name)]
    if found:
        newest = max(found, key=lambda path: (path.stat().st_mtime, path.name))
        config.option.benchmark_compare = str(newest)


def _hardware(info: Mapping[str, Any]) -> dict[str, Any]:
    cpu = info.get("cpu", {})
    return {**{name: cpu.get(name) for name in _HARDWARE}, "machine": info.get("machine")}
