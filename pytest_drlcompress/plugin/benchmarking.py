"""Bridges to pytest-benchmark: a bare ``--benchmark-save``, and latency records."""

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from pytest_drlcompress.gates.kinds import GateKind

if TYPE_CHECKING:
    from pytest_drlcompress.core.verdict import Verdict
    from pytest_drlcompress.plugin.gate import Gate
    from pytest_drlcompress.workbench.candidate import Candidate

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


@dataclasses.dataclass(frozen=True, eq=False)
class NoBenchmark:
    """Stands in where no plugin has a ``benchmark`` fixture, so that the suites run even so."""

    @pytest.fixture
    def benchmark(self) -> None:
        """Records nothing."""


def provide_benchmark(config: pytest.Config) -> None:
    """Register ``NoBenchmark`` under ``-p no:benchmark``."""
    manager = config.pluginmanager
    if not any(hasattr(plugin, "benchmark") for plugin in manager.get_plugins()):
        manager.register(NoBenchmark(), "drlcompress-no-benchmark")


def with_benchmark(
    gate: "Gate", kind: GateKind, candidate: "Candidate", request: pytest.FixtureRequest
) -> "Gate":
    """``gate``, which also gives a ``benchmark`` in the same test what its kind has for it."""
    if not kind.benchmark or "benchmark" not in request.fixturenames:
        return gate
    benchmark: Any = request.getfixturevalue("benchmark")
    if kind.benchmark == "calls":
        return _recording_calls(gate, candidate, benchmark, request.config)
    return _recording_figures(gate, getattr(benchmark, "extra_info", None))


def _recording_calls(
    gate: "Gate", candidate: "Candidate", benchmark: Any, config: pytest.Config
) -> "Gate":
    """``gate``, which then also records the artifact's ``act_one`` with pytest-benchmark.

    Where nothing can be recorded (xdist, ``--benchmark-disable``, another plugin's ``benchmark``),
    the gate judges all the same, and the verdict says why nothing was.
    """

    def judge() -> "Verdict":
        verdict = gate.judge()
        if verdict.estimate is None:
            return verdict
        why_not = _not_recording(benchmark, config)
        if why_not:
            return _with(verdict, not_benchmarked=why_not)
        from pytest_drlcompress.gates.memory import memory_figures

        memory = memory_figures(candidate.artifact.model)
        benchmark.group = f"{verdict.gate} {verdict.policy}"
        benchmark.extra_info.update(
            policy=verdict.policy,
            variant=verdict.variant,
            ratio=verdict.estimate,
            ratio_interval=list(verdict.interval or ()),
            artifact_bytes=memory["bytes_on_disk"],
            latency=dict(verdict.details),
            memory=memory,
        )
        benchmark.pedantic(
            candidate.controller.act_one,
            args=(candidate.loaded.probe_observation,),
            rounds=_ROUNDS,
            iterations=_CALLS_PER_ROUND,
            warmup_rounds=5,
        )
        return _with(verdict, not_benchmarked="")

    return dataclasses.replace(gate, judge=judge)


def _recording_figures(gate: "Gate", extra: Any) -> "Gate":
    """``gate``, whose figures also go into ``extra``, the ``extra_info`` of a ``benchmark``."""

    def judge() -> "Verdict":
        verdict = gate.judge()
        if isinstance(extra, dict):
            extra[verdict.gate] = {"estimate": verdict.estimate, **verdict.details}
        return verdict

    return dataclasses.replace(gate, judge=judge)


def _not_recording(benchmark: Any, config: pytest.Config) -> str:
    """Why ``benchmark`` records nothing; empty if it does."""
    if benchmark is None:
        return "pytest-benchmark is not loaded"
    if not hasattr(benchmark, "pedantic") or not hasattr(benchmark, "extra_info"):
        return f"the benchmark fixture is {type(benchmark).__module__}'s"
    if not getattr(benchmark, "disabled", False):
        return ""
    if hasattr(config, "workerinput"):
        return "pytest-benchmark is disabled under xdist"
    return "--benchmark-disable"


def _with(verdict: "Verdict", **details: Any) -> "Verdict":
    return dataclasses.replace(verdict, details={**verdict.details, **details})
