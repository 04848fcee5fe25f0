"""The smallest artifact that is shown to keep the return, within budgets and minutes.

Successive halving (Jamieson and Talwalkar 2016): every recipe that may fit is trained briefly and
acts in a few episodes; the better and smaller half goes on with more steps. The best at the full
number of steps are finalists, the smallest first: the sequential gate judges each on seeds
that nothing else has used, at a share of ``alpha``, so that the chance that *any* of them passes
without keeping its return is at most ``alpha`` (Bonferroni).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_drlcompress.codegen.targets import missing_tools
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import ArtifactError, EpisodeError, RecipeError
from pytest_drlcompress.core.quantities import parse_bytes
from pytest_drlcompress.core.settings import Settings, default_settings
from pytest_drlcompress.measurement.chip import measure_chip
from pytest_drlcompress.measurement.latency import seconds_inside
from pytest_drlcompress.runtime.c import CController
from pytest_drlcompress.search.space import FULL_STEPS, Entry, entries, within
from pytest_drlcompress.search.trials import SearchError, Trial, Trials
from pytest_drlcompress.workbench.candidate import Candidate
from pytest_drlcompress.workbench.loaded import LoadedPolicy
from pytest_drlcompress.workbench.workbench import Workbench

FINALISTS = 3
RUNGS = (5_000, 20_000, FULL_STEPS)
BUDGETS = ("flash", "ram", "instructions", "latency_us", "bytes")
DEFAULT_TARGET = "cortex-m4"

_SCREEN_SEEDS = range(2**17, 2**17 + 6)
"""Episodes that guide the search: never those of the gate, nor of training."""

_HOPELESS = 0.85
"""Below this share of the retention asked for, more steps are not tried."""

_RESERVED = 0.25
"""Share of the time that is kept for the gate."""


@dataclass(frozen=True)
class Outcome:
    """``winner`` is ``None`` where nothing within the budgets was shown to keep the return.

    ``front`` are the trials that no other beats in both flash (or bytes) and return kept.
    """

    policy: str
    budgets: Mapping[str, float]
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    winner: Trial | None
    reason: str
    folder: Path


def search(
    settings: Settings,
    policy: str,
    budgets: Mapping[str, float],
    folder: Path,
    *,
    minutes: float = 20.0,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Search for ``policy``; ``settings`` give retention, alpha and the target.

    What ``folder`` holds of an earlier search is not measured again.

    Raises:
        SearchError: an unknown budget; the folder belongs to another policy.
        ArtifactError: a budget on the chip without its tools.
        RecipeError: the policy is an ONNX file: there is nothing to train.
    """
    unknown = [name for name in budgets if name not in BUDGETS]
    if unknown:
        raise SearchError(f"there is no budget {unknown[0]!r}; known: {', '.join(BUDGETS)}")
    if reason := missing_tools():
        raise ArtifactError(reason)
    asked = replace(
        settings, alpha=settings.alpha / FINALISTS, target=settings.target or DEFAULT_TARGET
    )
    bench = Workbench(asked, builtin_registry())
    try:
        loaded = bench.load(policy)
        if isinstance(loaded.policy.source, bytes):
            raise RecipeError(f"{policy} is an ONNX file; a search trains, and needs the network")
        trials = Trials(folder, loaded.policy.id, loaded.policy.sha256)
        return _Search(bench, policy, loaded, budgets, trials, minutes * 60, say).run()
    finally:
        bench.close()


def find_smallest(
    policy: str,
    budgets: Mapping[str, float | str],
    *,
    out: Path | str | None = None,
    minutes: float = 20.0,
    **settings: Any,
) -> Outcome:
    """The command ``search`` as a function, for notebooks.

    ``find_smallest("ppo-halfcheetah", {"flash": "4KiB"}, minutes=15)``; ``settings`` are fields of
    ``core.settings.Settings``, such as ``min_retention`` and ``env``. Raises what ``search`` does.
    """
    limits = {
        name: parse_bytes(limit) if isinstance(limit, str) else float(limit)
        for name, limit in budgets.items()
    }
    folder = Path(out) if out is not None else Path(f"search-{Path(policy).stem}")
    asked = default_settings(policies=(policy,), **settings)
    return search(asked, policy, limits, folder, minutes=minutes)


