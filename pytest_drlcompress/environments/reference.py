"""A function of a user's module, told to another process by where it stands."""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_drlcompress.core.errors import EnvironmentSpecError


@dataclass(frozen=True)
class Reference:
    """``module:name``, and the module's file: two ``conftest.py`` have the same module name."""

    module: str
    file: str
    name: str

    @classmethod
    def to(cls, target: Any) -> "Reference":
        """Where ``target`` stands.

        Raises:
            EnvironmentSpecError: it does not stand at the top of a module with a file.
        """
        module, name = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
        file = getattr(sys.modules.get(module), "__file__", None)
        code = getattr(target, "__code__", None)
        file = code.co_filename if code else file  # another conftest may have the name by now
        if not name or "<" in name or not file or not Path(file).is_file():
            raise EnvironmentSpecError(
                f"{target!r} cannot be found by worker processes: give a function or class that"
                " stands at the top of a module or conftest.py"
            )
        return cls(module, str(Path(file).resolve()), name)

    def load(self) -> Any:
        """The target, in this process.

        Raises:
            ImportError: its module cannot be imported.
            AttributeError: its module has it no more.
        """
        return reduce(getattr, self.name.split("."), self._module())

    def _module(self) -> ModuleType:
        try:
            module = importlib.import_module(self.module)
            if Path(module.__file__ or "").resolve() == Path(self.file):
                return module
        except ImportError:
            pass  # a conftest.py or test whose folder is not on the path
        alias = f"drlcompress_reference_{abs(hash(self.file))}"
        if alias not in sys.modules:
            spec = importlib.util.spec_from_file_location(alias, self.file)
            if spec is None or spec.loader is None:
                raise ImportError(f"{self.file} is no module")
            module = importlib.util.module_from_spec(spec)
            sys.modules[alias] = module
            spec.loader.exec_module(module)
        return sys.modules[alias]
