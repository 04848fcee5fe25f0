"""The start of a run: what the user asked for is read, loaded or refused."""

import os
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_drlcompress.core.defects import describe_os_error
from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.extras import installed, missing_extra, pip_line
from pytest_drlcompress.core.settings import NEEDS_RAY, Settings
from pytest_drlcompress.plugin.benchmark_compare import find_named_run
from pytest_drlcompress.plugin.benchmarking import provide_benchmark
from pytest_drlcompress.plugin.options import read_settings
from pytest_drlcompress.plugin.session import RUN, Run


@dataclass(frozen=True, eq=False)
class Listener:
    """Hooks that pytest calls without a ``config``.

    First in line, so that everything else that reads a report (JUnit) sees readable properties.
    """

    run: Run

    def pytest_internalerror(self) -> None:
        """Something broke outside of any test, in this process or in a worker of xdist."""
        self.run.broken = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the verdicts out of a report."""
        self.run.on_report(report)


@dataclass(frozen=True, eq=False)
class XdistListener:
    """Hooks of pytest-xdist, registered only where it is active."""

    run: Run

    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has gone; ``node`` holds what it left."""
        self.run.on_worker_exit(getattr(node, "workeroutput", {}))


def start_run(config: pytest.Config) -> None:
    """Read the settings and load what the user named, so that a mistake ends the run here.

    Raises:
        pytest.UsageError: an impossible option, policy, environment or recipe.
    """
    settings = read_settings(config)
    run = Run(config, settings, worker=hasattr(config, "workerinput"))
    config.stash[RUN] = run
    if settings.record or settings.record_new:
        _refuse_recording(config, settings)
    if settings.executor == "ray":
        if _spread(config):
            raise pytest.UsageError("--drlc-executor=ray spreads the run by itself: leave out -n")
        if not installed("ray"):
            raise pytest.UsageError(NEEDS_RAY)
    if settings.plan and _spread(config):
        raise pytest.UsageError("--drlc-plan runs nothing: leave out -n")
    if any(path.suffix == ".html" for path in settings.report):
        _need_plots()
    try:
        run.check_names()
    except DrlcError as error:
        raise pytest.UsageError(str(error)) from None
    except ImportError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise pytest.UsageError(str(missing)) from None
    except OSError as error:
        if error.filename is None:
            raise
        raise pytest.UsageError(describe_os_error(error)) from None
    provide_benchmark(config)
    find_named_run(config)
    config.pluginmanager.register(run.comparison, "drlcompress-comparison")
    config.pluginmanager.register(Listener(run), "drlcompress-listener")
    if config.pluginmanager.has_plugin("dsession"):
        config.pluginmanager.register(XdistListener(run), "drlcompress-xdist")


def _refuse_recording(config: pytest.Config, settings: Settings) -> None:
    """A record is a decision: it is written by one who looks at it, once.

    Raises:
        pytest.UsageError: recording where it was not meant, or of what is not recorded.
    """
    option = "--drlc-record" if settings.record else "--drlc-record-new"
    if settings.sweep:
        raise pytest.UsageError(
            f"--drlc-sweep measures and is not recorded: leave out --drlc-sweep or {option}"
        )
    if settings.record_anyway:
        return
    if _spread(config) or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            f"{option} writes into the baselines, and this run is spread over processes: leave"
            " out -n, or say --drlc-record-anyway"
        )
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        raise pytest.UsageError(
            f"{option} writes into the baselines, which nobody looks at in CI (the environment"
            " variable CI is set): record where you can commit it, or say --drlc-record-anyway"
        )


def _spread(config: pytest.Config) -> bool:
    """Whether xdist was asked to spread the run over processes."""
    return bool(config.getoption("numprocesses", None) or config.getoption("tx", None))


def _need_plots() -> None:
    if not installed("matplotlib"):
        raise pytest.UsageError(
            f"--drlc-report: an .html report needs matplotlib: {pip_line('plot')}"
        )
