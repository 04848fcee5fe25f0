"""The workbench: the policies and candidates of a run, each loaded and made once.

One ``Workbench`` lives in a process for a whole run.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path

from pytest_drlcompress.baselines.record import read_baseline_record, same_environment
from pytest_drlcompress.baselines.variants import stored_recipes
from pytest_drlcompress.compression.registry import Registry
from pytest_drlcompress.compression.variant import Variant
from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.environments.engines import OUR_ENGINES, Engines
from pytest_drlcompress.environments.recorded import read_recording
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.cache import EpisodeCache, default_cache_path
from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.executors.factory import executor_of
from pytest_drlcompress.policies.ids import unique_ids
from pytest_drlcompress.policies.load import baseline_ids, expand, load_policy_source
from pytest_drlcompress.policies.loader import PolicyLoader
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.record_file import RECORD
from pytest_drlcompress.runtime.factory import make_runtime
from pytest_drlcompress.workbench.candidate import Candidate
from pytest_drlcompress.workbench.loaded import LoadedPolicy, Tools

DEFAULT_VARIANTS = ("fp32", "ptdq", "ptsq", "ptsq:equalize=true")
"""What is judged where nothing else is asked for."""

IMAGE_VARIANTS = ("fp32", "ptsq")
"""The same of a policy that sees images: ``ptdq`` refuses convolutions, ``equalize`` has nothing
to even out."""


def _to_standard_error(note: str) -> None:
    print(f"warning: {note}", file=sys.stderr)


class Workbench:
    """The policies and candidates of a run, each loaded and made once; works without pytest.

    ``load(text)`` gives a policy by the text of ``--drlc-policy``, ``candidate(policy, variant)``
    one variant of it. ``close`` it in the end: that ends its worker processes.
    ``registry`` holds the run's compression steps, ``engines`` its engines, and ``loaders`` those
    that a project adds to ours. ``executor`` is the one of another workbench, where there is one.
    ``on_note`` is told what the user should know and nothing fails for.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        engines: Engines = OUR_ENGINES,
        loaders: Sequence[PolicyLoader] = (),
        *,
        executor: Executor | None = None,
        on_note: Callable[[str], None] = _to_standard_error,
    ) -> None:
        self.settings = settings
        self._loaders = tuple(loaders)
        self._on_note = on_note
        self.tools = Tools(
            settings,
            registry,
            engines,
            make_runtime(settings.runtime),
            executor or executor_of(settings),
            EpisodeCache(default_cache_path(), on_note) if settings.cache else None,
            None if settings.observations is None else read_recording(settings.observations),
        )
        # per instance: a module-level cache would outlive the run
        self.load: Callable[[str], LoadedPolicy] = cache(self._load)
        self.candidate: Callable[[str, str], Candidate] = cache(self._candidate)

    def policy_texts(self) -> list[str]:
        """The policies of this run: those asked for, else every baseline.

        Raises:
            PolicyError: a glob that matches nothing.
        """
        if self.settings.policies:
            asked = [expand(text, self._loaders) for text in self.settings.policies]
            return [text for several in asked for text in several]
        return baseline_ids(self.settings.baselines)

    def variant_texts(self, policy: str) -> list[str]:
        """The variants of ``policy``: those asked for, else the default ones and what it brings.

        A baseline brings what is recorded of it or stored beside it; ``settings.stored`` says
        which of these are judged.
        """
        if self.settings.variants:
            return list(self.settings.variants)
        loaded, wanted = self.load(policy), self.settings.stored
        brought = [] if loaded.record is None else list(loaded.record.verdicts)
        if loaded.folder is not None:
            brought += stored_recipes(loaded.folder)
        chosen = [variant for variant in brought if not wanted or variant in wanted]
        default = IMAGE_VARIANTS if loaded.policy.env.images else DEFAULT_VARIANTS
        return list(dict.fromkeys([*default, *chosen]))

    def close(self) -> None:
        """End the worker processes."""
        self.tools.executor.close()

    @cached_property
    def _policies(self) -> dict[str, Policy]:
        """The policies of this run by their texts, each with an id that no other has."""
        read = {text: self._read(text) for text in self.policy_texts()}
        ids = unique_ids(list(read.items()))
        return {text: dataclasses.replace(policy, id=ids[text]) for text, policy in read.items()}

    def _read(self, text: str) -> Policy:
        settings = self.settings
        return load_policy_source(
            text,
            env=None if settings.env is None else EnvSpec.parse(settings.env),
            trust=settings.trust,
            vecnormalize=settings.vecnormalize,
            baselines=settings.baselines,
            loaders=self._loaders,
            recording=self.tools.recording,
            interface=self.tools.interface,
        )

    def _load(self, text: str) -> LoadedPolicy:
        # a run's own policies are told apart; one that is loaded beside them keeps its id
        policy = self._policies.get(text) or self._read(text)
        folder = Path(policy.origin)
        if not (folder / RECORD).is_file():
            return LoadedPolicy(policy, None, None, self.tools)
        record = read_baseline_record(folder)
        if not same_environment(record.versions, policy.env):
            self._on_note(
                f"{policy.id} was recorded with other versions of its environment, so its own"
                " returns are measured again; `baselines --measure` records them"
            )
        return LoadedPolicy(policy, record, folder, self.tools)

    def _candidate(self, policy: str, variant: str) -> Candidate:
        return Candidate(self.load(policy), Variant(variant))
