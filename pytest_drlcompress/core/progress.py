"""Progress of long work: a live line on a terminal, silence everywhere else."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol


@contextlib.contextmanager
def progress_bar(title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield ``set_done(n)``. Draws on standard error, and only if that is a terminal outside CI."""
    if not _live():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {unit}" if total else unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


class GateProgress(Protocol):
    """Where a sequential gate stands after an episode."""

    @property
    def episodes(self) -> int: ...  # noqa: D102
    @property
    def estimate(self) -> float | None: ...  # noqa: D102
    @property
    def e_pass(self) -> float: ...  # noqa: D102
    @property
    def e_fail(self) -> float: ...  # noqa: D102


@dataclass
class GateLine:
    """The live line of one gate: what its callbacks are told, drawn by ``show``."""

    title: str
    show: Callable[[str], None]
    steps: int = 0
    figures: str = "starting"
    started: float = field(default_factory=time.monotonic)

    def on_steps(self, steps: int) -> None:
        """``steps`` more environment steps have been made."""
        self.steps += steps
        self._draw()

    def on_progress(self, progress: GateProgress) -> None:
        """One more episode has been read."""
        kept = "" if progress.estimate is None else f", retention {progress.estimate:.3f}"
        evidence = f"e = {progress.e_pass:.3g} to pass, {progress.e_fail:.3g} to fail"
        self.figures = f"{progress.episodes} episodes{kept}, {evidence}"
        self._draw()

    def _draw(self) -> None:
        rate = self.steps / max(time.monotonic() - self.started, 1e-3)
        self.show(f"{self.title}: {self.figures}, {rate:,.0f} steps/s")


@contextlib.contextmanager
def status_line(title: str) -> Iterator[Callable[[str], None]]:
    """Yield ``show(text)`` for a live line on a terminal outside CI; nothing elsewhere."""
    if not _live():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(title) as status:
        yield status.update


@contextlib.contextmanager
def gate_line(title: str) -> Iterator[GateLine]:
    """The live line of a gate; nothing where there is no terminal."""
    with status_line(title) as show:
        yield GateLine(title, show)


@contextlib.contextmanager
def step_counter(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Yield ``add(n)``, for callers that report what each step adds."""
    done = 0
    with progress_bar(title, total, "steps") as set_done:

        def add(steps: int) -> None:
            nonlocal done
            done += steps
            set_done(done)

        yield add


def _live() -> bool:
    return sys.stderr.isatty() and not os.environ.get("CI")
