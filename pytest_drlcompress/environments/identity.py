"""What an environment's episodes depend on besides policy and seed: its code, not its name.

An episode measured before may stand for a new one only if the environment is still the same.
Its identity is a digest of what Gymnasium was told (entry point, keyword arguments, wrappers, time
limit), of the versions of the distributions that its classes come from and of those they
require, of the files of all modules that belong to none (editable installs, test modules, a
``conftest.py``) and that those import, and of the files and MuJoCo models it holds.

What code reads by itself at run time (an environment variable, a file no argument names) cannot
be seen.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

from pytest_drlcompress.environments.engines import OUR_ENGINES, Engines
from pytest_drlcompress.environments.modules import Modules, NoSourceError
from pytest_drlcompress.environments.spec import EnvSpec


@dataclass(frozen=True)
class Identity:
    """``digest`` (SHA-256), or ``None`` and the ``reason`` why there is none, for the user."""

    digest: str | None
    reason: str = ""


def identify(spec: EnvSpec, engines: Engines = OUR_ENGINES) -> Identity:
    """The identity of ``spec`` as ``engines`` step it. The environment is made once.

    Raises:
        EnvironmentSpecError: the environment cannot be made.
    """
    env = spec.make()
    try:
        facts = _Facts().of(spec, env, engines)
    except NoSourceError as error:
        return Identity(None, error.reason)
    finally:
        env.close()
    return Identity(hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest())


class _Facts:
    def __init__(self) -> None:
        self._modules = Modules()
        self._files: dict[str, str] = {}

    def of(self, spec: EnvSpec, env: gym.Env[Any, Any], engines: Engines) -> dict[str, Any]:
        """JSON builtins, equal whenever and wherever the environment is."""
        made = env.unwrapped.spec
        registered = [] if made is None else [self._registered(made)]
        if ":" in spec.id:
            self._modules.add(spec.id.partition(":")[0])  # of a factory, or what registers the id
        for module in re.findall(r"([\w.]+):\w+", spec.wrap):
            self._modules.add(module)
        layer: Any = env
        while True:
            self._layer(layer)
            if not isinstance(layer, gym.Wrapper):
                break
            layer = layer.env
        for factory in engines.added:
            self._modules.add_code(factory)
        return {
            "specification": str(spec),
            "arguments": self._value(spec.arguments, "a keyword argument"),
            "registered": registered,
            "engines": [f"{f.__module__}:{getattr(f, '__qualname__', '')}" for f in engines.added],
            "files": self._files,
            **self._modules.facts(),
        }

    def _registered(self, spec: Any) -> dict[str, Any]:
        """Gymnasium's specification as it was made, and what ``gymnasium.register`` was told."""
        told = gym.registry.get(spec.id, spec)
        return {
            "id": spec.id,
            "entry point": self._entry_point(spec.entry_point),
            "arguments": self._value(spec.kwargs, "a keyword argument"),
            "limits": [told.max_episode_steps, told.order_enforce, told.disable_env_checker],
            "wrappers": [
                [
                    w.name,
                    self._entry_point(w.entry_point),
                    self._value(w.kwargs, f"an argument of {w.name}"),
                ]
                for w in told.additional_wrappers
            ],
        }

    def _entry_point(self, target: Any) -> Any:
        if isinstance(target, str):
            self._modules.add(target.partition(":")[0])
            return target
        return self._value(target, "the entry point")

    def _layer(self, layer: Any) -> None:
        """One wrapper, or the environment: its class and what it holds."""
        for base in type(layer).__mro__:
            self._modules.add_code(base)
        for name, value in sorted(getattr(layer, "__dict__", {}).items()):
            if isinstance(value, str | Path):
                self._file(value)
            elif type(value).__module__.partition(".")[0] == "mujoco":
                self._modules.add("mujoco")
                if type(value).__name__ == "MjModel":
                    self._files[f"{type(layer).__name__}.{name}"] = _model_digest(value)
            elif hasattr(value, "__code__"):
                self._modules.add_code(value)
            elif not isinstance(value, gym.Env):
                self._modules.add_known(type(value).__module__)

    def _value(self, value: Any, what: str) -> Any:
        """``value`` as JSON builtins; objects that say nothing stable of themselves have none."""
        if isinstance(value, str | Path):
            self._file(value)
            return str(value)
        if isinstance(value, list | tuple):
            return [self._value(item, what) for item in value]
        if isinstance(value, Mapping):
            items = sorted(value.items(), key=lambda item: str(item[0]))
            return [[str(key), self._value(item, what)] for key, item in items]
        if isinstance(value, type | ModuleType) or hasattr(value, "__code__"):
            return self._code(value)
        return _figures(value, what)

    def _code(self, target: Any) -> Any:
        """A module, a class, or a function with what it holds."""
        if isinstance(target, ModuleType):
            self._modules.add(target.__name__)
            return target.__name__
        if isinstance(target, type):
            for base in target.__mro__:
                self._modules.add_code(base)
            return f"{target.__module__}:{target.__qualname__}"
        self._modules.add_code(target)
        inside = [cell.cell_contents for cell in target.__closure__ or ()]
        defaults = [target.__defaults__ or (), target.__kwdefaults__ or {}]
        line = target.__code__.co_firstlineno  # tells one lambda of a module from another
        name = f"{target.__module__}:{target.__qualname__}"
        return [name, line, self._value([inside, defaults], f"what {name} holds")]

    def _file(self, named: str | Path) -> None:
        try:
            path = Path(named)
            if path.is_file():
                self._files[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, ValueError):  # a text that is no path, or one that may not be read
            pass


def _figures(value: Any, what: str) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind != "O":
        array = np.ascontiguousarray(value)
        return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, gym.spaces.Box):
        return [_figures(bound, what) for bound in (value.low, value.high)]
    if isinstance(value, gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        return repr(value)
    raise NoSourceError(
        f"{what} is an object of {type(value).__name__}, whose state cannot be compared"
    )


def _model_digest(model: Any) -> str:
    """Of the compiled model, which holds everything its XML and its meshes say."""
    import mujoco  # type: ignore[import-untyped]

    data = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, data)
    return hashlib.sha256(data.tobytes()).hexdigest()
