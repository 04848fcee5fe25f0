"""A cache saves time and never ends a run: whatever is wrong with it is said once."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.evaluation.cache import VERSION, EpisodeCache, default_cache_path
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.retention import judge_retention
from pytest_drlcompress.workbench.workbench import Workbench

EPISODES = [Episode(seed, 10.0 * seed, 100 + seed) for seed in range(5)]
FOUND = {episode.seed: episode for episode in EPISODES}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "episodes.sqlite"


def use(path):
    """Store and find twice, as a run does; what was found at last, and what was said."""
    said = []
    cache = EpisodeCache(path, said.append)
    for _ in range(2):
        cache.store("key", EPISODES)
        found = cache.find("key", range(5))
    return found, said


def filled(path):
    found, said = use(path)
    assert (found, said) == (FOUND, [])


def overwrite(path, offset, content):
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def test_a_sound_cache_says_nothing(path):
    filled(path)
    filled(path)


def test_its_folder_is_a_file(path):
    path.parent.write_text("in the way")
    found, said = use(path)
    assert found == {}
    assert len(said) == 1
    assert "goes on without" in said[0]


def test_it_is_a_folder(path):
    path.mkdir(parents=True)
    found, said = use(path)
    assert (found, len(said)) == ({}, 1)


def test_no_home():
    found, said = use(None)
    assert found == {}
    assert len(said) == 1
    assert "there is no home directory" in said[0]


@pytest.mark.parametrize("what", ["header", "page", "no database", "truncated"])
def test_a_damaged_file_is_replaced(path, what):
    filled(path)
    if what == "header":
        overwrite(path, 0, b"SQLite format 9")
    elif what == "page":
        overwrite(path, 110, b"\xff" * 3000)
    elif what == "no database":
        path.write_text("neither SQL nor lite " * 500)
    else:
        path.write_bytes(path.read_bytes()[:5000])
    found, said = use(path)
    assert found in (FOUND, {})  # found damaged while the first episodes were stored
    assert len(said) == 1
    assert "damaged" in said[0]
    filled(path)
    assert path.with_name("episodes.sqlite.damaged").exists()


def test_an_older_schema_is_emptied(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE episodes (key TEXT, seed INTEGER, total REAL)")
        connection.execute("INSERT INTO episodes VALUES ('key', 0, 1.0)")
    found, said = use(path)
    assert found == FOUND
    assert len(said) == 1
    assert "older version" in said[0]
    filled(path)


def test_files_of_before_versions_are_kept(path):
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    said = []
    assert EpisodeCache(path, said.append).find("key", range(5)) == FOUND
    assert said == []


def test_a_newer_schema_is_left_alone(path):
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    found, said = use(path)
    assert found == {}
    assert len(said) == 1
    assert "newer version" in said[0]
    assert path.read_bytes() == before


def test_rows_that_are_no_episodes_are_measured_again(path):
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE episodes SET total = 'x' WHERE seed = 0")
        connection.execute("UPDATE episodes SET total = 9e999 WHERE seed = 1")
        connection.execute("UPDATE episodes SET length = -1 WHERE seed = 2")
    assert set(EpisodeCache(path).find("key", range(5))) == {3, 4}


def test_a_seed_beyond_sqlite(path):
    said = []
    cache = EpisodeCache(path, said.append)
    cache.store("key", [Episode(2**64, 1.0, 1)])
    assert len(said) == 1


_FULL = """
import resource, sys
from pathlib import Path
from pytest_drlcompress.evaluation.cache import EpisodeCache
from pytest_drlcompress.evaluation.episodes import Episode
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
said = []
cache = EpisodeCache(Path(sys.argv[1]), said.append)
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
else:
    import os; os.setuid(65534)
for first in range(0, 4000, 1000):
    cache.store("key", [Episode(first + i, 1.0, 1) for i in range(1000)])
print(len(cache.find("key", range(5))), len(said), *said)
"""


def in_a_process(path, how):
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(path), how],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    found, said, text = done.stdout.split(maxsplit=2)
    return int(found), int(said), text


def test_a_full_disk(path):
    filled(path)
    assert in_a_process(path, "full")[:2] == (5, 1)  # what there is, is read


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
def test_a_read_only_file(path):
    filled(path)
    path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    for folder in path.parents[:-2]:
        folder.chmod(0o755)
    found, said, text = in_a_process(path, "read-only")
    assert (found, said) == (5, 1)
    assert "not written" in text


def spoil(path, how):
    """Bring the cache at ``path`` into trouble."""
    if how == "its folder is a file":
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.write_text("in the way")
        return
    if how == "it is a folder":
        path.mkdir(parents=True)
        return
    filled(path)
    if how == "damaged":
        overwrite(path, 0, b"SQLite format 9")
        return
    with sqlite3.connect(path) as connection:
        if how == "older":
            connection.execute("ALTER TABLE episodes DROP COLUMN length")
        else:
            connection.execute(f"PRAGMA user_version = {VERSION + 1}")


@pytest.mark.parametrize(
    "how", ["its folder is a file", "it is a folder", "damaged", "older", "newer", "no home"]
)
def test_there_is_a_verdict_all_the_same(how, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if how == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", classmethod(_nobody))
    else:
        spoil(default_cache_path(), how)
    said = []
    settings = default_settings(baselines=ROOT / "baselines", workers=1, max_episodes=3)
    bench = Workbench(settings, builtin_registry(), on_note=said.append)
    with contextlib.closing(bench):
        verdict = judge_retention(bench.candidate("trpo-hopper", "fp32"), Budgets())
    assert verdict.sample_size == 3
    assert len([text for text in said if "cache" in text]) == 1


def _nobody(_):
    raise RuntimeError("Could not determine home directory.")
