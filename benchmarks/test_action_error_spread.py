# ruff: noqa: INP001 (written like the tests)
"""How far an action error moves by other seeds alone: what ``drift.NOISE`` has to cover.

``pytest benchmarks/test_action_error_spread.py -s`` prints a line for each baseline and recipe.
"""

from pathlib import Path

import pytest

from pytest_drlcompress.baselines.changes import NOISE
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.workbench import calibration as calibration_room
from pytest_drlcompress.workbench import loaded
from pytest_drlcompress.workbench.workbench import Workbench

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
POLICIES = ("trpo-hopper", "trpo-halfcheetah", "ppo-halfcheetah", "sac-halfcheetah")
RECIPES = ("ptdq", "ptsq", "ptsq:equalize=true")
PAIRS = 6


@pytest.mark.parametrize("policy", POLICIES)
def test_other_seeds_stay_within_the_noise(policy, monkeypatch):
    """Other episodes to calibrate on and to compare on, as another processor would give."""
    calibration, probe = calibration_room.CALIBRATION_SEEDS, loaded.PROBE_SEEDS
    errors: dict[str, list[float]] = {recipe: [] for recipe in RECIPES}
    for pair in range(PAIRS):
        monkeypatch.setattr(calibration_room, "CALIBRATION_SEEDS", calibration + 1000 * pair)
        monkeypatch.setattr(loaded, "PROBE_SEEDS", probe + 1000 * pair)
        bench = Workbench(default_settings(baselines=BASELINES, workers=1), builtin_registry())
        for recipe in RECIPES:
            errors[recipe].append(bench.candidate(policy, recipe).action_error.mean)
        bench.close()
    factor, floor = NOISE
    for recipe, found in errors.items():
        figures = " ".join(f"{error:.4f}" for error in found)
        print(f"\n{policy} {recipe}: {figures}  largest / smallest {max(found) / min(found):.2f}")
        assert max(found) <= min(found) * factor + floor
