"""Rollouts on several cores: workers that end, die, hang or never start."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import pytest
from counting import CountingEnv, Mirror, counting, expected

from pytest_drlcompress.core.errors import EpisodeError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.local import WorkerPool
from pytest_drlcompress.evaluation.rollout import (
    ZeroActor,
    rollout,
)

WAIT_S = 60
pytestmark = [
    pytest.mark.usefixtures("counting_env"),
    pytest.mark.filterwarnings("ignore:.*out of date"),
]


def wait_for(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_closing_stops_the_workers(monkeypatch):
    """After closing no thread of the rollout runs on; it is not even interrupted."""
    monkeypatch.setattr("pytest_drlcompress.evaluation.executors.thread_worker.PATIENCE_S", 1e6)
    spec = EnvSpec.parse("HalfCheetah-v5")
    episodes = rollout(spec, ZeroActor(spec.action), range(10**6), workers=2)
    next(episodes)
    episodes.close()
    assert not [t for t in threading.enumerate() if t.name == "drlcompress"]


def test_a_pool_is_kept_and_ends_with_its_context():
    spec, seeds = counting(), range(30)
    actor = ZeroActor(spec.action)
    with WorkerPool(2) as pool:
        for _ in range(2):
            assert list(rollout(spec, actor, seeds, workers=pool)) == expected(seeds)
        (worker,) = pool._processes
        assert worker.free
        assert worker._number == 2, "the second rollout used it again"
        pid = worker._process.pid
        abandoned = rollout(spec, actor, range(10_000), workers=pool)
        next(abandoned)
        other = list(rollout(spec, actor, seeds, workers=pool))
        assert other == expected(seeds), "a second rollout beside an unfinished one"
        abandoned.close()
        assert list(rollout(spec, actor, seeds, workers=pool)) == expected(seeds)
        assert worker._process.pid == pid
    assert not alive(pid)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("die", r"worker process died \(exit status 3\)"),
        ("exit", r"environment failed \(SystemExit\('enough'\)\)"),
        ("raise", r"a wheel came off"),
    ],
)
def test_a_worker_that_fails_is_an_error_at_its_episodes_turn(fault, message, tmp_path):
    spec = counting(fault=fault, others=str(tmp_path / "here"))
    seeds, got = list(range(3000)), []
    with WorkerPool(2) as pool:
        with pytest.raises(EpisodeError, match=message):
            got.extend(rollout(spec, ZeroActor(spec.action), seeds, workers=pool))
        assert got == expected(seeds[: len(got)])
        assert len(got) < len(seeds)
        healthy = counting()
        assert list(rollout(healthy, ZeroActor(healthy.action), [1, 2], workers=pool))


def test_a_worker_killed_from_outside_is_an_error(tmp_path):
    spec = counting(fault="sleep", others=str(tmp_path / "here"))
    with WorkerPool(2) as pool:
        episodes = rollout(
            spec, ZeroActor(spec.action), range(3000), workers=pool, step_timeout_s=None
        )
        killer = threading.Thread(target=lambda: kill_when_there(tmp_path / "here", pool))
        killer.start()
        with pytest.raises(EpisodeError, match=r"worker process died \(signal 9\)"):
            list(episodes)
        killer.join()


def kill_when_there(path, pool):
    wait_for(path.exists)
    os.kill(pool._processes[0]._process.pid, signal.SIGKILL)


@pytest.mark.parametrize("fault", ["loop", "sleep"])
def test_a_worker_that_hangs_is_an_error_and_replaced(fault, tmp_path):
    spec = counting(fault=fault, others=str(tmp_path / "here"))
    with WorkerPool(2) as pool:
        with pytest.raises(EpisodeError, match=r"no step was finished within 2 s"):
            list(
                rollout(spec, ZeroActor(spec.action), range(3000), workers=pool, step_timeout_s=2.0)
            )
        hanging = pool._processes[0]._process.pid
        time.sleep(2.1)  # its patience is over
        healthy = counting()
        assert list(rollout(healthy, ZeroActor(healthy.action), [1, 2], workers=pool))
        assert not alive(hanging)


def test_a_thread_that_hangs_in_python_code_is_interrupted():
    spec = counting(fault="loop", faulty=3)
    with pytest.raises(EpisodeError, match=r"no step was finished within 1 s .* seed [123]"):
        list(rollout(spec, Mirror(), [1, 2, 3], step_timeout_s=1.0))
    assert not [t for t in threading.enumerate() if t.name == "drlcompress"]


def test_environments_that_take_forever_to_make(monkeypatch):
    def forever(self, slots):
        while True:
            pass

    monkeypatch.setattr(
        "pytest_drlcompress.environments.gymnasium.GymnasiumEngine.vector_env", forever
    )
    with pytest.raises(EpisodeError, match="could not be made within 1 s"):
        list(rollout(counting(), Mirror(), [1], step_timeout_s=0.1))


def test_an_environment_that_other_processes_cannot_know_uses_one_worker():
    class Local(CountingEnv):
        pass

    gym.register("drlcTests/Local-v0", Local, disable_env_checker=True)
    try:
        spec = EnvSpec("drlcTests/Local-v0")
        with pytest.warns(RuntimeWarning, match="fewer cores are used.*Local"):
            episodes = list(rollout(spec, ZeroActor(spec.action), range(9), workers=2))
        assert episodes == expected(range(9))
    finally:
        del gym.registry["drlcTests/Local-v0"]


SCRIPT = """
import signal
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout
from pytest_drlcompress.evaluation.executors.local import WorkerPool
from pytest_drlcompress.environments.spec import EnvSpec

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
spec = EnvSpec.parse("HalfCheetah-v5")
with WorkerPool(2) as pool:
    episodes = rollout(spec, ZeroActor(spec.action), range(100_000), workers=pool)
    next(episodes)
    print(pool._processes[0]._process.pid, flush=True)
    list(episodes)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_survives_its_parent(how):
    """Ctrl-C goes through the context manager; a killed parent is noticed by the worker."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        worker = int(process.stdout.readline())
        assert alive(worker)
        process.send_signal(how)
        try:
            _, errors = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()  # leaving the block waits for it
    assert ("KeyboardInterrupt" in errors) == (how == signal.SIGINT)
    wait_for(lambda: not alive(worker))
