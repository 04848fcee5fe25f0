"""The search for the smallest artifact that is shown to keep the return.

From cheap to dear: post-training quantization; then narrow and sparse int8 networks, trained for
a quarter, a half and all of the steps, of which the better half goes on each time (successive
halving on a few screening episodes). At most three finalists go before the sequential gate, the
smallest first, on episodes that no trial has seen, each at a share of ``alpha``: the probability
that any of them passes although it keeps less is at most ``alpha``, whatever the screening did
(Bonferroni; the gate's own bound holds whenever it stops).
"""

import dataclasses
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.settings import Settings, default_settings
from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.frontier import field, halving, ladder
from pytest_drlcompress.frontier.costs import beyond, read_budgets, shown, size_name
from pytest_drlcompress.frontier.result import Frontier, passed
from pytest_drlcompress.frontier.trial import Job, Trial, run_jobs

if TYPE_CHECKING:
    from pytest_drlcompress.workbench.loaded import LoadedPolicy
    from pytest_drlcompress.workbench.workbench import Workbench

DEFAULT_TARGET = "cortex-m4"

EPISODES = (16, 24, 32)
"""Screening episodes, rung by rung."""

_FOR_GATES = 0.2
"""Share of the time that training may not use."""


def find_smallest(
    policy: str,
    budgets: Mapping[str, str | float],
    *,
    minutes: float = 20.0,
    out: Path | str | None = None,
    on_line: Callable[[str], None] = print,
    **options: Any,
) -> Frontier:
    """Find the smallest artifact of ``policy`` within ``budgets`` that keeps the return.

    ``budgets`` limits figures of ``frontier.costs.KNOWN``: ``{"flash": "8KiB", "latency_us": 5}``.
    A fifth of ``minutes`` is kept for the gates; what trains longer is ended. Artifacts and
    figures are kept in
    ``out`` (``search-POLICY``), from where the same call goes on. ``options`` are the fields of
    ``default_settings``: ``min_retention``, ``alpha``, ``env``, ``target``, ``runtime``,
    ``workers`` ... ``on_line`` is told what happens.

    Raises:
        DrlcError: a policy or figure that does not exist, a baseline that is no yardstick, a
            budget whose tools are missing.
    """
    settings = default_settings(policies=(policy,), **options)
    limits = read_budgets(budgets)
    return run_search(settings, policy, limits, minutes=minutes, out=out, on_line=on_line)


def run_search(
    settings: Settings,
    policy: str,
    budgets: Mapping[str, float],
    *,
    minutes: float,
    out: Path | str | None,
    on_line: Callable[[str], None],
) -> Frontier:
    """``find_smallest`` with settings that have been read."""
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.workbench.workbench import Workbench

    bench = Workbench(settings, builtin_registry())
    try:
        return _Search(bench, policy, budgets, minutes=minutes, out=out, on_line=on_line).run()
    finally:
        for note in bench.tools.executor.notes():
            on_line(note)
        bench.close()


def default_folder(policy: str) -> Path:
    """Where the search of the policy with this id keeps its files."""
    return Path(f"search-{policy}")


