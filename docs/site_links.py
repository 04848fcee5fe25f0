"""A hook of mkdocs: what the site shows otherwise than GitHub.

Links out of ``docs/`` name files of the repository, which the site lacks. In a table GitHub wants
``|`` escaped in inline code, too; the site would show the backslash.
"""

import re
from typing import Any

_CODE = re.compile(r"`[^`\n]+`")
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./|workflows/)[^)]+)\)")


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """``[text](../tests/x.py)`` as a link to the repository; as text without its address."""
    markdown = _CODE.sub(lambda code: code[0].replace("\\|", "|"), markdown)
    root = config["repo_url"]

    def outside(match: "re.Match[str]") -> str:
        text, path = match.groups()
        path = path.removeprefix("../") if path.startswith("../") else f"docs/{path}"
        return f"[{text}]({root.rstrip('/')}/blob/main/{path})" if root else text

    return _OUTSIDE.sub(outside, markdown)
