"""What became of the episodes that were begun."""

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Tally:
    """Steps made, episodes handed out, begun in vain, begun again, and workers that were lost.

    ``cancelled`` were in flight, or finished out of turn, when a rollout was ended; ``again`` had
    been begun on a worker that was lost.
    """

    steps: int = 0
    episodes: int = 0
    cancelled: int = 0
    again: int = 0
    lost: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def text(self) -> str:
        """In words."""
        said = f"{self.episodes:,} episodes"
        if self.cancelled:
            said += f", {self.cancelled:,} more in flight when a gate had decided"
        if self.lost:
            said += f"; {self.again:,} begun again, {self.lost:,} workers lost"
        return said
