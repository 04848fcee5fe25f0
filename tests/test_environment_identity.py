"""Episodes are remembered of the environment they were measured in, not of one of its name."""

import contextlib
import importlib.metadata
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import onnx
import pytest
from counting import counting
from onnx import TensorProto, helper

from pytest_drlcompress.environments.engines import Engines
from pytest_drlcompress.environments.identity import identify
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.cache import default_cache_path

pytestmark = pytest.mark.filterwarnings("ignore:.*(Overriding|out of date)")

ENVIRONMENT = """
import gymnasium as gym
import numpy as np

from drlc_rewards import reward


class Walk(gym.Env):
    observation_space = gym.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, track="", gain=1.0, scorer=None):
        self.track, self.gain = track, gain

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.place, {}

    def step(self, action):
        self.place = np.clip(self.place + action, -10, 10).astype(np.float32)
        return self.place, reward(self.place) * self.gain, False, False, {}


class Gentle(gym.RewardWrapper):
    def reward(self, reward):
        return reward / 2


gym.register("drlcWalk-v0", "drlc_walk:Walk", max_episode_steps=5)
"""
REWARDS = "def reward(place):\n    return SIGN * float(place[0])\n"

RUN = """
import sys
from pytest_drlcompress import Workbench, builtin_registry, default_settings

settings = default_settings(policies=("walker.onnx",), env="drlc_walk:drlcWalk-v0", workers=1)
bench = Workbench(settings, builtin_registry())
loaded = bench.load("walker.onnx")
episodes = loaded.episodes(loaded.exported, range(4))
print([episode.total for episode in episodes])
"""


def write_rewards(folder, sign):
    (folder / "drlc_rewards.py").write_text(REWARDS.replace("SIGN", sign))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's environment in two modules of the current folder."""
    (tmp_path / "drlc_walk.py").write_text(ENVIRONMENT)
    write_rewards(tmp_path, "+1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("drlc_walk", "drlc_rewards", "drlc_engines"):
        sys.modules.pop(name, None)
    for name in [name for name in gym.registry if name.startswith("drlcWalk")]:
        del gym.registry[name]


def identity(text="drlc_walk:drlcWalk-v0", **arguments):
    """As a new process would find it."""
    for name in ("drlc_walk", "drlc_rewards"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    importlib.import_module("drlc_walk")
    found = identify(EnvSpec.parse(text), **arguments)
    assert found.digest, found.reason
    return found.digest


def test_a_changed_reward_is_measured_again(project, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(project))
    tanh = helper.make_node("Tanh", ["observation"], ["action"])
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])
        for name in ("observation", "action")
    ]
    graph = helper.make_graph([tanh], "walker", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, project / "walker.onnx")
    before = run(project)
    assert run(project) == before
    assert remembered() == 4, "another process finds the same identity"
    write_rewards(project, "-1")
    assert run(project) == [-total for total in before]
    assert remembered() == 8


def remembered():
    with contextlib.closing(sqlite3.connect(default_cache_path())) as connection:
        return connection.execute("SELECT COUNT(*) FROM episodes").fetchone()[0]


def run(folder):
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_same_environment_keeps_its_identity(project):
    assert identity() == identity()
    assert identify(EnvSpec.parse("Hopper-v5")) == identify(EnvSpec.parse("Hopper-v5"))


def test_code_arguments_limits_and_wrappers_count(project):
    seen = {identity(), identity("drlc_walk:drlcWalk-v0:gain=2.0")}
    gym.register("drlcWalk-v1", "drlc_walk:Walk", max_episode_steps=5)
    seen.add(identity("drlcWalk-v1"))
    gym.register("drlcWalk-v1", "drlc_walk:Walk", max_episode_steps=6)
    seen.add(identity("drlcWalk-v1"))
    gym.register("drlcWalk-v1", "drlc_walk:Walk", max_episode_steps=6, kwargs={"gain": 3.0})
    seen.add(identity("drlcWalk-v1"))
    gentle = gym.envs.registration.WrapperSpec("Gentle", "drlc_walk:Gentle", {})
    gym.register("drlcWalk-v1", "drlc_walk:Walk", 5, additional_wrappers=(gentle,))
    seen.add(identity("drlcWalk-v1"))
    (project / "drlc_walk.py").write_text(ENVIRONMENT.replace("-10, 10)", "-9, 9)"))
    seen.add(identity())
    write_rewards(project, "-1")  # a module that the environment's own imports
    seen.add(identity())
    assert len(seen) == 8


