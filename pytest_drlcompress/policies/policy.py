"""``Policy``: a trained, deterministic actor with everything the controller needs folded in."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.spec import EnvSpec

if TYPE_CHECKING:
    from torch import nn  # which ONNX files do without


@dataclass(frozen=True, eq=False)
class Policy:
    """An actor from observation ``(batch, *obs_shape)`` to action, always inside the action space.

    ``source`` is a torch network in evaluation mode, or the bytes of an ONNX file.
    ``algorithm`` is ``"sac"``, ``"ppo"``, ...; empty where the file does not tell.
    ``origin`` is where it was read from, for messages.
    """

    id: str
    env: EnvSpec
    source: "nn.Module | bytes"
    algorithm: str = ""
    origin: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> "nn.Module":
        """The torch network.

        Raises:
            PolicyError: the policy is an ONNX file, whose weights torch cannot change.
        """
        if isinstance(self.source, bytes):
            raise PolicyError(
                f"policy {self.id!r} is an ONNX file; what changes the network itself needs the"
                " torch policy (an SB3 zip, a baseline, or module:attribute)"
                if not self.algorithm.startswith("recurrent")
                else f"policy {self.id!r} is recurrent: it can be quantized after training (ptdq,"
                " ptsq), and not trained or pruned"
            )
        return self.source

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the ONNX bytes, or of every tensor's name, dtype, shape, data."""
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        digest = hashlib.sha256(str(self.source).encode())
        for name, tensor in sorted(self.source.state_dict().items()):
            array = tensor.detach().cpu().contiguous().numpy()
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def check_finite(policy_id: str, network: "nn.Module") -> None:
    """Check the weights of ``network``.

    Raises:
        PolicyError: one that is not finite.
    """
    import torch

    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise PolicyError(f"policy {policy_id!r}: weights {name!r} contain NaN or infinity")


def check_network(policy_id: str, env: EnvSpec, network: "nn.Module") -> None:
    """Run ``network`` on two zero observations of ``env`` and check weights, shape and range.

    Raises:
        PolicyError: weights that are not finite, observations or actions that do not fit the
            environment, or an action outside the action space.
    """
    import torch

    check_finite(policy_id, network)
    shape, dtype, action = env.spaces
    observations = torch.zeros((2, *shape), dtype=torch.uint8 if dtype == np.uint8 else None)
    try:
        with torch.no_grad():
            actions = network(observations)
    except (Exception, SystemExit) as error:  # user code may be in it
        text = " ".join(str(error).split())
        raise PolicyError(
            f"policy {policy_id!r} does not fit environment {str(env)!r}, whose observations have"
            f" shape {shape}: {text}"
        ) from None
    if not isinstance(actions, torch.Tensor) or tuple(actions.shape) != (2, *action.shape):
        got = tuple(actions.shape) if isinstance(actions, torch.Tensor) else type(actions).__name__
        raise PolicyError(
            f"policy {policy_id!r} does not fit environment {str(env)!r}: two observations give"
            f" {got}, the action space is {action.describe()}"
        )
    if not action.contains(actions.numpy()):
        raise PolicyError(
            f"policy {policy_id!r} leaves the action space {action.describe()}: a zero observation"
            f" gives {actions[0].tolist()}"
        )
