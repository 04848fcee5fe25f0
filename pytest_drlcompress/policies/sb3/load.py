"""Stable-Baselines3 and sb3-contrib zips as policies, read without unpickling anything."""

import hashlib
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.action import ActionSpec
from pytest_drlcompress.environments.recorded import RecordedSpec
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.image_advice import image_advice
from pytest_drlcompress.policies.network import ChannelsFirst, Pixels, Reshape, normalize_layer
from pytest_drlcompress.policies.onnx_file import check_model
from pytest_drlcompress.policies.part_layers import Floats
from pytest_drlcompress.policies.policy import Policy, check_finite, check_network
from pytest_drlcompress.policies.recurrent_network import RecurrentNetwork
from pytest_drlcompress.policies.sb3.actors import (
    actor_layers,
    algorithm_of,
    lstm_cells,
    nature_cnn,
)
from pytest_drlcompress.policies.sb3.combined import combined
from pytest_drlcompress.policies.sb3.vecnormalize import Statistics, read_vecnormalize
from pytest_drlcompress.policies.sb3.zip import OTHER_WAYS, Sb3Zip, read_zip


def load_sb3(
    path: Path, env: EnvSpec, *, policy_id: str, vecnormalize: Path | None, trust: bool
) -> Policy:
    """The deterministic policy of an SB3 model saved at ``path``, acting in ``env``.

    Reads SAC, TQC, TD3, DDPG, PPO, A2C, TRPO, DQN, QR-DQN and RecurrentPPO. The action bounds are
    those of ``env``; where the file's own are readable they must be the same. ``vecnormalize`` is
    the pickle with the observation statistics, which is read only with ``trust``. An empty
    ``policy_id`` becomes ``algorithm-environment``.

    Raises:
        PolicyError: a file that cannot be read or rebuilt, or does not fit ``env``.
        UntrustedPickleError: ``vecnormalize`` is given without ``trust``.
        EnvironmentSpecError: the environment cannot be made.
    """
    return policy_from_zip(
        read_zip(path), env, policy_id=policy_id, vecnormalize=vecnormalize, trust=trust
    )


def policy_from_zip(
    saved: Sb3Zip, env: EnvSpec, *, policy_id: str, vecnormalize: Path | None, trust: bool
) -> Policy:
    """``load_sb3`` of a zip that has been read."""
    algorithm = algorithm_of(saved)
    _check_spaces(saved, env)
    statistics = None if vecnormalize is None else read_vecnormalize(vecnormalize, trust=trust)
    if env.parts:
        front_of = partial(combined, saved, parts=env.parts, statistics=statistics)
    else:
        front_of = partial(nature_cnn, saved)
    extractor, body = actor_layers(saved, env.action, front_of)
    cells = lstm_cells(saved)
    layers = [*extractor, *(cell.input for cell in cells[:1]), *body]
    if not (extractor or env.parts):
        _check_width(saved, env, layers)
    if env.parts:
        front: list[nn.Module] = []
        _check_features(saved, env, extractor, cells[0].input if cells else body[0])
    elif statistics is not None and statistics.enabled:
        front = _normalization(saved, env, statistics, images=bool(extractor))
    else:
        front = _preprocessing(saved, env, layers)
    identity = policy_id or f"{algorithm or saved.path.stem.lower()}-{env_name(env)}"
    network: nn.Module | bytes
    if cells:
        before, after = nn.Sequential(*front, *extractor), nn.Sequential(*body)
        network = _steps(identity, env, RecurrentNetwork(before, cells, after).eval())
    else:
        network = nn.Sequential(*front, *layers).eval()
        check_network(identity, env, network)
    return Policy(
        id=identity,
        env=env,
        source=network,
        algorithm=algorithm,
        origin=str(saved.path),
        provenance={
            "sha256": hashlib.sha256(saved.path.read_bytes()).hexdigest(),
            "stable_baselines3": saved.version,
            **{k: v for k in ("num_timesteps", "seed") if isinstance(v := saved.data.get(k), int)},
            "vecnormalize": "" if vecnormalize is None else vecnormalize.name,
        },
    )


def _steps(identity: str, env: EnvSpec, network: RecurrentNetwork) -> bytes:
    """A recurrent actor as ONNX, which is what is quantized, run and judged."""
    check_finite(identity, network)
    shape, dtype, _ = env.spaces
    model = export_onnx(network, shape, dtype, network.states)
    check_model(f"policy {identity!r}", env, model)
    return model


