# ruff: noqa: INP001 (a program)
"""Does a process that judges for a long time keep what it should have given back?

``python benchmarks/soak.py [MINUTES]`` (30) judges variants again and again in one process, as a
notebook or a long suite does, and prints memory, open files, child processes and files in
``/dev/shm`` each minute. Exit code 1 if they grew between the second minute and the last.
"""

import contextlib
import gc
import itertools
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.compression.variant import Variant
from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.kinds import ACTION_ERROR, MEMORY, RETENTION, SPARSITY
from pytest_drlcompress.policies.store import load_network
from pytest_drlcompress.workbench.candidate import Candidate
from pytest_drlcompress.workbench.workbench import Workbench

ROOT = Path(__file__).resolve().parents[1]
GROWTH = {"rss_mib": 64.0, "files": 2, "children": 1, "shm": 0}
"""How much more of each is still noise: allocators keep some memory for later."""


@dataclass(frozen=True)
class Figures:
    """What this process holds."""

    rss_mib: float
    files: int
    children: int
    shm: int

    @classmethod
    def now(cls) -> "Figures":
        """Read from ``/proc``."""
        gc.collect()
        status = Path("/proc/self/status").read_text()
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        children = "".join(
            (task / "children").read_text() for task in Path("/proc/self/task").iterdir()
        )
        return cls(
            int(resident.split()[1]) / 1024,
            len(list(Path("/proc/self/fd").iterdir())),
            len(children.split()),
            len(list(Path("/dev/shm").iterdir())) if Path("/dev/shm").is_dir() else 0,  # noqa: S108
        )


def one_round(number: int, folder: Path) -> None:
    """One workbench: a recipe by four gates, a damaged file, and a baseline's weights."""
    settings = default_settings(
        policies=("trpo-hopper",), baselines=ROOT / "baselines", workers=1, max_episodes=10,
        cache=number % 2 == 0,
    )  # fmt: skip
    bench = Workbench(settings, builtin_registry())
    with contextlib.closing(bench):
        loaded = bench.load("trpo-hopper")
        candidate = bench.candidate("trpo-hopper", "ptdq")
        for kind in (RETENTION, ACTION_ERROR, SPARSITY, MEMORY):
            kind.load_judge()(candidate, Budgets())
        damaged = folder / "damaged.onnx"
        damaged.write_bytes(candidate.artifact.model[: 100 + number % 1000])
        with contextlib.suppress(DrlcError):
            _ = Candidate(loaded, Variant(str(damaged))).artifact
        whole = folder / "whole.onnx"
        # other bytes in each round, so that each is watched
        whole.write_bytes(candidate.artifact.model + b"\x32\x04" + f"{number % 10_000:04}".encode())
        _ = Candidate(loaded, Variant(str(whole))).artifact
        load_network(ROOT / "baselines/trpo-hopper")


def main() -> int:
    """Judge for as long as was asked, and say what was held."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    began, shown = time.monotonic(), 0.0
    seen: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in itertools.count():
            one_round(number, Path(folder))
            passed = (time.monotonic() - began) / 60
            if passed >= shown or passed >= minutes:
                seen.append(Figures.now())
                print(f"{passed:6.1f} min, {number + 1:5} rounds: {seen[-1]}", flush=True)
                shown += 1
            if passed >= minutes:
                break
    # the first rounds import, and fill what is kept for the whole run
    first, last = seen[min(2, len(seen) - 1)], seen[-1]
    grown = {
        name: getattr(last, name) - getattr(first, name)
        for name, noise in GROWTH.items()
        if getattr(last, name) - getattr(first, name) > noise
    }
    print(f"grown: {grown or 'nothing'}")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main())
