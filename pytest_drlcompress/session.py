"""The run: its settings, its workbench, the verdicts it has heard of, and what it must not lose.

Under xdist each worker has a run of its own; verdicts travel to the controller inside test
reports, and the ids of all gates inside ``workeroutput``, so that the controller notices a
gate that never reported.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_drlcompress.errors import ArtifactError, DrlcError
from pytest_drlcompress.gates import NEWS_PROPERTY, VERDICT_PROPERTY
from pytest_drlcompress.options import Settings, read_settings
from pytest_drlcompress.verdict import Verdict

if TYPE_CHECKING:
    from pytest_drlcompress.workbench import Workbench

GATES = ("retention", "action_error", "latency", "pruning_sweep")
"""Fixtures that make a test a gate."""

_GATES_OUTPUT = "drlcompress_gates"


@dataclass(eq=False)
class Run:
    """State of one pytest process. ``worker`` is true in an xdist worker.

    ``gates`` are the ids of the tests that are to give verdicts, ``reported`` of those whose
    reports have come in.
    """

    settings: Settings
    worker: bool
    gates: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    verdicts: list[Verdict] = field(default_factory=list)
    news: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _bench: "Workbench | None" = None

    @property
    def bench(self) -> "Workbench":
        """The workbench, made when it is first needed: its imports take seconds."""
        if self._bench is None:
            from pytest_drlcompress.compression.registry import builtin_registry
            from pytest_drlcompress.workbench import Workbench

            self._bench = Workbench(self.settings, builtin_registry())
        return self._bench

    def collected(self, items: list[pytest.Item]) -> None:
        """Remember which of ``items`` are gates."""
        self.gates.update(
            item.nodeid
            for item in items
            if any(name in GATES for name in getattr(item, "fixturenames", ()))
        )

    def heard(self, report: pytest.TestReport) -> None:
        """Take the verdicts out of a test's report."""
        self.reported.add(report.nodeid)
        if report.when != "call":
            return
        for name, value in report.user_properties:
            if name == VERDICT_PROPERTY and isinstance(value, dict):
                self.verdicts.append(Verdict.from_json(value))
            elif name == NEWS_PROPERTY:
                self.news.append(str(value))

    def heard_of_worker(self, output: dict[str, Any]) -> None:
        """In the controller: a worker has gone and left ``output``; empty if it crashed."""
        self.gates.update(output.get(_GATES_OUTPUT, ()))

    def finish(self, session: pytest.Session) -> None:
        """Fail a run that lost a gate; write what was asked to be recorded."""
        if self._bench is not None:
            self._bench.close()
        if self.worker:
            output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
            output[_GATES_OUTPUT] = sorted(self.gates)
            return
        stopped = session.shouldstop or session.shouldfail or session.config.option.collectonly
        lost = sorted(self.gates - self.reported)
        if lost and not stopped:
            self.notes.append(f"{len(lost)} gates never reported a result: {', '.join(lost[:5])}")
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.settings.record:
            self.notes.extend(self._record())

    def summarize(self, reporter: Any) -> None:
        """Write the verdicts, the news and the notes; nothing in a run without any."""
        if self.verdicts or self.notes:
            from pytest_drlcompress.reporting.terminal import write_summary

            write_summary(reporter, self.verdicts, self.news, self.notes)

    def check_names(self) -> None:
        """Load every policy and recipe that the user named.

        Raises:
            DrlcError: one of them does not exist, cannot be read or does not fit.
        """
        settings = self.settings
        if not (settings.policies or settings.variants or settings.env or settings.perturb):
            return
        from pytest_drlcompress.compression.recipe import parse_recipe
        from pytest_drlcompress.evaluation.perturb import Perturbation
        from pytest_drlcompress.policies.environment import EnvSpec

        for variant in settings.variants:
            if not variant.endswith(".onnx"):
                self.bench.registry.resolve(parse_recipe(variant))
            elif not Path(variant).is_file():
                raise ArtifactError(f"variant {variant!r}: no such file")
        if settings.perturb:
            Perturbation.parse(settings.perturb)
        if settings.env is not None:
            _ = EnvSpec.parse(settings.env).spaces
        if settings.policies:
            for policy in self.bench.policy_texts():
                self.bench.load(policy)

    def _record(self) -> list[str]:
        from pytest_drlcompress.records import record_verdicts

        lines = []
        for text in self.bench.policy_texts():
            loaded = self.bench.load(text)
            mine = [v for v in self.verdicts if v.policy == loaded.policy.id]
            if loaded.folder is not None and mine:
                only_new = self.settings.record == "new"
                lines += record_verdicts(loaded.folder, mine, only_new=only_new)
        return [f"recorded {line}" for line in lines] or ["nothing new to record"]


RUN = pytest.StashKey[Run]()


@dataclass(frozen=True, eq=False)
class Listener:
    """Hooks that pytest calls without a ``config``."""

    run: Run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the verdicts out of a report."""
        self.run.heard(report)


@dataclass(frozen=True, eq=False)
class XdistListener:
    """Hooks of pytest-xdist, registered only where it is active."""

    run: Run

    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has gone; ``node`` holds what it left."""
        self.run.heard_of_worker(getattr(node, "workeroutput", {}))


def start(config: pytest.Config) -> None:
    """Read the settings and load what the user named, so that a mistake ends the run here.

    Raises:
        pytest.UsageError: an impossible option, policy, environment or recipe.
    """
    settings = read_settings(config)
    run = Run(settings, worker=hasattr(config, "workerinput"))
    config.stash[RUN] = run
    if settings.record and config.getoption("numprocesses", None):
        raise pytest.UsageError(
            "--drlc-record writes into the baselines and needs a run in one process: leave out -n"
        )
    if settings.record and settings.sweep:
        raise pytest.UsageError(
            "--drlc-sweep measures and is not recorded: leave out --drlc-sweep or --drlc-record"
        )
    try:
        run.check_names()
    except DrlcError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(Listener(run), "drlcompress-listener")
    if config.pluginmanager.has_plugin("dsession"):
        config.pluginmanager.register(XdistListener(run), "drlcompress-xdist")
