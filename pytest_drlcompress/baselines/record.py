"""Baselines: policies under ``baselines/`` with what was recorded of them.

A training whose policy is not competent leaves no policy, which a gate would judge, but
``training.json``: its curve, and what the policy earned.
"""

import contextlib
import hashlib
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.extras import versions_of
from pytest_drlcompress.core.files import write_described, write_json
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.executors.factory import make_executor
from pytest_drlcompress.evaluation.pool import (
    POOL_FILE,
    PoolInProgress,
    pool_bytes,
    pool_digest,
    read_pool,
)
from pytest_drlcompress.evaluation.reference import POOL_EPISODES, Reference
from pytest_drlcompress.evaluation.references import measure_pool, measure_references
from pytest_drlcompress.policies.record_file import RECORD, locked_record, read_record

if TYPE_CHECKING:
    from torch import nn  # which reading a record does without

FAILURE = "training.json"
"""What a training that did not learn its task leaves instead of a baseline."""

_VERSIONED = ("gymnasium", "mujoco", "numpy", "onnxruntime", "stable-baselines3", "torch")


@dataclass(frozen=True)
class BaselineRecord:
    """What ``baseline.json`` says beyond the policy itself.

    ``verdicts`` maps recipe text to the recorded verdicts by gate; ``versions`` are those the
    reference was measured with, ``episodes`` the pool (empty where the record does not say how
    long they were) and ``length`` their mean steps, ``training`` the policy's provenance,
    ``quality`` as ``rate`` says. ``budgets`` maps a variant, or ``"*"``, to limits on its costs.
    """

    reference: Reference
    environment: str
    versions: Mapping[str, str]
    verdicts: Mapping[str, Any]
    algorithm: str = ""
    sha256: str = ""
    episodes: tuple[Episode, ...] = ()
    length: float | None = None
    quality: str = "unrated"
    training: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Any] = field(default_factory=dict)


def record_baseline(
    folder: Path,
    network: "nn.Sequential",
    env: EnvSpec,
    *,
    algorithm: str,
    training: Mapping[str, Any],
    episodes: int | None = None,
    workers: int | None = None,
    on_episodes: Callable[[int], None] = lambda episodes: None,
) -> BaselineRecord:
    """Measure the reference of ``network`` and write the whole baseline folder.

    The pool has ``episodes`` (default: ``POOL_EPISODES``), measured on ``workers`` cores
    (default: all); ``on_episodes`` is told how many there are. An interrupted measurement goes
    on where it was.

    For a policy that is not competent ``training.json`` is written instead, if ``training``
    has a curve and the folder holds no baseline.

    Raises:
        BaselineError: the policy does not beat the random and the zero-action policy.
        EpisodeError: an episode could not be completed.
    """
    facts = {"algorithm": algorithm, "environment": str(env), "training": dict(training)}
    return _record(
        folder,
        network,
        facts,
        episodes=episodes or POOL_EPISODES,
        workers=workers,
        on_episodes=on_episodes,
    )


def measure_again(
    folder: Path,
    *,
    episodes: int | None = None,
    workers: int | Executor | None = None,
    on_episodes: Callable[[int], None] = lambda episodes: None,
) -> BaselineRecord:
    """Record the reference in ``folder`` with the versions at hand; the policy stays.

    Episodes that were recorded with these versions stay, and those missing to ``episodes``
    (default: ``POOL_EPISODES``) are added behind them; otherwise all are measured anew.
    Recorded verdicts stay as well: the suites say whether they still hold. ``workers`` is an
    executor, or else, as ``on_episodes``, as in ``record_baseline``.

    Raises:
        BaselineError: a damaged baseline, or one that is not competent with these versions.
        EpisodeError: an episode could not be completed.
    """
    from pytest_drlcompress.policies.store import load_network

    stored = read_record(folder)
    facts = {name: stored.get(name, {}) for name in ("algorithm", "environment", "training")}
    sha256 = str(stored.get("sha256"))
    kept = None
    with contextlib.suppress(BaselineError):  # measuring again is the remedy
        old = read_baseline_record(folder)
        if old.episodes and same_environment(old.versions, EnvSpec.parse(facts["environment"])):
            kept = old
    return _record(
        folder,
        load_network(folder, sha256),
        facts,
        episodes=max(episodes or POOL_EPISODES, len(kept.episodes) if kept else 0),
        workers=workers,
        on_episodes=on_episodes,
        stored_sha256=sha256,
        kept=kept,
    )


