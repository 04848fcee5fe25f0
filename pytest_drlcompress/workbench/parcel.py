"""A policy on its way to other machines, with all that its variants are made and judged by."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch

from pytest_drlcompress.baselines.record import BaselineRecord
from pytest_drlcompress.compression.registry import Registry
from pytest_drlcompress.core.errors import ExecutorError
from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.environments.engines import Engines
from pytest_drlcompress.evaluation.cache import EpisodeCache, default_cache_path
from pytest_drlcompress.evaluation.executors.base import Node
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.controller import Runtime
from pytest_drlcompress.workbench.loaded import LoadedPolicy, Tools


@dataclass(frozen=True)
class Parcel:
    """``identity`` is the digest of its environment here, empty where that cannot be told.

    ``registered`` is what Gymnasium knows of it.
    """

    policy: Policy
    record: BaselineRecord | None
    settings: Settings
    registry: Registry
    engines: Engines
    runtime: Runtime
    identity: str
    registered: Any

    @classmethod
    def of(cls, loaded: LoadedPolicy) -> "Parcel":
        """What is sent of ``loaded``."""
        policy, tools = loaded.policy, loaded.tools
        return cls(
            policy,
            loaded.record,
            dataclasses.replace(tools.settings, executor="local", workers=1),
            tools.registry,
            tools.engines,
            tools.runtime,
            loaded.identity.digest or "",
            policy.env.registration,
        )

    def unpack(self, node: Node) -> LoadedPolicy:
        """The policy, ready on ``node``; the last one is kept there.

        Raises:
            ExecutorError: the environment of that name is another one there.
        """
        key = f"{self.policy.id} {self.policy.sha256} {self.settings}"
        if key not in node.kept:
            node.kept.clear()
            node.kept[key] = self._load(node)
        loaded: LoadedPolicy = node.kept[key]
        loaded.tools = dataclasses.replace(loaded.tools, executor=node.executor)
        return loaded

    def _load(self, node: Node) -> LoadedPolicy:
        torch.set_num_threads(1)
        if self.registered is not None:  # by a conftest.py or a test, perhaps
            gym.registry[self.registered.id] = self.registered
        tools = Tools(
            self.settings,
            self.registry,
            self.engines,
            self.runtime,
            node.executor,
            EpisodeCache(default_cache_path()) if self.settings.cache else None,
        )
        loaded = LoadedPolicy(self.policy, self.record, None, tools)
        if self.identity and loaded.identity.digest != self.identity:
            raise ExecutorError(
                f"{self.policy.env} is another environment on a node: its code, arguments or files"
                " differ from those here (docs/scale.md: your own packages)"
            )
        return loaded
