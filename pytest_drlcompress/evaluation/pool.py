"""A baseline's recorded episodes, in a file of their own: one line an episode, in the order of
their seeds, ``return,length``.

Text, so that a pool that has grown shows as lines added at the end; nine significant digits, so
that thousands of episodes stay small and a return measured again is the recorded one to
rounding. The record beside it says how many lines count and their digest: lines beyond are
ignored, so that a pool that was just grown still fits the record of before.
"""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.core.files import settled, write_atomic
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.reading.typed import read_bytes

POOL_FILE = "returns.csv"

_HEADER = "return,length"

_MOST_BYTES = 2**30
"""Some 60 million episodes."""

_SAVE_S = 30.0
"""How much measuring an interruption may cost."""


def pool_digest(episodes: Sequence[Episode]) -> str:
    """SHA-256 of the lines of ``episodes``."""
    return hashlib.sha256("".join(map(_line, episodes)).encode()).hexdigest()


def write_pool(path: Path, episodes: Sequence[Episode], header: str = _HEADER) -> None:
    """Write ``episodes``, whose seeds count from 0."""
    write_atomic(path, pool_bytes(episodes, header))


def pool_bytes(episodes: Sequence[Episode], header: str = _HEADER) -> bytes:
    """The file of ``episodes``, whose seeds count from 0."""
    assert [episode.seed for episode in episodes] == list(range(len(episodes)))
    return f"{header}\n{''.join(map(_line, episodes))}".encode()


def read_pool(path: Path, count: int, digest: str) -> tuple[Episode, ...]:
    """The first ``count`` episodes in ``path``.

    Raises:
        BaselineError: they are missing, damaged, or not those of ``digest``.
    """

    def described(file: Path) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return pool_digest(_read(file)[:count]) == digest
        return False

    path = settled(path, described)
    try:
        episodes = _read(path)[:count]
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path} cannot be read: {error}; {_REMEDY}") from None
    if len(episodes) < count or pool_digest(episodes) != digest:
        raise BaselineError(
            f"{path} does not hold the {count} episodes that the record beside it describes;"
            f" {_REMEDY}"
        )
    return episodes


_REMEDY = "restore it, or record it again with `python -m pytest_drlcompress baselines --measure`"


class PoolInProgress:
    """A pool that is being measured, kept on disk so that an interruption costs seconds.

    ``identity`` says what is measured: episodes of another policy, environment or version that
    an earlier run left are not taken for these.
    """

    def __init__(self, folder: Path, identity: str, known: Sequence[Episode] = ()) -> None:
        self._path = folder / f".{POOL_FILE}.part"
        self._header = hashlib.sha256(identity.encode()).hexdigest()
        self.episodes = [*known]
        with contextlib.suppress(OSError, ValueError):
            left = _read(self._path, self._header)
            if len(left) > len(known) and [*left[: len(known)]] == _rounded(known):
                self.episodes += left[len(known) :]
        self._saved = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._path.unlink(missing_ok=True)
        elif self.episodes:
            self._save()

    def fill(
        self,
        count: int,
        measure: Callable[[range], Iterator[Episode]],
        on_episodes: Callable[[int], None],
    ) -> None:
        """Add what is missing to ``count`` episodes by ``measure(seeds)``."""
        on_episodes(len(self.episodes))
        if len(self.episodes) >= count:
            return
        for episode in measure(range(len(self.episodes), count)):
            self.episodes.append(episode)
            on_episodes(len(self.episodes))
            if time.monotonic() - self._saved > _SAVE_S:
                self._save()

    def _save(self) -> None:
        write_pool(self._path, self.episodes, self._header)
        self._saved = time.monotonic()


def _line(episode: Episode) -> str:
    return f"{episode.total:.9g},{episode.length}\n"


def _rounded(episodes: Sequence[Episode]) -> list[Episode]:
    return [Episode(e.seed, float(f"{e.total:.9g}"), e.length) for e in episodes]


def _read(path: Path, header: str = _HEADER) -> tuple[Episode, ...]:
    lines = read_bytes(path, _MOST_BYTES).decode().splitlines()
    if not lines or lines[0] != header:
        raise ValueError(f"its first line is not {header!r}")
    rows = (line.split(",") for line in lines[1:])
    episodes = tuple(
        Episode(seed, float(total), int(length)) for seed, (total, length) in enumerate(rows)
    )
    odd = [e.seed for e in episodes if not math.isfinite(e.total) or not 0 <= e.length < 2**53]
    if odd:
        raise ValueError(f"line {odd[0] + 2} holds no return and length")
    return episodes
