"""Episodes measured before, by content: same artifact, environment, versions and seed, same
return. One SQLite file that concurrent processes share.

A cache saves time and never ends a run: what is wrong with it is said once, and the run goes on
without it. A damaged or older file is replaced, one of a newer version left alone.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_drlcompress.evaluation.episodes import Episode

MAX_EPISODES = 1_000_000
"""Episodes kept (about 100 MB); the oldest go first."""

VERSION = 1
"""Of the schema below, as the file's ``user_version``; files of before versions say 0."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS episodes (
    key TEXT NOT NULL, seed INTEGER NOT NULL, total REAL NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (key, seed)
)
"""
_COLUMNS = ["key", "seed", "total", "length"]
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PATIENCE_S = 60


class _NewerError(Exception):
    """The file is of a later version of this package."""


class EpisodeCache:
    """Episodes on disk; every method may be called by many processes at once.

    ``warn`` is told, at most once, why the cache is not used, or what became of its file.
    """

    def __init__(self, path: Path | None, warn: Callable[[str], None] = lambda text: None) -> None:
        self._warn = warn
        self._warned = False
        self._reads = self._writes = path is not None
        if path is None:
            self._give_up("has no place: there is no home directory; set XDG_CACHE_HOME")
            return
        self._path = path
        with self._failing("neither read nor written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._prepare()

    def find(self, key: str, seeds: Sequence[int]) -> dict[int, Episode]:
        """The stored episodes of ``key`` among ``seeds``."""
        rows = []
        if self._reads:
            with self._failing("neither read nor written"), self._connect() as connection:
                rows = connection.execute(
                    "SELECT seed, total, length FROM episodes WHERE key = ?", (key,)
                ).fetchall()
        wanted = set(seeds)
        return {
            seed: Episode(seed, total, length)
            for seed, total, length in rows
            if seed in wanted and _sound(total, length)
        }

    def store(self, key: str, episodes: Sequence[Episode]) -> None:
        """Add ``episodes``; those already there stay."""
        if not self._writes:
            return
        rows = [(key, episode.seed, episode.total, episode.length) for episode in episodes]
        with self._failing("not written", reads=self._reads), self._connect() as connection:
            connection.executemany("INSERT OR IGNORE INTO episodes VALUES (?, ?, ?, ?)", rows)
            count = connection.execute("SELECT COUNT(*) FROM episodes").fetchone()[0]
            if count > MAX_EPISODES:
                connection.execute(
                    "DELETE FROM episodes WHERE rowid IN"
                    " (SELECT rowid FROM episodes ORDER BY rowid LIMIT ?)",
                    (count - MAX_EPISODES,),
                )

    @contextlib.contextmanager
    def _failing(self, how: str, *, reads: bool = False) -> Iterator[None]:
        """What goes wrong inside is said, and the cache used no more, or only read."""
        try:
            yield
        except _NewerError:
            self._give_up(f"{self._path} is of a newer version and is left alone")
        except (OSError, sqlite3.Error, Timeout, OverflowError, UnicodeDecodeError) as error:
            if _is_damage(error):
                self._heal()
                return
            self._give_up(f"{self._path} is {how}: {' '.join(str(error).split())}", reads=reads)

    def _give_up(self, reason: str, *, reads: bool = False) -> None:
        self._reads, self._writes = reads, False
        self._say(f"the cache of episodes {reason}; the run goes on without it")

    def _say(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(text)

    def _prepare(self) -> None:
        """Make the table, or find it as it must be.

        Raises:
            _NewerError: it is of a later version.
        """
        with self._connect() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise _NewerError
            found = [row[1] for row in connection.execute("PRAGMA table_info(episodes)")]
            if found == _COLUMNS and version == VERSION:
                return
            if found and found != _COLUMNS:
                connection.execute("DROP TABLE episodes")
                self._say(f"the cache of episodes {self._path} was of an older version: emptied")
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _heal(self) -> None:
        """Move a damaged file aside and begin a new one."""
        aside = self._path.with_name(f"{self._path.name}.damaged")
        try:
            with FileLock(f"{self._path}.lock", timeout=_PATIENCE_S):
                if not self._sound():  # another process may have healed it
                    self._path.replace(aside)
                    for suffix in ("-journal", "-wal", "-shm"):
                        Path(f"{self._path}{suffix}").unlink(missing_ok=True)
                self._prepare()
        except (OSError, sqlite3.Error, Timeout, UnicodeDecodeError, _NewerError) as error:
            self._give_up(f"{self._path} is damaged: {' '.join(str(error).split())}")
        else:
            self._say(
                f"the cache of episodes {self._path} was damaged: moved to {aside.name}, a new one"
                " begun"
            )

    def _sound(self) -> bool:
        try:
            with self._connect() as connection:
                found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                _ = [row[1] for row in connection.execute("PRAGMA table_info(episodes)")]
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            return not _is_damage(error)
        return bool(found == "ok")

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_S)
        try:
            with connection:  # one transaction: all or nothing
                yield connection
        finally:
            connection.close()


def _is_damage(error: Exception) -> bool:
    if isinstance(error, UnicodeDecodeError):  # a column's name
        return True
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _sound(total: object, length: object) -> bool:
    """Whether a row is an episode; SQLite keeps any type in any column."""
    number = isinstance(total, float) and math.isfinite(total)
    return number and isinstance(length, int) and length >= 0


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


def default_cache_path() -> Path | None:
    """``$XDG_CACHE_HOME/pytest-drlcompress/episodes.sqlite`` (``~/.cache`` if unset).

    ``None`` where the user has no home directory.
    """
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return root / "pytest-drlcompress" / "episodes.sqlite"


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
