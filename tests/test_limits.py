"""Models and modules that hang, crash or end the process cost a line, not the run."""

import importlib
import os
import resource
import sys
import time

import numpy as np
import onnx
import pytest

from conftest import ROOT
from pytest_drlcompress import __main__ as commands
from pytest_drlcompress.core.errors import ArtifactError, DrlcError
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.onnx_watch import adapt_watched
from pytest_drlcompress.reading.watched import WatchedError, run_watched
from pytest_drlcompress.runtime import patrol
from pytest_drlcompress.runtime.onnxruntime import OnnxController

sys.path.append(str(ROOT / "tests/fuzz"))
small_model = importlib.import_module("small_model").small_model


@pytest.fixture
def task(monkeypatch):
    """Tasks of ``watched_tasks``, which the watching process finds."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), str(ROOT)]))
    from pytest_drlcompress.reading.watched import _server

    _server.cache_clear()
    yield lambda name, payload=b"", seconds=1: run_watched(
        f"watched_tasks:{name}", payload, seconds
    )
    _server()._process.kill()
    _server.cache_clear()


def test_a_watched_task_ends_however_it_likes(task, tmp_path):
    assert task("say", b"abc") == b"cba"
    for name, expected in (
        ("hang", "more than 1 s of processor time"),
        ("crash", "SIGSEGV"),
        ("end", "without a result"),
        ("fill", "GiB of memory"),
        ("fail", "ValueError: no such thing"),
    ):
        with pytest.raises(WatchedError, match=expected):
            task(name)
    with pytest.raises(DrlcError, match="said so"):
        task("refuse")
    with pytest.raises(WatchedError, match=r"File too large|SIGXFSZ"):
        task("write", str(tmp_path / "x").encode())
    assert task("say", b"still there") == b"ereht llits"


def test_limits_stay_in_the_child(task):
    before = resource.getrlimit(resource.RLIMIT_AS)
    task("say")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_model_that_hangs_is_refused_before_it_runs_here(monkeypatch):
    monkeypatch.setattr("pytest_drlcompress.policies.onnx_watch._SECONDS", 1.0)
    endless = small_model(loop=10**9).SerializeToString()
    with pytest.raises(ArtifactError, match=r"in a process of its own, it took more than"):
        adapt_watched(endless, Interface(), (3,), (1,))
    started = time.monotonic()
    with pytest.raises(ArtifactError, match="took more than"):
        adapt_watched(endless, Interface(), (3,), (1,))
    assert time.monotonic() - started < 0.5  # it is not found out twice


def test_a_model_that_hangs_later_is_stopped(monkeypatch):
    # as often as the first dimension of the observation says: 0 where it was first run
    model = small_model(loop=1)
    graph = model.graph
    del graph.initializer[2]
    first = onnx.numpy_helper.from_array(np.array([0, 0], np.int64), "first")
    graph.initializer.append(first)
    graph.node.insert(0, onnx.helper.make_node("Cast", ["observation"], ["whole"], to=7))
    graph.node.insert(1, onnx.helper.make_node("ReduceMax", ["whole"], ["n"], keepdims=0))
    monkeypatch.setattr(patrol, "PATIENCE_S", 0.5)
    adapted = adapt_watched(model.SerializeToString(), Interface(), (3,), (1,))
    controller = OnnxController(adapted.model)
    assert controller.act(np.ones((2, 3), np.float32)).shape == (2, 1)
    endless = np.full((1, 3), 1e12, np.float32)
    with pytest.raises(ArtifactError, match="took more than"):
        controller.act(endless)
    with pytest.raises(ArtifactError, match="took more than"):
        controller.act_one(endless[0])
    assert controller.act(np.ones((2, 3), np.float32)).shape == (2, 1)


def test_a_defect_is_one_line_and_a_kept_traceback(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def broken(_):
        raise LookupError("unforeseen")

    monkeypatch.setattr("pytest_drlcompress.cli.compare.run", broken)
    assert commands.main(["compare", "a.json", "b.json"]) == commands.DEFECT
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "unexpected LookupError: unforeseen" in line
    (kept,) = tmp_path.glob("drlcompress-*.traceback")
    assert "in broken" in kept.read_text()
    assert str(kept) in line
