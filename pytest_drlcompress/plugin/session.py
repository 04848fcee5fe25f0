"""The run: its settings, its workbench, the verdicts that came in, and what it must not lose.

Under xdist each worker has a run of its own; verdicts travel to the controller inside test
reports, and the ids of all gates inside ``workeroutput``, so that the controller notices a
gate that never reported.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pytest_drlcompress.core.errors import ArtifactError, DrlcError
from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.gates.kinds import GATE_KINDS, RETENTION
from pytest_drlcompress.plugin.benchmark_compare import Comparison
from pytest_drlcompress.reporting.rerun import rerun_command
from pytest_drlcompress.reporting.results import Results, flattened

if TYPE_CHECKING:
    from pytest_drlcompress.gates.cells import Asked, Cells
    from pytest_drlcompress.workbench.candidate import Candidate
    from pytest_drlcompress.workbench.workbench import Workbench

_GATES_OUTPUT = "drlcompress_gates"
_NOTES_OUTPUT = "drlcompress_notes"


@dataclass(eq=False)
class Run:
    """State of one pytest process. ``worker`` is true in an xdist worker.

    ``gates`` are the ids of the tests that are to give verdicts, ``reported`` of those whose
    reports have come in. ``unnamed`` says why gates were collected without a policy.
    """

    config: pytest.Config
    settings: Settings
    worker: bool
    gates: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    results: Results = field(default_factory=Results)
    notes: list[str] = field(default_factory=list)
    broken: bool = False
    unnamed: str = ""
    comparison: Comparison = field(default_factory=Comparison)
    cells: "Cells | None" = None
    _bench: "Workbench | None" = None

    @property
    def bench(self) -> "Workbench":
        """The workbench, made when it is first needed: its imports take seconds."""
        if self._bench is None:
            from pytest_drlcompress.compression.registry import builtin_registry
            from pytest_drlcompress.environments.engines import Engines
            from pytest_drlcompress.workbench.workbench import Workbench

            hooks = self.config.hook
            self._bench = Workbench(
                self.settings,
                builtin_registry().with_kinds(self._from_hook(hooks.pytest_drlcompress_recipes)),
                Engines.of(self._from_hook(hooks.pytest_drlcompress_environments)),
                self._from_hook(hooks.pytest_drlcompress_policies),
                on_note=self.notes.append,
            )
        return self._bench

    def _from_hook(self, hook: Any) -> list[Any]:
        """What all implementations of ``hook`` give, in one list."""
        return [one for several in hook(config=self.config) for one in several]

    def collected(self, items: list[pytest.Item]) -> None:
        """Remember which of ``items`` are gates.

        Raises:
            pytest.UsageError: they have no policy to judge.
        """
        if self.unnamed:
            raise pytest.UsageError(self.unnamed)
        fixtures = {kind.fixture for kind in GATE_KINDS}
        self.gates.update(
            item.nodeid
            for item in items
            if not fixtures.isdisjoint(getattr(item, "fixturenames", ()))
        )

    def planned(self, items: Sequence[pytest.Item]) -> bool | None:
        """Note what the retention gates among ``items`` would cost; ``None`` if not asked for.

        Raises:
            pytest.UsageError: a policy, variant or environment that cannot be loaded.
        """
        if not self.settings.plan or self.config.option.collectonly:
            return None
        from pytest_drlcompress.gates.budgets import read_budgets
        from pytest_drlcompress.gates.plan import plan_gate, plan_lines

        gates = []
        try:
            for item in items:
                if RETENTION.fixture not in getattr(item, "fixturenames", ()):
                    continue
                parameters = item.callspec.params  # type: ignore[attr-defined]
                candidate = self.bench.candidate(
                    str(parameters["_drlc_policy_text"]), str(parameters["variant"])
                )
                limit = read_budgets(item).limit(RETENTION.limit, self.settings)
                assert limit is not None  # it has a default
                gates.append((candidate.loaded, plan_gate(candidate, limit)))
            self.notes.extend(plan_lines(gates, self.settings))
        except DrlcError as error:
            raise pytest.UsageError(str(error)) from None
        return True

    def begin(self, items: Sequence[pytest.Item]) -> None:
        """Send the cells of ``items`` to other machines, where there are some.

        Raises:
            pytest.UsageError: they cannot be reached, or nothing can be sent there.
        """
        settings = self.settings
        if settings.executor == "local" or settings.observations or self.config.option.collectonly:
            return
        from pytest_drlcompress.gates.budgets import read_budgets
        from pytest_drlcompress.gates.cells import Cells

        wanted: list[tuple[Candidate, Asked | None]] = []
        try:
            for item in items:
                parameters = getattr(getattr(item, "callspec", None), "params", {})
                if not {"_drlc_policy_text", "variant"} <= parameters.keys():
                    continue
                candidate = self.bench.candidate(
                    str(parameters["_drlc_policy_text"]), str(parameters["variant"])
                )
                if not candidate.loaded.policy.env.simulated:
                    continue
                fixtures = getattr(item, "fixturenames", ())
                asked = [
                    (kind.name, read_budgets(item))
                    for kind in GATE_KINDS
                    if kind.anywhere and kind.fixture in fixtures
                ]
                wanted += [(candidate, one) for one in asked or (None,)]
            jobs = self.bench.tools.executor.jobs
            if jobs is not None and len({id(candidate) for candidate, _ in wanted}) > 1:
                self.cells = Cells(jobs, wanted)
                self.cells.start()
        except (DrlcError, ValueError) as error:
            raise pytest.UsageError(str(error)) from None

    def rerun(self, nodeid: str) -> str:
        """The command that runs the test ``nodeid`` alone."""
        return rerun_command(nodeid, self.settings.rerun_options(), self.config.rootpath)

    def on_report(self, report: pytest.TestReport) -> None:
        """Take the verdicts out of a test's report."""
        if self.worker:
            return  # the controller gets it, too
        self.reported.add(report.nodeid)
        for judged in self.results.add(report):
            self.config.hook.pytest_drlcompress_verdict(
                config=self.config, verdict=judged.verdict, nodeid=judged.test
            )
        report.user_properties = flattened(report.user_properties)

    def on_worker_exit(self, output: dict[str, Any]) -> None:
        """In the controller: a worker has gone and left ``output``; empty if it crashed."""
        self.gates.update(output.get(_GATES_OUTPUT, ()))
        self.notes.extend(n for n in output.get(_NOTES_OUTPUT, ()) if n not in self.notes)

    def finish(self, session: pytest.Session) -> None:
        """Fail a run that lost a gate; write what was asked to be recorded."""
        if self._bench is not None:
            self.notes.extend(self._bench.tools.executor.notes())
            self._bench.close()
        if self.worker:
            output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
            output[_GATES_OUTPUT] = sorted(self.gates)
            output[_NOTES_OUTPUT] = self.notes
            return
        only_looked = session.config.option.collectonly or self.settings.plan
        stopped = session.shouldstop or session.shouldfail or only_looked
        lost = sorted(self.gates - self.reported)
        if lost and not stopped:
            self.notes.append(f"{len(lost)} gates never reported a result: {', '.join(lost[:5])}")
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.broken and session.exitstatus == pytest.ExitCode.OK:
            # xdist can end so, when the workers that broke are gone before they say what they ran
            self.notes.append("an internal error ended the run early: see above")
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        if only_looked:
            return
        self.notes.extend(self.results.notes)
        if self.settings.record or self.settings.record_new:
            self.notes.extend(self._record())
        if self.settings.report:
            self._report(session)

    def summarize(self, reporter: Any) -> None:
        """Write the verdicts, the improvements and the notes; nothing in a run without any."""
        if self.results.judged or self.notes:
            from pytest_drlcompress.reporting.terminal import write_summary

            notes = [*self.comparison.lines(self.results.verdicts), *self.notes]
            write_summary(reporter, self.results, notes)

    def check_names(self) -> None:
        """Load every policy and recipe that the user named.

        Raises:
            DrlcError: one of them does not exist, cannot be read or does not fit.
        """
        settings = self.settings
        asked = (settings.policies, settings.variants, settings.env, settings.perturb)
        if not (any(asked) or settings.observations):
            return
        from pytest_drlcompress.compression.variant import Variant
        from pytest_drlcompress.environments.perturbation import Perturbation
        from pytest_drlcompress.environments.spec import EnvSpec

        if settings.observations:
            _ = self.bench.tools.recording  # reads it
        for variant in map(Variant, settings.variants):
            if variant.recipe is not None:
                self.bench.tools.registry.resolve(variant.recipe)
            elif variant.file is None or not variant.file.is_file():
                raise ArtifactError(f"variant {variant.text!r}: no such file")
        if settings.perturb:
            Perturbation.parse(settings.perturb)
        if settings.env is not None:
            _ = EnvSpec.parse(settings.env).spaces
        if settings.policies:
            for text in self.bench.policy_texts():
                self.bench.load(text)
            self.notes.extend(self._interfaces())

    def _interfaces(self) -> list[str]:
        """What was chosen among inputs and outputs of ONNX files that have more than a policy's."""
        lines = []
        for text in self.bench.policy_texts():
            policy = self.bench.load(text).policy
            chosen = policy.provenance.get("interface", ())
            lines += [f"{policy.origin}: {note}" for note in chosen]
            for variant in self.settings.variants:
                candidate = self.bench.candidate(text, variant)
                if candidate.variant.file is not None:
                    with contextlib.suppress(DrlcError):  # its gates will say so
                        chosen = candidate.artifact.provenance.get("interface", ())
                        lines += [f"{variant}: {note}" for note in chosen]
        return list(dict.fromkeys(lines))

    def _report(self, session: pytest.Session) -> None:
        from pytest_drlcompress.reporting.report import make_report
        from pytest_drlcompress.reporting.write import write_reports

        report = make_report(
            self.results,
            settings=self.settings,
            gates=self.gates,
            reported=self.reported,
            notes=self.notes,
            arguments=tuple(map(str, session.config.invocation_params.args)),
            exit_status=int(session.exitstatus),
            root=self.config.rootpath,
        )
        written, errors = write_reports(report, self.settings.report)
        self.notes.extend(written + errors)
        if errors and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _record(self) -> list[str]:
        from pytest_drlcompress.baselines.verdicts import record_verdicts
        from pytest_drlcompress.gates.records import recordable

        lines = []
        for text in self.bench.policy_texts():
            loaded = self.bench.load(text)
            mine = recordable(v for v in self.results.verdicts if v.policy == loaded.policy.id)
            artifacts = {
                variant: facts
                for (policy, variant), facts in self.results.artifacts.items()
                if policy == loaded.policy.id
            }
            if loaded.folder is not None and mine:
                only_new = not self.settings.record
                lines += record_verdicts(loaded.folder, mine, artifacts, only_new=only_new)
        return [f"recorded {line}" for line in lines] or ["nothing new to record"]


RUN = pytest.StashKey[Run]()
