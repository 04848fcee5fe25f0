"""Which engine steps an environment: those that a project added, then our own."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytest_drlcompress.core.errors import DrlcError, EnvironmentSpecError
from pytest_drlcompress.environments.atari.engine import make_atari_engine
from pytest_drlcompress.environments.engine import DeclinedError, Engine, EngineFactory
from pytest_drlcompress.environments.gymnasium import GymnasiumEngine
from pytest_drlcompress.environments.mujoco.engine import make_mujoco_engine
from pytest_drlcompress.environments.perturbation import UNPERTURBED, Perturbation
from pytest_drlcompress.environments.reference import Reference
from pytest_drlcompress.environments.spec import EnvSpec


@dataclass(frozen=True)
class Engines:
    """Factories, asked in their order; Gymnasium steps what they all leave.

    ``added`` comes before our own. It is what the hook ``pytest_drlcompress_environments``
    feeds: each implementation returns factories ``(spec, perturbation) -> Engine | None``, and
    the run's engines are ``Engines.of(factories)``:

        # conftest.py
        from pytest_drlcompress import GymnasiumEngine


        def clipped(spec, perturbation):
            if spec.id == "Hopper-v5":
                wrappers = (lambda env: ClipReward(env, -1, 1),)
                return GymnasiumEngine(spec, perturbation, "clipped rewards", wrappers=wrappers)


        def pytest_drlcompress_environments():
            return [clipped]

    A wrapper may change anything but the spaces. Worker processes get the factories by
    reference (module, file, name), so each stands at the top of a module or ``conftest.py``.
    """

    added: tuple[EngineFactory, ...] = ()

    @classmethod
    def of(cls, added: Iterable[EngineFactory]) -> "Engines":
        """Our engines after ``added``, which are checked.

        Raises:
            EnvironmentSpecError: a factory that worker processes could not find.
        """
        factories = tuple(added)
        for factory in factories:
            Reference.to(factory)
        return cls(factories)

    def choose(self, spec: EnvSpec, perturbation: Perturbation = UNPERTURBED) -> Engine:
        """The first engine that takes ``spec``.

        Raises:
            EnvironmentSpecError: the environment cannot be made, or an added factory failed.
        """
        reasons = ["it is wrapped by yours"] if spec.wrap else []
        ours: tuple[EngineFactory, ...] = (make_atari_engine, make_mujoco_engine)
        for factory in (*map(_guarded, self.added), *(() if spec.wrap else ours)):
            try:
                engine = factory(spec, perturbation)
            except DeclinedError as declined:
                reasons.append(declined.reason)
            else:
                if engine is not None:
                    return engine
        return GymnasiumEngine(spec, perturbation, "; ".join(reasons))

    def describe(self, spec: EnvSpec) -> str:
        """What steps the environment and why, for the user."""
        engine = self.choose(spec)
        return f"{engine.name} ({engine.reason})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (tuple(Reference.to(factory) for factory in self.added),)


OUR_ENGINES = Engines()
"""Atari's and MuJoCo's where they are proven equal to Gymnasium, else Gymnasium."""


def engine_choice(
    spec: EnvSpec, perturbation: Perturbation = UNPERTURBED, engines: Engines = OUR_ENGINES
) -> Engine:
    """What steps ``spec``: by default the fastest engine that is proven equal to Gymnasium.

    Raises:
        EnvironmentSpecError: the environment cannot be made.
    """
    return engines.choose(spec, perturbation)


def _restored(references: tuple[Reference, ...]) -> Engines:
    return Engines(tuple(reference.load() for reference in references))


def _guarded(factory: EngineFactory) -> EngineFactory:
    return partial(_ask, factory)


def _ask(factory: EngineFactory, spec: EnvSpec, perturbation: Perturbation) -> Engine | None:
    name = f"{factory.__module__}:{getattr(factory, '__qualname__', factory)}"
    try:
        engine = factory(spec, perturbation)
    except (DrlcError, DeclinedError):
        raise
    except Exception as error:  # code of the user's
        raise EnvironmentSpecError(
            f"the engine factory {name} failed for {str(spec)!r}: {error!r}"
        ) from error
    missing = [a for a in ("name", "reason", "may_hang", "vector_env") if not hasattr(engine, a)]
    if engine is not None and missing:
        raise EnvironmentSpecError(
            f"the engine factory {name} returned {engine!r} for {str(spec)!r}: an engine has"
            f" {', '.join(missing)}; return None to leave an environment to other engines"
        )
    return engine
