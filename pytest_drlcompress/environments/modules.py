"""The code behind some classes: versions where it is installed, files where it is not."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_OURS = __name__.partition(".")[0]


class NoSourceError(Exception):
    """Code that cannot be identified; ``reason`` says why, for the user."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Modules:
    """Modules, with all that those of them import which belong to no distribution."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._sources: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def facts(self) -> dict[str, Any]:
        """``versions`` by distribution and ``sources`` (SHA-256) by module."""
        return {"versions": self._versions, "sources": self._sources}

    def add_code(self, target: Any) -> None:
        """The module of a class or function.

        Raises:
            NoSourceError: it belongs to no distribution, and is not what its module's file says.
        """
        module, name = str(target.__module__), getattr(target, "__qualname__", repr(target))
        if not self._is_installed(module):
            self.add(module)
            if not _stands_in_file(target, sys.modules.get(module), name):
                raise NoSourceError(f"the source of {module}.{name} is not available")

    def add_known(self, name: str) -> None:
        """The module ``name``, if there is such a file."""
        if _file(name) is not None:
            self.add(name)

    def add(self, name: str) -> None:
        """The module ``name``.

        Raises:
            NoSourceError: it belongs to no distribution and has no file.
        """
        if name in self._seen or _is_standard(name):
            return
        self._seen.add(name)
        if self._is_installed(name):
            for distribution in self._distributions[_top(name)]:
                self._add_distribution(distribution)
            return
        file = _file(name)
        if file is None:
            raise NoSourceError(f"the module {name} has no file")
        code = file.read_bytes()
        self._sources[name] = hashlib.sha256(code).hexdigest()
        for imported in _imports(name, file, code):
            if _top(imported) != _OURS:  # a test's or conftest's use of us changes no environment
                self.add_known(imported)

    def _is_installed(self, name: str) -> bool:
        top = _top(name)
        file = _file(top) or _file(name)
        return file is not None and _in_site_packages(file) and top in self._distributions

    def _add_distribution(self, name: str) -> None:
        """Its version, and those of what it requires: a physics engine, for example."""
        name = canonicalize_name(name)
        if name in self._versions:
            return
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # not required on this system
            return
        self._versions[name] = found.version
        for text in found.requires or ():
            try:
                required = Requirement(text)
            except InvalidRequirement:
                continue
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                self._add_distribution(required.name)

    @cached_property
    def _distributions(self) -> Any:
        return importlib.metadata.packages_distributions()


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_standard(name: str) -> bool:
    return name != "__main__" and _top(name) in sys.stdlib_module_names


def _file(name: str) -> Path | None:
    """Where the module lies; one that is not imported is looked for without importing it."""
    module = sys.modules.get(name)
    parent, _, leaf = name.rpartition(".")
    if module is not None:
        found = [getattr(module, "__file__", None)]
    elif parent:
        package = _file(parent)
        folder = package.parent if package is not None and package.stem == "__init__" else None
        found = [folder / f"{leaf}.py", folder / leaf / "__init__.py"] if folder else []
    else:
        spec = importlib.util.find_spec(name) if name else None
        found = [spec.origin if spec is not None and spec.has_location else None]
    return next((Path(file) for file in found if file and Path(file).is_file()), None)


def _in_site_packages(file: Path) -> bool:
    """Whether ``file`` lies where installers put packages: an editable install does not."""
    paths = sysconfig.get_paths()
    folders = {paths["purelib"], paths["platlib"], site.getusersitepackages()}
    return any(file.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)


def _stands_in_file(target: Any, module: ModuleType | None, name: str) -> bool:
    """Whether ``target`` is what the file of ``module`` defines: ``exec`` makes anything."""
    if module is None:
        return False
    code = getattr(target, "__code__", None)
    if code is not None:
        return Path(code.co_filename).resolve() == Path(module.__file__ or "").resolve()
    if "<locals>" not in name:
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not target:
            return False
    try:
        return bool(_is_standard(module.__name__) or inspect.getsource(target))
    except (OSError, TypeError):
        return False


def _imports(name: str, file: Path, code: bytes) -> Iterator[str]:
    """The modules that ``name`` may import anywhere in it, its own packages included."""
    if file.suffix != ".py":
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    module: ModuleType | None = sys.modules.get(name)
    package = getattr(module, "__package__", None) or package
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts)))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            try:
                base = importlib.util.resolve_name(base, package)
            except ImportError:
                continue
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
