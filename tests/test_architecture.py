"""Each package imports only from those below it, lazily or not, and no module from a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pytest_drlcompress

NAME = "pytest_drlcompress"
ROOT = Path(pytest_drlcompress.__file__).parent
ORDER = (
    "core", "reading", "environments", "codegen", "runtime", "onnx_graph", "policies", "evaluation",
    "playback",
    "compression", "measurement", "baselines", "testing", "workbench", "training",
    "gates", "reporting", "frontier", "papers", "plugin", "cli",
)  # fmt: skip


def imports(root: Path) -> dict[str, set[str]]:
    """By module, the modules of ours that it imports anywhere in it, type annotations included."""
    files = {
        ".".join((NAME, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__"): (
            ast.parse(path.read_text())
        )
        for path in root.rglob("*.py")
        if path.parent != root
    }
    graph: dict[str, set[str]] = {}
    for module, tree in files.items():
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                submodules = members & files.keys()
                found |= submodules or {node.module}
        graph[module] = {name for name in found if name.split(".")[0] == NAME}
    return graph


def wrong_arrows(root: Path) -> list[str]:
    return [
        f"{module} -> {other}"
        for module, others in imports(root).items()
        for other in sorted(others)
        if other == NAME or rank(other) > rank(module)
    ]


def rank(module: str) -> int:
    return ORDER.index(module.split(".")[1])


def test_packages_import_only_from_below():
    assert wrong_arrows(ROOT) == []


def test_no_circles():
    TopologicalSorter(imports(ROOT)).prepare()


def test_a_planted_wrong_arrow_is_found(tmp_path):
    for package in ("core", "plugin"):
        (tmp_path / package).mkdir()
    (tmp_path / "plugin/session.py").write_text("")
    (tmp_path / "core/errors.py").write_text(
        "def f():\n    from pytest_drlcompress.plugin import session\n"
    )
    assert wrong_arrows(tmp_path) == [
        "pytest_drlcompress.core.errors -> pytest_drlcompress.plugin.session"
    ]


def test_the_root_holds_no_modules():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("name", pytest_drlcompress.__all__)
def test_every_public_name_is_there(name):
    assert getattr(pytest_drlcompress, name) is not None


def test_type_checkers_and_users_see_the_same_names():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    declared = {
        (alias.asname or alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(NAME)
        for alias in node.names
    }
    assert declared == set(pytest_drlcompress.__all__)


def test_only_public_names_in_the_suites():
    for path in (ROOT.parent / "suites").glob("*.py"):
        used = {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(NAME)
        }
        assert all(module == NAME or module.startswith(f"{NAME}.testing") for module in used), path
