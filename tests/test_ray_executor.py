"""Rollouts over the nodes of a Ray cluster: the same bits, whatever is killed."""

import dataclasses
import os
import random
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from counting import ENV_ID, CountingEnv, counting, expected

from pytest_drlcompress.core.errors import (
    EnvironmentSpecError,
    EpisodeError,
    ExecutorError,
    RecipeError,
)
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.retention import RetentionSettings, episode_seeds, judge
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.store import load_policy

ray = pytest.importorskip("ray", reason="needs pytest-drlcompress[ray]")

from ray_cluster import add_node, kill, small_cluster, worker_pids  # noqa: E402

from pytest_drlcompress.baselines.record import read_baseline_record  # noqa: E402
from pytest_drlcompress.compression.registry import builtin_registry  # noqa: E402
from pytest_drlcompress.core.settings import default_settings  # noqa: E402
from pytest_drlcompress.evaluation.executors.ray.proof import (  # noqa: E402
    describe,
    differing_versions,
)
from pytest_drlcompress.evaluation.executors.ray.run import RayRun  # noqa: E402
from pytest_drlcompress.gates.budgets import Budgets  # noqa: E402
from pytest_drlcompress.gates.cells import Cells  # noqa: E402
from pytest_drlcompress.gates.kinds import ACTION_ERROR, RETENTION  # noqa: E402
from pytest_drlcompress.workbench.workbench import Workbench  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
HOPPER = ROOT / "baselines/trpo-hopper"
pytestmark = [
    pytest.mark.usefixtures("counting_env"),
    pytest.mark.filterwarnings("ignore:.*out of date"),
]


@pytest.fixture(scope="module")
def cluster():
    """Two nodes, and one whose floating-point arithmetic is another."""
    with small_cluster(2) as cluster:
        cluster.other = add_node(cluster, env_vars={"DRLC_OTHER_ARITHMETIC": "1"})
        yield cluster


@pytest.fixture(scope="module")
def executor(cluster):
    executor = RayRun(address=cluster.address)
    gym.register(ENV_ID, CountingEnv, disable_env_checker=True)
    try:
        spec = counting()
        assert list(rollout(spec, ZeroActor(spec.action), range(9), workers=executor)) == expected(
            range(9)
        )
        wait_for(lambda: len(executor.pool.nodes) == 2 and executor.pool.refused)
    finally:
        del gym.registry[ENV_ID]
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def hopper():
    policy = load_policy(HOPPER)
    model = export_onnx(policy.network, policy.env.observation_shape, np.dtype(np.float64))
    return EnvSpec.parse("Hopper-v5:max_episode_steps=150"), model


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_episodes_are_those_of_this_machine(executor, hopper):
    spec, model = hopper
    seeds = random.Random(0).sample(range(2**31), 40)
    here = list(rollout(spec, model, seeds))
    assert list(rollout(spec, model, seeds, workers=executor)) == here


def test_a_node_that_gives_other_returns_is_refused(executor):
    assert len(executor.pool.nodes) == 2
    (reason,) = executor.pool.refused.values()
    assert "seed 0 returned 5e-324 in 1 steps there, 0.0 in 1 here" in reason
    assert any("refused" in line for line in executor.notes())
    assert executor.notes()[0].startswith("ray: 3 workers on 2 nodes")


def test_other_versions_are_refused():
    here = describe()
    there = dataclasses.replace(here, versions={**here.versions, "mujoco": "3.0.0"})
    assert differing_versions(there, here) == f"mujoco 3.0.0 instead of {here.versions['mujoco']}"
    assert not differing_versions(here, here)


def test_an_error_comes_at_its_episodes_turn(executor):
    spec = counting(fault="raise", faulty=20)
    got = []
    with pytest.raises(EpisodeError, match="a wheel came off"):
        got.extend(rollout(spec, ZeroActor(spec.action), range(60), workers=executor))
    assert got == expected(range(20))


def test_what_is_in_flight_is_cancelled_and_counted(executor):
    spec = EnvSpec.parse("HalfCheetah-v5")
    before = executor._rollouts.tally
    episodes = rollout(spec, ZeroActor(spec.action), range(10_000), workers=executor)
    next(episodes)
    episodes.close()
    made = executor._rollouts.tally - before
    assert made.episodes == 1
    assert 15 <= made.cancelled <= 100
    other = counting()
    start = time.monotonic()
    assert list(rollout(other, ZeroActor(other.action), range(9), workers=executor)) == expected(
        range(9)
    )
    assert time.monotonic() - start < 30, "the workers were free again"
    assert "more in flight when a gate had decided" in executor.notes()[0]


@pytest.mark.parametrize("number", range(2))
def test_a_killed_worker_changes_no_verdict(cluster, executor, hopper, number):
    """Its episodes are begun again by another; nothing is counted twice."""
    spec, model = hopper
    settings = RetentionSettings(max_episodes=80, precision=1e-6)
    seeds = episode_seeds(f"artifact {number}", str(spec), settings, 80)
    reference = read_baseline_record(HOPPER).reference
    before = executor._rollouts.tally

    def verdict(executor, on_progress=lambda progress: None):
        episodes = rollout(spec, model, seeds, workers=executor)
        returns = (episode.total for episode in episodes)
        return judge(returns, reference, settings, policy="p", variant="v", on_progress=on_progress)

    chosen = random.Random(number)
    at, killed = chosen.randrange(2, 30), []

    def strike(progress):
        if progress.episodes == at:
            nodes = [node for node in cluster.worker_nodes if node is not cluster.other]
            killed.extend(worker_pids(chosen.choice(nodes)))
            kill(killed[0])

    assert verdict(executor, strike) == verdict(1)
    assert len(killed) == 1
    made = executor._rollouts.tally - before
    assert made.episodes == 80
    assert made.lost == 1
    assert made.again >= 1


