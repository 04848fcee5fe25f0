"""pytest hooks: a docstring and one delegated call each; imports nothing heavy."""

from typing import Any

import pytest

from pytest_drlcompress.gates import budgets
from pytest_drlcompress.plugin import (
    benchmarking,
    fixtures,
    hookspec,
    options,
    parametrize,
    start,
)
from pytest_drlcompress.plugin.session import RUN


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options, and let ``--benchmark-save`` stand without a value."""
    options.add_options(parser)
    pluginmanager.register(benchmarking.BareBenchmarkSave(parser), "drlcompress-benchmark-save")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that others implement."""
    pluginmanager.add_hookspecs(hookspec)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the gates; read and check what was asked for."""
    config.pluginmanager.register(fixtures.gate_fixtures(), "drlcompress-gates")
    config.addinivalue_line("markers", budgets.MARKER_HELP)
    start.start_run(config)


def pytest_report_header(config: pytest.Config) -> str:
    """The effective values in one line."""
    return config.stash[RUN].settings.header()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over policies and variants."""
    parametrize.generate(metafunc)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember which tests are gates."""
    session.config.stash[RUN].collected(session.items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run nothing where only the plan was asked for; send cells to other machines."""
    planned = session.config.stash[RUN].planned(session.items)
    if planned is None:
        session.config.stash[RUN].begin(session.items)
    return planned


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marker with an unknown budget."""
    budgets.check_marker(item)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that lost a gate; record what was asked for."""
    session.config.stash[RUN].finish(session)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line for each verdict."""
    config.stash[RUN].summarize(terminalreporter)
