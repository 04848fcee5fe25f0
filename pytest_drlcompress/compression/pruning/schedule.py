"""The cubic sparsity schedule of gradual pruning, as a pure object.

Zhu and Gupta 2017, equation 1; Ivanov et al., equation 1:
``s_t = s_f (1 - (1 - (t - t_s) / (n dt))^3)`` for ``t`` in ``{t_s, t_s + dt, ..., t_s + n dt}``:
fast while there is much to spare, slow towards the end.
"""

import math
from dataclasses import dataclass

from pytest_drlcompress.core.errors import RecipeError

PRUNING_STEPS = 600
"""n of Ivanov et al. for SAC; 300 for DQN."""


@dataclass(frozen=True)
class CubicSchedule:
    """Sparsity over training steps.

    ``final`` is the sparsity at the end, a share in (0, 1). Weights are pruned ``count + 1``
    times: at step ``start`` (to sparsity 0), then every ``interval`` steps, which need be no
    whole number.

    Raises:
        RecipeError: a share outside (0, 1), a negative start, or nothing between the ends.
    """

    final: float
    start: float
    interval: float
    count: int

    def __post_init__(self) -> None:
        if not 0 < self.final < 1:
            raise RecipeError(f"the final sparsity must lie between 0 and 1, not {self.final!r}")
        if not (self.start >= 0 and self.interval > 0 and self.count >= 1):
            raise RecipeError(
                "a pruning schedule needs start >= 0, interval > 0 and at least one pruning step,"
                f" not start={self.start!r}, interval={self.interval!r}, count={self.count!r}"
            )

    @classmethod
    def over(
        cls,
        total: float,
        final: float,
        *,
        start: float = 0.2,
        end: float = 0.8,
        count: int = PRUNING_STEPS,
    ) -> "CubicSchedule":
        """The schedule from the share ``start`` to the share ``end`` of ``total`` steps.

        Raises:
            RecipeError: shares that are not 0 <= start < end <= 1, or as the class says.
        """
        if not 0 <= start < end <= 1:
            raise RecipeError(
                f"pruning must start and end within the training: 0 <= start < end <= 1, not"
                f" start={start!r}, end={end!r}"
            )
        return cls(final, start * total, (end - start) * total / count, count)

    @property
    def end(self) -> float:
        """The step of the last pruning."""
        return self.start + self.count * self.interval

    def steps(self) -> tuple[float, ...]:
        """Every pruning step, ``count + 1`` of them."""
        return tuple(self.start + k * self.interval for k in range(self.count + 1))

    def reached(self, step: float) -> int:
        """How many pruning steps lie at or before ``step``: 0 to ``count + 1``."""
        if step < self.start - 1e-6 * self.interval:
            return 0
        # a pruning step must count as reached although 0.6 * 10**6 / 300 is a little over 2000
        k = math.floor((step - self.start) / self.interval + 1e-6)
        return min(k, self.count) + 1

    def at(self, step: float) -> float:
        """The sparsity after the last pruning at or before ``step``: a staircase, 0 to final."""
        k = self.reached(step) - 1
        if k <= 0:
            return 0.0
        if k >= self.count:
            return self.final
        return self.final * (1 - (1 - k / self.count) ** 3)
