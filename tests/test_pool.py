"""A baseline's recorded episodes in a file of their own: read, damaged, grown, interrupted."""

import json
import shutil

import pytest

from conftest import ROOT
from pytest_drlcompress.__main__ import main
from pytest_drlcompress.baselines.record import read_baseline_record
from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.pool import (
    POOL_FILE,
    PoolInProgress,
    pool_digest,
    read_pool,
    write_pool,
)

EPISODES = [Episode(seed, 1000 / (seed + 3), 10 + seed) for seed in range(40)]


def test_what_is_written_is_read_to_nine_digits(tmp_path):
    path = tmp_path / POOL_FILE
    write_pool(path, EPISODES)
    assert path.read_text().splitlines()[:2] == ["return,length", "333.333333,10"]
    read = read_pool(path, 40, pool_digest(EPISODES))
    assert [episode.total for episode in read] == pytest.approx(
        [episode.total for episode in EPISODES], rel=1e-8
    )
    assert [(e.seed, e.length) for e in read] == [(e.seed, e.length) for e in EPISODES]
    assert pool_digest(read) == pool_digest(EPISODES)


def test_a_pool_that_has_grown_still_fits_the_record_of_before(tmp_path):
    path = tmp_path / POOL_FILE
    write_pool(path, EPISODES)
    assert len(read_pool(path, 30, pool_digest(EPISODES[:30]))) == 30


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("250,11", "251,11"), "does not hold the 40 episodes"),
        (lambda text: text[: len(text) // 2].rsplit("\n", 1)[0] + "\n", "does not hold the 40"),
        (lambda text: text.replace("250,11", "250"), "cannot be read"),
        (lambda text: text.replace("return,", ""), "its first line is not 'return,length'"),
    ],
)
def test_a_damaged_pool_is_one_clear_error_with_the_remedy(tmp_path, damage, message):
    path = tmp_path / POOL_FILE
    write_pool(path, EPISODES)
    path.write_text(damage(path.read_text()))
    with pytest.raises(BaselineError, match=message) as error:
        read_pool(path, 40, pool_digest(EPISODES))
    assert "baselines --measure" in str(error.value)


def test_an_interrupted_measurement_goes_on_where_it_was(tmp_path):
    def broken(seeds):
        yield from (EPISODES[seed] for seed in seeds if seed < 25)
        raise KeyboardInterrupt

    def measure(seeds):
        asked.append(seeds)
        yield from (EPISODES[seed] for seed in seeds)

    asked: list[range] = []
    shown: list[int] = []
    with pytest.raises(KeyboardInterrupt), PoolInProgress(tmp_path, "p", EPISODES[:5]) as pool:
        pool.fill(40, broken, shown.append)
    # another policy's episodes are not taken for these
    assert len(PoolInProgress(tmp_path, "q").episodes) == 0
    with PoolInProgress(tmp_path, "p", EPISODES[:5]) as pool:
        pool.fill(40, measure, shown.append)
        assert pool_digest(pool.episodes) == pool_digest(EPISODES)
    assert asked == [range(25, 40)]
    assert shown[0] == 5
    assert shown[-1] == 40
    assert list(tmp_path.iterdir()) == []


def test_measuring_grows_a_pool_behind_what_is_recorded(tmp_path, capsys):
    folder = tmp_path / "trpo-hopper"
    shutil.copytree(ROOT / "baselines/trpo-hopper", folder)
    before = read_baseline_record(folder)
    count = len(before.reference.returns)
    command = ["baselines", "--baselines", str(tmp_path), "--measure", "--workers=1"]
    assert main([*command, f"--episodes={count + 4}"]) == 0
    after = read_baseline_record(folder)
    assert after.reference.returns[:count] == pytest.approx(before.reference.returns, rel=1e-8)
    assert len(after.reference.returns) == count + 4
    assert (after.reference.random, after.verdicts) == (before.reference.random, before.verdicts)
    assert f"over {count + 4:,} episodes" in capsys.readouterr().out
    stored = json.loads((folder / "baseline.json").read_text())["reference"]
    assert stored["episodes"] == count + 4
    assert "returns" not in stored
