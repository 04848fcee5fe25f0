"""The examples run as their READMEs say."""

import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT

SAID = {
    "no_simulator": ("1 passed, 1 skipped", "NOT_MEASURED"),
    "own_onnx": ("2 passed", "output 'action' of action, value"),
    "history": ("2 passed", "stepped by gymnasium (it is wrapped by yours)"),
    "github_actions": ("1 passed",),
}


def commands(name):
    """Those of the README, as lists of words."""
    readme = (ROOT / "examples" / name / "README.md").read_text()
    (block,) = re.findall(r"```\n(.*?)```", readme, re.DOTALL)
    return [line.partition("#")[0].split() for line in block.splitlines()]


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(name, tmp_path):
    folder = shutil.copytree(ROOT / "examples" / name, tmp_path / name)
    for program, *arguments in commands(name):
        start = [sys.executable] if program == "python" else [sys.executable, "-m", program]
        done = subprocess.run(  # noqa: PLW1510
            [*start, *arguments], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for text in SAID[name]:
        assert text in done.stdout
    if name == "github_actions":
        assert "PASS" in (folder / "gate.md").read_text()


def test_every_example_is_run():
    folders = {path.name for path in (ROOT / "examples").iterdir() if path.is_dir()}
    assert folders == set(SAID)


def test_the_workflow_runs_what_its_readme_says():
    (command,) = commands("github_actions")
    assert " ".join(command) in (ROOT / "examples/github_actions/gate.yml").read_text()
