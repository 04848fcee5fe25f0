"""What ``reproduce`` can make: each table or figure, and the cells it is made of."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pytest_drlcompress.papers.published import GRID, TASKS

Section = Literal["variants", "sweeps", "costs"]

QUANTIZED = ("ptdq", "ptsq", "qat")
"""Lu et al., Table 1."""

NORMS = ("l1", "l2")
"""Lu et al., Tables 2 and 3."""

PRUNED = tuple(range(5, 75, 5))
"""Per cent of the channels in Lu et al., Figures 1 to 3."""

LEVELS = (50, 70, 80, 90, 95, 98, 99)
"""Per cent of zeros in Ivanov et al., Figure 4; Figures 5 and 6 end at 98."""

MUJOCO: Mapping[str, str] = MappingProxyType(
    {
        task: f"sac-{task.lower()}"
        for task in ("HalfCheetah", "Hopper", "Swimmer", "Walker2d", "Humanoid", "Ant")
    }
)
"""The six tasks of Ivanov et al., Figure 4, and our baseline of each."""

COST_POLICIES = GRID[: len(GRID) // len(TASKS)]
"""One task's five algorithms: what an action costs depends on the network's shape."""

COST_RECIPES = ("fp32", "ptdq", "ptsq", *(f"l2@{ratio}" for ratio in PRUNED))
"""By L2 alone: the norm decides which channels go, not how many."""

GAMES = ("Pong", "Boxing", "CrazyClimber", "Tutankham")
NETWORKS: Mapping[str, str] = MappingProxyType(
    {"ivanov-figure5": "cnn", "ivanov-figure6": "resnet"}
)


@dataclass(frozen=True)
class Cell:
    """One thing to measure of a baseline.

    In ``"variants"`` a recipe's return and sizes, in ``"costs"`` what one of its actions costs, in
    ``"sweeps"`` the most pruning by a recipe without an amount.
    """

    policy: str
    section: Section
    recipe: str


@dataclass(frozen=True)
class Target:
    """A table or figure: its title, and its cells in the order in which they are measured."""

    name: str
    title: str
    cells: tuple[Cell, ...]

    @property
    def command(self) -> str:
        """What measures it."""
        return f"python -m pytest_drlcompress reproduce {self.name}"


def sparse_recipes(levels: tuple[int, ...]) -> list[str]:
    """Each level without and with int8: two that share their training follow each other."""
    return [f"sparse@{level}{tail}" for level in levels for tail in ("", "+qat")]


def _cells(policies: Iterable[str], section: Section, recipes: Sequence[str]) -> tuple[Cell, ...]:
    return tuple(Cell(policy, section, recipe) for policy in policies for recipe in recipes)


def _targets() -> Iterator[Target]:
    yield Target(
        "lu-table1", "Lu et al., Table 1: quantization", _cells(GRID, "variants", QUANTIZED)
    )
    sweeps = _cells(GRID, "sweeps", NORMS)
    yield Target("lu-table2", "Lu et al., Table 2: the most pruning by L1 and by L2", sweeps)
    yield Target("lu-table3", "Lu et al., Table 3: the best pruning", sweeps)
    yield Target(
        "lu-figures",
        "Lu et al., Figures 1 to 3: time, memory and energy",
        _cells(COST_POLICIES, "costs", COST_RECIPES),
    )
    yield Target(
        "ivanov-figure4",
        "Ivanov et al., Figure 4: sparsity and int8 on MuJoCo",
        _cells(MUJOCO.values(), "variants", ["qat", *sparse_recipes(LEVELS)]),
    )
    for name, network in NETWORKS.items():
        yield Target(
            name,
            f"Ivanov et al., Figure {name[-1]}: sparsity and int8 on Atari, {network}",
            _cells(
                [game_id(game, network) for game in GAMES],
                "variants",
                ["qat", *sparse_recipes(LEVELS[:-1])],
            ),
        )


def game_id(game: str, network: str) -> str:
    """The baseline of an Atari game, whether or not it exists."""
    return f"dqn-{game.lower()}-{network}"


TARGETS: Mapping[str, Target] = MappingProxyType({target.name: target for target in _targets()})
"""Every target by its name."""
