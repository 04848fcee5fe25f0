"""Episodes measured before, by content: same artifact, environment, versions and seed, same
return. One SQLite file that concurrent processes share.
"""

import contextlib
import hashlib
import json
import os
import platform
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pytest_drlcompress.evaluation.episodes import Episode

MAX_EPISODES = 1_000_000
"""Episodes kept (about 100 MB); the oldest go first."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS episodes (
    key TEXT NOT NULL, seed INTEGER NOT NULL, total REAL NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (key, seed)
)
"""


class EpisodeCache:
    """Episodes on disk; every method may be called by many processes at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._connect() as connection:
            connection.execute(_SCHEMA)

    def find(self, key: str, seeds: Sequence[int]) -> dict[int, Episode]:
        """The stored episodes of ``key`` among ``seeds``."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT seed, total, length FROM episodes WHERE key = ?", (key,)
            ).fetchall()
        wanted = set(seeds)
        return {seed: Episode(seed, total, n) for seed, total, n in rows if seed in wanted}

    def store(self, key: str, episodes: Sequence[Episode]) -> None:
        """Add ``episodes``; those already there stay."""
        rows = [(key, episode.seed, episode.total, episode.length) for episode in episodes]
        with self._connect() as connection:
            connection.executemany("INSERT OR IGNORE INTO episodes VALUES (?, ?, ?, ?)", rows)
            count = connection.execute("SELECT COUNT(*) FROM episodes").fetchone()[0]
            if count > MAX_EPISODES:
                connection.execute(
                    "DELETE FROM episodes WHERE rowid IN"
                    " (SELECT rowid FROM episodes ORDER BY rowid LIMIT ?)",
                    (count - MAX_EPISODES,),
                )

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=60)
        try:
            with connection:  # one transaction: all or nothing
                yield connection
        finally:
            connection.close()


def episode_key(
    artifact_sha256: str, conditions: str, environment: str, versions: dict[str, str]
) -> str:
    """Identity of what a return depends on besides the seed, the processor included.

    ``conditions`` is the specification with its perturbation and the runtime, ``environment``
    the digest of an ``environments.identity.Identity``: same name, other code, other key.

    Floating-point kernels differ between processors in their last bits, and physics
    amplifies those.
    """
    facts = [artifact_sha256, conditions, environment, sorted(versions.items()), processor_id()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def default_cache_path() -> Path:
    """``$XDG_CACHE_HOME/pytest-drlcompress/episodes.sqlite`` (``~/.cache`` if unset)."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "pytest-drlcompress" / "episodes.sqlite"


def through_cache(
    cache: EpisodeCache | None,
    key: str,
    seeds: Sequence[int],
    run: Callable[[Sequence[int]], Iterator[Episode]],
) -> Iterator[Episode]:
    """Episodes in the order of ``seeds``: stored ones first-hand, the others from ``run``.

    ``run`` is called once, with the seeds that are missing, when the first of them is needed.
    What it made is stored when the iterator ends, however it ends.
    """
    known = cache.find(key, seeds) if cache else {}
    missing = [seed for seed in seeds if seed not in known]
    fresh: Iterator[Episode] | None = None
    made: list[Episode] = []
    try:
        for seed in seeds:
            if seed in known:
                yield known[seed]
                continue
            if fresh is None:
                fresh = run(missing)
            episode = next(fresh)
            made.append(episode)
            yield episode
    finally:
        close = getattr(fresh, "close", None)
        if close is not None:
            close()
        if cache and made:
            cache.store(key, made)


def processor_id() -> str:
    """The processor's instruction sets, hashed: what the last bits of a float depend on."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        for field in ("flags", "Features"):  # x86-64, 64-bit Arm
            found = [line for line in lines if line.startswith(field)]
            if found:
                return hashlib.sha256(found[0].encode()).hexdigest()
    return f"{platform.machine()} {platform.processor()}"
