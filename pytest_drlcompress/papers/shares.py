"""Exact binomial tests of claims such as "in 40 % of the cells"."""

from dataclasses import dataclass

from pytest_drlcompress.papers.measured import NOTHING

ALPHA = 0.05


@dataclass(frozen=True)
class Share:
    """``count`` of ``of``, with an exact 95 % interval (Clopper and Pearson 1934)."""

    count: int
    of: int

    @property
    def rest(self) -> "Share":
        """The share of the others."""
        return Share(self.of - self.count, self.of)

    @property
    def counts(self) -> str:
        """Without its interval."""
        return f"{self.count} of {self.of}"

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the share that lies behind it; everything where nothing was counted."""
        from scipy.stats import binomtest

        if not self.of:
            return 0.0, 1.0
        found = binomtest(self.count, self.of).proportion_ci(1 - ALPHA, "exact")
        return float(found.low), float(found.high)

    def above(self, share: float) -> float:
        """One-sided p-value for a true share above ``share``."""
        return self._p(share, "greater")

    def below(self, share: float) -> float:
        """One-sided p-value for a true share below ``share``."""
        return self._p(share, "less")

    def _p(self, share: float, side: str) -> float:
        from scipy.stats import binomtest

        return float(binomtest(self.count, self.of, share, side).pvalue) if self.of else 1.0

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.counts} [{low:.0%}, {high:.0%}]" if self.of else NOTHING
