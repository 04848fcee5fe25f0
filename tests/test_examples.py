"""The examples run as their READMEs say."""

import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT


@pytest.mark.parametrize("name", ["no_simulator"])
def test_an_example_runs(name, tmp_path):
    folder = shutil.copytree(ROOT / "examples" / name, tmp_path / name)
    (block,) = re.findall(r"```\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines():
        program, *arguments = line.partition("#")[0].split()
        start = [sys.executable] if program == "python" else [sys.executable, "-m", program]
        done = subprocess.run(  # noqa: PLW1510
            [*start, *arguments], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "NOT_MEASURED" in done.stdout
