"""What the tests of SB3 zips share: small models, and zips taken apart and put together."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.sb3.load import load_sb3

SMALL = {"net_arch": [24, 16]}


class TinyImages(gym.Env[NDArray[Any], Any]):
    """Random 36x36 pictures of two channels, with pixels from ``low`` to ``high``."""

    def __init__(
        self, high: int = 255, *, low: int = 0, last: bool = False, dtype: str = "uint8"
    ) -> None:
        shape = (36, 36, 2) if last else (2, 36, 36)
        self.observation_space = gym.spaces.Box(low, high, shape, np.dtype(dtype).type)
        self.action_space = gym.spaces.Discrete(4)


def off(**policy_kwargs: Any) -> dict[str, Any]:
    """Settings of a small off-policy model; made afresh, since SB3 writes into them."""
    return {"buffer_size": 10, "device": "cpu", "policy_kwargs": SMALL | policy_kwargs}


def on(**policy_kwargs: Any) -> dict[str, Any]:
    """Settings of a small on-policy model."""
    return {"n_steps": 64, "device": "cpu", "policy_kwargs": SMALL | policy_kwargs}


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def load(path: Path, env: str, *, trust: bool = False) -> Policy:
    return load_sb3(path, EnvSpec.parse(env), policy_id="", vecnormalize=None, trust=trust)


def refusal(path: Path, env: str = "Pendulum-v1") -> str:
    with pytest.raises(PolicyError) as caught:
        load(path, env)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message or "policy '" in message
    return message


def read_tensors(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        stored = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    return dict(stored)


def replace_tensors(path: Path, tensors: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    replace_member(path, "policy.pth", buffer.getvalue())


def edit_data(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    replace_member(path, "data", json.dumps(change(data)).encode())


def replace_member(path: Path, name: str, content: bytes | None) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members.pop(name, None)
    if content is not None:
        members[name] = content
    with zipfile.ZipFile(path, "w") as archive:
        for member, raw in members.items():
            archive.writestr(member, raw)
