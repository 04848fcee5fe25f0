"""Baselines: policies under ``baselines/`` with what was recorded of them."""

import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pytest_drlcompress.compression.export import export_onnx
from pytest_drlcompress.errors import BaselineError
from pytest_drlcompress.evaluation.reference import Reference
from pytest_drlcompress.evaluation.references import measure_pool, measure_references
from pytest_drlcompress.files import write_json
from pytest_drlcompress.policies.environment import EnvSpec
from pytest_drlcompress.policies.store import RECORD, load_policy, read_record, save_network
from pytest_drlcompress.runtime.onnx import OnnxController

POOL_EPISODES = 200
"""Recorded baseline episodes: as many as a gate may use, each drawn once."""

_VERSIONED = ("gymnasium", "mujoco", "numpy", "onnxruntime", "stable-baselines3", "torch")


@dataclass(frozen=True)
class BaselineRecord:
    """What ``baseline.json`` says beyond the policy itself.

    ``verdicts`` maps recipe text to the recorded verdicts by gate; ``versions`` are those the
    reference was measured with.
    """

    reference: Reference
    environment: str
    versions: Mapping[str, str]
    verdicts: Mapping[str, Any]


def record_baseline(
    folder: Path,
    network: nn.Sequential,
    env: EnvSpec,
    *,
    algorithm: str,
    training: Mapping[str, Any],
    on_steps: Callable[[int], None] = lambda steps: None,
) -> BaselineRecord:
    """Measure the reference of ``network`` and write the whole baseline folder.

    Nothing is written for a policy that is not competent.

    Raises:
        BaselineError: the policy does not beat the random and the zero-action policy.
        EpisodeError: an episode could not be completed.
    """
    shape, dtype, _ = env.spaces
    controller = OnnxController(export_onnx(network, shape, dtype))
    seeds, returns = measure_pool(env, controller, POOL_EPISODES, on_steps=on_steps)
    random, zero = measure_references(env, on_steps=on_steps)
    reference = Reference(returns=returns, seeds=seeds, random=random, zero=zero)
    reason = reference.competence()
    if reason is not None:
        raise BaselineError(f"{folder.name} is not recorded: {reason}")
    previous = read_record(folder) if (folder / RECORD).exists() else {}
    sha256 = save_network(folder, network)
    unchanged = previous.get("sha256") == sha256
    record: dict[str, Any] = {
        "algorithm": algorithm,
        "environment": str(env),
        "sha256": sha256,
        "training": dict(training),
        "reference": _reference_json(reference),
        "versions": current_versions(),
        "verdicts": previous.get("verdicts", {}) if unchanged else {},
    }
    write_json(folder / RECORD, record)
    load_policy(folder)  # what was written must be readable
    return read_baseline_record(folder)


def read_baseline_record(folder: Path) -> BaselineRecord:
    """The record in ``folder``.

    Raises:
        BaselineError: it is missing, incomplete or damaged.
    """
    record = read_record(folder)
    try:
        stored = record["reference"]
        first = int(stored["first_seed"])
        reference = Reference(
            returns=tuple(map(float, stored["returns"])),
            seeds=tuple(range(first, first + len(stored["returns"]))),
            random=tuple(map(float, stored["random"])),
            zero=tuple(map(float, stored["zero"])),
        )
        return BaselineRecord(
            reference, str(record["environment"]), dict(record["versions"]), record["verdicts"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BaselineError(
            f"{folder / RECORD} is incomplete or damaged ({type(error).__name__}: {error});"
            " restore it, or train or import the policy again"
        ) from None


def current_versions() -> dict[str, str]:
    """Versions of what a return depends on."""
    versions = {name: importlib.metadata.version(name) for name in _VERSIONED}
    return {**versions, "python": platform.python_version()}


def _reference_json(reference: Reference) -> dict[str, Any]:
    # full precision: a recorded return is compared with a measured one
    return {
        "first_seed": reference.seeds[0],
        "mean": round(reference.mean, 3),
        "returns": list(reference.returns),
        "random": list(reference.random),
        "zero": list(reference.zero),
    }
