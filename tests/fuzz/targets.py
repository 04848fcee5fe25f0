"""What is fuzzed: every reader of files that anybody may have written, with valid files to damage.

A reader may accept a file or refuse it with a ``DrlcError``; anything else is a finding.
"""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import mutations as m
import numpy as np
import onnx
import torch
import zstandard
from small_model import small_model

from pytest_drlcompress.baselines.record import read_baseline_record
from pytest_drlcompress.baselines.variants import description_path, load_variant, variant_path
from pytest_drlcompress.baselines.verdicts import expectation
from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.environments.recorded import read_recording
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.cache import EpisodeCache
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.gates.budgets import Budgets, recorded_budgets
from pytest_drlcompress.gates.memory import memory_figures
from pytest_drlcompress.gates.sparsity import judge_sparsity
from pytest_drlcompress.policies.sb3.load import policy_from_zip
from pytest_drlcompress.policies.sb3.vecnormalize import read_vecnormalize
from pytest_drlcompress.policies.sb3.zip import read_zip
from pytest_drlcompress.policies.store import load_policy
from pytest_drlcompress.reporting.baseline_table import read_rows
from pytest_drlcompress.reporting.compare import compare, read_report
from pytest_drlcompress.training.checkpoint import read_state
from pytest_drlcompress.training.recipes import read_recipes

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "baselines/trpo-hopper"
MOST_WORDS = 20_000
ENV = EnvSpec.parse("Pendulum-v1")


@dataclass(frozen=True)
class Target:
    """One reader: valid files by name, how they are damaged, and what reads one in a folder."""

    name: str
    seeds: Callable[[], tuple[bytes, ...]]
    damage: Callable[[Random, bytes], bytes]
    read: Callable[[Path, bytes], object]


def attempt(target: Target, folder: Path, content: bytes) -> str:
    """``"read"`` or ``"refused"``; whatever else the reader does comes out."""
    try:
        target.read(folder, content)
    except DrlcError as error:
        return "refused" if 0 < len(str(error)) < MOST_WORDS else f"an error of {error!r}"
    return "read"


def _written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _zips() -> tuple[bytes, ...]:
    from stable_baselines3 import PPO, SAC

    made = []
    for algorithm, settings in ((SAC, {"buffer_size": 10}), (PPO, {"n_steps": 8})):
        model = algorithm(
            "MlpPolicy", "Pendulum-v1", device="cpu", policy_kwargs={"net_arch": [4]}, **settings
        )
        stream = io.BytesIO()
        model.save(stream)
        made.append(stream.getvalue())
    kept = io.BytesIO()  # without the optimizers, which are never read
    with zipfile.ZipFile(io.BytesIO(made[0])) as old, zipfile.ZipFile(kept, "w") as new:
        for name in ("data", "policy.pth", "_stable_baselines3_version"):
            new.writestr(name, old.read(name))
    return kept.getvalue(), made[1], _odd_tensors(kept.getvalue())


