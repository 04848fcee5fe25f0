"""Perturbations: read, applied to the right extent, and the same wherever an episode runs."""

import mujoco
import numpy as np
import pytest

from pytest_drlcompress.core.errors import ActionError, EnvironmentSpecError, OptionTextError
from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.environments.engines import engine_choice
from pytest_drlcompress.environments.mujoco import engine as mujoco_engine
from pytest_drlcompress.environments.perturbation import EpisodeNoise, Perturbation
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import RandomActor, ZeroActor, rollout

HOPPER = EnvSpec.parse("Hopper-v5:max_episode_steps=100,terminate_when_unhealthy=false")
EVERYTHING = Perturbation(observation_noise=0.1, action_noise=0.2, mass=1.3, friction=0.7)
SEEDS = range(60, 80)


class Follower:
    """Actions that depend on every bit of the observation; weak, so that the hopper stands on."""

    def act(self, observations):
        return np.tanh(0.1 * observations[:, -3:]).astype(np.float32)


def box(*bounds):
    low, high = np.array(bounds, np.float32).T
    return ActionSpec(low.shape, low, high)


def test_text():
    text = "action_noise=0.1,friction=0.8,mass=1.2,observation_noise=0.05"
    perturbation = Perturbation.parse(
        "observation_noise=0.05, action_noise=0.1,mass=1.2,friction=.8"
    )
    assert perturbation == Perturbation(0.05, 0.1, 1.2, 0.8)
    assert str(perturbation) == text
    assert str(Perturbation.parse("mass=2,action_noise=0")) == "mass=2.0"
    assert Perturbation.parse(str(perturbation)) == perturbation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gravity=2", "unknown perturbation 'gravity'; known: observation_noise, action_noise"),
        ("mass=heavy", "mass=heavy must be a number"),
        ("mass=true", "mass=True must be a number"),
        ("mass=0", "mass=0.0 must be more than 0"),
        ("friction=-1", "friction=-1.0 must be more than 0"),
        ("action_noise=-0.1", "action_noise=-0.1 must be 0 or more"),
        ("observation_noise=nan", "observation_noise=nan must be 0 or more"),
        ("mass", "write key=value"),
    ],
)
def test_text_that_cannot_be_used(text, message):
    with pytest.raises(OptionTextError, match=message):
        Perturbation.parse(text)


def test_observation_noise_has_the_deviation_asked_for():
    scale = np.array([0.0, 1.0, 50.0])
    noise = EpisodeNoise(Perturbation(observation_noise=0.1), box((-1, 1)), 8, scale)
    for slot in range(8):
        noise.begin(slot, slot)
    observations = np.tile([5.0, 6.0, 7.0], (8, 1))
    seen = []
    for _ in range(500):
        seen.append(noise.observe(observations))
        noise.disturb(np.zeros((8, 1), np.float32))
    error = np.array(seen) - observations
    assert (error[..., 0] == 0).all()
    np.testing.assert_allclose(error.reshape(-1, 3).std(0), 0.1 * scale, rtol=0.04)
    assert np.abs(error.reshape(-1, 3).mean(0)).max() < 0.1 * 50 * 4 / np.sqrt(4000)
    flat = error[..., 1]
    assert len(np.unique(flat)) == flat.size, "no number is used twice, across blocks and slots"


def test_action_noise_is_in_units_of_half_the_range_and_clipped():
    action = box((-1, 1), (0, 10), (-0.4, 0.4))
    noise = EpisodeNoise(Perturbation(action_noise=0.1), action, 4, None)
    for slot in range(4):
        noise.begin(slot, slot)
    middle = np.tile(np.float32([0, 5, 0]), (4, 1))
    taken = np.array([noise.disturb(middle) for _ in range(1000)]).reshape(-1, 3)
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken.std(0), [0.1, 0.5, 0.04], rtol=0.05)
    edge = np.tile(np.float32([1, 10, -0.4]), (4, 1))
    clipped = np.array([noise.disturb(edge) for _ in range(200)]).reshape(-1, 3)
    assert action.contains(clipped)
    assert 0.4 < (clipped == edge[0]).mean() < 0.6


def test_discrete_actions_are_swapped_with_the_probability_given():
    action = ActionSpec((), np.zeros(0, np.float32), np.zeros(0, np.float32), 4)
    noise = EpisodeNoise(Perturbation(action_noise=0.2), action, 4, None)
    for slot in range(4):
        noise.begin(slot, slot)
    taken = np.array([noise.disturb(np.full(4, 2)) for _ in range(1000)]).ravel()
    assert action.contains(taken)
    # one of four random actions is the same as before
    assert abs((taken != 2).mean() - 0.2 * 3 / 4) < 0.02
    assert set(taken.tolist()) == {0, 1, 2, 3}


