"""The command that a failure prints, for the ids that pytest gives in a checkout and in a wheel."""

import shlex
from pathlib import Path

import pytest

from conftest import ROOT
from pytest_drlcompress.reporting.rerun import rerun_command

GATE = "test_action_error[policy-far]"
MODULE = "test_quantization_error"


@pytest.mark.parametrize(
    "file", ["", "test_quantization_error.py", "suites/test_quantization_error.py"]
)
def test_the_suites_of_a_wheel_are_named_as_modules(file: str, tmp_path: Path) -> None:
    command = rerun_command(f"{file}::{GATE}", ["--drlc-seed=1"], tmp_path, ROOT / "suites")
    assert shlex.split(command) == [
        "pytest", "--pyargs", f"pytest_drlcompress.suites.{MODULE}::{GATE}",
        "--drlc-seed=1",
    ]  # fmt: skip


def test_a_file_that_is_there_is_named_as_it_is(tmp_path: Path) -> None:
    test = f"suites/test_quantization_error.py::{GATE}"
    assert shlex.split(rerun_command(test, [], ROOT, tmp_path)) == ["pytest", test]
    own = tmp_path / "test_memory.py"  # of the name of one of ours
    own.write_text("")
    assert "--pyargs" not in rerun_command("test_memory.py::test", [], tmp_path, ROOT / "suites")
