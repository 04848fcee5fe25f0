"""One trial of a search: a recipe made, sized and looked at for a few episodes.

Each runs in a process of its own and leaves its artifact and its figures as files, so that a
search that was interrupted goes on where it ended.
"""

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_drlcompress.core.errors import DrlcError, ExecutorError
from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.evaluation.executors.base import Jobs, Node
from pytest_drlcompress.evaluation.executors.waiting import as_they_end

if TYPE_CHECKING:
    # these import torch
    from pytest_drlcompress.workbench.loaded import LoadedPolicy
    from pytest_drlcompress.workbench.parcel import Parcel

SCREENING_SEEDS = 2**19 + 2**18
"""First seed of the screening episodes: below ``RECORDED_SEEDS``, so that gates see fresh ones."""


@dataclass(frozen=True)
class Job:
    """What the process of a trial is told.

    ``random_mean`` and ``baseline_mean`` are the returns between which the retention is taken.
    """

    settings: Settings
    policy: str
    recipe: str
    target: str
    wanted: tuple[str, ...]
    folder: Path
    key: str
    episodes: int
    random_mean: float
    baseline_mean: float

    @property
    def name(self) -> str:
        """Its files' name: readable, and different for every other question."""
        digest = hashlib.sha256(f"{self.key}\n{self.recipe}\n{self.episodes}".encode()).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9.@+-]+', '~', self.recipe)}-{digest[:8]}"

    @property
    def model_path(self) -> Path:
        """Where the artifact lies."""
        return self.folder / f"{self.name}.onnx"

    @property
    def path(self) -> Path:
        """Where the figures lie; the last that is written."""
        return self.folder / f"{self.name}.json"


@dataclass(frozen=True)
class Trial:
    """What came of a job.

    ``retention`` is an estimate on ``episodes`` screening episodes; ``size`` the figure that the
    search makes small; ``reason`` why it is out of the running, empty while it is not.
    """

    arm: str
    recipe: str
    share: float
    figures: Mapping[str, float]
    retention: float | None
    episodes: int
    seconds: float
    size: float
    model_path: Path
    reason: str = ""


def run_jobs(
    jobs: Sequence[Job],
    workers: int,
    seconds: float,
    on_done: Callable[[Job, Mapping[str, Any]], None],
    elsewhere: tuple[Jobs, Any] | None = None,
) -> int:
    """Run ``jobs``, ``workers`` at a time, but for those whose files are there.

    They run in processes of this machine, or ``elsewhere``: on the nodes of a cluster, which
    are sent the policy's ``Parcel``. After ``seconds`` those still running are ended; how many are
    not done.

    Raises:
        DrlcError: a process ended without a result; the message has its last lines.
    """
    running: list[subprocess.Popen[bytes]] = []
    missing = [job for job in jobs if not job.path.is_file()]
    for job in jobs:
        if job.path.is_file():
            on_done(job, read_result(job))
    seconds = max(seconds, 0.0)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting: dict[Future[Any], Job] = {
            pool.submit(_run, job, running)
            if elsewhere is None
            else elsewhere[0].submit(_on_node, elsewhere[1], job): job
            for job in missing
        }
        try:
            for done in (
                as_completed(waiting, timeout=seconds)
                if elsewhere is None
                else as_they_end(elsewhere[0], waiting, "trials", seconds=seconds)
            ):
                came = done.result()
                if came is not None:
                    keep(waiting[done], *came)
                on_done(waiting[done], read_result(waiting[done]))
        except TimeoutError:
            return sum(not job.path.is_file() for job in missing)
        finally:
            for future in waiting:
                future.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            _end(running)
    return 0


def read_result(job: Job) -> Mapping[str, Any]:
    """What the job's process left."""
    found: dict[str, Any] = json.loads(job.path.read_text(encoding="utf-8"))
    return MappingProxyType(found)


def _run(job: Job, running: list[subprocess.Popen[bytes]]) -> None:
    root = str(Path(__file__).parents[2])
    code = (
        f"import sys; sys.path.insert(0, {root!r});"
        " from pytest_drlcompress.frontier.trial import serve; serve()"
    )
    process = subprocess.Popen(  # noqa: S603  # this very package
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    running.append(process)
    _, said = process.communicate(pickle.dumps(job))
    if process.returncode or not job.path.is_file():
        lines = said.decode(errors="replace").strip().splitlines()[-3:]
        raise DrlcError(f"the trial of {job.recipe!r} ended without a result: {' / '.join(lines)}")


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.kill()


def serve() -> None:
    """The process of a trial: one job from standard input, which this package wrote."""
    job: Job = pickle.load(sys.stdin.buffer)  # noqa: S301
    make_trial(job)


def make_trial(job: Job) -> None:
    """Make, size and screen; a recipe that does not apply leaves its reason instead."""
    import torch

    from pytest_drlcompress.compression.registry import builtin_registry
    from pytest_drlcompress.workbench.workbench import Workbench

    torch.set_num_threads(1)
    bench = Workbench(job.settings, builtin_registry())
    try:
        keep(job, *measure_trial(job, lambda: bench.load(job.policy)))
    finally:
        bench.close()


def measure_trial(
    job: Job, load: "Callable[[], LoadedPolicy]"
) -> tuple[dict[str, Any], bytes | None]:
    """The figures and the artifact of ``job``; where it does not apply, the reason."""
    import time

    from pytest_drlcompress.compression.recipe import parse_recipe
    from pytest_drlcompress.frontier.costs import measure_costs

    started = time.monotonic()
    result: dict[str, Any] = {"recipe": job.recipe, "retention": None, "figures": {}, "reason": ""}
    model = None
    try:
        loaded = load()
        artifact = loaded.compressed(parse_recipe(job.recipe))
        model = artifact.model
        result["figures"] = measure_costs(model, loaded.probe_observations, job.target, job.wanted)
        result["returns"] = list(_returns(loaded, artifact, job.episodes))
        mean = sum(result["returns"]) / len(result["returns"])
        gain = job.baseline_mean - job.random_mean
        result["retention"] = (mean - job.random_mean) / gain
        result["cpu_seconds"] = artifact.cpu_seconds
    except ExecutorError:  # of the machines, not of the recipe: another time it may apply
        raise
    except DrlcError as error:
        result["reason"] = str(error)
    result["seconds"] = round(time.monotonic() - started, 1)
    return result, model


def keep(job: Job, result: Mapping[str, Any], model: bytes | None) -> None:
    """Write what came of ``job``; the figures last."""
    from pytest_drlcompress.core.files import write_atomic, write_json

    if model is not None:
        write_atomic(job.model_path, model)
    write_json(job.path, result)


def _on_node(node: Node, parcel: "Parcel", job: Job) -> tuple[dict[str, Any], bytes | None]:
    return measure_trial(job, lambda: parcel.unpack(node))


def _returns(loaded: Any, artifact: Any, episodes: int) -> Iterator[float]:
    seeds = range(SCREENING_SEEDS, SCREENING_SEEDS + episodes)
    for episode in loaded.episodes(artifact, seeds):
        yield float(episode.total)
