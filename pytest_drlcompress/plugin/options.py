"""The table of options as pytest's command line options and their ini twins.

Precedence: command line, then marker, then ini file, then default.
"""

from typing import TYPE_CHECKING, Any

from pytest_drlcompress.core.errors import OptionError
from pytest_drlcompress.core.settings import OPTIONS, SUBJECTS, Settings, read

if TYPE_CHECKING:
    import pytest


def add_options(parser: "pytest.Parser") -> None:
    """Register every option and its ini twin."""
    groups = {
        field: parser.getgroup(f"drlcompress {subject}", f"compressed deep-RL policies: {subject}")
        for subject, fields in SUBJECTS.items()
        for field in fields
    }
    for option in OPTIONS:
        group = groups[option.field]
        if option.flag:
            group.addoption(
                option.switch, dest=option.ini, action="store_true", default=None, help=option.help
            )
            parser.addini(option.ini, option.help, type="bool", default=False)
        else:
            group.addoption(
                option.switch,
                dest=option.ini,
                action="append" if option.multiple else "store",
                default=None,
                metavar=option.metavar,
                help=option.help,
            )
            kind: Any = "args" if option.multiple else "string"
            parser.addini(option.ini, option.help, type=kind, default=[] if option.multiple else "")


def read_settings(config: "pytest.Config") -> Settings:
    """The settings of this run.

    Raises:
        pytest.UsageError: an impossible value, naming the option (or ini key) and the value.
    """
    import pytest

    values: dict[str, Any] = {}
    from_cli = set()
    try:
        for option in OPTIONS:
            given, stored = config.getoption(option.ini), config.getini(option.ini)
            if given is not None:
                from_cli.add(option.field)
                values[option.field] = read(option, option.switch, given)
            else:
                values[option.field] = (
                    read(option, option.ini, stored) if stored else option.default
                )
    except OptionError as error:
        raise pytest.UsageError(str(error)) from None
    cache = not values.pop("no_cache")
    values["baselines"] = config.rootpath / values["baselines"]
    if values["observations"] is not None:
        values["observations"] = config.invocation_params.dir / values["observations"]
    values["report"] = tuple(config.invocation_params.dir / path for path in values["report"])
    return Settings(**values, cache=cache, from_cli=frozenset(from_cli))