def test_an_environment_that_kills_its_process_is_an_error(executor, monkeypatch):
    """Not for ever again on the next worker."""
    monkeypatch.setattr("pytest_drlcompress.evaluation.executors.ray.executor.MOST_DEATHS", 2)
    spec = counting(fault="die", faulty=5)
    got = []
    with pytest.raises(EpisodeError, match=r"2 workers died in this episode"):
        got.extend(rollout(spec, ZeroActor(spec.action), range(9), workers=executor))
    assert got == expected(range(len(got)))
    assert len(got) <= 5


def test_an_environment_that_hangs_is_an_error(executor, monkeypatch):
    monkeypatch.setattr("pytest_drlcompress.evaluation.executors.ray.worker._STOPPING_S", 1.0)
    spec = counting(fault="sleep", faulty=3)
    with pytest.raises(EpisodeError, match=r"no step was finished within 2 s .* seed [0-3]"):
        list(rollout(spec, ZeroActor(spec.action), range(6), workers=executor, step_timeout_s=2.0))
    healthy = counting()
    assert list(rollout(healthy, ZeroActor(healthy.action), [1, 2], workers=executor))


def test_an_environment_that_nodes_cannot_know_is_an_error(executor):
    made_here = threading.get_ident()

    class Local(CountingEnv):
        def __init__(self):
            super().__init__()
            if threading.get_ident() != made_here:
                raise RuntimeError("only at home")

    gym.register("drlcTests/Local-v0", Local, disable_env_checker=True)
    try:
        spec = EnvSpec("drlcTests/Local-v0")
        with (
            pytest.warns(RuntimeWarning, match="fewer cores are used.*only at home"),
            pytest.raises((EnvironmentSpecError, EpisodeError), match="only at home"),
        ):
            list(rollout(spec, ZeroActor(spec.action), range(9), workers=executor))
    finally:
        del gym.registry["drlcTests/Local-v0"]


def test_jobs_that_are_killed_begin_again(executor, tmp_path):
    def job(node, number):
        (tmp_path / f"{number}").write_text(str(os.getpid()))
        time.sleep(1)
        return number * number

    futures = [executor.jobs.submit(job, number) for number in range(3)]
    wait_for(lambda: (tmp_path / "0").exists() and (tmp_path / "0").read_text())
    kill(int((tmp_path / "0").read_text()))
    assert [future.result(60) for future in futures] == [0, 1, 4]
    progress = executor.jobs.progress()
    assert (progress.done, progress.running, progress.waiting) == (3, 0, 0)
    assert executor.jobs.tally.lost == 1


def test_a_job_has_helpers_and_raises_what_it_raised(executor, hopper):
    spec, model = hopper

    def job(node):
        assert node.executor.workers == 2, "itself and a helper"
        return list(rollout(spec, model, range(8), workers=node.executor))

    def broken(node):
        raise ExecutorError("as told")

    wait_for(lambda: len(executor.pool._free) == 2)
    assert executor.jobs.submit(job).result(60) == list(rollout(spec, model, range(8)))
    with pytest.raises(ExecutorError, match="as told"):
        executor.jobs.submit(broken).result(60)


def test_cells_are_judged_as_here(executor):
    """Made and judged on nodes: verdicts and artifacts are those of this machine."""
    settings = default_settings(
        policies=("trpo-hopper",), baselines=ROOT / "baselines", max_episodes=8, cache=False
    )
    asked = [(RETENTION.name, Budgets()), (ACTION_ERROR.name, Budgets())]
    variants = ["ptsq", "l9@10", "ptdq"]
    there = Workbench(settings, builtin_registry(), executor=executor)
    cells = Cells(
        executor.jobs,
        [(there.candidate("trpo-hopper", name), one) for name in variants for one in asked],
    )
    cells.start()
    here = Workbench(settings, builtin_registry())
    for name in ("ptsq", "ptdq"):
        candidate, same = there.candidate("trpo-hopper", name), here.candidate("trpo-hopper", name)
        for kind, one in zip((RETENTION, ACTION_ERROR), asked, strict=True):
            found = cells.verdict(candidate, one)
            expected = kind.load_judge()(same, Budgets())
            assert without_time(found) == without_time(expected)
        assert candidate.artifact.sha256 == same.artifact.sha256
        assert cells.verdict(candidate, (RETENTION.name, Budgets(min_retention=0.5))) is None
    with pytest.raises(RecipeError, match="l9"):
        cells.verdict(there.candidate("trpo-hopper", "l9@10"), asked[0])
    here.close()


def without_time(verdict):
    details = {name: value for name, value in verdict.details.items() if name != "seconds"}
    return dataclasses.replace(verdict, details=details)


def test_a_second_connection_is_refused(executor):
    assert executor.workers == 3
    with pytest.raises(ExecutorError, match="connected to Ray already"):
        _ = RayRun().workers


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "nothing answers there"),
        ("ray://127.0.0.1:10001", "run pytest on a node"),
        ("somewhere", "must be HOST:PORT or auto"),
    ],
)
def test_an_address_without_a_cluster(address, message, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ExecutorError, match=message):
        _ = RayRun(address=address).workers
