"""``baseline.json``, what a stored policy is: found, read and locked without reading weights."""

from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock

from pytest_drlcompress.core.errors import BaselineError
from pytest_drlcompress.reading.baseline_file import check_baseline
from pytest_drlcompress.reading.typed import ContentError, read_json

RECORD = "baseline.json"


def read_record(folder: Path) -> dict[str, Any]:
    """The content of ``baseline.json``.

    Raises:
        BaselineError: the file is missing, or a field of it is not what it must be.
    """
    path = folder / RECORD
    try:
        record: dict[str, Any] = read_json(path)
        check_baseline(record)
    except FileNotFoundError:
        raise BaselineError(f"{folder} is not a baseline: it has no {RECORD}") from None
    except ContentError as error:
        raise BaselineError(
            f"{path} is incomplete or damaged: {error}; restore it, or train or import the policy"
            " again"
        ) from None
    except OSError as error:
        raise BaselineError(f"{path} cannot be read: {error}") from None
    return record


def locked_record(folder: Path) -> BaseFileLock:
    """Holds ``baseline.json`` while it is read, changed and written: a context manager."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f".{RECORD}.lock")