def test_images_stay_images():
    noise = EpisodeNoise(
        Perturbation(observation_noise=0.5), box((-1, 1)), 1, np.full((2, 2), 60.0)
    )
    noise.begin(0, 1)
    image = np.array([[[0, 255], [100, 101]]], np.uint8)
    noisy = np.array([noise.observe(image)])
    assert noisy.dtype == np.uint8
    assert not np.array_equal(noisy[0], image)


@pytest.mark.parametrize("task", ["Hopper-v5", "Ant-v5", "InvertedPendulum-v5"])
def test_mass_and_friction_of_the_model(task):
    """Also where a fast path made the environment (its simulations hold the changed model)."""
    spec, changed = EnvSpec.parse(task), Perturbation(mass=2.0, friction=0.5)
    plain, env = spec.make().unwrapped.model, spec.make()
    changed.change_environment(env)
    models = [env.unwrapped.model]
    engine = engine_choice(spec, changed)
    if engine.name == "mujoco":
        models.append(engine.setup.model)
    for model in models:
        np.testing.assert_allclose(model.body_mass, 2 * plain.body_mass)
        np.testing.assert_allclose(model.body_inertia, 2 * plain.body_inertia)
        np.testing.assert_allclose(model.body_subtreemass, 2 * plain.body_subtreemass)
        np.testing.assert_allclose(model.geom_friction, plain.geom_friction / 2)
        assert not np.allclose(model.dof_M0, plain.dof_M0), "constants must follow"


def test_no_mass_without_mujoco():
    cartpole = EnvSpec.parse("CartPole-v1")
    with pytest.raises(EnvironmentSpecError, match=r"needs a MuJoCo environment, not .*CartPole"):
        list(
            rollout(cartpole, ZeroActor(cartpole.action), [1], perturbation=Perturbation(mass=2.0))
        )
    swapped = Perturbation(action_noise=0.5)
    episodes = list(rollout(cartpole, ZeroActor(cartpole.action), range(9), perturbation=swapped))
    assert episodes != list(rollout(cartpole, ZeroActor(cartpole.action), range(9)))


def totals(perturbation, **arguments):
    scale = np.linspace(0.1, 1, 11)
    actor = arguments.pop("actor", Follower())
    episodes = rollout(
        HOPPER, actor, SEEDS, perturbation=perturbation, observation_std=scale, **arguments
    )
    return [(episode.total, episode.length) for episode in episodes]


def test_a_perturbed_episode_depends_on_its_seed_alone(monkeypatch):
    """Slots, workers and engine do not matter; episodes are long enough to draw noise twice."""
    expected = totals(EVERYTHING, slots=1)
    assert min(length for _, length in expected) > 64
    assert len(set(expected)) == len(expected)
    assert totals(EVERYTHING) == expected
    assert totals(EVERYTHING, slots=5) == expected
    actor = RandomActor(HOPPER.action)
    assert totals(EVERYTHING, actor=actor, workers=2) == totals(EVERYTHING, actor=actor)
    monkeypatch.setattr(mujoco_engine, "PROVEN_MUJOCO", ())
    assert totals(EVERYTHING) == expected


@pytest.mark.parametrize("alone", ["observation_noise", "action_noise", "mass", "friction"])
def test_each_part_matters(alone):
    changed = Perturbation(**{alone: getattr(EVERYTHING, alone)})
    assert totals(changed) != totals(Perturbation())


def test_recorded_observations_are_those_the_policy_saw():
    noisy = Perturbation(observation_noise=0.5)
    arguments = {"record": True, "perturbation": noisy, "observation_std": np.ones(11)}
    seen = next(rollout(HOPPER, ZeroActor(HOPPER.action), [3], **arguments)).observations
    true = next(rollout(HOPPER, ZeroActor(HOPPER.action), [3], record=True)).observations
    assert 0.4 < (seen - true).std() < 0.6


def test_noise_does_not_bring_an_action_back_inside():
    """The policy is judged by what it said, not by what became of it."""

    class Outside:
        def act(self, observations):
            return np.full((len(observations), 3), 1.5, np.float32)

    with pytest.raises(ActionError, match="outside Box"):
        list(rollout(HOPPER, Outside(), [1], perturbation=Perturbation(action_noise=0.1)))


def test_observation_noise_needs_its_unit():
    with pytest.raises(TypeError, match="observation_std"):
        rollout(HOPPER, Follower(), [1], perturbation=Perturbation(observation_noise=0.1))


def test_the_unperturbed_environment_is_untouched():
    before = EnvSpec.parse("Hopper-v5").make().unwrapped.model.body_mass.copy()
    engine_choice(EnvSpec.parse("Hopper-v5"), EVERYTHING)
    model = engine_choice(EnvSpec.parse("Hopper-v5")).setup.model
    assert isinstance(model, mujoco.MjModel)
    np.testing.assert_array_equal(model.body_mass, before)
