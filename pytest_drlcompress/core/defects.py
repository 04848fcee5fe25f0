"""What a user is told of an error that is nobody's message: one line, and where the rest is."""

import os
import tempfile
import traceback


def describe_defect(error: BaseException) -> str:
    """One line on ``error``, which this package should have foreseen; its traceback is kept."""
    text = " ".join(str(error).split())[:300]
    told = f"unexpected {type(error).__name__}{f': {text}' if text else ''}"
    try:
        handle, path = tempfile.mkstemp(prefix="drlcompress-", suffix=".traceback")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as stream:
            traceback.print_exception(error, file=stream)
    except OSError:
        return f"{told} (a defect of pytest-drlcompress: please report it)"
    return f"{told} (a defect of pytest-drlcompress: please report it, with {path})"


def describe_os_error(error: OSError) -> str:
    """One line on ``error``, which names a file."""
    return f"{str(error.filename)[:300]}: {error.strerror}"
