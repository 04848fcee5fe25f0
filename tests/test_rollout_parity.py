"""The MuJoCo engine against Gymnasium: the same bits, step by step, over full episodes.

These tests are the proof that ``PROVEN_GYMNASIUM`` and ``PROVEN_MUJOCO`` refer to. To prove
another version, run this file with it and each of the others' versions, and add it.
"""

import importlib.metadata
from pathlib import Path

import mujoco
import numpy as np
import pytest
from zoo import zoo_path

from pytest_drlcompress.environments.gymnasium import GymnasiumEngine, GymnasiumVectorEnv
from pytest_drlcompress.environments.making import quiet_mujoco
from pytest_drlcompress.environments.mujoco import engine as mujoco_engine
from pytest_drlcompress.environments.mujoco import vector_env as mujoco_vector_env
from pytest_drlcompress.environments.mujoco.engine import mujoco_setup
from pytest_drlcompress.environments.mujoco.vector_env import MujocoVectorEnv
from pytest_drlcompress.environments.perturbation import UNPERTURBED, Perturbation
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.sb3.load import load_sb3

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")

FAMILIES = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid", "HumanoidStandup", "Swimmer")
EVERY_TASK = [f"{family}-{version}" for family in FAMILIES for version in ("v4", "v5")]
ASSETS = Path(mujoco_engine.gym.__file__).parent / "envs/mujoco/assets"


@pytest.fixture(autouse=True)
def _installed_versions_are_on_trial(monkeypatch):
    for name in ("gymnasium", "mujoco"):
        installed = (importlib.metadata.version(name),)
        monkeypatch.setattr(mujoco_engine, f"PROVEN_{name.upper()}", installed)


class Pair:
    """Both engines on the same episodes."""

    def __init__(self, spec, seeds, perturbation=UNPERTURBED):
        slots = len(seeds)
        self.fast = MujocoVectorEnv(mujoco_setup(spec, perturbation), slots)
        self.slow = GymnasiumEngine(spec, perturbation).vector_env(slots)
        self.busy = np.ones(slots, np.bool_)
        self.lengths = np.zeros(slots, np.int64)
        for slot, seed in enumerate(seeds):
            self.fast.reset(slot, seed)
            self.slow.reset(slot, seed)
        self._compare("reset", self.fast.observations, self.slow.observations)

    def step(self, actions):
        """One step of each; every number must be the same."""
        rewards, over = self.fast.step(actions, self.busy)
        expected_rewards, expected_over = self.slow.step(actions, self.busy)
        assert not self.fast.failures
        assert not self.slow.failures
        self.lengths += self.busy
        where = f"step {self.lengths.max()}"
        self._compare(f"{where}: rewards", rewards, expected_rewards)
        self._compare(f"{where}: ends", over, expected_over)
        self._compare(f"{where}: observations", self.fast.observations, self.slow.observations)
        self.busy &= ~expected_over

    def _compare(self, what, actual, expected):
        np.testing.assert_array_equal(actual[self.busy], expected[self.busy], err_msg=what)


def run_random(spec, seeds, scales, steps=1000, perturbation=UNPERTURBED):
    """Full episodes of random actions, ``scales`` times the action space; their lengths."""
    pair, action = Pair(spec, seeds, perturbation), spec.action
    generator = np.random.default_rng(list(seeds))
    scale = np.reshape(scales, (-1, 1))
    for _ in range(steps):
        uniform = generator.uniform(action.low, action.high, (len(seeds), *action.shape))
        pair.step((scale * uniform).astype(np.float32))
        if not pair.busy.any():
            break
    return pair.lengths


@pytest.mark.parametrize("task", EVERY_TASK)
def test_full_episodes(task):
    """Strong random actions (bodies fall), weak ones (some do not), none: until all have ended."""
    slow = task.startswith("HumanoidStandup")
    seeds, scales = ((0, 2**31 - 1), (1.0, 0.1)) if slow else ((0, 1, 2**31 - 1), (1.0, 0.1, 0.0))
    lengths = run_random(EnvSpec.parse(task), seeds, scales)
    endless = ("HalfCheetah", "HumanoidStandup", "Swimmer")
    if task.startswith(endless):
        assert set(lengths.tolist()) == {1000}
    elif task.startswith("Ant"):
        assert lengths.max() == 1000
    else:
        assert lengths.min() >= 10
        assert len(set(lengths.tolist())) > 1, "slots must become idle one after the other"


