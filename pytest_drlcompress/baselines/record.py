"""Baselines: policies under ``baselines/`` with what was recorded of them.

A training whose policy is not competent leaves no policy, which a gate would judge, but
``training.json``: its curve, and what the policy earned.
"""

import importlib.metadata
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.files import write_json
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.reference import Reference
from pytest_drlcompress.evaluation.references import measure_pool, measure_references
from pytest_drlcompress.onnx_graph.export import export_onnx
from pytest_drlcompress.policies.store import (
    RECORD,
    load_network,
    load_policy,
    locked_record,
    read_record,
    save_network,
)
from pytest_drlcompress.runtime.factory import make_runtime

POOL_EPISODES = 200
"""Recorded baseline episodes: as many as a gate may use, each drawn once."""

FAILURE = "training.json"
"""What a training that did not learn its task leaves instead of a baseline."""

_VERSIONED = ("gymnasium", "mujoco", "numpy", "onnxruntime", "stable-baselines3", "torch")


@dataclass(frozen=True)
class BaselineRecord:
    """What ``baseline.json`` says beyond the policy itself.

    ``verdicts`` maps recipe text to the recorded verdicts by gate; ``versions`` are those the
    reference was measured with, ``length`` the mean steps of its episodes, ``training`` the
    policy's provenance, ``quality`` as ``rate`` says. ``budgets`` maps a variant, or ``"*"``, to
    limits on its costs.
    """

    reference: Reference
    environment: str
    versions: Mapping[str, str]
    verdicts: Mapping[str, Any]
    algorithm: str = ""
    sha256: str = ""
    length: float | None = None
    quality: str = "unrated"
    training: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Any] = field(default_factory=dict)


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

    For a policy that is not competent ``training.json`` is written instead, if ``training``
    has a curve and the folder holds no baseline.

    Raises:
        BaselineError: the policy does not beat the random and the zero-action policy.
        EpisodeError: an episode could not be completed.
    """
    facts = {"algorithm": algorithm, "environment": str(env), "training": dict(training)}
    return _record(folder, network, facts, on_steps)


def measure_again(
    folder: Path, *, on_steps: Callable[[int], None] = lambda steps: None
) -> BaselineRecord:
    """Record the reference in ``folder`` anew, with the versions at hand; the policy stays.

    Recorded verdicts stay as well: the suites say whether they still hold.

    Raises:
        BaselineError: a damaged baseline, or one that is not competent with these versions.
        EpisodeError: an episode could not be completed.
    """
    old = read_baseline_record(folder)
    facts = {
        "algorithm": old.algorithm,
        "environment": old.environment,
        "training": dict(old.training),
    }
    return _record(folder, load_network(folder, old.sha256), facts, on_steps, old.sha256)


def _record(
    folder: Path,
    network: nn.Sequential,
    facts: Mapping[str, Any],
    on_steps: Callable[[int], None],
    stored_sha256: str | None = None,
) -> BaselineRecord:
    """Measure and write; the weights too, unless they are stored already."""
    env = EnvSpec.parse(facts["environment"])
    shape, dtype, _ = env.spaces
    controller = make_runtime().load(export_onnx(network, shape, dtype))
    pool = measure_pool(env, controller, POOL_EPISODES, on_steps=on_steps)
    random, zero = measure_references(env, on_steps=on_steps)
    reference = Reference(
        returns=tuple(episode.total for episode in pool),
        seeds=tuple(episode.seed for episode in pool),
        random=random,
        zero=zero,
    )
    facts = {**facts, "versions": current_versions(env)}
    reason = reference.competence()
    if reason is not None:
        kept = _keep_failure(folder, facts, reason, reference, pool)
        raise BaselineError(f"{folder.name} is not recorded: {reason}{kept}")
    with locked_record(folder):
        previous = read_record(folder) if (folder / RECORD).exists() else {}
        sha256 = stored_sha256 or save_network(folder, network)
        record = {
            "verdicts": {},
            # what a policy may cost outlives its weights
            **({"budgets": previous["budgets"]} if "budgets" in previous else {}),
            **(previous if previous.get("sha256") == sha256 else {}),
            **facts,
            "sha256": sha256,
            "quality": rate(reference, facts["training"]),
            "reference": _reference_json(reference, pool),
        }
        write_json(folder / RECORD, record)
    (folder / FAILURE).unlink(missing_ok=True)
    load_policy(folder)  # what was written must be readable
    return read_baseline_record(folder)


def rate(reference: Reference, training: Mapping[str, Any]) -> str:
    """How far a trained policy came: ``"full"``, ``"partial"`` or ``"unrated"``.

    Full is at least half of the published return; where the recipe names none
    (HumanoidStandup), at least twice the random policy's. A policy that was not trained from
    a recipe is unrated, and so is one with neither yardstick.
    """
    if "published" not in training:
        return "unrated"
    published, random = training["published"], reference.random_mean
    if published is None and random <= 0:
        return "unrated"
    limit = 2 * random if published is None else published / 2
    return "full" if reference.mean >= limit else "partial"


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
        lengths = stored.get("lengths")
        return BaselineRecord(
            reference=reference,
            environment=str(record["environment"]),
            versions=dict(record["versions"]),
            verdicts=record["verdicts"],
            algorithm=str(record.get("algorithm", "")),
            sha256=str(record["sha256"]),
            length=statistics.fmean(lengths) if lengths else None,
            quality=str(record.get("quality", "unrated")),
            training=dict(record.get("training", {})),
            budgets=dict(record.get("budgets", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BaselineError(
            f"{folder / RECORD} is incomplete or damaged ({type(error).__name__}: {error});"
            " restore it, or train or import the policy again"
        ) from None


def current_versions(env: EnvSpec | None = None) -> dict[str, str]:
    """Versions of what a return depends on; with ``env``, of what only its returns do too."""
    emulator = ("ale-py",) if env is not None and env.atari else ()
    names = (*_VERSIONED, *emulator)
    versions = {name: importlib.metadata.version(name) for name in names}
    return {**versions, "python": platform.python_version()}


def same_environment(recorded: Mapping[str, str]) -> bool:
    """Whether returns of these versions may be held against returns measured now."""
    decisive = {"gymnasium", "mujoco", "ale-py"} & set(recorded)
    try:
        here = {name: importlib.metadata.version(name) for name in decisive}
    except importlib.metadata.PackageNotFoundError:
        return False
    return {"gymnasium", "mujoco"} <= decisive and all(
        recorded[name] == version for name, version in here.items()
    )


def _keep_failure(
    folder: Path,
    facts: Mapping[str, Any],
    reason: str,
    reference: Reference,
    pool: Sequence[Episode],
) -> str:
    """Write ``training.json`` where that helps, and say so."""
    if (folder / RECORD).exists():
        return f" The baseline in {folder} stays as it was."
    if "curve" not in facts["training"]:
        return ""
    figures = {
        "episodes": len(pool),
        "mean": reference.mean,
        "deviation": statistics.stdev(reference.returns),
        "length": statistics.fmean(episode.length for episode in pool),
        "random": reference.random_mean,
        "zero": statistics.fmean(reference.zero),
    }
    write_json(folder / FAILURE, {**facts, "policy": figures, "reason": reason})
    return f" Its curve is in {folder / FAILURE}."


def _reference_json(reference: Reference, pool: Sequence[Episode]) -> dict[str, Any]:
    # full precision: a recorded return is compared with a measured one
    return {
        "first_seed": reference.seeds[0],
        "mean": round(reference.mean, 3),
        "returns": list(reference.returns),
        "lengths": [episode.length for episode in pool],
        "random": list(reference.random),
        "zero": list(reference.zero),
    }
