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
        self._totals: list[tuple[float, int]] = []

    @property
    def count(self) -> int:
        """Different pairs of return and length."""
        return len(self._kinds)

    @property
    def median_seed(self) -> int | None:
        """The seed of the episode with the median return: the one to look at."""
        ordered = sorted(self._totals)
        return ordered[len(ordered) // 2][1] if ordered else None

    def total(self, episode: Episode) -> float:
        """The return of ``episode``, which is counted."""
        self._kinds.add((episode.total, episode.length))
        self._totals.append((episode.total, episode.seed))
        return episode.total

    def warning(self) -> str:
        """For the user, where at most a third of the episodes differ; else empty."""
        if len(self._totals) < _FEW or self.count > len(self._totals) / 3:
            return ""
        return (
            f" Only {self.count} of these episodes differ in return or length: an environment"
            " that plays the same game from most seeds shows less than it seems (for Atari:"
            " sticky=0.25, noop_max=30)."
        )
