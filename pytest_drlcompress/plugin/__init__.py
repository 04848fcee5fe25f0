"""The pytest plugin, registered under this name; what pytest calls stands in ``hooks``."""

from pytest_drlcompress.plugin.fixtures import (
    _drlc_policy_text,
    action_error,
    artifact,
    energy,
    latency,
    memory,
    policy,
    pruning_sweep,
    retention,
    sparsity,
    variant,
)
from pytest_drlcompress.plugin.hooks import (
    pytest_addoption,
    pytest_collection_finish,
    pytest_configure,
    pytest_generate_tests,
    pytest_report_header,
    pytest_runtest_setup,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

__all__ = [
    "_drlc_policy_text",
    "action_error",
    "artifact",
    "energy",
    "latency",
    "memory",
    "policy",
    "pruning_sweep",
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_report_header",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "retention",
    "sparsity",
    "variant",
]