def test_files_that_arguments_name_count(project):
    text = "drlc_walk:drlcWalk-v0:track=track.txt"
    (project / "track.txt").write_text("left")
    left = identity(text)
    (project / "track.txt").write_text("right")
    assert identity(text) != left


def test_a_model_counts_with_all_that_it_includes(project):
    from gymnasium.envs.mujoco import mujoco_env

    assets = Path(mujoco_env.__file__).parent / "assets/hopper.xml"
    (project / "body.xml").write_text(assets.read_text())
    outer = project / "hopper.xml"
    outer.write_text('<mujoco><include file="body.xml"/></mujoco>')
    spec = EnvSpec("Hopper-v5", (("xml_file", str(outer)),))
    before = identify(spec)
    assert before.digest
    (project / "body.xml").write_text(assets.read_text().replace("0.002", "0.003"))
    assert identify(spec) != before


def test_versions_count_also_those_of_what_a_distribution_requires(monkeypatch):
    before = identify(EnvSpec.parse("CartPole-v1"))
    find = importlib.metadata.distribution

    class Newer(importlib.metadata.Distribution):
        version = "99.0"
        read_text = locate_file = None
        requires = ()

    monkeypatch.setattr(
        importlib.metadata,
        "distribution",
        lambda name: Newer() if name == "numpy" else find(name),
    )
    assert identify(EnvSpec.parse("CartPole-v1")) != before


def test_what_cannot_be_identified_has_a_reason(project):
    import drlc_walk

    space = {"gym": gym, "Walk": drlc_walk.Walk, "__name__": "drlc_walk"}
    exec("class Typed(Walk):\n    pass", space)
    bare = {"Walk": drlc_walk.Walk}
    exec("class Bare(Walk):\n    pass", bare)
    for target, kwargs, reason in (
        (space["Typed"], {}, "the source of drlc_walk.Typed is not available"),
        (bare["Bare"], {}, "the source of builtins.Bare is not available"),
        ("drlc_walk:Walk", {"scorer": object()}, "a keyword argument is an object of object"),
    ):
        gym.register("drlcWalk-v2", target, kwargs=kwargs, disable_env_checker=True)
        found = identify(EnvSpec.parse("drlcWalk-v2"))
        assert found.digest is None
        assert reason in found.reason


def test_what_a_function_holds_counts(project):
    import drlc_walk

    def maker(gain):
        return lambda: drlc_walk.Walk(gain=gain)

    found = []
    for gain in (1.0, 1.0, 2.0):
        gym.register("drlcWalk-v3", maker(gain), disable_env_checker=True)
        found.append(identify(EnvSpec.parse("drlcWalk-v3")).digest)
    assert found[0] == found[1] != found[2]
    gym.register("drlcWalk-v3", maker(np.random.default_rng(0)), disable_env_checker=True)
    assert "holds is an object of Generator" in identify(EnvSpec.parse("drlcWalk-v3")).reason


def test_added_engines_count(project, counting_env):
    code = "def skip(spec, perturbation):\n    return None\n"
    (project / "drlc_engines.py").write_text(code)
    skip = importlib.import_module("drlc_engines").skip
    plain, added = identify(counting()), identify(counting(), Engines.of([skip]))
    (project / "drlc_engines.py").write_text(code + "# changed\n")
    assert len({plain, added, identify(counting(), Engines.of([skip]))}) == 3
