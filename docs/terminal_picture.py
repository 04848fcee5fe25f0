"""Draws the failures and verdicts that a pytest command prints at its end, as an SVG.

``python docs/terminal_picture.py docs/images/verdict.svg pytest ...`` (in the folder of the policy)
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 88
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
"""Rich's pictures load a font from elsewhere; the reader's own monospace font does as well."""


def picture(output: str, title: str) -> str:
    """The SVG of ``output``, text with ANSI colours."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text.from_ansi(output))
        drawn = console.export_svg(title=title, theme=MONOKAI)
    return _FONTS.sub("", drawn).replace("Fira Code", "DejaVu Sans Mono")


def verdicts_of(output: str) -> str:
    """What a reader scrolls back to: from the failures on, without pytest's own summary."""
    lines = output.splitlines()
    first, last = (
        next(number for number, line in enumerate(lines) if f"= {heading} =" in line)
        for heading in ("FAILURES", "short test summary info")
    )
    return "\n".join(lines[first:last])


if __name__ == "__main__":
    path, command = Path(sys.argv[1]), sys.argv[2:]
    done = subprocess.run(  # noqa: S603 (the command is the caller's own)
        [*command, "--color=yes"],
        env=os.environ | {"COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    path.write_text(picture(verdicts_of(done.stdout), "pytest"), encoding="utf-8")
