"""Everything a run makes and needs again: loaded policies, artifacts, references, episodes.

One ``Workbench`` lives in a process for a whole run; all its methods remember their results.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.baselines.record import (
    BaselineRecord,
    current_versions,
    read_baseline_record,
    same_environment,
)
from pytest_drlcompress.baselines.variants import load_variant
from pytest_drlcompress.compression.pipeline import (
    NetworkStage,
    compress,
    export_policy,
    network_stage,
)
from pytest_drlcompress.compression.recipe import parse_recipe, variant_id
from pytest_drlcompress.compression.registry import Registry
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import ArtifactError, BaselineError
from pytest_drlcompress.core.progress import progress_bar
from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.environments.perturbation import UNPERTURBED, Perturbation
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.cache import (
    EpisodeCache,
    default_cache_path,
    episode_key,
    through_cache,
)
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.eprocess import POOL_SHARE
from pytest_drlcompress.evaluation.executors.local import Crew, default_workers
from pytest_drlcompress.evaluation.reference import POOL_EPISODES, Reference
from pytest_drlcompress.evaluation.references import measure_references
from pytest_drlcompress.evaluation.rollout import describe_engine, rollout
from pytest_drlcompress.gates.budgets import NO_LIMITS, recorded_budgets
from pytest_drlcompress.policies.load import baseline_ids, expand, load_policy_source
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.store import RECORD
from pytest_drlcompress.runtime.onnxruntime import OnnxController
from pytest_drlcompress.workbench.calibration import (
    CALIBRATION_SEEDS,
    EPISODES_PER_SAMPLE,
    OwnRollouts,
)

DEFAULT_VARIANTS = ("fp32", "ptdq", "ptsq", "ptsq:equalize=true")
"""What is judged where nothing else is asked for."""

PROBE_SEEDS = 2**19 + 2**18 + 2**17
"""First seed of the episodes on which actions are compared: never those calibrated on."""

_PROBE_OBSERVATIONS = 2000

_POOL_STEPS = (200, 500, 1000, POOL_EPISODES)
"""Sizes at which the pool of a policy without a recorded one may be large enough."""

_POOL_ERROR = 0.01
"""How well it must then know the policy's gain."""


@dataclass(frozen=True, eq=False)
class LoadedPolicy:
    """A policy, and its folder and record if it is a baseline."""

    policy: Policy
    record: BaselineRecord | None
    folder: Path | None


