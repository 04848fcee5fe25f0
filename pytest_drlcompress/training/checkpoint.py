"""Training checkpoints: everything the next segment starts from, replaced as a whole.

A checkpoint is a folder ``segment-<k>``; ``state.json`` names the current one and is
replaced last, so a training killed at any moment resumes from a complete checkpoint. These
are the training's own scratch files: SB3's ``load`` unpickles them, and nothing else does.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.core.files import write_json
from pytest_drlcompress.reading.typed import ContentError, read_json

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

_BUFFER_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")

_EXTRA = "extra.json"


@dataclass(frozen=True)
class TrainingState:
    """How far a training is. ``curve`` holds ``[steps, mean return]`` of each evaluation.

    ``fingerprint`` identifies the recipe, ``planned`` its steps (0 if not known). ``devices``
    counts the segments that each device has trained.
    """

    fingerprint: str
    planned: int = 0
    segment: int = 0
    steps: int = 0
    seconds: float = 0.0
    best_return: float | None = None
    best_steps: int = 0
    curve: list[list[float]] = field(default_factory=list)
    devices: dict[str, int] = field(default_factory=dict)

    def after_segment(
        self, steps: int, seconds: float, value: float, *, best: bool, device: str = "cpu"
    ) -> "TrainingState":
        """The state at ``steps`` after one more segment, of ``seconds`` on ``device``.

        Its policy returned ``value``; ``best``: more than any before.
        """
        return replace(
            self,
            segment=self.segment + 1,
            steps=steps,
            seconds=round(self.seconds + seconds, 1),
            best_return=value if best else self.best_return,
            best_steps=steps if best else self.best_steps,
            curve=[*self.curve, [steps, round(value, 2)]],
            devices={**self.devices, device: self.devices.get(device, 0) + 1},
        )


@contextlib.contextmanager
def only_one(training: str, work: Path) -> Iterator[None]:
    """Hold ``work`` for this process.

    Raises:
        TrainingError: another process trains there.
    """
    work.mkdir(parents=True, exist_ok=True)
    # the kernel frees it when its holder dies, however it dies
    lock = FileLock(work / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise TrainingError(f"another process is training {training} in {work}") from None
    try:
        yield
    finally:
        lock.release()


def read_state(folder: Path) -> TrainingState | None:
    """The state in ``folder``, or ``None`` where there is none that can be read."""
    try:
        return TrainingState(**read_json(folder / "state.json", TrainingState))
    except (OSError, ContentError, TypeError):  # an unknown field is a TypeError
        return None


def save(
    folder: Path,
    state: TrainingState,
    model: "BaseAlgorithm",
    env: "VecEnv",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the checkpoint of ``state.segment`` and make it the current one.

    ``extra`` (JSON builtins) is what ``read_extra`` gives back.
    """
    replace_current(folder, state, lambda target: _write(target, model, env, extra))


def replace_current(folder: Path, state: TrainingState, write: Callable[[Path], None]) -> None:
    """Make what ``write`` puts into an empty folder the current checkpoint."""
    target = folder / f"segment-{state.segment}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write(target)
    write_json(folder / "state.json", asdict(state))
    for other in folder.glob("segment-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def _write(
    target: Path, model: "BaseAlgorithm", env: "VecEnv", extra: Mapping[str, Any] | None
) -> None:
    model.save(target / "model.zip")
    buffer: Any = getattr(model, "replay_buffer", None)
    if buffer is not None:
        rows = buffer.buffer_size if buffer.full else buffer.pos
        arrays = {name: getattr(buffer, name)[:rows] for name in _arrays(buffer)}
        # of stacked screens, three of which the step before has, a 24th (Boxing) or less is left
        write_arrays = np.savez_compressed if buffer.observations.dtype == np.uint8 else np.savez
        write_arrays(target / "replay.npz", pos=buffer.pos, full=buffer.full, **arrays)
    statistics = normalization(env)
    if statistics is not None:
        np.savez(target / "normalize.npz", **statistics)
    if extra is not None:
        write_json(target / _EXTRA, dict(extra))


def _arrays(buffer: Any) -> list[str]:
    """Its arrays by name; one of images stores each observation once, and has no next ones."""
    return [name for name in _BUFFER_ARRAYS if hasattr(buffer, name)]


def read_extra(folder: Path, state: TrainingState) -> dict[str, Any]:
    """What the current checkpoint was given beyond the model; empty before the first.

    Raises:
        TrainingError: it is damaged.
    """
    path = folder / f"segment-{state.segment}" / _EXTRA
    try:
        return dict(read_json(path, dict[str, Any])) if path.exists() else {}
    except (OSError, ContentError) as error:
        raise TrainingError(f"{path} cannot be read: {error}; delete {folder}") from None


def restore(
    folder: Path,
    state: TrainingState,
    algorithm: "type[BaseAlgorithm]",
    env: "VecEnv",
    device: str = "cpu",
    **changes: Any,
) -> Any:
    """The model of the current checkpoint on ``device``, attached to ``env``.

    The statistics of ``env`` are set.

    ``changes`` are the algorithm's arguments that differ from the stored ones.
    """
    source = folder / f"segment-{state.segment}"
    model: Any = algorithm.load(source / "model.zip", env=env, device=device, **changes)
    if (source / "replay.npz").exists():
        buffer = model.replay_buffer
        with np.load(source / "replay.npz") as stored:
            for name in _arrays(buffer):
                array = stored[name]
                getattr(buffer, name)[: len(array)] = array
            rows = len(stored["rewards"])
            if rows < buffer.buffer_size:  # also one that was full and has grown since
                buffer.pos, buffer.full = rows, False
            else:
                buffer.pos, buffer.full = int(stored["pos"]), bool(stored["full"])
        if buffer.optimize_memory_usage:
            # the next observation written begins an episode: the last one stored was cut
            buffer.dones[buffer.pos - 1] = 1
    statistics: Any = env
    if (source / "normalize.npz").exists():
        with np.load(source / "normalize.npz") as stored:
            for rms, name in ((statistics.obs_rms, "obs"), (statistics.ret_rms, "ret")):
                rms.mean = stored[f"{name}_mean"]
                rms.var = stored[f"{name}_var"]
                rms.count = float(stored[f"{name}_count"])
    return model


def normalization(env: "VecEnv") -> dict[str, Any] | None:
    """The running statistics of a ``VecNormalize`` environment as arrays."""
    from stable_baselines3.common.vec_env import VecNormalize

    if not isinstance(env, VecNormalize):
        return None
    obs: Any = env.obs_rms
    ret: Any = env.ret_rms
    return {
        "obs_mean": obs.mean, "obs_var": obs.var, "obs_count": obs.count,
        "ret_mean": ret.mean, "ret_var": ret.var, "ret_count": ret.count,
    }  # fmt: skip
