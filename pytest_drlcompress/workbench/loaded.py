"""A policy of a run, with everything that is made of it once and needed again."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.baselines.record import (
    BaselineRecord,
    current_versions,
    same_environment,
)
from pytest_drlcompress.compression.pipeline import (
    NetworkStage,
    compress,
    export_policy,
    network_stage,
)
from pytest_drlcompress.compression.recipe import Recipe, parse_recipe
from pytest_drlcompress.compression.registry import Registry
from pytest_drlcompress.compression.step import Observations
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import ArtifactError
from pytest_drlcompress.core.progress import progress_bar
from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.environments.engine import Engine
from pytest_drlcompress.environments.engines import Engines
from pytest_drlcompress.environments.identity import Identity, identify
from pytest_drlcompress.environments.perturbation import UNPERTURBED, Perturbation
from pytest_drlcompress.environments.recorded import Recording, probe_part
from pytest_drlcompress.evaluation.cache import EpisodeCache, episode_key, through_cache
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.eprocess import POOL_SHARE
from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.reference import POOL_EPISODES, Reference
from pytest_drlcompress.evaluation.references import measure_references
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.onnx_graph.choices import count_choices
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.controller import Controller, Runtime
from pytest_drlcompress.runtime.factory import make_runtime
from pytest_drlcompress.runtime.recurrent import Recurrent, observations_of, unroll
from pytest_drlcompress.workbench.calibration import (
    CALIBRATION_SEEDS,
    OwnRollouts,
    episodes_per_sample,
)
from pytest_drlcompress.workbench.recorded import RecordedObservations, evenly

PROBE_SEEDS = 2**19 + 2**18 + 2**17
"""First seed of the episodes on which actions are compared: never those calibrated on."""

_PROBE_OBSERVATIONS = 2000
ORIGINAL = make_runtime()
"""What the policy itself is run in: its episodes are the reference, its observations teach."""

_POOL_STEPS = (200, 500, 1000, POOL_EPISODES)
"""Sizes at which the pool of a policy without a recorded one may be large enough."""

_POOL_ERROR = 0.01
"""How well it must then know the policy's gain."""


@dataclass(frozen=True, eq=False)
class Tools:
    """What all policies of a run share: what is asked, and what does the work."""

    settings: Settings
    registry: Registry
    engines: Engines
    runtime: Runtime
    executor: Executor
    cache: EpisodeCache | None
    recording: Recording | None = None

    @property
    def interface(self) -> Interface:
        """What the user says of the inputs and outputs of ONNX files."""
        return Interface.of(self.settings.output, self.settings.inputs)


