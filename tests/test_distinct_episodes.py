"""Few distinct trajectories are told, on games that are deterministic and that are not."""

from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.distinct import DistinctEpisodes
from pytest_drlcompress.evaluation.rollout import RandomActor, ZeroActor, rollout


def test_a_deterministic_game_played_greedily_is_one_episode() -> None:
    spec = EnvSpec.parse("ALE/Boxing-v5:sticky=0,noop_max=0,max_frames=400")
    seen = DistinctEpisodes()
    episodes = rollout(spec, ZeroActor(spec.action), range(8), slots=4)
    assert len({seen.total(episode) for episode in episodes}) == 1
    assert seen.count == 1
    assert seen.warning().startswith(" Only 1 of these episodes differ")


def test_sticky_actions_and_noops_make_them_differ() -> None:
    spec = EnvSpec.parse("ALE/Boxing-v5:preprocessing=gymnasium,max_frames=1600")
    seen = DistinctEpisodes()
    for episode in rollout(spec, RandomActor(spec.action), range(8), slots=4):
        seen.total(episode)
    assert seen.count > 3
    assert not seen.warning()
