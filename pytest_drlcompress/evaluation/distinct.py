"""Whether episodes from different seeds are different episodes."""

from pytest_drlcompress.evaluation.episodes import Episode

_FEW = 6
"""Episodes below which repeated ones say nothing."""


class DistinctEpisodes:
    """How many different episodes the candidate played, by return and length.

    At least so many trajectories differ. A deterministic game and a greedy policy can play the
    same one from every seed, and a hundred copies of an episode are no more evidence than one.
    """

    def __init__(self) -> None:
        self._kinds: set[tuple[float, int]] = set()
        self._episodes = 0

    @property
    def count(self) -> int:
        """Different pairs of return and length."""
        return len(self._kinds)

    def total(self, episode: Episode) -> float:
        """The return of ``episode``, which is counted."""
        self._kinds.add((episode.total, episode.length))
        self._episodes += 1
        return episode.total

    def warning(self) -> str:
        """For the user, where at most a third of the episodes differ; else empty."""
        if self._episodes < _FEW or self.count > self._episodes / 3:
            return ""
        return (
            f" Only {self.count} of these episodes differ in return or length: an environment"
            " that plays the same game from most seeds shows less than it seems (for Atari:"
            " sticky=0.25, noop_max=30)."
        )