class LoadedPolicy:
    """See the module's docstring.

    ``record`` and ``folder`` are those of a baseline, and ``None`` for another policy. All
    methods remember their results, but for ``episodes`` and ``compressed``.
    """

    def __init__(
        self, policy: Policy, record: BaselineRecord | None, folder: Path | None, tools: Tools
    ) -> None:
        self.policy = policy
        self.record = record
        self.folder = folder
        self.tools = tools
        # by disturbance, what was measured elsewhere
        self.references: dict[str, Reference] = {}
        # per instance: a module-level cache would outlive the run
        self.reference: Callable[[str], Reference] = cache(self._reference)
        self.observations: Callable[[int, int], NDArray[Any]] = cache(self._observations)
        # the last one only: it holds what a student has seen, and recipes that share it (sparse@95
        # and sparse@95+qat) usually follow each other
        self._stage: Callable[[str], NetworkStage] = lru_cache(maxsize=1)(self._staged)

    @cached_property
    def exported(self) -> Artifact:
        """The policy itself in fp32, which every variant is compared with."""
        return export_policy(self.policy)

    @cached_property
    def controller(self) -> Controller:
        """What runs ``exported``.

        Raises:
            ArtifactError: it does not fit the environment.
        """
        return self.controller_of(self.exported)

    @cached_property
    def original(self) -> Controller:
        """``exported`` in ONNX Runtime, whatever runtime is judged.

        What a step learns from must not depend on that: the artifact would.
        """
        return ORIGINAL.load(self.exported.model)

    @cached_property
    def engine(self) -> Engine:
        """What steps the environment."""
        return self.tools.engines.choose(self.policy.env)

    @cached_property
    def identity(self) -> Identity:
        """What the environment is, code and files included."""
        return identify(self.policy.env, engines=self.tools.engines)

    @property
    def probe_observations(self) -> NDArray[Any]:
        """Observations for comparing actions, which calibration never sees."""
        if self.tools.recording is not None:
            return evenly(probe_part(self._recorded), _PROBE_OBSERVATIONS)
        return self.observations(PROBE_SEEDS, _PROBE_OBSERVATIONS)

    @property
    def probe_observation(self) -> NDArray[Any]:
        """The first of them, on which single actions are timed."""
        first: NDArray[Any] = observations_of(self.probe_observations[:1])[0]
        return first

    def has_reference(self, perturb: str) -> bool:
        """Whether the record holds what ``reference`` gives."""
        record = self.record
        if record is None or perturb:
            return False
        return same_environment(record.versions, self.policy.env)

    def controller_of(self, artifact: Artifact) -> Controller:
        """What runs ``artifact``.

        Raises:
            ArtifactError: it cannot be loaded, or does not fit the environment.
        """
        controller, env = self.tools.runtime.load(artifact.model), self.policy.env
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
        choices = count_choices(artifact.model) if env.action.discrete else None
        if choices not in (None, env.action.n):
            raise ArtifactError(
                f"{artifact.recipe or 'the artifact'} chooses among {choices} actions;"
                f" {str(env)!r} has {env.action.n}"
            )
        return controller

    def compressed(self, recipe: Recipe) -> Artifact:
        """``recipe`` applied now, whatever is stored.

        Raises:
            RecipeError: it is not valid, or does not apply to this policy.
        """
        return compress(
            self.policy,
            recipe,
            self.tools.registry,
            self._rollouts,
            self.exported,
            stage=lambda steps: self._stage(str(steps)),
        )

    def episodes(
        self,
        artifact: Artifact,
        seeds: Sequence[int],
        perturb: str = "",
        on_steps: Callable[[int], None] = lambda steps: None,
        *,
        runtime: Runtime | None = None,
        likely: int | None = None,
    ) -> Generator[Episode, None, None]:
        """Episodes of ``artifact`` in ``runtime`` (the one judged), in the order of ``seeds``.

        They are remembered across runs where ``identity`` can tell the environment from others.
        Where the first ``likely`` of them are likely to be enough, no other is begun before they
        are over: what is in flight when no more is wanted is lost.
        """
        spec, tools = self.policy.env, self.tools
        runtime = runtime or tools.runtime
        disturbance = self._disturbance(perturb)
        unit = disturbance["observation_std"]
        conditions = f"{spec} {perturb} {'' if unit is None else unit.tolist()}".strip()
        known = self.identity.digest if tools.cache else None
        key = (
            ""
            if known is None
            else episode_key(
                artifact.sha256,
                f"{conditions} {runtime.acts_like(artifact.model)}",
                known,
                current_versions(),
            )
        )
        cut = len(seeds) if likely is None else likely
        for part in (seeds[:cut], seeds[cut:]):
            yield from through_cache(
                None if known is None else tools.cache,
                key,
                part,
                lambda missing: rollout(
                    spec,
                    artifact.model,
                    missing,
                    workers=tools.executor,
                    engines=tools.engines,
                    runtime=runtime,
                    on_steps=on_steps,
                    **disturbance,
                ),
            )

    def _disturbance(self, perturb: str) -> dict[str, Any]:
        perturbation = Perturbation.parse(perturb) if perturb else UNPERTURBED
        unit = None
        if perturbation.observation_noise:
            seen = self.observations(CALIBRATION_SEEDS, _PROBE_OBSERVATIONS)
            unit = observations_of(seen).std(axis=0, dtype=np.float64)
        return {"perturbation": perturbation, "observation_std": unit}

    @property
    def _rollouts(self) -> Observations:
        if self.tools.recording is not None:
            return RecordedObservations(self.tools.recording, self._recorded)
        return OwnRollouts(self.observations, self.policy.env, self.tools.engines)

    @cached_property
    def _recorded(self) -> NDArray[Any]:
        assert self.tools.recording is not None
        shape, dtype = self.controller.observation_shape, self.controller.observation_dtype
        recording, parts = self.tools.recording, self.policy.env.parts
        if parts:
            recording = recording.packed(parts)
        rows, length = recording.rows(shape, dtype), recording.episode_length(shape)
        return np.concatenate(
            [self._with_states(rows[at : at + length]) for at in range(0, len(rows), length)]
        )

    def _staged(self, steps: str) -> NetworkStage:
        registry = self.tools.registry
        resolved = registry.resolve(parse_recipe(steps), images=self.policy.env.images).steps
        return network_stage(self.policy, resolved, registry, self._rollouts)

    def _reference(self, perturb: str) -> Reference:
        """The recorded reference, or one measured now.

        Nothing is recorded of a perturbed environment. A record made with other versions of the
        environment is not comparable: returns are then measured again, with the versions at
        hand, rather than held against it.
        """
        if perturb in self.references:
            return self.references[perturb]
        if self.record is not None and self.has_reference(perturb):
            return self.record.reference
        return self._measured_reference(perturb)

    def _measured_reference(self, perturb: str) -> Reference:
        """As many episodes as it takes to know the mean, at most ``POOL_EPISODES``.

        How far the mean is known is held against the candidate (``Reference.mean_bounds``). A
        tight policy needs a tenth of the episodes of a noisy one for that.
        """
        disturbance, engines = self._disturbance(perturb), self.tools.engines
        random, zero = measure_references(self.policy.env, **disturbance, engines=engines)
        pool: list[Episode] = []
        with progress_bar(f"{self.policy.id} reference", POOL_EPISODES, "episodes") as show:
            for count in _POOL_STEPS:
                seeds = range(len(pool), count)
                for episode in self.episodes(self.exported, seeds, perturb, runtime=ORIGINAL):
                    pool.append(episode)
                    show(len(pool))
                reference = Reference(
                    returns=tuple(episode.total for episode in pool),
                    seeds=tuple(episode.seed for episode in pool),
                    random=random,
                    zero=zero,
                )
                low, high = reference.mean_bounds(POOL_SHARE * self.tools.settings.alpha)
                if high - low <= 2 * _POOL_ERROR * abs(reference.mean - reference.random_mean):
                    break
        return reference

    def _observations(self, first_seed: int, count: int) -> NDArray[Any]:
        """``count`` float32 (or uint8) observations, evenly spread over whole episodes.

        Those of a recurrent policy come with its states (``runtime.recurrent``).
        """
        rows: list[NDArray[Any]] = []
        episodes, at_once = 0, episodes_per_sample(self.policy.env)
        while sum(map(len, rows)) < count:
            seeds = range(first_seed + episodes, first_seed + episodes + at_once)
            for episode in rollout(
                self.policy.env,
                self.original,
                seeds,
                record=True,
                slots=at_once if self.policy.env.images else None,
                engines=self.tools.engines,
            ):
                assert episode.observations is not None
                rows.append(self._with_states(episode.observations))
            episodes += at_once
        seen = np.concatenate(rows)
        chosen = np.linspace(0, len(seen) - 1, count).round().astype(int)
        return np.ascontiguousarray(seen[chosen])

    def _with_states(self, episode: NDArray[Any]) -> NDArray[Any]:
        """The observations of an episode, as the fp32 policy takes them, with its states if any."""
        original = self.original
        if getattr(original, "states", ()):
            return unroll(cast("Recurrent", original), episode)
        return np.asarray(episode, original.observation_dtype)