class _Search:
    def __init__(  # noqa: PLR0917  # made in one place
        self,
        bench: Workbench,
        policy: str,
        loaded: LoadedPolicy,
        budgets: Mapping[str, float],
        trials: Trials,
        seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self.bench, self.policy, self.loaded = bench, policy, loaded
        self.budgets, self.trials, self.say = budgets, trials, say
        self.end = time.monotonic() + seconds
        self.training_end = time.monotonic() + seconds * (1 - _RESERVED)

    def run(self) -> Outcome:
        everything = entries(self.loaded.policy.network)
        limit = min(
            (self.budgets[name] for name in ("flash", "bytes") if name in self.budgets),
            default=None,
        )
        field = within(everything, limit)
        if not field:
            smallest = everything[0]
            return self._outcome(
                None,
                f"no recipe found: even {smallest.recipe(RUNGS[-1])} takes about"
                f" {smallest.flash:,} bytes of flash",
            )
        self.say(
            f"{self.loaded.policy.id}: {len(field)} of {len(everything)} recipes may fit;"
            f" {self._left()} left"
        )
        best: dict[str, Trial] = {}
        for rung, steps in enumerate(RUNGS):
            for entry in field:
                if entry.step in best and not entry.trained:
                    continue
                trial = self._try(entry, steps)
                if trial is not None:
                    best[entry.step] = trial
            alive = [
                entry for entry in field if entry.step in best and self._alive(best[entry.step])
            ]
            field = self._smaller_half(alive, best) if rung < len(RUNGS) - 1 else alive
            if not field or time.monotonic() > self.training_end:
                break
        return self._final(list(best.values()))

    def _try(self, entry: Entry, steps: int) -> Trial | None:
        """Train, measure and screen; ``None`` where there is no time, or it does not apply."""
        recipe = entry.recipe(steps)
        known = self.trials.by_recipe.get(recipe)
        if known is not None:
            return known
        if time.monotonic() > self.training_end:
            return None
        started = time.monotonic()
        candidate = self.bench.candidate(self.policy, recipe)
        try:
            artifact = candidate.artifact
            figures = self._figures(artifact)
            kept = self._screen(artifact)
        except (RecipeError, ArtifactError, EpisodeError) as error:
            self.say(f"  {recipe}: {error}")
            return None
        trial = Trial(recipe, entry.step, steps, figures, kept, time.monotonic() - started)
        self.trials.add(trial, artifact.model)
        over = trial.over(self.budgets)
        note = f", over the budget of {' and '.join(over)}" if over else ""
        self.say(
            f"  {recipe}: flash {figures['flash']:,.0f}, about {kept:.2f} of the return"
            f"{note}; {self._left()} left"
        )
        return trial

    def _figures(self, artifact: Artifact) -> dict[str, float]:
        target = self.bench.settings.target or DEFAULT_TARGET
        chip = measure_chip(artifact.model, target, self.loaded.probe_observations)
        if chip.equal < chip.vectors:
            raise ArtifactError(f"{chip.vectors - chip.equal} actions differ on {target}")
        figures = {
            "flash": float(chip.flash),
            "ram": float(chip.ram),
            "instructions": float(chip.largest),
            "bytes": float(len(artifact.model)),
        }
        if "latency_us" in self.budgets:
            seconds = seconds_inside(CController(artifact.model))
            assert seconds is not None
            figures["latency_us"] = seconds * 1e6
        return figures

    def _screen(self, artifact: Artifact) -> float:
        reference = self.loaded.reference("")
        totals = [each.total for each in self.loaded.episodes(artifact, _SCREEN_SEEDS)]
        gain = float(np.mean(reference.returns)) - reference.random_mean
        return (float(np.mean(totals)) - reference.random_mean) / gain

    def _alive(self, trial: Trial) -> bool:
        goal = self.bench.settings.min_retention
        return not trial.over(self.budgets) and trial.kept >= goal * _HOPELESS * self._patience(
            trial
        )

    @staticmethod
    def _patience(trial: Trial) -> float:
        """Little is asked of a short training."""
        return {RUNGS[0]: 0.5, RUNGS[1]: 0.8}.get(trial.steps, 1.0)

    @staticmethod
    def _smaller_half(alive: Sequence[Entry], best: Mapping[str, Trial]) -> list[Entry]:
        """The front: those that nothing smaller beats; at least half of them, best first."""
        ranked = sorted(alive, key=lambda entry: -best[entry.step].kept)
        keep = max(2, (len(ranked) + 1) // 2)
        return sorted(ranked[:keep], key=lambda entry: best[entry.step].figures["flash"])

    def _final(self, tried: Sequence[Trial]) -> Outcome:
        goal = self.bench.settings.min_retention
        fitting = [trial for trial in tried if not trial.over(self.budgets)]
        likely = [trial for trial in fitting if trial.kept >= goal * _HOPELESS]
        likely.sort(key=lambda trial: -trial.kept)
        # the likeliest three, but the smallest of them first
        finalists = sorted(likely[:FINALISTS], key=lambda trial: trial.figures["flash"])
        for trial in finalists:
            judged = trial if trial.verdict else self._judge(trial)
            if judged.shown:
                alpha = self.bench.settings.alpha * FINALISTS
                return self._outcome(
                    judged,
                    f"{judged.recipe} is shown to keep {goal:g} of the return; at most"
                    f" {alpha:g} of such searches show a finalist that does not",
                )
        if not fitting:
            return self._outcome(None, "no recipe found: none that was tried fits the budgets")
        top = max(fitting, key=lambda trial: trial.kept)
        return self._outcome(
            None,
            f"no recipe found that is shown to keep {goal:g} of the return; the best within the"
            f" budgets, {top.recipe}, kept about {top.kept:.2f} in {len(_SCREEN_SEEDS)} episodes",
        )

    def _judge(self, trial: Trial) -> Trial:
        from pytest_drlcompress.compression.variant import Variant
        from pytest_drlcompress.gates.budgets import Budgets
        from pytest_drlcompress.gates.retention import judge_retention

        file = self.trials.model_path(trial.recipe)
        verdict = judge_retention(Candidate(self.loaded, Variant(str(file))), Budgets())
        found: dict[str, Any] = {**verdict.to_json(), "details": {}}
        judged = replace(trial, verdict=found)
        self.trials.add(judged)
        low, high = verdict.interval or (0.0, 0.0)
        self.say(
            f"  {trial.recipe}: {verdict.state.value}, kept {verdict.estimate or 0.0:.3f}"
            f" [{low:.3f}, {high:.3f}] in {verdict.sample_size} episodes; {self._left()} left"
        )
        return judged

    def _outcome(self, winner: Trial | None, reason: str) -> Outcome:
        tried = tuple(self.trials.by_recipe.values())
        return Outcome(
            self.loaded.policy.id, self.budgets, tried, front(tried), winner, reason,
            self.trials.folder,
        )  # fmt: skip

    def _left(self) -> str:
        left = max(0.0, self.end - time.monotonic())
        return f"{left / 60:.1f} minutes"


def front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The Pareto front of flash and return kept, the smallest first."""
    kept, found = -np.inf, []
    for trial in sorted(trials, key=lambda each: (each.figures["flash"], -each.kept)):
        if trial.kept > kept:
            kept = trial.kept
            found.append(trial)
    return tuple(found)


def reproduction(outcome: Outcome, options: str) -> str:
    """The commands that make the winner again and judge it."""
    assert outcome.winner is not None
    recipe = outcome.winner.recipe
    judge = f"pytest suites/test_return_retention.py --drlc-policy={outcome.policy}"
    return (
        f"python -m pytest_drlcompress export {outcome.policy} {recipe}"
        f" --out {recipe.split(':')[0]}{options}\n{judge} --drlc-variant={recipe}"
    )
