"""A paper's claim, what is measured here, and what a test of it concludes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_drlcompress.papers.measured import NOTHING
from pytest_drlcompress.papers.shares import ALPHA, Share
from pytest_drlcompress.papers.targets import TARGETS

CONFIRMED, CONTRADICTED = "confirmed", "contradicted"
CONSISTENT, OPEN = "consistent", "open"

VERDICTS: Mapping[str, str] = MappingProxyType(
    {
        CONFIRMED: "our policies show it, at an error of 0.05",
        CONTRADICTED: "our policies show the opposite, or another share, at an error of 0.05",
        CONSISTENT: "the claimed share lies in the 95 % interval of ours",
        OPEN: "our policies decide neither way",
    }
)
"""What each verdict means."""


@dataclass(frozen=True)
class Claim:
    """``theirs`` and ``ours`` are figures in words, ``target`` is what measures ours.

    ``verdict`` is one of ``VERDICTS``, or says why nothing is measured.
    """

    text: str
    theirs: str
    ours: str
    verdict: str
    target: str


def unmeasured(text: str, theirs: str, target: str, why: str = "") -> Claim:
    """A claim of which nothing is measured: ``why``, or what would."""
    reason = why or f"run `{TARGETS[target].command}`"
    return Claim(text, theirs, NOTHING, f"not measured: {reason}", target)


def same_share(share: Share, claimed: float) -> str:
    """Whether ``share`` can be ``claimed``."""
    low, high = share.interval
    return CONSISTENT if low <= claimed <= high else CONTRADICTED


def above(share: Share, chance: float) -> str:
    """Whether ``share`` is shown to lie above ``chance``, or below."""
    if share.above(chance) < ALPHA:
        return CONFIRMED
    return CONTRADICTED if share.below(chance) < ALPHA else OPEN