@pytest.mark.parametrize(
    "task", [task for task in EVERY_TASK if task.startswith(("Hopper", "Walker2d", "Humanoid-"))]
)
def test_long_episodes_of_bodies_that_would_have_fallen(task):
    """Full length in all sorts of contacts, where unhealthy states do not end the episode."""
    spec = EnvSpec.parse(f"{task}:terminate_when_unhealthy=false")
    assert run_random(spec, (3,), (0.5,)).tolist() == [1000]


@pytest.mark.parametrize(
    "text",
    [
        (
            "HalfCheetah-v5:forward_reward_weight=2,ctrl_cost_weight=0,frame_skip=3,"
            "reset_noise_scale=0,exclude_current_positions_from_observation=false"
        ),
        "HalfCheetah-v4:ctrl_cost_weight=0.3,reset_noise_scale=0.5,max_episode_steps=37",
        "Hopper-v5:healthy_reward=3,frame_skip=2,xml_file=walker2d.xml",
        "Hopper-v5:terminate_when_unhealthy=false,healthy_reward=2",
        "Hopper-v4:terminate_when_unhealthy=false,healthy_reward=2",
        "Hopper-v4:exclude_current_positions_from_observation=false,pad_observation=3",
        "Walker2d-v5:xml_file=walker2d.xml,forward_reward_weight=0.5,ctrl_cost_weight=0.1",
        "Walker2d-v4:reset_noise_scale=0.05,healthy_reward=0,time_feature=1000",
        "Ant-v5:contact_cost_weight=0.0,include_cfrc_ext_in_observation=false,pad_observation=84",
        "Ant-v5:contact_cost_weight=0.01,include_cfrc_ext_in_observation=false",
        "Ant-v5:exclude_current_positions_from_observation=false,main_body=2,frame_skip=4",
        "Ant-v4:use_contact_forces=true,contact_cost_weight=0.01,terminate_when_unhealthy=false",
        "Ant-v4:pad_observation=84,time_feature=1000",
        (
            "Humanoid-v5:include_cinert_in_observation=false,include_cvel_in_observation=false,"
            "contact_cost_weight=0.001"
        ),
        (
            "Humanoid-v5:include_qfrc_actuator_in_observation=false,contact_cost_weight=0,"
            "include_cfrc_ext_in_observation=false"
        ),
        "Humanoid-v4:exclude_current_positions_from_observation=false,healthy_reward=1",
        (
            "HumanoidStandup-v5:uph_cost_weight=2,ctrl_cost_weight=0.2,impact_cost_weight=0.001,"
            "include_cfrc_ext_in_observation=false"
        ),
        "HumanoidStandup-v5:exclude_current_positions_from_observation=false,frame_skip=3",
        "Swimmer-v5:forward_reward_weight=0.1,ctrl_cost_weight=1,reset_noise_scale=0.3",
        "Swimmer-v4:exclude_current_positions_from_observation=false",
    ],
)
def test_keyword_arguments(text):
    run_random(EnvSpec.parse(text), (7, 8, 9), (1.0, 0.5, 0.1), steps=120)


@pytest.mark.parametrize(
    ("task", "kwargs"),
    [
        ("Hopper-v5", {"healthy_state_range": (-3.0, 3.0), "healthy_z_range": (0.5, 1.3)}),
        (
            "Hopper-v5",
            {
                # left by a bent leg at rest, among others
                "healthy_state_range": (-0.25, 100.0),
                "healthy_z_range": (-9.0, 9.0),
                "healthy_angle_range": (-9.0, 9.0),
                "terminate_when_unhealthy": False,
            },
        ),
        ("Walker2d-v5", {"healthy_angle_range": (-0.3, 0.3)}),
        ("Ant-v5", {"healthy_z_range": (0.4, 0.9), "contact_force_range": (-0.5, 2.0)}),
        ("Humanoid-v5", {"healthy_z_range": (1.3, 1.5), "contact_cost_range": (0.5, 1.0)}),
        (
            "Humanoid-v5",
            {"contact_cost_range": (0.5, 1.0), "contact_cost_weight": 0, "frame_skip": 2},
        ),
        ("HumanoidStandup-v5", {"impact_cost_range": (0.1, 0.2)}),
    ],
)
def test_ranges(task, kwargs):
    """Arguments that text cannot give."""
    spec = EnvSpec(task, tuple(sorted(kwargs.items())))
    run_random(spec, (1, 2, 3), (1.0, 0.3, 0.0), steps=200)


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "Hopper-v4", "Ant-v4"])
def test_simulations_stepped_one_by_one(task, monkeypatch):
    """What older versions of MuJoCo use for every task."""
    monkeypatch.setattr(mujoco_vector_env, "batch_exists", lambda: False)
    run_random(EnvSpec.parse(task), (1, 2), (1.0, 0.1), steps=300)


