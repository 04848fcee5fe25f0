"""pytest-drlcompress: is a compressed deep-RL policy still good enough to ship?

The public names. Each is imported when it is first used: loading the plugin must cost an unrelated
pytest run almost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.core.version import __version__

if TYPE_CHECKING:
    from pytest_drlcompress.compression.in_training.callback import SparseTraining
    from pytest_drlcompress.compression.in_training.export import export_sparse
    from pytest_drlcompress.compression.pruning.schedule import CubicSchedule
    from pytest_drlcompress.compression.quantization.quantizer import QuantizerSpec
    from pytest_drlcompress.compression.recipe import Recipe, Step, parse_recipe
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.compression.step import (
        Diagnosis,
        Observations,
        Result,
        SparsityTarget,
        StepKind,
    )
    from pytest_drlcompress.core.artifact import Artifact
    from pytest_drlcompress.core.errors import RecipeError
    from pytest_drlcompress.core.settings import default_settings
    from pytest_drlcompress.core.verdict import State, Verdict
    from pytest_drlcompress.environments.engine import Engine
    from pytest_drlcompress.environments.engines import Engines, engine_choice
    from pytest_drlcompress.environments.gymnasium import GymnasiumEngine
    from pytest_drlcompress.environments.spec import EnvSpec
    from pytest_drlcompress.evaluation.rollout import RandomActor, ZeroActor, rollout
    from pytest_drlcompress.frontier.search import find_smallest
    from pytest_drlcompress.plugin.gate import Gate
    from pytest_drlcompress.policies.export import export_onnx
    from pytest_drlcompress.policies.loader import PolicyLoader
    from pytest_drlcompress.policies.policy import Policy
    from pytest_drlcompress.policies.store import load_policy
    from pytest_drlcompress.reporting.report import SCHEMA as REPORT_SCHEMA
    from pytest_drlcompress.workbench.candidate import Candidate
    from pytest_drlcompress.workbench.workbench import Workbench

_HOMES = {
    "Artifact": "core.artifact",
    "Candidate": "workbench.candidate",
    "CubicSchedule": "compression.pruning.schedule",
    "Diagnosis": "compression.step",
    "Engine": "environments.engine",
    "Engines": "environments.engines",
    "EnvSpec": "environments.spec",
    "Gate": "plugin.gate",
    "GymnasiumEngine": "environments.gymnasium",
    "Observations": "compression.step",
    "Policy": "policies.policy",
    "PolicyLoader": "policies.loader",
    "QuantizerSpec": "compression.quantization.quantizer",
    "REPORT_SCHEMA": "reporting.report:SCHEMA",
    "RandomActor": "evaluation.rollout",
    "Recipe": "compression.recipe",
    "RecipeError": "core.errors",
    "Result": "compression.step",
    "SparseTraining": "compression.in_training.callback",
    "SparsityTarget": "compression.step",
    "State": "core.verdict",
    "Step": "compression.recipe",
    "StepKind": "compression.step",
    "Verdict": "core.verdict",
    "Workbench": "workbench.workbench",
    "ZeroActor": "evaluation.rollout",
    "builtin_registry": "compression.registry",
    "default_settings": "core.settings",
    "engine_choice": "environments.engines",
    "export_onnx": "policies.export",
    "export_sparse": "compression.in_training.export",
    "find_smallest": "frontier.search",
    "load_policy": "policies.store",
    "parse_recipe": "compression.recipe",
    "rollout": "evaluation.rollout",
}
"""By public name: the module it comes from, and its name there if that is another."""

__all__ = [
    "REPORT_SCHEMA",
    "Artifact",
    "Candidate",
    "CubicSchedule",
    "Diagnosis",
    "Engine",
    "Engines",
    "EnvSpec",
    "Gate",
    "GymnasiumEngine",
    "Observations",
    "Policy",
    "PolicyLoader",
    "QuantizerSpec",
    "RandomActor",
    "Recipe",
    "RecipeError",
    "Result",
    "SparseTraining",
    "SparsityTarget",
    "State",
    "Step",
    "StepKind",
    "Verdict",
    "Workbench",
    "ZeroActor",
    "__version__",
    "builtin_registry",
    "default_settings",
    "engine_choice",
    "export_onnx",
    "export_sparse",
    "find_smallest",
    "load_policy",
    "parse_recipe",
    "rollout",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, there = _HOMES[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), there or name)


def __dir__() -> list[str]:
    return list(__all__)