def spec_of(saved: Sb3Zip) -> RecordedSpec:
    """The spaces that the file tells, where there is no environment.

    Raises:
        PolicyError: they are not readable.
    """
    observed, acted = saved.space("observation_space"), saved.space("action_space")
    none = np.zeros(0, np.float32)
    if observed.shape is None or observed.dtype is None:
        raise saved.error("its observation space is not readable: say --drlc-env, too")
    if acted.kind == "Discrete" and acted.n is not None:
        action = ActionSpec((), none, none, acted.n)
    elif acted.shape is None or acted.low is None or acted.high is None:
        raise saved.error("its action space is not readable: say --drlc-env, too")
    else:
        size = int(np.prod(acted.shape))
        low, high = (np.broadcast_to(told, size) for told in (acted.low, acted.high))
        action = ActionSpec(
            acted.shape,
            low.reshape(acted.shape).astype(np.float32),
            high.reshape(acted.shape).astype(np.float32),
        )
    dtype = np.dtype(np.uint8 if observed.dtype == "uint8" else np.float32)
    return RecordedSpec(shape=observed.shape, dtype=dtype, known_action=action)


def env_name(env: EnvSpec) -> str:
    """``halfcheetah`` for ``HalfCheetah-v5``, ``pong`` for ``ALE/Pong-v5``."""
    return re.sub(r"-v\d+$", "", re.split("[:/]", env.id)[-1]).lower()


def _check_spaces(saved: Sb3Zip, env: EnvSpec) -> None:
    shape, dtype, action = env.spaces
    observed, acted = saved.space("observation_space"), saved.space("action_space")
    kind = env.observation_kind
    if observed.kind not in (None, kind):
        raise saved.error(
            f"it was trained on {observed.kind} observations; environment {str(env)!r} gives {kind}"
        )
    if not shape:
        raise saved.error(
            f"environment {str(env)!r} gives scalar observations, on which Stable-Baselines3 itself"
            " cannot act (its FlattenExtractor fails): give them the shape (1,)"
        )
    kinds = ("MultiDiscrete", "MultiBinary") if action.sizes else ("Discrete",)
    if acted.kind not in (None, *(kinds if action.discrete else ("Box",))):
        raise saved.error(
            f"it was trained on {acted.kind} actions; the environment's are {action.describe()}"
        )
    if action.start:
        raise saved.error(
            f"Stable-Baselines3 counts actions from 0, the environment's are {action.describe()}:"
            " wrap it so that they start at 0"
        )
    counted = action.n and acted.n not in (None, action.n)
    if counted or acted.start not in (None, 0):
        raise saved.error(
            f"it was trained on {acted.n} discrete actions starting at {acted.start or 0}; the"
            f" environment has {action.n} starting at 0"
        )
    if not action.discrete:
        if acted.shape not in (None, action.shape):
            raise saved.error(
                f"it was trained on actions of shape {acted.shape}; the environment's have"
                f" {action.shape}"
            )
        for name, told, here in (
            ("low", acted.low, action.low),
            ("high", acted.high, action.high),
        ):
            if told is not None and (
                told.size not in (1, here.size)
                or not np.allclose(told, here.ravel(), rtol=1e-4, atol=1e-6)
            ):
                raise saved.error(
                    f"it was trained on actions with {name} bounds {_short(told)}; those of"
                    f" {str(env)!r} are {_short(here)} (a wrapper that rescales actions must be"
                    " part of the environment)"
                )
    if kind != "Box":
        return
    if (
        observed.shape is not None
        and len(observed.shape) > 1
        and observed.shape != shape
        and not _transposed(saved, env)
    ):
        raise saved.error(
            f"it was trained on observations of shape {observed.shape}; environment {str(env)!r}"
            f" gives {shape}{image_advice(env, observed.shape)}"
        )
    # VecNormalize makes floats of images
    normalized = dtype == np.uint8 and len(shape) == 3 and observed.dtype == "float32"
    if (
        observed.dtype is not None
        and (observed.dtype == "uint8") != (dtype == np.uint8)
        and not normalized
    ):
        raise saved.error(
            f"it was trained on {observed.dtype} observations; environment {str(env)!r} gives"
            f" {dtype}"
        )


def _check_width(saved: Sb3Zip, env: EnvSpec, layers: list[nn.Module]) -> None:
    first = layers[0]
    assert isinstance(first, nn.Linear)
    wanted, given = first.in_features, int(np.prod(env.observation_shape))
    if wanted != given:
        raise saved.error(
            f"the policy takes {wanted} observations, environment {str(env)!r} gives {given};"
            f" {_width_advice(env, wanted - given)}"
        )


