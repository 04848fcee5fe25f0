"""What the documentation shows, runs."""

import re

import pytest

from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    (page, number, block)
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize(
    ("page", "number", "block"), BLOCKS, ids=[f"{page.stem}-{n}" for page, n, _ in BLOCKS]
)
def test_a_python_block_is_a_passing_test(suites, page, number, block):
    path = suites.path / "test_documented.py"
    path.write_text(block)
    result = suites.runpytest(path, "-rA")
    assert result.ret == 0, result.stdout.str()


def test_options_named_in_the_documentation_exist(pytester):
    known = pytester.runpytest("--help").stdout.str()
    for page in PAGES:
        for option in re.findall(r"--drlc-[a-z-]+", page.read_text()):
            assert f"{option}" in known, (page.name, option)
