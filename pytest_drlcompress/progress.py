"""Progress of long work: a live line on a terminal, silence everywhere else."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield ``set_done(n)``. Draws on standard error, and only if that is a terminal outside CI."""
    if not sys.stderr.isatty() or os.environ.get("CI"):
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
