"""Which recipes a search tries: those that fit the budgets, each at several training lengths.

What a narrow network costs does not depend on what it has learned, so untrained ones tell which
widths fit before anything is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pytest_drlcompress.frontier.costs import Figures, beyond

SHARES = (1.0, 0.75, 0.5, 0.35, 0.25)
"""Widths that are tried, as shares of the widest that fits."""

QUICK = ("ptsq", "ptsq:equalize=true")
"""Post-training quantization: seconds."""

SPARSITIES = (90, 95, 98, 99)
_NARROW = (60_000, 40, 3_000)
_SPARSE = (40_000, 40, 3_000)
_FEWEST_ROUNDS = 4


@dataclass(frozen=True)
class Arm:
    """A recipe that may be trained shorter; ``at(share)`` is its text for that share.

    ``trains`` is false where there is nothing to shorten.
    """

    name: str
    at: Callable[[float], str]
    trains: bool = True


def quick_arms() -> list[Arm]:
    """Post-training quantization."""
    return [Arm(recipe, partial(_same, recipe), trains=False) for recipe in QUICK]


def qat_arm() -> Arm:
    """Quantization-aware training of the whole network."""
    return Arm("qat", lambda share: f"qat{_tail(share)}")


def narrow_arms(widest: int) -> list[Arm]:
    """Narrow networks up to ``widest``, in int8."""
    widths = dict.fromkeys(max(1, round(share * widest)) for share in SHARES)
    return [_trained(f"narrow@{width}", _NARROW) for width in widths]


def sparse_arm(per_cent: float) -> Arm:
    """Sparsity by on-policy distillation, in int8."""
    return _trained(f"sparse@{per_cent:g}", _SPARSE)


def _trained(step: str, full: tuple[int, int, int]) -> Arm:
    steps, rounds, quantization = full

    def at(share: float) -> str:
        if share >= 1:
            return f"{step}+qat"
        fewer = max(_FEWEST_ROUNDS, round(rounds * share))
        return (
            f"{step}:rounds={fewer},steps={round(steps * share)}"
            f"+qat:steps={round(quantization * share)}"
        )

    return Arm(f"{step}+qat", at)


def _same(recipe: str, share: float) -> str:  # noqa: ARG001  # as every ``Arm.at``
    return recipe


def _tail(share: float) -> str:
    return "" if share >= 1 else f":steps={round(_NARROW[2] * share)}"


def widest_that_fits(
    most: int, costs: Callable[[int], Figures], budgets: Mapping[str, float]
) -> tuple[int, str]:
    """The largest width up to ``most`` whose untrained network meets ``budgets``.

    By bisection: costs grow with the width. 0 where not even one unit a layer does, with what
    that exceeds.
    """
    if not budgets or not beyond(costs(most), budgets):
        return most, ""
    if reason := beyond(costs(1), budgets):
        return 0, reason
    low, high = 1, most
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        if beyond(costs(middle), budgets):
            high = middle
        else:
            low = middle
    return low, ""


def sparsest_needed(
    weights: int, limit: float | None, levels: Sequence[int] = SPARSITIES
) -> int | None:
    """The least sparsity whose nonzero weights and their indices may fit in ``limit`` bytes.

    ``None`` where none does. An estimate, two bytes a weight: the artifact itself is judged.
    """
    if limit is None:
        return levels[1]
    return next((n for n in levels if 2 * weights * (1 - n / 100) <= limit), None)