def _record(
    folder: Path,
    network: "nn.Sequential",
    facts: Mapping[str, Any],
    *,
    episodes: int,
    workers: int | Executor | None,
    on_episodes: Callable[[int], None],
    stored_sha256: str | None = None,
    kept: BaselineRecord | None = None,
) -> BaselineRecord:
    """Measure what ``kept`` lacks and write; the weights too, unless they are stored already."""
    from pytest_drlcompress.policies.export import export_onnx
    from pytest_drlcompress.policies.store import WEIGHTS, load_policy, network_bytes

    env = EnvSpec.parse(facts["environment"])
    shape, dtype, _ = env.spaces
    model = export_onnx(network, shape, dtype)
    known = () if kept is None else kept.episodes
    identity = f"{hashlib.sha256(model).hexdigest()} {env} {current_versions()} {kept is None}"
    with (
        contextlib.ExitStack() as stack,
        PoolInProgress(folder, identity, known) as progress,
    ):
        executor = workers
        if executor is None or isinstance(executor, int):
            executor = stack.enter_context(contextlib.closing(make_executor(executor)))
        measure = partial(measure_pool, env, model, workers=executor)
        progress.fill(episodes, measure, on_episodes)
        pool = tuple(progress.episodes)
    if kept is None:
        random, zero = measure_references(env)
    else:
        random, zero = kept.reference.random, kept.reference.zero
    reference = Reference(
        returns=tuple(episode.total for episode in pool),
        seeds=tuple(episode.seed for episode in pool),
        random=random,
        zero=zero,
    )
    facts = {**facts, "versions": current_versions(env)}
    reason = reference.competence()
    if reason is not None:
        curve = _keep_failure(folder, facts, reason, reference, pool)
        raise BaselineError(f"{folder.name} is not recorded: {reason}{curve}")
    with locked_record(folder):
        previous = {}
        with contextlib.suppress(BaselineError):  # none, or damaged: recording is the remedy
            previous = read_record(folder)
        files = {folder / POOL_FILE: pool_bytes(pool)}
        sha256 = stored_sha256
        if sha256 is None:
            files[folder / WEIGHTS] = network_bytes(network)
            sha256 = hashlib.sha256(files[folder / WEIGHTS]).hexdigest()
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
        write_described(files, folder / RECORD, record)
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
    missing = [name for name in ("reference", "versions", "verdicts") if record.get(name) is None]
    if missing:
        raise BaselineError(
            f"{folder / RECORD} is incomplete: it has no {missing[0]!r}; restore it, or train or"
            " import the policy again"
        )
    stored = record["reference"]
    pool = _recorded_pool(folder, stored)
    reference = Reference(
        returns=tuple(episode.total for episode in pool),
        seeds=tuple(episode.seed for episode in pool),
        random=tuple(map(float, stored["random"])),
        zero=tuple(map(float, stored["zero"])),
    )
    measured = all(episode.length for episode in pool)
    return BaselineRecord(
        reference=reference,
        environment=record["environment"],
        versions=record["versions"],
        verdicts=record["verdicts"],
        algorithm=record.get("algorithm", ""),
        sha256=record["sha256"],
        episodes=pool if measured else (),
        length=statistics.fmean(e.length for e in pool) if pool and measured else None,
        quality=record.get("quality", "unrated"),
        training=record.get("training") or {},
        budgets=record.get("budgets") or {},
    )


def current_versions(env: EnvSpec | None = None) -> dict[str, str]:
    """Versions of what a return depends on; with ``env``, of what only its returns do too."""
    emulator = ("ale-py",) if env is not None and env.atari else ()
    return {**versions_of((*_VERSIONED, *emulator)), "python": platform.python_version()}


def same_environment(recorded: Mapping[str, str], env: EnvSpec) -> bool:
    """Whether returns of ``env`` with these versions may be held against returns measured now.

    What stepped none of its episodes does not count: MuJoCo in an Atari game, or where it was not
    installed when they were recorded.
    """
    simulator = "ale-py" if env.atari else "mujoco"
    here = versions_of(("gymnasium", simulator))
    decisive = {"gymnasium"} | ({simulator} & recorded.keys())
    return all(recorded.get(name) == here.get(name) for name in decisive)


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


def _recorded_pool(folder: Path, stored: Mapping[str, Any]) -> tuple[Episode, ...]:
    """The episodes that ``stored``, the reference of a record, describes.

    Small pools of earlier versions stand in the record itself, some without lengths (0).
    """
    if stored.get("returns") is None:
        return read_pool(folder / POOL_FILE, stored["episodes"], stored["sha256"])
    returns, first = stored["returns"], stored["first_seed"]
    lengths = stored.get("lengths") or [0] * len(returns)
    return tuple(
        Episode(seed, float(total), int(length))
        for seed, (total, length) in enumerate(zip(returns, lengths, strict=True), first)
    )


def _reference_json(reference: Reference, pool: Sequence[Episode]) -> dict[str, Any]:
    return {
        "episodes": len(pool),
        "sha256": pool_digest(pool),
        "mean": round(reference.mean, 3),
        # full precision: a recorded return is compared with a measured one
        "random": list(reference.random),
        "zero": list(reference.zero),
    }
