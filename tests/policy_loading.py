"""Loading a policy by its name, as the options do, and what is said where that is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.load import load_policy_source
from pytest_drlcompress.policies.loader import PolicyLoader
from pytest_drlcompress.policies.policy import Policy

PENDULUM = EnvSpec.parse("Pendulum-v1")
CARTPOLE = EnvSpec.parse("CartPole-v1")


def load(
    text: str | Path,
    env: EnvSpec | None = PENDULUM,
    *,
    trust: bool = False,
    vecnormalize: str | None = None,
    baselines: Path = Path("nowhere"),
    loaders: Sequence[PolicyLoader] = (),
) -> Policy:
    return load_policy_source(
        str(text),
        env=env,
        trust=trust,
        vecnormalize=vecnormalize,
        baselines=baselines,
        loaders=loaders,
    )


def refusal(text: str | Path, env: EnvSpec | None = PENDULUM, **kwargs: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        load(text, env, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)
