"""The site: its reference is complete, and every page and link in it exists."""

import ast
import re
import runpy
import subprocess
import sys

import pytest

import pytest_drlcompress
import pytest_drlcompress.testing
from conftest import ROOT
from pytest_drlcompress import builtin_registry
from pytest_drlcompress.core.settings import OPTIONS, SUBJECTS

REFERENCE = ROOT / "docs/reference.md"
IN_API = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
"""The names that the API page takes from the docstrings."""

LINKING = [
    page
    for folder in (".", "docs", "baselines", "examples/*")
    for page in sorted(ROOT.glob(f"{folder}/*.md"))
]


@pytest.fixture(scope="module")
def reference() -> str:
    return REFERENCE.read_text()


def test_the_reference_is_the_code_s(reference: str) -> None:
    written = runpy.run_path(str(ROOT / "docs/generate_reference.py"))["page"]()
    assert reference == written, "run: python docs/generate_reference.py"


def test_every_option_has_one_subject() -> None:
    placed = [field for fields in SUBJECTS.values() for field in fields]
    assert sorted(placed) == sorted(option.field for option in OPTIONS)


def test_what_pytest_lists_has_its_entry(pytester: pytest.Pytester, reference: str) -> None:
    """Asked of pytest itself, not of the tables that the page is written from."""
    told = pytester.runpytest("--help", "--markers", "--fixtures").stdout.str()
    help_text = pytester.runpytest("--help").stdout.str()
    for switch in set(re.findall(r"--drlc-[a-z-]+(?==|$|,| )", help_text)):
        assert f"`{switch}" in reference, switch
    markers = pytester.runpytest("--markers").stdout.str()
    (budgets,) = re.findall(r"@pytest.mark.drlcompress\(\*, ([^)]*)\)", markers)
    for budget in budgets.split(", "):
        assert re.search(rf"^{budget}$", reference, re.MULTILINE), budget
    listed = pytester.runpytest("--fixtures").stdout.str()
    own = re.findall(r"^(\w+).* -- .*pytest_drlcompress/plugin/fixtures", listed, re.MULTILINE)
    assert {"policy", "retention", "latency"} <= set(own), told
    for fixture in own:
        assert f"| `{fixture}` |" in reference, fixture


def test_hooks_and_recipes_have_their_entries(reference: str) -> None:
    source = (ROOT / "pytest_drlcompress/plugin/hookspec.py").read_text()
    for hook in re.findall(r"^def (pytest_\w+)", source, re.MULTILINE):
        assert f"### `{hook}(" in reference, hook
    for name in builtin_registry().kinds:
        assert f"| `{name}` |" in reference, name


@pytest.mark.parametrize("module", [pytest_drlcompress, pytest_drlcompress.testing])
def test_every_public_name_has_its_entry(module) -> None:
    public = {f"{module.__name__}.{name}" for name in module.__all__ if name != "__version__"}
    listed = {name for name in IN_API if name.rpartition(".")[0] == module.__name__}
    assert listed == public
    assert len(IN_API) == len(set(IN_API))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_what_a_page_imports_has_its_entry(page) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pytest_drlc"):
                assert {f"{node.module}.{alias.name}" for alias in node.names} <= set(IN_API)


def test_the_help_is_readable_on_80_columns(pytester: pytest.Pytester) -> None:
    pytester.syspathinsert()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"],
        env={"COLUMNS": "80", "PATH": "", "PYTHONPATH": str(ROOT)},
        cwd=pytester.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    first = done.stdout.index("compressed deep-RL policies")
    mine = done.stdout[first : done.stdout.index("[pytest] configuration options")]
    for subject in SUBJECTS:
        assert f"compressed deep-RL policies: {subject}:" in mine
    shown = [line for line in mine.splitlines() if "--drlc-" in line]
    assert len(shown) >= len(OPTIONS)
    assert max(map(len, shown)) <= 80


def anchors(page) -> set[str]:
    """Of the headings of a Markdown page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING, ids=[str(page.relative_to(ROOT)) for page in LINKING])
def test_links_name_files_and_headings_that_exist(page) -> None:
    """On GitHub, where pages outside ``docs/`` are read and links leave it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("https:", "mailto:")):
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def test_the_site_builds_without_a_warning(tmp_path) -> None:
    for module in ("material", "mkdocstrings"):
        pytest.importorskip(module, reason="pip install 'pytest-drlcompress[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Gate your own policy in ten minutes" in (tmp_path / "tutorial/index.html").read_text()
    assert "--drlc-variant=RECIPE|FILE" in (tmp_path / "reference/index.html").read_text()
    api = (tmp_path / "api/index.html").read_text()
    for name in IN_API:
        entry = api.partition(f'id="{name}" class="doc doc-heading"')[2]
        assert entry, name
        assert "<p>" in entry.partition("doc-heading")[0], f"{name} has no docstring"
