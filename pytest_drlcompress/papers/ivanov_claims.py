"""The claims of Ivanov et al. on sparsity with int8: what keeps its return, how much smaller."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from pytest_drlcompress.core.verdict import State
from pytest_drlcompress.papers.claim import CONFIRMED, CONTRADICTED, OPEN, Claim, unmeasured
from pytest_drlcompress.papers.measured import Measured
from pytest_drlcompress.papers.targets import GAMES, MUJOCO, NETWORKS, game_id

SAC: Mapping[str, int] = MappingProxyType(
    {"HalfCheetah": 80, "Hopper": 99, "Swimmer": 99, "Walker2d": 98, "Humanoid": 98, "Ant": 98}
)
"""Section 4, Figure 4: the per cent of zeros that each task takes with int8."""

DQN: Mapping[str, tuple[int, int]] = MappingProxyType({"cnn": (80, 95), "resnet": (95, 98)})
"""Section 4, Figures 5 and 6: what all games take with int8, and what the easy ones do."""

EASY_GAMES = ("Pong", "Tutankham")


def ivanov_claims(measured: Measured) -> list[Claim]:
    """Every claim, in the order of the figures."""
    return [*_mujoco(measured), *_games(measured)]


def _mujoco(measured: Measured) -> Iterator[Claim]:
    for task, zeros in SAC.items():
        yield _claim(measured, f"SAC {task}", MUJOCO[task], zeros, "ivanov-figure4")


def _claim(measured: Measured, who: str, policy: str, zeros: int, target: str) -> Claim:
    recipe = f"sparse@{zeros}+qat"
    text = f"{who} keeps its return at {zeros} % zeros with int8"
    theirs = f"{smaller(zeros / 100):.0f}x smaller"
    cell = measured.cell(policy, "variants", recipe)
    if cell is None:
        return unmeasured(text, theirs, target, measured.absent(policy))
    sizes, whole = cell["sizes"], measured.dense_bytes(policy)
    ours = (
        f"`{policy}`: {measured.verdict_text(policy, recipe)};"
        f" {smaller(cell['zeros']):.0f}x by their count, {whole / sizes['stripped_zstd']:.0f}x as a"
        f" compressed file, {whole / sizes['resident']:.1f}x in memory"
    )
    return Claim(text, theirs, ours, _together([measured.state(policy, recipe)]), target)


def _games(measured: Measured) -> Iterator[Claim]:
    """A claim for each network, over its games."""
    for target, network in NETWORKS.items():
        every, easy = DQN[network]
        text = (
            f"DQN ({network}) keeps its return at {every} % zeros with int8 on every game, at"
            f" {easy} % on {' and '.join(EASY_GAMES)}"
        )
        theirs = f"{smaller(every / 100):.0f}x, {smaller(easy / 100):.0f}x smaller"
        asked = {
            game_id(game, network): f"sparse@{easy if game in EASY_GAMES else every}+qat"
            for game in GAMES
        }
        found = {p: r for p, r in asked.items() if measured.state(p, r) is not None}
        if not found:
            reasons = {measured.absent(policy) for policy in asked}
            why = "the policies are not trained yet" if reasons == {"not trained"} else ""
            yield unmeasured(text, theirs, target, why)
            continue
        ours = "; ".join(f"`{p}` / {r}: {measured.verdict_text(p, r)}" for p, r in found.items())
        states = [measured.state(policy, recipe) for policy, recipe in asked.items()]
        yield Claim(text, theirs, ours, _together(states), target)


def _together(states: Sequence[State | None]) -> str:
    """What verdicts on every part of a claim say of the whole."""
    if State.FAIL in states:
        return CONTRADICTED
    return CONFIRMED if set(states) == {State.PASS} else OPEN


def smaller(zeros: float) -> float:
    """How many times smaller by their count: a nonzero weight takes one byte instead of four."""
    return 4 / (1 - zeros)
