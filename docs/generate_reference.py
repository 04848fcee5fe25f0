"""Writes ``reference.md`` from the code: ``python docs/generate_reference.py``."""

import argparse
import inspect
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from pytest_drlcompress import REPORT_SCHEMA, builtin_registry
from pytest_drlcompress.__main__ import DEFECT, FAIL, INTERRUPTED, USAGE, build_parser
from pytest_drlcompress.core.extras import EXTRAS, pip_line
from pytest_drlcompress.core.settings import OPTIONS, SUBJECTS
from pytest_drlcompress.core.verdict import State
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.kinds import GATE_KINDS
from pytest_drlcompress.plugin import fixtures, hookspec

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Written from the code by `python docs/generate_reference.py`. A test holds this page to the code.
"""
OUTCOMES = {
    State.PASS: "the test passes",
    State.FAIL: "the test fails",
    State.INCONCLUSIVE: "the test fails; `--drlc-inconclusive` can say `xfail` or `skip`",
    State.INVALID: "the test fails: there is nothing to hold the variant against",
    State.NOT_MEASURED: "the test is skipped; `--drlc-unmeasured=fail` makes it fail",
}


def page() -> str:
    """The whole page."""
    parts = (options, marker, gate_fixtures, hooks, recipes, extras, commands, exit_codes, report)
    return "\n".join([HEAD, *(line for part in parts for line in (*part(), ""))]).rstrip() + "\n"


def options() -> Iterator[str]:
    """Every option with its ini twin."""
    yield "## Options\n"
    yield "Each has an ini twin: `--drlc-min-retention=0.95` is `drlc_min_retention = 0.95` under"
    yield "`[pytest]`. The command line wins over the marker, the marker over the ini file."
    yield "Those that are repeatable take several values, separated by spaces, in the ini file."
    known = {option.field: option for option in OPTIONS}
    for subject, names in SUBJECTS.items():
        yield f"\n### Options: {subject}\n"
        yield "| option | ini key | meaning |"
        yield "|---|---|---|"
        for option in (known[name] for name in names):
            value = "" if option.flag else f"={option.metavar}"
            yield f"| {code(option.switch + value)} | {code(option.ini)} | {cell(option.help)} |"


def marker() -> Iterator[str]:
    """The budgets of the marker."""
    yield "## Marker\n"
    yield "`@pytest.mark.drlcompress(...)` on a test, class or module sets budgets for its gates:\n"
    yield "```text"
    yield from (f"{field.name}" for field in fields(Budgets))
    yield "```\n"
    yield inspect.cleandoc(Budgets.__doc__ or "").replace("``", "`")


def gate_fixtures() -> Iterator[str]:
    """Fixtures, and what a verdict does to the test."""
    yield "## Fixtures\n"
    yield "| fixture | gives |"
    yield "|---|---|"
    for name in ("policy", "variant", "artifact"):
        yield f"| `{name}` | {cell(first_line(getattr(fixtures, name)))} |"
    for kind in GATE_KINDS:
        yield f"| `{kind.fixture}` | {cell(first(kind.summary))} |"
    yield "\nA gate has `check()`, which judges, and `measure()`, which only gives the verdict.\n"
    yield "| state of a verdict | after `check()` |"
    yield "|---|---|"
    yield from (f"| {state.value} | {outcome} |" for state, outcome in OUTCOMES.items())


def hooks() -> Iterator[str]:
    """Hooks that others implement."""
    yield "## Hooks\n"
    yield "For a `conftest.py` or an installed pytest plugin ([own-steps.md](own-steps.md)).\n"
    for name, hook in vars(hookspec).items():
        if name.startswith("pytest_drlcompress_"):
            yield f"### `{name}({', '.join(inspect.signature(hook).parameters)})`\n"
            yield inspect.cleandoc(hook.__doc__ or "").replace("``", "`") + "\n"


def recipes() -> Iterator[str]:
    """Steps, their amounts and options."""
    yield "## Recipes\n"
    yield "Steps joined by `+`; `name@amount:option=value,option=value`.\n"
    yield "| step | what it does | amount | options and their defaults |"
    yield "|---|---|---|---|"
    for name, kind in builtin_registry().kinds.items():
        amount = "" if kind.amount is None else f"{kind.amount[0]:g} to {kind.amount[1]:g}"
        if kind.default_amount is not None:
            amount += f" (default {kind.default_amount:g})"
        given = [
            f"{option}={str(value).lower() if isinstance(value, bool) else value}"
            + (f" ({', '.join(kind.choices[option])})" if option in kind.choices else "")
            for option, value in kind.options.items()
        ]
        yield f"| `{name}` | {cell(kind.summary)} | {amount} | {', '.join(map(code, given))} |"


def extras() -> Iterator[str]:
    """What needs which extra."""
    yield "## Extras\n"
    yield "Two ONNX files and recorded observations need none.\n"
    yield "| module | install it with |"
    yield "|---|---|"
    yield from (f"| `{module}` | `{pip_line(extra)}` |" for module, extra in EXTRAS.items())


def commands() -> Iterator[str]:
    """The subcommands."""
    yield "## Commands\n"
    yield "`python -m pytest_drlcompress COMMAND --help` lists the options of each.\n"
    yield "| command | what it does |"
    yield "|---|---|"
    for action in build_parser()._actions:  # noqa: SLF001 (argparse offers no other way)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for choice in action._choices_actions:  # noqa: SLF001
                yield f"| `{choice.dest}` | {cell(choice.help or '')} |"


def exit_codes() -> Iterator[str]:
    """Of pytest and of the commands."""
    yield "## Exit codes\n"
    yield "pytest keeps its own: 0 passed, 1 a gate or test failed, 2 interrupted, 3 an internal"
    yield "error, 4 an option, policy or file that cannot be used, 5 no tests. Commands:\n"
    yield "| code | meaning |"
    yield "|---|---|"
    yield "| 0 | done; what was checked holds |"
    yield f"| {FAIL} | it does not: something is worse, not trained, or not found |"
    yield f"| {USAGE} | an argument or a file cannot be used; one line says which, and what to do |"
    yield f"| {DEFECT} | a defect of this package; the line says where the traceback is |"
    yield f"| {INTERRUPTED} | interrupted |"


def report() -> Iterator[str]:
    """The JSON report's fields."""
    schema = json.loads(REPORT_SCHEMA.read_text())
    yield "## JSON report\n"
    yield f"{schema['title']}. [report.md](report.md) explains it.\n"
    yield "| field | type | fields in it |"
    yield "|---|---|---|"
    for name, field in schema["properties"].items():
        item = field.get("items", field)
        if "$ref" in item:
            item = schema["$defs"][item["$ref"].rpartition("/")[2]]
        inner = ", ".join(map(code, item.get("properties", {})))
        yield f"| `{name}` | {field.get('type', 'integer')} | {inner} |"


def code(text: str) -> str:
    """Inline code in a table."""
    return f"`{cell(text)}`"


def cell(text: str) -> str:
    """Text in a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


def first(text: str) -> str:
    """The first paragraph."""
    return text.strip().partition("\n\n")[0]


def first_line(fixture: object) -> str:
    """What a fixture's docstring begins with."""
    return first(getattr(fixture, "__wrapped__", fixture).__doc__ or "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