def _odd_tensors(seed: bytes) -> bytes:
    """Tensors of every kind that is no plain weight."""
    with zipfile.ZipFile(io.BytesIO(seed)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    tensors = torch.load(io.BytesIO(members["policy.pth"]), weights_only=True)
    tensors["actor.mu.weight"] = torch.quantize_per_tensor(
        tensors["actor.mu.weight"], 0.1, 0, torch.qint8
    )
    stream = io.BytesIO()
    torch.save(tensors, stream)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, inner in {**members, "policy.pth": stream.getvalue()}.items():
            archive.writestr(name, inner)
    return made.getvalue()


def _read_zip(folder: Path, content: bytes) -> None:
    saved = read_zip(_written(folder, "m.zip", content))
    policy_from_zip(saved, ENV, policy_id="", vecnormalize=None, trust=False)


def _models() -> tuple[bytes, ...]:
    from onnxruntime.quantization import quantize_dynamic

    plain = small_model()
    made = io.BytesIO()
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        onnx.save(plain, Path(folder) / "a.onnx")
        quantize_dynamic(Path(folder) / "a.onnx", Path(folder) / "b.onnx")
        made.write((Path(folder) / "b.onnx").read_bytes())
    return plain.SerializeToString(), small_model(loop=3).SerializeToString(), made.getvalue()


@cache
def _pendulum(original: str):
    """The policy that variants are judged against, without a rollout."""
    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.core.settings import default_settings
    from pytest_drlcompress.workbench.workbench import Workbench

    settings = default_settings(policies=(original,), env="Pendulum-v1", cache=False)
    return Workbench(settings, builtin_registry()).load(original)


def _read_model(folder: Path, content: bytes) -> None:
    from pytest_drlcompress.compression.variant import Variant
    from pytest_drlcompress.workbench.candidate import Candidate

    original = folder.parent / "original.onnx"
    if not original.exists():
        original.write_bytes(small_model().SerializeToString())
    path = _written(folder, "v.onnx", content)
    candidate = Candidate(_pendulum(str(original)), Variant(str(path)))
    verdict = judge_sparsity(candidate, Budgets())
    assert verdict.state in set(State)
    _ = candidate.fingerprint
    with candidate.analysis():
        memory_figures(candidate.artifact.model)
    candidate.controller.act(np.ones((3, 3), np.float32))


def _record() -> tuple[bytes, ...]:
    return ((BASELINE / "baseline.json").read_bytes(),)


def _baseline(folder: Path) -> Path:
    shutil.copytree(BASELINE, folder / "b", dirs_exist_ok=True)
    return folder / "b"


def _use_baseline(folder: Path) -> None:
    load_policy(folder)
    record = read_baseline_record(folder)
    for variant in (*record.verdicts, "fp32"):
        try:
            recorded_budgets(record.budgets, variant)
        except ValueError as error:
            raise DrlcError(str(error)) from None  # as gates.budgets says it
        for gate in ("retention", "action error"):
            expected = expectation(record.verdicts, "b", variant, gate, "action error")
            expected.outcome(Verdict(gate, "b", variant, State.PASS, "as it is"))
    record.reference.competence()
    read_rows(folder.parent, {}, folder)


def _read_record(folder: Path, content: bytes) -> None:
    baseline = _baseline(folder)
    (baseline / "baseline.json").write_bytes(content)
    _use_baseline(baseline)


def _read_weights(folder: Path, content: bytes) -> None:
    """Damaged weights whose hash the record has all the same."""
    baseline = _baseline(folder)
    (baseline / "policy.safetensors").write_bytes(content)
    record = json.loads((BASELINE / "baseline.json").read_text())
    record["sha256"] = hashlib.sha256(content).hexdigest()
    (baseline / "baseline.json").write_text(json.dumps(record))
    load_policy(baseline)


def damage_safetensors(random: Random, content: bytes) -> bytes:
    """The header's JSON, or bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    if random.random() < 0.5:
        described = json.loads(header["__metadata__"]["architecture"])
        text = m.damage_json(random, json.dumps(described).encode())
        header["__metadata__"]["architecture"] = text.decode(errors="replace")
        raw = json.dumps(header).encode()
    else:
        raw = m.damage_json(random, json.dumps(header).encode())
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + content[end:]


def _read_pool(folder: Path, content: bytes) -> None:
    """A damaged pool whose digest the record has all the same."""
    baseline = _baseline(folder)
    (baseline / "returns.csv").write_bytes(content)
    record = json.loads((BASELINE / "baseline.json").read_text())
    lines = content.partition(b"\n")[2]
    record["reference"] |= {
        "sha256": hashlib.sha256(lines).hexdigest(),
        "episodes": max(lines.count(b"\n"), 1),
    }
    (baseline / "baseline.json").write_text(json.dumps(record))
    _use_baseline(baseline)


def _variants() -> tuple[bytes, ...]:
    record = json.loads((BASELINE / "baseline.json").read_text())
    facts = {
        "policy": "b", "policy_sha256": record["sha256"], "recipe": "ptdq",
        "sha256": "0" * 64, "made": {"how": "x"}, "provenance": {"a": [1]},
    }  # fmt: skip
    return (json.dumps(facts).encode(),)


def _read_variant(folder: Path, content: bytes) -> None:
    baseline = _baseline(folder)
    path = variant_path(baseline, "ptdq")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zstandard.compress(b"onnx"))
    description_path(path).write_bytes(content)
    load_variant(baseline, "b", "ptdq")


def _reports() -> tuple[bytes, ...]:
    from reports import FACTS, VARIANTS

    verdicts = [
        {**Verdict("retention", "p", v, State.PASS, "r", 0.95, (0.9, 1.0), 0.9).to_json(), "x": 1}
        for v in VARIANTS
    ]
    run = {"processor": "x86"}
    report = {"schema_version": 1, "verdicts": verdicts, "artifacts": [FACTS], "run": run}
    return (json.dumps(report).encode(),)


def _read_report(folder: Path, content: bytes) -> None:
    new = read_report(_written(folder, "new.json", content))
    old = read_report(_written(folder, "old.json", _reports()[0]))
    compare(old, new)
    compare(new, old)


def _failures() -> tuple[bytes, ...]:
    return ((ROOT / "baselines/ddpg-ant/training.json").read_bytes(),)


def _read_failure(folder: Path, content: bytes) -> None:
    (folder / "t").mkdir(exist_ok=True)
    (folder / "t/training.json").write_bytes(content)
    (folder / "t/state.json").write_bytes(content)
    recipes = read_recipes(ROOT / "baselines/recipes.toml")
    read_rows(folder, {"t": recipes["ddpg-ant"]}, folder)
    read_state(folder / "t")


def _recipes() -> tuple[bytes, ...]:
    return ((ROOT / "baselines/recipes.toml").read_bytes(),)


def _read_recipes(folder: Path, content: bytes) -> None:
    read_recipes(_written(folder, "r.toml", content))


def _pickles() -> tuple[bytes, ...]:
    import pickle

    import gymnasium as gym
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    wrapped = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    made = [pickle.dumps(wrapped, protocol) for protocol in (4, 5)]
    wrapped.obs_rms.mean[:] = np.nan
    return (*made, pickle.dumps(wrapped))


def _read_pickle(folder: Path, content: bytes) -> None:
    found = read_vecnormalize(_written(folder, "v.pkl", content), trust=True)
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.variance).all()


def _observations() -> tuple[bytes, ...]:
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    plain, zipped = io.BytesIO(), io.BytesIO()
    np.save(plain, rows)
    np.savez_compressed(zipped, observations=rows, other=np.arange(50))
    return plain.getvalue(), zipped.getvalue()


def _read_observations(folder: Path, content: bytes) -> None:
    suffix = "npz" if content[:2] == b"PK" else "npy"
    read_recording(_written(folder, f"o.{suffix}", content)).rows((3,), np.dtype(np.float32))


def _tables() -> tuple[bytes, ...]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return ()
    stream = io.BytesIO()
    columns = {name: np.arange(50.0) for name in "abc"}
    parquet.write_table(pa.table({**columns, "d": [[1.0, 2.0, 3.0]] * 50}), stream)
    return (stream.getvalue(),)


def _read_table(folder: Path, content: bytes) -> None:
    read_recording(_written(folder, "o.parquet", content)).rows((3,), np.dtype(np.float32))


def _caches() -> tuple[bytes, ...]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.sqlite"
        EpisodeCache(path).store("key", [Episode(seed, 1.0, 10) for seed in range(50)])
        return (path.read_bytes(),)


def _read_cache(folder: Path, content: bytes) -> None:
    for left in folder.glob("c.sqlite*"):
        left.unlink()
    said: list[str] = []
    cache = EpisodeCache(_written(folder, "c.sqlite", content), said.append)
    cache.find("key", range(50))
    cache.store("key", [Episode(99, 1.0, 10)])
    assert len(said) < 2


BYTES, JSON = m.damage_bytes, m.mixed(m.damage_json, m.damage_json, m.damage_bytes)
TARGETS = (
    Target("sb3-zip", _zips, m.mixed(m.damage_zip, m.damage_zip, BYTES), _read_zip),
    Target("onnx", _models, m.mixed(m.damage_onnx, m.damage_onnx, BYTES), _read_model),
    Target("record", _record, JSON, _read_record),
    Target(
        "weights",
        lambda: ((BASELINE / "policy.safetensors").read_bytes(),),
        m.mixed(damage_safetensors, damage_safetensors, BYTES),
        _read_weights,
    ),
    Target("returns", lambda: ((BASELINE / "returns.csv").read_bytes(),), BYTES, _read_pool),
    Target("variant", _variants, JSON, _read_variant),
    Target("report", _reports, JSON, _read_report),
    Target("training", _failures, JSON, _read_failure),
    Target("recipes", _recipes, BYTES, _read_recipes),
    Target("vecnormalize", _pickles, BYTES, _read_pickle),
    Target("observations", _observations, m.mixed(BYTES, m.damage_zip), _read_observations),
    Target("parquet", _tables, BYTES, _read_table),
    Target("cache", _caches, BYTES, _read_cache),
)
