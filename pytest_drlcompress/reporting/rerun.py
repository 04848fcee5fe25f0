"""The command that runs one gate again, in a checkout and from an installed package."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

_SUITES = Path(__file__).parents[1] / "suites"
"""Where a wheel has the suites; a checkout keeps them beside the package."""


def rerun_command(test: str, options: Iterable[str], root: Path, suites: Path = _SUITES) -> str:
    """What to type to run ``test``, an id of pytest, as it was run: with ``options``.

    pytest gives tests that are named as modules (``--pyargs``) ids without their folder, or even
    without their file, which name nothing from ``root``, its root directory. Those of the
    installed ``suites`` are named as modules again.
    """
    file, colons, name = test.partition("::")
    here = root / file
    if file and here.is_file() and not here.resolve().is_relative_to(suites):
        target = [test]
    elif module := Path(file).stem if (suites / Path(file).name).is_file() else _home(name, suites):
        target = ["--pyargs", f"pytest_drlcompress.suites.{module}{colons}{name}"]
    else:
        target = [test]
    return shlex.join(["pytest", *target, *options])


def _home(test: str, suites: Path) -> str:
    """The module in ``suites`` that defines ``test``; empty if none does."""
    function = re.escape(test.partition("[")[0])
    definition = re.compile(rf"^def {function}\(", re.MULTILINE)
    files = sorted(suites.glob("test_*.py"))
    return next((path.stem for path in files if definition.search(path.read_text())), "")
