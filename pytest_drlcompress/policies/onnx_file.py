"""An ONNX file, from any toolchain, as a policy."""

from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data

from pytest_drlcompress.core.errors import ArtifactError, PolicyError
from pytest_drlcompress.environments.recorded import Recording, recorded_spec
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.factory import make_runtime


def load_onnx(
    path: Path, env: EnvSpec | None, policy_id: str = "", recording: Recording | None = None
) -> Policy:
    """The policy in the ONNX file at ``path``, acting in ``env``.

    Without ``env`` the spaces are those of the file, whose inputs ``recording`` then holds.

    One input ``(batch, *observation_shape)`` and one output ``(batch, *action_shape)`` that
    lies in the action space (integers ``(batch,)`` for discrete actions). Weights kept in
    files beside it are taken in. An empty ``policy_id`` becomes the file's stem.

    Raises:
        PolicyError: a file that cannot be read, does not fit ``env``, or leaves the action
            space on a zero observation.
        EnvironmentSpecError: the environment cannot be made.
    """
    model = _read(path)
    if env is None:
        assert recording is not None
        env = _recorded_spec(str(path), model, recording)
    check_model(str(path), env, model)
    return Policy(
        id=policy_id or path.stem.lower(),
        env=env,
        source=model,
        origin=str(path),
        provenance={"file": path.name},
    )


def _recorded_spec(where: str, model: bytes, recording: Recording) -> EnvSpec:
    try:
        controller = make_runtime().load(model)
    except ArtifactError as error:
        raise PolicyError(f"{where}: {error}") from None
    shape, dtype = controller.observation_shape, controller.observation_dtype
    actions = controller.act(recording.rows(shape, dtype)[:2])
    return recorded_spec(shape, dtype, actions)


def check_model(where: str, env: EnvSpec, model: bytes) -> None:
    """Run an ONNX model on a zero observation of ``env`` and check shapes and range.

    Raises:
        PolicyError: it cannot be loaded, does not fit, or leaves the action space; names ``where``.
    """
    shape, _, action = env.spaces
    try:
        controller = make_runtime().load(model)
    except ArtifactError as error:
        raise PolicyError(f"{where}: {error}") from None
    if controller.observation_shape != shape:
        raise PolicyError(
            f"{where}: takes observations of shape {controller.observation_shape}; environment"
            f" {str(env)!r} gives {shape}"
        )
    actions = controller.act(np.zeros((1, *shape), controller.observation_dtype))
    if actions.shape[1:] != action.shape or (action.discrete and actions.dtype.kind not in "iu"):
        hint = "; end it with ArgMax over the actions" if action.discrete else ""
        raise PolicyError(
            f"{where}: one observation gives {actions.dtype} of shape {actions.shape}; the action"
            f" space of {str(env)!r} is {action.describe()}{hint}"
        )
    if not action.contains(actions):
        raise PolicyError(
            f"{where}: leaves the action space {action.describe()}: a zero observation gives"
            f" {actions[0].tolist()}; build squashing or clipping into the model"
        )


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise PolicyError(f"{path}: no such file")
    raw = path.read_bytes()
    try:
        model = onnx.load_model_from_string(raw)
    except Exception:  # protobuf's DecodeError, which has no typed import
        raise PolicyError(f"{path}: not an ONNX file, or truncated") from None
    if not model.graph.node:
        raise PolicyError(f"{path}: not an ONNX file, or one with an empty graph")
    if not any(uses_external_data(tensor) for tensor in model.graph.initializer):
        return raw
    try:
        whole = onnx.load(path)
        return bytes(whole.SerializeToString())
    except Exception as error:  # onnx raises its own classes, protobuf another above 2 GiB
        text = " ".join(str(error).split())
        raise PolicyError(f"{path}: its weights beside it cannot be read: {text}") from None
