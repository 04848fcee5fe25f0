"""Copies of this project's baselines that a test may change."""

import json
import shutil
from pathlib import Path

from pytest_drlcompress.baselines.variants import stored_recipes
from pytest_drlcompress.core.files import write_json

BASELINES = Path(__file__).resolve().parent.parent / "baselines"


def copy_baseline(baseline: str, to: Path) -> Path:
    """A copy of ``baseline`` in ``to``, as it was before variants were stored with it."""
    folder = shutil.copytree(
        BASELINES / baseline, to / baseline, ignore=shutil.ignore_patterns("variants")
    )
    stored = stored_recipes(BASELINES / baseline)
    path = folder / "baseline.json"
    record = json.loads(path.read_text())
    record["verdicts"] = {
        recipe: found for recipe, found in record["verdicts"].items() if recipe not in stored
    }
    write_json(path, record)
    return folder
