"""Atari episodes, to the last pixel: ours against Gymnasium's and SB3's own preprocessing."""

import atari_games
import numpy as np
import pytest

from pytest_drlcompress.environments.atari.engine import AtariEngine
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import RandomActor, rollout


def _same_episode(text: str, game: str, seed: int, **options: object) -> int:
    """Step ours (beside another) and Gymnasium's together; steps until the end."""
    spec = EnvSpec.parse(text)
    assert spec.atari is not None
    envs = AtariEngine(spec.id, spec.atari).vector_env(2)
    for slot in range(2):
        envs.reset(slot, seed if slot == 1 else 10_000)
    single = spec.make()
    ours, info = single.reset(seed=seed)
    actions = np.random.default_rng(seed).integers(spec.action.n, size=30_000)
    noops = int(info["episode_frame_number"])
    cap = spec.atari.max_frames + noops  # ours counts what comes after them
    expected = atari_games.gymnasium_episode(
        game, seed, noops, actions, max_num_frames_per_episode=cap, **options
    )
    assert np.array_equal(ours, next(expected)[0])
    busy, steps = np.ones(2, np.bool_), 0
    for action, (observation, reward, over) in zip(actions, expected, strict=False):
        assert np.array_equal(envs.observations[1], ours)
        rewards, ends = envs.step(np.full(2, action), busy)
        busy &= ~ends
        ours, gained, terminated, truncated, _ = single.step(action)
        steps += 1
        # a cut within a step's frames: no policy sees what follows
        assert over or np.array_equal(ours, observation), f"pixels of step {steps}"
        assert gained == rewards[1] == reward, f"reward of step {steps}"
        assert (terminated or truncated) == ends[1] == over, f"end at step {steps}"
    assert over
    envs.close()
    single.close()
    return steps


@pytest.mark.parametrize("game", atari_games.GAMES)
def test_a_full_episode_is_gymnasiums(game: str) -> None:
    steps = _same_episode(f"ALE/{game}-v5:preprocessing=gymnasium", game, seed=11)
    assert steps > 400


def test_a_cut_episode_and_lost_lives_are_gymnasiums() -> None:
    cut = _same_episode(
        "ALE/Boxing-v5:max_frames=1201,stack=3,frame_skip=5", "Boxing", seed=3,
        stack=3, frame_skip=5,
    )  # fmt: skip
    assert cut == 241
    _same_episode(
        "ALE/Tutankham-v5:terminal_on_life_loss=true", "Tutankham", seed=5,
        terminal_on_life_loss=True,
    )  # fmt: skip


def test_an_episode_depends_on_its_seed_alone() -> None:
    spec = EnvSpec.parse("ALE/Boxing-v5:preprocessing=gymnasium,max_frames=600")
    actor = RandomActor(spec.action)
    many = list(rollout(spec, actor, range(7), slots=6, record=True))
    one = next(iter(rollout(spec, actor, [4], slots=1, record=True)))
    assert one.total == many[4].total
    assert np.array_equal(one.observations, many[4].observations)
    assert not np.array_equal(many[3].observations[-1], many[4].observations[-1])


@pytest.mark.parametrize("game", [*atari_games.GAMES, "Breakout"])
def test_a_whole_game_is_sb3s(game: str) -> None:
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

    env = EnvSpec.parse(f"{game}NoFrameskip-v4:preprocessing=sb3").make()
    theirs = VecTransposeImage(
        VecFrameStack(
            make_atari_env(f"{game}NoFrameskip-v4", seed=21, wrapper_kwargs={"clip_reward": False}),
            4,
        )
    )
    env.reset(seed=1)
    env.step(np.int64(1))  # a game left half-way has no part in the next
    ours, _ = env.reset(seed=21)
    assert np.array_equal(ours, theirs.reset()[0])
    random, total, lost, game_over = np.random.default_rng(2), 0.0, 0, False
    while not game_over:
        action = random.integers(theirs.action_space.n)
        ours, reward, terminated, truncated, _ = env.step(action)
        observations, rewards, dones, infos = theirs.step(np.array([action]))
        total += reward
        assert reward == rewards[0]
        game_over = "episode" in infos[0]
        assert (terminated or truncated) == game_over
        assert game_over or np.array_equal(ours, observations[0])
        lost += int(dones[0])
    assert total == infos[0]["episode"]["r"]
    assert lost > (1 if game in ("Breakout", "Tutankham", "CrazyClimber") else 0)