def _width_advice(env: EnvSpec, missing: int) -> str:
    if missing < 0 or len(env.observation_shape) != 1:
        return "is it another version of the environment, or one with other keyword arguments?"
    padded = replace(env, pad_observation=env.pad_observation + missing)
    advice = [f"{str(padded)!r} if the missing {missing} were always zero"]
    if not env.time_feature:
        registered = gym.registry.get(env.id)
        limit = (registered and registered.max_episode_steps) or 1000
        timed = replace(env, pad_observation=padded.pad_observation - 1, time_feature=limit)
        advice.append(f"{str(timed)!r} if one of them was the time left")
    return f"if it saw the same environment when it was trained: {', '.join(advice)}"


def _preprocessing(saved: Sb3Zip, env: EnvSpec, layers: list[nn.Module]) -> list[nn.Module]:
    """What SB3 does before the first layer: bytes to floats, images to [0, 1], flattening."""
    shape, dtype, _ = env.spaces
    front: list[nn.Module] = [ChannelsFirst()] if _transposed(saved, env) else []
    if dtype == np.uint8:
        front.append(Pixels())
        if (
            not _is_image(saved, env)
            or str(saved.policy_kwargs.get("normalize_images", True)) == "False"
        ):
            # SB3 leaves these in [0, 255]: the first layer takes back what Pixels divided
            first = layers[0]
            assert isinstance(first, nn.Linear | nn.Conv2d)
            with torch.no_grad():
                first.weight.mul_(255.0)
    if len(shape) != 1 and isinstance(layers[0], nn.Linear):
        front.append(nn.Flatten())
    return front


def _transposed(saved: Sb3Zip, env: EnvSpec) -> bool:
    """Whether SB3 put ``VecTransposeImage`` around the environment: images with channels last."""
    told, (shape, dtype, _) = saved.space("observation_space").shape, env.spaces
    if len(shape) != 3 or dtype != np.uint8 or told == shape:
        return False
    low, high = env.observation_bounds
    return told == (shape[2], *shape[:2]) and bool(np.all(low == 0) and np.all(high == 255))


def _is_image(saved: Sb3Zip, env: EnvSpec) -> bool:
    """Whether SB3 divides these bytes by 255 (its ``is_image_space``): rank 3, from 0 to 255.

    The bounds are those of the space in the file; the environment's where they are not readable.
    """
    space = saved.space("observation_space")
    low, high = env.observation_bounds
    low, high = (
        here if told is None else told for told, here in ((space.low, low), (space.high, high))
    )
    return len(env.observation_shape) == 3 and bool(np.all(low == 0) and np.all(high == 255))


def _normalization(
    saved: Sb3Zip, env: EnvSpec, statistics: Statistics, *, images: bool
) -> list[nn.Module]:
    """What SB3 does before the first layer behind VecNormalize, which also makes floats of bytes.

    Pixels are then not divided by 255.
    """
    shape, dtype, _ = env.spaces
    if _transposed(saved, env):
        raise saved.error(
            "VecNormalize of images that are transposed is not supported: give the environment"
            f" channels first, or {OTHER_WAYS}"
        )
    width = int(np.prod(shape))
    if statistics.mean.size != width:
        raise PolicyError(
            f"{statistics.path}: statistics of {statistics.mean.size or 'a Dict of'} observations;"
            f" environment {str(env)!r} gives {width}"
        )
    layer = normalize_layer(
        statistics.mean, statistics.variance, epsilon=statistics.epsilon, clip=statistics.clip
    )
    return [
        *([Floats()] if dtype == np.uint8 else []),
        *([nn.Flatten()] if len(shape) != 1 else []),
        layer,
        *([Reshape(shape)] if images else []),
    ]


def _check_features(
    saved: Sb3Zip, env: EnvSpec, extractor: list[nn.Module], first: nn.Module
) -> None:
    assert isinstance(first, nn.Linear)
    shape, dtype, _ = env.spaces
    blank = torch.zeros((1, *shape), dtype=torch.uint8 if dtype == np.uint8 else torch.float32)
    with torch.no_grad():
        given = nn.Sequential(*extractor)(blank).shape[1]
    if first.in_features != given:
        raise saved.error(
            f"the policy takes {first.in_features} features; the observations of environment"
            f" {str(env)!r} give {given}"
        )


def _short(values: "np.typing.NDArray[np.floating]") -> str:
    return np.array2string(np.asarray(values), precision=4, threshold=8, separator=", ")