def test_model_file_of_the_user(tmp_path):
    """Other geometry and another integrator and time step than any of Gymnasium's."""
    model = (ASSETS / "ant.xml").read_text()
    changed = model.replace('integrator="RK4" timestep="0.01"', 'timestep="0.005"')
    assert changed != model
    path = tmp_path / "my_ant.xml"
    path.write_text(changed)
    run_random(EnvSpec.parse(f"Ant-v5:xml_file={path}"), (1, 2), (1.0, 0.1), steps=150)


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "Hopper-v4", "Ant-v5", "Humanoid-v5"])
def test_changed_mass_and_friction(task):
    perturbation = Perturbation(mass=1.3, friction=0.6)
    run_random(EnvSpec.parse(task), (5, 6), (1.0, 0.1), steps=150, perturbation=perturbation)


@pytest.mark.parametrize(
    ("model", "timestep", "task"),
    [
        ("half_cheetah.xml", "0.01", "HalfCheetah-v5"),
        ("hopper.xml", "0.002", "Hopper-v5:terminate_when_unhealthy=false"),
        ("ant.xml", "0.01", "Ant-v5:terminate_when_unhealthy=false"),
    ],
)
def test_physics_that_diverges(model, timestep, task, tmp_path):
    """MuJoCo notices, warns and resets the state by itself; both engines must show the same."""
    path = tmp_path / model
    steady = (ASSETS / model).read_text()
    path.write_text(steady.replace(f'timestep="{timestep}"', 'timestep="0.3"'))
    spec = EnvSpec.parse(f"{task}{',' if ':' in task else ':'}xml_file={path}")
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        pair = Pair(spec, (1, 2))
        generator = np.random.default_rng(0)
        for _ in range(60):
            actions = generator.uniform(spec.action.low, spec.action.high, (2, *spec.action.shape))
            pair.step(actions.astype(np.float32))
            pair.busy[:] = True
    finally:
        mujoco.set_mju_user_warning(None)
    warnings = pair.slow._envs[0].unwrapped.data.warning
    assert sum(warning.number for warning in warnings) > 0, "nothing diverged"


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("Hopper-v5", "trpo/Hopper-v3_1/Hopper-v3"),
        ("HalfCheetah-v5", "sac/HalfCheetah-v3_1/HalfCheetah-v3"),
    ],
)
def test_full_episodes_of_a_good_policy(task, path):
    """A thousand steps of upright hopping and running, where nothing falls and speeds are high."""
    spec = EnvSpec.parse(task)
    statistics = Path(zoo_path(f"{path}.zip")).with_suffix("") / "vecnormalize.pkl"
    policy = load_sb3(
        zoo_path(f"{path}.zip"),
        spec,
        policy_id="",
        vecnormalize=statistics if statistics.exists() else None,
        trust=True,
    )
    import torch

    pair = Pair(spec, (11,))
    with torch.no_grad():
        while pair.busy.any():
            observations = torch.from_numpy(pair.slow.observations.astype(np.float32))
            pair.step(policy.network(observations).numpy())
    assert pair.lengths.tolist() == [1000]


def test_nothing_is_printed_about_the_models(capfd, tmp_path, monkeypatch):
    """HalfCheetah's model file has a deprecated attribute; MuJoCo would also write a log file."""
    monkeypatch.chdir(tmp_path)
    spec = EnvSpec.parse("HalfCheetah-v5")
    assert spec.spaces  # the first that a run asks for
    mujoco_setup(spec, UNPERTURBED)
    GymnasiumVectorEnv(spec, 2).close()
    assert "settotalmass" not in "".join(capfd.readouterr())
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()
    assert mujoco.get_mju_user_warning() is None


def test_the_handler_of_the_user_stays():
    seen = []
    mujoco.set_mju_user_warning(seen.append)
    try:
        with quiet_mujoco():
            assert mujoco.get_mju_user_warning() == seen.append
        assert mujoco.get_mju_user_warning() == seen.append
    finally:
        mujoco.set_mju_user_warning(None)
