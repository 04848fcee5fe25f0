"""Hooks that others implement, in a ``conftest.py`` or in an installed pytest plugin."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # these import torch, which an unrelated run must not pay for
    from pytest_drlcompress.compression.step import StepKind
    from pytest_drlcompress.core.verdict import Verdict
    from pytest_drlcompress.environments.engine import EngineFactory
    from pytest_drlcompress.policies.loader import PolicyLoader


@pytest.hookspec
def pytest_drlcompress_recipes(config: pytest.Config) -> "Sequence[StepKind]":  # type: ignore[empty-body]
    """Compression steps of your own, which recipes can then name (docs/own-steps.md).

    Called once, before the first recipe is read. A name that is taken ends the run.
    """


@pytest.hookspec
def pytest_drlcompress_policies(  # type: ignore[empty-body]
    config: pytest.Config,
) -> "Sequence[PolicyLoader]":
    """Policy loaders of your own; they are asked before ours.

    ``policies.loader.PolicyLoader`` has an example.
    """


@pytest.hookspec
def pytest_drlcompress_environments(  # type: ignore[empty-body]
    config: pytest.Config,
) -> "Sequence[EngineFactory]":
    """Engines of your own that step environments, or wrap them; they are asked before ours.

    ``environments.engines.Engines`` has an example.
    """


@pytest.hookspec
def pytest_drlcompress_verdict(config: pytest.Config, verdict: "Verdict", nodeid: str) -> None:
    """Told of each ``verdict`` that the test ``nodeid`` gave, as soon as its report comes in.

    Under pytest-xdist it is called in the controller, not in the workers.
    """
