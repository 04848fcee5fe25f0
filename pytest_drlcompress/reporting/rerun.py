"""The command that runs one gate again, in a checkout and from an installed package."""

import shlex
from collections.abc import Iterable
from pathlib import Path

_SUITES = Path(__file__).parents[1] / "suites"
"""Where a wheel has the suites; a checkout keeps them beside the package."""


def rerun_command(test: str, options: Iterable[str], root: Path) -> str:
    """What to type to run ``test``, an id of pytest, as it was run: with ``options``.

    pytest gives the suites of an installed package ids without their folder, which name nothing
    from ``root``, its root directory: they are named as modules instead.
    """
    file, colons, name = test.partition("::")
    module = Path(file)
    shipped = _SUITES / module.name
    if shipped.is_file() and ((root / module).resolve() == shipped or not (root / module).exists()):
        target = ["--pyargs", f"pytest_drlcompress.suites.{module.stem}{colons}{name}"]
    else:
        target = [test]
    return shlex.join(["pytest", *target, *options])
