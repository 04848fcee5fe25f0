"""Does a policy still earn what was recorded of it?

The same seeds are run again. On the machine and with the versions that made the record they
give the same returns to rounding. Elsewhere physics amplifies the last bits of other
floating-point kernels, and only the distribution can be compared: the measured returns with
the recorded ones *of the other seeds*, two independent samples of one distribution if nothing
has changed, by the exact two-sample Kolmogorov-Smirnov test, which assumes no shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.evaluation.reference import Reference

ROUNDING = 1e-6
"""Relative difference of two returns that are the same but for rounding."""


@dataclass(frozen=True)
class Reproduction:
    """The first ``episodes`` recorded seeds again: ``mean`` recorded and ``measured``.

    ``p`` is that of the test, ``None`` where every return was the recorded one.
    """

    episodes: int
    mean: float
    measured: float
    p: float | None

    def changed(self, alpha: float) -> bool:
        """Whether the returns have changed; wrongly so with a probability of at most ``alpha``."""
        return self.p is not None and self.p < alpha

    def text(self, alpha: float) -> str:
        """What was found, for the user."""
        if self.p is None:
            return f"the recorded returns, {self.episodes} of {self.episodes} episodes"
        where = "OUTSIDE" if self.changed(alpha) else "within"
        relation = "<" if self.changed(alpha) else ">="
        return (
            f"{where} the recorded distribution (mean {self.measured:.6g} over {self.episodes}"
            f" episodes, recorded {self.mean:.6g}; p = {self.p:.2g} {relation} {alpha:.2g})"
        )


def compare(reference: Reference, returns: Sequence[float]) -> Reproduction:
    """``returns`` are those of the first seeds of the reference's pool, in their order.

    Raises:
        BaselineError: the pool has no other seeds to compare with.
    """
    from scipy.stats import ks_2samp

    count = len(returns)
    recorded, others = reference.returns[:count], reference.returns[count:]
    if not recorded or not others:
        raise BaselineError(
            f"a pool of {len(reference.returns)} recorded episodes is too small to verify"
            f" {count} of them: record it again"
        )
    same = all(
        abs(new - old) <= ROUNDING * max(1.0, abs(old))
        for new, old in zip(returns, recorded, strict=True)
    )
    # "exact" would fall back to an approximation only beyond 10,000 values
    p = None if same else float(ks_2samp(returns, others, method="exact").pvalue)
    return Reproduction(count, reference.mean, sum(returns) / count, p)
