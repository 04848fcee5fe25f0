"""What is installed only on request: which extra brings a module, and what to type for it.

Two ONNX files and recorded observations need none of them.
"""

import contextlib
import importlib.util
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from pytest_drlcompress.core.errors import MissingExtraError

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "ale_py": "atari",
        "cv2": "atari",
        "imageio": "mujoco",
        "matplotlib": "plot",
        "mujoco": "mujoco",
        "onnxscript": "torch",
        "PIL": "plot",
        "pyarrow": "parquet",
        "pynvml": "energy",
        "ray": "ray",
        "safetensors": "torch",
        "sb3_contrib": "sb3",
        "stable_baselines3": "sb3",
        "torch": "torch",
        "torch_pruning": "torch",
    }
)
"""By module: the extra of this distribution that brings it."""


def installed(module: str) -> bool:
    """Whether the top-level ``module`` can be imported; nothing is imported."""
    return importlib.util.find_spec(module) is not None


def pip_line(extra: str) -> str:
    """What to type."""
    return f"pip install 'pytest-drlcompress[{extra}]'"


def need(module: str, what: str) -> None:
    """Check that ``module`` is there, for ``what``.

    Raises:
        MissingExtraError: it is not, with the line that installs it.
    """
    if not installed(module):
        raise MissingExtraError(f"{what} needs {module}: {pip_line(EXTRAS[module])}")


def missing_extra(error: ImportError) -> MissingExtraError | None:
    """What to tell the user of ``error``; ``None`` if it is not about a module of an extra."""
    module = (error.name or "").partition(".")[0]
    # a module that is there and lacks a part is broken, not missing
    if module not in EXTRAS or installed(module):
        return None
    return MissingExtraError(f"this needs {module}: {pip_line(EXTRAS[module])}")


def advice(error: BaseException) -> str:
    """What to type where others' ``error`` names a module of an extra that is missing, or empty."""
    text = str(error).casefold()
    named = (extra for module, extra in EXTRAS.items() if module in text and not installed(module))
    extra = next(named, "")
    return f": {pip_line(extra)}" if extra else ""


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Version by name of those ``distributions`` that are installed."""
    versions = {}
    for name in distributions:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
