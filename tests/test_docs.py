"""What the documentation shows, runs."""

import re

import pytest

from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFTEST = "# conftest.py\n"


def blocks(page):
    """The Python blocks of a page that are tests, each with the ``conftest.py`` shown before it."""
    conftest = ""
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        if block.startswith(CONFTEST):
            conftest = block
        else:
            yield conftest, block


BLOCKS = [
    pytest.param(conftest, block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (conftest, block) in enumerate(blocks(page))
]


@pytest.mark.parametrize(("conftest", "block"), BLOCKS)
def test_a_python_block_is_a_passing_test(suites, conftest, block):
    (suites.path / "conftest.py").write_text(conftest)
    path = suites.path / "test_documented.py"
    path.write_text(block)
    result = suites.runpytest(path, "-rA")
    assert result.ret == 0, result.stdout.str()


def test_options_named_in_the_documentation_exist(pytester):
    known = pytester.runpytest("--help").stdout.str()
    for page in PAGES:
        for option in re.findall(r"--drlc-[a-z-]+", page.read_text()):
            assert f"{option}" in known, (page.name, option)
