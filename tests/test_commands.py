"""Bad input to ``python -m pytest_drlcompress``: exit code 2 and one line, nothing run."""

import argparse
from itertools import product

import pytest

from conftest import ROOT
from pytest_drlcompress.__main__ import build_parser, main

NUMBERS = {
    "sweep trpo-hopper": ("--min-retention", "--max-episodes", "--ratios"),
    "sparsity trpo-hopper --out=cells": ("--min-retention", "--max-episodes", "--levels"),
    "compare old.json new.json": ("--tolerance",),
    "train sac-hopper": ("--cores", "--episodes", "--jobs"),
    "baselines": ("--episodes", "--workers"),
    "export trpo-hopper fp32 --out=c": ("--vectors",),
    "search trpo-hopper": ("--min-retention", "--max-episodes", "--minutes"),
    "reproduce lu-table1": ("--min-retention", "--max-episodes", "--workers"),
    "train sac-hopper --recipe=sparse@95": ("--steps", "--segment"),
}
"""Every option that is a number, by the least that its command takes."""

IMPOSSIBLE = ("nan", "inf", "-inf", "-1", "0", "text", "")
ALLOWED = {("--tolerance", "0")}


def refused(capsys, *arguments) -> str:
    """The one line that a command prints for what the user can mend."""
    assert main(list(map(str, arguments))) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (command, f"{option}={text}")
        for command, options in NUMBERS.items()
        for option, text in product(options, IMPOSSIBLE)
        if (option, text) not in ALLOWED
    ],
)
def test_an_impossible_number_is_one_clear_line(capsys, tmp_path, monkeypatch, command, option):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, *command.split(), option)
    assert line.startswith(f"error: {option}: ")
    assert not list(tmp_path.iterdir())


def test_a_command_reads_an_option_as_pytest_does(capsys, pytester):
    command = refused(capsys, "sweep", "p", "--min-retention=nan")
    pytester.makepyfile("def test_nothing(): pass")
    line = pytester.runpytest("--drlc-min-retention=nan").errlines[0]
    assert line.removeprefix("ERROR: --drlc-") == command.removeprefix("error: --")


def commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in build_parser()._actions if hasattr(a, "choices") and a.choices)
    return dict(action.choices)


def test_no_option_is_read_by_itself():
    """``float`` and ``int`` let nan, infinity and -1 through: numbers have readers."""
    numeric = set()
    for name, parser in commands().items():
        for action in parser._actions:
            assert action.type not in (int, float), (name, action.option_strings)
            if action.metavar in ("N", "N,...", "SHARE"):
                numeric.add((name, action.option_strings[0]))
    listed = {(command.split()[0], o) for command, options in NUMBERS.items() for o in options}
    assert numeric == listed


@pytest.mark.parametrize("name", ["sweep", "sparsity", "compress", "costs", "import"])
def test_help_prints(capsys, name):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "--vecnormalize" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("compress trpo-hopper fp32 --out=folder", "--out=folder: is a folder"),
        ("compress trpo-hopper fp32 --out=file/x.onnx", "--out=file/x.onnx: file is not a folder"),
        ("compress trpo-hopper fp32 --out=file/a/x.onnx", ": file is not a folder"),
        ("import p.zip --env=Hopper-v5 --out=file/new", "--out=file/new: file is not a folder"),
        ("import p.zip --env=Hopper-v5 --out=file", "--out=file: file is not a folder"),
        ("sweep p.zip --env=Hopper-v5 --out=file", "--out=file: file is not a folder"),
        ("sparsity p.zip --env=Hopper-v5 --out=file/a", "--out=file/a: file is not a folder"),
        ("train a --recipes=latin1 --work=file", "--work=file: file is not a folder"),
        ("train a --recipes=latin1", "latin1 cannot be read"),
        ("train a --recipes=folder", "folder cannot be read"),
        ("baselines --markdown=latin1", "latin1 cannot be read"),
        ("baselines --markdown=folder", "folder cannot be read"),
        ("costs trpo-hopper --variants=,", "--variants=,: write recipes separated by commas"),
        ("compare latin1 latin1", "latin1 cannot be read"),
    ],
)
def test_files_that_cannot_be_read_or_written(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "latin1").write_bytes("[größe]".encode("latin-1"))
    (tmp_path / "baselines").symlink_to(ROOT / "baselines")
    assert message in refused(capsys, *arguments.split())


def test_a_missing_folder_is_made_for_what_is_written(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "new/folder/policy.onnx"
    assert main(["compress", "trpo-hopper", "fp32", f"--out={out}"]) == 0
    assert out.read_bytes()
