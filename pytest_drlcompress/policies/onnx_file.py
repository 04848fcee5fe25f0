"""An ONNX file, from any toolchain, as a policy."""

from pathlib import Path

import numpy as np

from pytest_drlcompress.core.errors import ArtifactError, PolicyError
from pytest_drlcompress.environments.recorded import Recording, recorded_spec
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.onnx_graph.choices import count_choices
from pytest_drlcompress.policies.image_advice import image_advice
from pytest_drlcompress.policies.onnx_interface import Adapted, Interface
from pytest_drlcompress.policies.onnx_read import read_onnx
from pytest_drlcompress.policies.onnx_watch import adapt_watched
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.factory import make_runtime

DEFAULT = Interface()
"""Nothing was said of inputs and outputs."""


def load_onnx(
    path: Path,
    env: EnvSpec | None,
    policy_id: str = "",
    recording: Recording | None = None,
    interface: Interface = DEFAULT,
) -> Policy:
    """The policy in the ONNX file at ``path``, acting in ``env``.

    Its observation is ``(batch, *observation_shape)`` and its action ``(batch, *action_shape)``,
    inside the action space (integers ``(batch,)`` for discrete actions); other inputs and outputs
    as ``onnx_interface`` says. Weights kept in files beside it are taken in. An empty
    ``policy_id`` becomes the file's stem. Without ``env`` the spaces are those of the file, whose
    inputs ``recording`` then holds.

    Raises:
        PolicyError: a file that cannot be read, does not fit ``env``, or leaves the action
            space on a zero observation.
        EnvironmentSpecError: the environment cannot be made.
    """
    return policy_from_model(
        path, read_onnx(path), env, policy_id, recording=recording, interface=interface
    )


def policy_from_model(
    path: Path,
    model: bytes,
    env: EnvSpec | None,
    policy_id: str = "",
    *,
    recording: Recording | None,
    interface: Interface,
) -> Policy:
    """``load_onnx`` of a ``model`` that was read from ``path``."""
    try:
        adapted = adapt_to(model, env, interface)
        if env is None:
            assert recording is not None
            env = _recorded_spec(adapted.model, recording)
    except ArtifactError as error:
        raise PolicyError(f"{path}: {error}") from None
    check_model(str(path), env, adapted.model)
    return Policy(
        id=policy_id or path.stem.lower(),
        env=env,
        source=adapted.model,
        origin=str(path),
        provenance={"file": path.name, "interface": list(adapted.notes)},
    )


def read_variant(path: Path, env: EnvSpec, interface: Interface) -> Adapted:
    """The compressed policy in the ONNX file at ``path``, for ``env``.

    Raises:
        ArtifactError: it cannot be read or run, or what its inputs and outputs are is not clear.
    """
    try:
        raw = read_onnx(path)
    except PolicyError as error:
        raise ArtifactError(str(error)) from None
    return adapt_to(raw, env, interface)


def adapt_to(raw: bytes, env: EnvSpec | None, interface: Interface) -> Adapted:
    """``adapt_watched`` to the spaces of ``env``."""
    if env is None:
        return adapt_watched(raw, interface)
    shape, _, action = env.spaces
    return adapt_watched(
        raw, interface, shape, action.shape, discrete=action.discrete, parts=env.parts
    )


def _recorded_spec(model: bytes, recording: Recording) -> EnvSpec:
    controller = make_runtime().load(model)
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
            f" {str(env)!r} gives {shape}{image_advice(env, controller.observation_shape)}"
        )
    actions = controller.act(np.zeros((1, *shape), controller.observation_dtype))
    if actions.shape[1:] != action.shape or (action.discrete and actions.dtype.kind not in "iu"):
        hint = "; end it with ArgMax over the actions" if action.discrete else ""
        raise PolicyError(
            f"{where}: one observation gives {actions.dtype} of shape {actions.shape}; the action"
            f" space of {str(env)!r} is {action.describe()}{hint}"
        )
    choices = count_choices(model) if action.discrete else None
    if choices not in (None, action.n):
        raise PolicyError(
            f"{where}: chooses among {choices} actions; environment {str(env)!r} has {action.n}"
        )
    if not action.contains(actions):
        raise PolicyError(
            f"{where}: leaves the action space {action.describe()}: a zero observation gives"
            f" {actions[0].tolist()}; {action.cause_outside(actions)}"
        )
