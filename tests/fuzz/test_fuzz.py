"""Damaged files through every reader: read or refused with one error of ours, nothing else.

``pytest tests/fuzz --fuzz-minutes=30`` goes on with other damage for so long, in processes that
may crash or hang; what breaks is kept in ``fuzz-findings/``.
"""

import collections
import random
import time
from pathlib import Path

import mutations
import pytest
from campaign import campaign
from command_lines import command_lines, write_traps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS, attempt

from pytest_drlcompress.__main__ import main

CORPUS = Path(__file__).parent / "corpus"
BY_NAME = {target.name: target for target in TARGETS}
BROKE = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", BROKE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_broke_is_refused(path, tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    found = attempt(BY_NAME[path.parent.name], folder, path.read_bytes())
    assert found == ("read" if path.parent.name == "cache" else "refused")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_whole_files_are_read(target, tmp_path):
    if not target.seeds():
        pytest.skip("nothing here writes such files")
    (tmp_path / "x").mkdir()
    # a variant's JSON file describes another artifact than the one beside it
    wanted = "refused" if target.name == "variant" else "read"
    assert attempt(target, tmp_path / "x", target.seeds()[0]) == wanted


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_damaged_files(target, tmp_path_factory):
    seeds = target.seeds()
    if not seeds:
        pytest.skip("nothing here writes such files")
    folder = tmp_path_factory.mktemp(target.name) / "x"
    folder.mkdir()

    @settings(
        max_examples=12, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.randoms(use_true_random=False), st.sampled_from(seeds))
    def damaged(generator, content):
        assert attempt(target, folder, target.damage(generator, content)) in ("read", "refused")

    damaged()


@pytest.mark.parametrize("name", ["vecnormalize", "sb3-zip"])
def test_no_pickle_runs(name, tmp_path):
    mark, folder = tmp_path / "mark", tmp_path / "x"
    folder.mkdir()
    content = mutations.pickle_that_marks(str(mark))
    if name == "sb3-zip":
        (seed, *_) = BY_NAME[name].seeds()
        content = mutations.with_member(seed, "policy.pth", content)
    assert attempt(BY_NAME[name], folder, content) == "refused"
    assert not mark.exists()


def test_odd_command_lines(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_traps(tmp_path)
    lines = command_lines(0, ("Hopper-v5", "ptdq", "out"))
    codes: collections.Counter[object] = collections.Counter()
    for _ in range(60):
        line = next(lines)
        try:
            code = main(line)
        except SystemExit as ended:  # argparse: help and usage
            code = ended.code
        codes[code] += 1
        assert code in (0, 1, 2), (line, capfd.readouterr().err)
    assert "Traceback" not in capfd.readouterr().err
    assert codes[2] > 30


def test_long_campaign(request):
    minutes = request.config.getoption("--fuzz-minutes")
    if not minutes:
        pytest.skip("says --fuzz-minutes how long")
    ends = time.monotonic() + 60 * minutes
    total: collections.Counter[str] = collections.Counter()
    while time.monotonic() < ends:
        for target in TARGETS:
            total += campaign(target.name, random.getrandbits(32), 50, Path("fuzz-findings"))
    assert set(total) <= {"read", "refused"}, total
