"""The tables that Lu et al. publish, as data, and what Ivanov et al. read off their figures.

Lu, Alemi, Rawassizadeh: "The Impact of Quantization and Pruning on Deep Reinforcement Learning
Models" (2024), Tables 1 to 3. Ivanov, Larionov, Maslennikov, Voevodin: "Neural Network Compression
for Reinforcement Learning Tasks" (2025), section 4.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ALGORITHMS = ("TRPO", "PPO", "DDPG", "TD3", "SAC")
TASKS = ("HalfCheetah", "HumanoidStandup", "Ant", "Humanoid", "Hopper")

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Quantized:
    """A row of Lu et al., Table 1: mean returns on the v4 environments."""

    baseline: float
    by_method: Mapping[str, float]
    """``ptdq``, ``ptsq``, ``qat``."""


@dataclass(frozen=True)
class Pruned:
    """A row of Lu et al., Tables 2 and 3.

    Mean return before and after pruning, the largest share of channels by either norm that they
    report, and the norm and per cent that they find best.
    """

    baseline: float
    pruned: float
    l1: float
    l2: float
    norm: str
    percent: int


def baseline_id(algorithm: str, task: str) -> str:
    """Our baseline of that cell, whether or not it exists."""
    return f"{algorithm}-{task}".lower()


def quantized() -> dict[str, Quantized]:
    """Table 1 by the id of our baseline, in the papers' order of tasks and algorithms."""
    rows = {
        key: Quantized(
            float(row["baseline"]), {name: float(row[name]) for name in ("ptdq", "ptsq", "qat")}
        )
        for key, row in _rows("lu-table1-quantization-returns.csv")
    }
    return {key: rows[key] for key in GRID}


def pruned() -> dict[str, Pruned]:
    """Tables 2 and 3 by the id of our baseline, in the papers' order."""
    best = dict(_rows("lu-table3-best-pruning.csv"))
    rows = {
        key: Pruned(
            baseline=float(row["baseline"]),
            pruned=float(row["pruned"]),
            l1=float(row["l1_share"]),
            l2=float(row["l2_share"]),
            norm=best[key]["norm"],
            percent=int(best[key]["percent"]),
        )
        for key, row in _rows("lu-table2-pruning-returns.csv")
    }
    return {key: rows[key] for key in GRID}


GRID = tuple(baseline_id(algorithm, task) for task in TASKS for algorithm in ALGORITHMS)
"""The ids of our baselines in Lu et al.'s 25 cells."""


def _rows(name: str) -> Iterator[tuple[str, dict[str, str]]]:
    with (_FOLDER / name).open(newline="") as file:
        for row in csv.DictReader(file):
            yield baseline_id(row["algorithm"], row["environment"]), row