class _Search:
    def __init__(
        self,
        bench: "Workbench",
        policy: str,
        budgets: Mapping[str, float],
        *,
        minutes: float,
        out: Path | str | None,
        on_line: Callable[[str], None],
    ) -> None:
        self.settings, self.budgets = bench.settings, budgets
        self.text = policy
        self.target = self.settings.target or DEFAULT_TARGET
        self.loaded: LoadedPolicy = bench.load(policy)
        self.size_name = size_name(budgets)
        self.folder = default_folder(self.loaded.policy.id) if out is None else Path(out)
        self.started, self.seconds = time.monotonic(), minutes * 60
        executor = self.loaded.tools.executor
        self.workers = self.settings.workers or os.cpu_count() or 1
        self._elsewhere = None
        if executor.jobs is not None:
            from pytest_drlcompress.gates.cells import prove_nodes
            from pytest_drlcompress.workbench.parcel import Parcel

            prove_nodes(self.loaded)
            self._elsewhere = (executor.jobs, executor.jobs.share(Parcel.of(self.loaded)))
            self.workers = executor.workers
        self.say = on_line
        self.trials: list[Trial] = []
        self.whole: list[float] = []

    def run(self) -> Frontier:
        reference = self.loaded.reference("")
        if reason := reference.competence(self.settings.alpha):
            raise DrlcError(reason)
        self.means = (reference.random_mean, reference.mean)
        limits = ", ".join(f"{name} {shown(name, limit)}" for name, limit in self.budgets.items())
        self._line(
            f"{self.loaded.policy.id}: at least {self.settings.min_retention:g} of"
            f" {reference.mean:,.0f} (random {reference.random_mean:,.0f}); budgets:"
            f" {limits or 'none'}; trials in {self.folder}/"
        )
        self._rung(field.quick_arms(self.loaded, self.budgets), 1.0, EPISODES[0])
        arms, why = field.arms(self.loaded, self.budgets, self.target, self._line)
        for share, episodes in zip(halving.RUNGS, EPISODES, strict=True):
            arms = self._affordable(arms, share)
            if not arms:
                break
            measured = self._rung(arms, share, episodes)
            alive = halving.survivors(self._within(measured), self.settings.min_retention)
            names = {trial.arm for trial in alive}
            arms = [arm for arm in arms if arm.name in names]
        return self._conclude(why)

    def _affordable(self, arms: Sequence[ladder.Arm], share: float) -> list[ladder.Arm]:
        left = self._for_training()
        each = share * float(sum(self.whole)) / max(len(self.whole), 1)
        count = halving.affordable(len(arms), each, left, self.workers)
        if count < len(arms):
            self._line(f"time is left for {max(count, 0)} of {len(arms)} trainings at {share:.0%}")
        return list(arms[: max(count, 0)])

    def _rung(self, arms: Sequence[ladder.Arm], share: float, episodes: int) -> list[Trial]:
        """Train, size and screen each arm; latencies once nothing else runs."""
        by_recipe = {arm.at(share): arm for arm in arms}
        found: list[tuple[ladder.Arm, Job, Mapping[str, Any]]] = []

        def on_done(job: Job, result: Mapping[str, Any]) -> None:
            arm = by_recipe[job.recipe]
            found.append((arm, job, result))
            kept = result["retention"]
            size = result["figures"].get(self.size_name)
            self._line(
                f"{job.recipe}: {result['reason'][:200]}"
                if kept is None
                else f"{job.recipe}: keeps {kept:.3f} on {episodes} episodes,"
                f" {self.size_name} {'unknown' if size is None else shown(self.size_name, size)}"
            )
            if arm.trains:
                self.whole.append(result["seconds"] / share)

        jobs = [self._job(recipe, episodes) for recipe in by_recipe]
        if late := run_jobs(jobs, self.workers, self._for_training(), on_done, self._elsewhere):
            self._line(f"{late} of {len(jobs)} did not end in time; the same command goes on")
        trials = [self._trial(arm, job, result, share) for arm, job, result in found]
        self.trials += trials
        return trials

    def _job(self, recipe: str, episodes: int) -> Job:
        policy, settings = self.loaded.policy, self.settings
        key = f"{policy.sha256} {policy.env} {self.target} {sorted(self.budgets)}"
        alone = dataclasses.replace(settings, workers=1, executor="local")
        return Job(
            alone,
            self.text,
            recipe,
            self.target,
            tuple(self.budgets),
            self.folder,
            key,
            episodes,
            *self.means,
        )

    def _trial(self, arm: ladder.Arm, job: Job, result: Mapping[str, Any], share: float) -> Trial:
        figures: Mapping[str, float] = result["figures"]
        reason = result["reason"]
        if result["retention"] is not None:
            figures = field.with_latency(self.loaded, figures, job.model_path.read_bytes())
            reason = beyond(figures, self.budgets)
            if figures.get("unequal"):
                reason = f"{figures['unequal']:g} actions differ on {self.target}"
        return Trial(
            arm.name, job.recipe, share, figures, result["retention"], job.episodes,
            result["seconds"], figures.get(self.size_name, float("inf")), job.model_path, reason,
        )  # fmt: skip

    def _within(self, trials: Sequence[Trial]) -> list[Trial]:
        return [trial for trial in trials if not trial.reason]

    def _conclude(self, why: str) -> Frontier:
        last = {trial.arm: trial for trial in self.trials}  # the longest training of each
        within = self._within(list(last.values()))
        chosen = halving.finalists(within, self.settings.min_retention)
        verdicts, winner = self._gates(chosen)
        measured = [trial for trial in self.trials if trial.retention is not None]
        return Frontier(
            policy=self.loaded.policy.id,
            budgets=self.budgets,
            min_retention=self.settings.min_retention,
            alpha=self.settings.alpha,
            size_name=self.size_name,
            trials=measured,
            verdicts=verdicts,
            winner=winner,
            reason=self._reason(within, verdicts, winner, why),
            command="" if winner is None else self._command(winner),
        )

    def _gates(self, chosen: Sequence[Trial]) -> tuple[dict[str, Verdict], Trial | None]:
        from pytest_drlcompress.gates.budgets import Budgets
        from pytest_drlcompress.gates.retention import judge_retention
        from pytest_drlcompress.reporting.text import verdict_line
        from pytest_drlcompress.workbench.workbench import Workbench

        verdicts: dict[str, Verdict] = {}
        if not chosen:
            return verdicts, None
        shared = dataclasses.replace(self.settings, alpha=self.settings.alpha / len(chosen))
        bench = Workbench(shared, self.loaded.tools.registry, executor=self.loaded.tools.executor)
        self._line(
            f"{len(chosen)} finalists, the smallest first, each at alpha = {shared.alpha:.4g}:"
            f" together at most {self.settings.alpha:g}"
        )
        for trial in chosen:
            candidate = bench.candidate(self.text, str(trial.model_path))
            verdict = judge_retention(candidate, Budgets())
            verdicts[trial.recipe] = dataclasses.replace(verdict, variant=trial.recipe)
            self._line(verdict_line(verdicts[trial.recipe]))
            if passed(verdict):
                return verdicts, trial
        return verdicts, None

    def _reason(
        self,
        within: Sequence[Trial],
        verdicts: Mapping[str, Verdict],
        winner: Trial | None,
        why: str,
    ) -> str:
        if winner is not None:
            return (
                f"{winner.recipe} is the smallest that is shown to keep"
                f" {self.settings.min_retention:g} of the return:"
                f" {self.size_name} {shown(self.size_name, winner.size)}."
            )
        none = "No recipe found"
        if not within:
            outside = [t for t in self.trials if t.retention is not None]
            nearest = min(outside, key=lambda trial: trial.size, default=None)
            seen = f"; the smallest tried is {nearest.recipe}: {nearest.reason}" if nearest else ""
            return f"{none}: nothing fits the budgets ({why or 'see the trials'}){seen}."
        best = max(within, key=lambda trial: trial.retention or 0.0)
        tried = f"the best within the budgets is {best.recipe}, which keeps {best.retention:.3f}"
        if not verdicts:
            return f"{none}: {tried} on {best.episodes} episodes, too little for a gate."
        return f"{none}: no finalist passed its gate; {tried} on {best.episodes} episodes."

    def _command(self, winner: Trial) -> str:
        words = ["python", "-m", "pytest_drlcompress", "compress", self.text, winner.recipe]
        if self.settings.env is not None:
            words += ["--env", str(self.settings.env)]
        return shlex.join([*words, "--out", f"{self.loaded.policy.id}.onnx"])

    def _for_training(self) -> float:
        return self._left() - _FOR_GATES * self.seconds

    def _left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)

    def _line(self, text: str) -> None:
        gone = time.monotonic() - self.started
        left = max(0.0, self._left())
        self.say(f"[{_clock(gone)}, {_clock(left)} left] {text}")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
