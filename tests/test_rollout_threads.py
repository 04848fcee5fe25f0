"""A rollout uses the cores it was given, whatever the environment variables say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from pytest_drlcompress.core.threads import OneThread
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout

BUSY = """
import contextlib, json, os, sys
from pathlib import Path
import numpy as np
from threadpoolctl import threadpool_info
import torch
import gymnasium as gym
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import ZeroActor, rollout


class Multiplying(gym.Env):
    '''Its step is a product of matrices, in NumPy and in torch.'''

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        matrix = np.ones((400, 400), np.float32)
        matrix @ matrix
        torch.from_numpy(matrix) @ torch.from_numpy(matrix)
        return np.zeros(2, np.float32), 0.0, self.steps == 4, False, {}


def seconds():
    ticks, found = os.sysconf('SC_CLK_TCK'), {}
    for task in Path('/proc/self/task').iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            fields = (task / 'stat').read_text().rsplit(') ', 1)[1].split()
            found[task.name] = (int(fields[11]) + int(fields[12])) / ticks
    return found


gym.register('drlcTests/Multiplying-v0', Multiplying, disable_env_checker=True)
spec = EnvSpec(sys.argv[1])
spec.spaces
np.ones((300, 300)) @ np.ones((300, 300))  # the libraries' own threads are there


def threads():
    # the order in which the libraries are listed says nothing
    return sorted((pool['prefix'], pool['num_threads']) for pool in threadpool_info())


info = threads()
before, after = seconds(), {}
for number, _ in enumerate(rollout(spec, ZeroActor(spec.action), range(int(sys.argv[2]))), 1):
    if number % 8 == 0:  # while it runs: a thread that has ended is not counted
        after.update(seconds())
used = [after[name] - before.get(name, 0.0) for name in after]
left = threads()
print(json.dumps({'used': sorted(used), 'before': info, 'after': left}))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts the threads of Linux")
@pytest.mark.parametrize(
    ("environment", "episodes"),
    [("HumanoidStandup-v5", 8), ("drlcTests/Multiplying-v0", 512)],
)
def test_one_worker_keeps_one_thread_busy(environment, episodes):
    variables = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    run = subprocess.run(
        [sys.executable, "-c", BUSY, environment, str(episodes)],
        env={**variables, "OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(run.stdout.splitlines()[-1])
    busiest, others = found["used"][-1], sum(found["used"][:-1])
    assert busiest > 0.2
    assert others <= 0.1 * busiest, found["used"]
    # what the user has set is there again (at most one for each core)
    assert found["after"] == found["before"]
    assert max(threads for _, threads in found["after"]) == min(4, os.cpu_count())


def test_the_limit_is_given_back_by_the_last_that_holds_it():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info()]

    _ = np.ones((4, 4)) @ np.ones((4, 4))
    usual, limit = threads(), OneThread()
    first, second = (
        rollout(EnvSpec("Hopper-v5"), ZeroActor(EnvSpec("Hopper-v5").action), [1, 2])
        for _ in range(2)
    )
    next(first), next(second)
    assert set(threads()) == {1}
    first.close()
    second.close()
    assert threads() == usual
    with limit:
        with limit:
            pass
        assert set(threads()) == {1}
    assert threads() == usual
