"""Bridges to pytest-benchmark: a bare ``--benchmark-save``, and latency records."""

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_drlcompress.gates import Gate
    from pytest_drlcompress.verdict import Verdict
    from pytest_drlcompress.workbench import Workbench

_ROUNDS = 200
_CALLS_PER_ROUND = 20


@dataclasses.dataclass(frozen=True, eq=False)
class BareBenchmarkSave:
    """Makes ``--benchmark-save`` without a value mean what ``--benchmark-autosave`` does.

    pytest-benchmark demands a name. Its option exists once that plugin is registered, before
    or after this one, and before the command line is parsed.
    """

    parser: pytest.Parser

    def pytest_plugin_registered(self, plugin_name: str) -> None:
        """Called for every plugin, those registered earlier included."""
        if plugin_name in ("benchmark", "pytest_benchmark.plugin"):
            options = {
                name: option
                for option in self.parser.getgroup("benchmark").options
                for name in option.names()
            }
            save, automatic = options.get("--benchmark-save"), options.get("--benchmark-autosave")
            if save is not None and automatic is not None:
                save.attrs().update(nargs="?", const=automatic.attrs()["const"])


def record_latency(
    gate: "Gate", bench: "Workbench", policy: str, variant: str, request: pytest.FixtureRequest
) -> "Gate":
    """``gate``, which then also records the artifact's ``act_one`` with pytest-benchmark."""
    benchmark: Any = request.getfixturevalue("benchmark")

    def judge() -> "Verdict":
        verdict = gate.judge()
        if hasattr(benchmark, "pedantic") and not getattr(benchmark, "disabled", False):
            controller = bench.controller(policy, variant)
            observation = bench.probe_observations(policy)[0]
            benchmark.group = f"latency {verdict.policy}"
            benchmark.extra_info.update(
                policy=verdict.policy,
                variant=verdict.variant,
                ratio=verdict.estimate,
                ratio_interval=list(verdict.interval or ()),
                artifact_bytes=len(bench.artifact(policy, variant).model),
            )
            benchmark.pedantic(
                controller.act_one,
                args=(observation,),
                rounds=_ROUNDS,
                iterations=_CALLS_PER_ROUND,
                warmup_rounds=5,
            )
        return verdict

    return dataclasses.replace(gate, judge=judge)