class Workbench:
    """See the module's docstring. ``registry`` holds the compression steps of this run."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self._cache = EpisodeCache(default_cache_path()) if settings.cache else None
        # per instance: a module-level cache would outlive the run
        self.load: Callable[[str], LoadedPolicy] = cache(self._load)
        self.exported: Callable[[str], Artifact] = cache(self._exported)
        self.artifact: Callable[[str, str], Artifact] = cache(self._artifact)
        self.controller: Callable[[str, str], OnnxController] = cache(self._controller)
        self.reference: Callable[[str, str], Reference] = cache(self._reference)
        # the last one only: it holds what a student has seen, and recipes that share it (sparse@95
        # and sparse@95+qat) usually follow each other
        self._stage: Callable[[str, str], NetworkStage] = lru_cache(maxsize=1)(self._staged)
        self._crew = Crew(settings.workers or default_workers())
        self.engine: Callable[[EnvSpec], str] = cache(describe_engine)
        self.observations: Callable[[str, int, int], NDArray[Any]] = cache(self._observations)

    def policy_texts(self) -> list[str]:
        """The policies of this run: those asked for, else every baseline.

        Raises:
            PolicyError: a glob that matches nothing.
        """
        if self.settings.policies:
            return [text for asked in self.settings.policies for text in expand(asked)]
        return baseline_ids(self.settings.baselines)

    def variant_texts(self, policy: str) -> list[str]:
        """The variants of ``policy``: those asked for, else the default and the recorded ones."""
        if self.settings.variants:
            return list(self.settings.variants)
        record = self.load(policy).record
        recorded = (
            [] if record is None else [v for v in record.verdicts if v not in DEFAULT_VARIANTS]
        )
        return [*DEFAULT_VARIANTS, *recorded]

    def episodes(
        self,
        policy: str,
        artifact: Artifact,
        seeds: Sequence[int],
        perturb: str = "",
        on_steps: Callable[[int], None] = lambda steps: None,
    ) -> Generator[Episode, None, None]:
        """Episodes of ``artifact`` in the order of ``seeds``, remembered across runs.

        ``policy`` tells the environment, and the unit of ``perturb``'s observation noise.
        """
        spec = self.load(policy).policy.env
        disturbance = self._disturbance(policy, perturb)
        unit = disturbance["observation_std"]
        conditions = f"{spec} {perturb} {'' if unit is None else unit.tolist()}".strip()
        yield from through_cache(
            self._cache,
            episode_key(artifact.sha256, conditions, current_versions()),
            seeds,
            lambda missing: rollout(
                spec, artifact.model, missing, workers=self._crew, on_steps=on_steps, **disturbance
            ),
        )

    def recorded_budgets(self, policy: str, variant: str) -> Mapping[str, float]:
        """The budgets that a baseline's record gives ``variant``; empty without any.

        Raises:
            BaselineError: the record has a budget that does not exist or is no positive number.
        """
        record = self.load(policy).record
        if record is None:
            return NO_LIMITS
        try:
            return recorded_budgets(record.budgets, variant_id(variant))
        except ValueError as error:
            raise BaselineError(f"the record of {policy}: {error}") from None

    def verdict(
        self, gate: str, policy: str, variant: str, limit: float | None
    ) -> partial[Verdict]:
        """A verdict of ``variant``; what was found is left to the caller."""
        named = self.load(policy).policy.id
        return partial(Verdict, gate=gate, policy=named, variant=variant_id(variant), limit=limit)

    def close(self) -> None:
        """End the worker processes."""
        self._crew.close()

    def _disturbance(self, policy: str, perturb: str) -> dict[str, Any]:
        perturbation = Perturbation.parse(perturb) if perturb else UNPERTURBED
        unit = None
        if perturbation.observation_noise:
            seen = self.observations(policy, CALIBRATION_SEEDS, _PROBE_OBSERVATIONS)
            unit = seen.std(axis=0, dtype=np.float64)
        return {"perturbation": perturbation, "observation_std": unit}

    def _load(self, text: str) -> LoadedPolicy:
        settings = self.settings
        policy = load_policy_source(
            text,
            env=None if settings.env is None else EnvSpec.parse(settings.env),
            trust=settings.trust,
            vecnormalize=settings.vecnormalize,
            baselines=settings.baselines,
        )
        folder = Path(policy.origin)
        recorded = (folder / RECORD).is_file()
        return LoadedPolicy(
            policy,
            read_baseline_record(folder) if recorded else None,
            folder if recorded else None,
        )

    def _exported(self, policy: str) -> Artifact:
        """The policy itself in fp32, which every variant is compared with."""
        return export_policy(self.load(policy).policy)

    def _artifact(self, policy: str, variant: str) -> Artifact:
        loaded = self.load(policy)
        if variant.endswith(".onnx"):
            path = Path(variant)
            try:
                return Artifact(path.read_bytes(), loaded.policy.id, path.stem)
            except OSError as error:
                raise ArtifactError(f"variant {variant!r} cannot be read: {error}") from None
        if loaded.folder is not None:
            recipe = str(parse_recipe(variant))
            stored = load_variant(loaded.folder, loaded.policy.id, recipe)
            if stored is not None:
                return stored
        return self.compressed(policy, variant)

    def compressed(self, policy: str, recipe: str) -> Artifact:
        """``recipe`` applied now, whatever is stored."""
        return compress(
            self.load(policy).policy,
            parse_recipe(recipe),
            self.registry,
            self._rollouts(policy),
            self.exported(policy),
            stage=lambda steps: self._stage(policy, str(steps)),
        )

    def _staged(self, policy: str, steps: str) -> NetworkStage:
        found = self.registry.resolve(parse_recipe(steps)).steps
        return network_stage(self.load(policy).policy, found, self.registry, self._rollouts(policy))

    def _rollouts(self, policy: str) -> OwnRollouts:
        return OwnRollouts(partial(self.observations, policy), self.load(policy).policy.env)

    def _controller(self, policy: str, variant: str) -> OnnxController:
        """``variant`` is a recipe, an ONNX path, or ``""`` for the policy itself."""
        loaded = self.load(policy)
        artifact = self.artifact(policy, variant) if variant else self.exported(policy)
        controller = OnnxController(artifact.model)
        env = loaded.policy.env
        if controller.observation_shape != env.observation_shape:
            raise ArtifactError(
                f"{artifact.recipe or 'the artifact'} takes observations of shape"
                f" {controller.observation_shape}; {str(env)!r} gives {env.observation_shape}"
            )
        if controller.action_shape != env.action.shape:
            raise ArtifactError(
                f"{artifact.recipe or 'the artifact'} gives actions of shape"
                f" {controller.action_shape}; {str(env)!r} takes {env.action.shape}"
            )
        return controller

    def _reference(self, policy: str, perturb: str = "") -> Reference:
        """The recorded reference, or one measured now.

        Nothing is recorded of a perturbed environment. A record made with other versions of the
        environment is not comparable: returns are then measured again, with the versions at
        hand, rather than held against it.
        """
        record = self.load(policy).record
        if record is not None and not perturb and same_environment(record.versions):
            return record.reference
        return self._measured_reference(policy, perturb)

    def _measured_reference(self, policy: str, perturb: str) -> Reference:
        """As many episodes as it takes to know the mean, at most ``POOL_EPISODES``.

        How far the mean is known is held against the candidate (``Reference.mean_bounds``). A
        tight policy needs a tenth of the episodes of a noisy one for that.
        """
        loaded, disturbance = self.load(policy), self._disturbance(policy, perturb)
        random, zero = measure_references(loaded.policy.env, **disturbance)
        exported, pool = self.exported(policy), list[Episode]()
        title = f"{loaded.policy.id} reference"
        with progress_bar(title, POOL_EPISODES, "episodes") as show:
            for count in _POOL_STEPS:
                for episode in self.episodes(policy, exported, range(len(pool), count), perturb):
                    pool.append(episode)
                    show(len(pool))
                reference = Reference(
                    returns=tuple(episode.total for episode in pool),
                    seeds=tuple(episode.seed for episode in pool),
                    random=random,
                    zero=zero,
                )
                low, high = reference.mean_bounds(POOL_SHARE * self.settings.alpha)
                if high - low <= 2 * _POOL_ERROR * abs(reference.mean - reference.random_mean):
                    break
        return reference

    def _observations(self, policy: str, first_seed: int, count: int) -> NDArray[Any]:
        """``count`` float32 (or uint8) observations, evenly spread over whole episodes."""
        loaded = self.load(policy)
        env, controller = loaded.policy.env, self.controller(policy, "")
        rows: list[NDArray[Any]] = []
        episodes = 0
        while sum(map(len, rows)) < count:
            seeds = range(first_seed + episodes, first_seed + episodes + EPISODES_PER_SAMPLE)
            for episode in rollout(env, controller, seeds, record=True):
                assert episode.observations is not None
                rows.append(episode.observations)
            episodes += EPISODES_PER_SAMPLE
        seen = np.concatenate(rows)
        chosen = np.linspace(0, len(seen) - 1, count).round().astype(int)
        return np.ascontiguousarray(seen[chosen], controller.observation_dtype)

    def probe_observations(self, policy: str) -> NDArray[Any]:
        """Observations for comparing actions, from episodes that calibration never sees."""
        return self.observations(policy, PROBE_SEEDS, _PROBE_OBSERVATIONS)
