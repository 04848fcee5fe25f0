"""A torch module named by ``module:attribute`` as a policy."""

import importlib
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.core.imports import current_directory_importable
from pytest_drlcompress.environments.recorded import Recording, recorded_spec
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.part_layers import FromParts
from pytest_drlcompress.policies.policy import Policy, check_network


def load_torch(
    text: str, env: EnvSpec | None, policy_id: str = "", recording: Recording | None = None
) -> Policy:
    """The policy that ``"module:attribute"`` names, acting in ``env``.

    The attribute is a ``torch.nn.Module``, or is called without arguments to get one. The
    module is imported, with the current directory on ``sys.path``: it is the user's code.
    Where ``env`` gives Dict or Tuple observations, it gets tensors in the same form. An empty
    ``policy_id`` becomes the attribute's name. Without ``env`` the module takes the
    observations of ``recording``.

    Raises:
        PolicyError: the import or the call fails, what comes of it is not a module, or it
            does not fit ``env``.
        EnvironmentSpecError: the environment cannot be made.
    """
    module_name, _, attribute = text.partition(":")
    with current_directory_importable():
        found = _resolve(text, module_name, attribute)
        if not isinstance(found, nn.Module):
            found = _call(text, found)
    identity = policy_id or attribute.rpartition(".")[2].lower().replace("_", "-")
    network = found.cpu().eval()
    if env is None:
        assert recording is not None
        env = spec_by_acting(text, network, recording)
    if env.parts:
        network = FromParts(network, env.parts).eval()
    check_network(identity, env, network)
    return Policy(id=identity, env=env, source=network, origin=text)


def spec_by_acting(text: str, network: nn.Module, recording: Recording) -> EnvSpec:
    """The spaces of ``network`` as its actions on the first observations of ``recording`` show.

    Raises:
        PolicyError: it fails on them.
    """
    rows = recording.rows(None, np.dtype(np.float32))
    try:
        with torch.no_grad():
            actions = network(torch.from_numpy(rows[:2])).numpy()
    except (Exception, SystemExit) as error:  # user code
        raise PolicyError(
            f"policy {text!r} fails on recorded observations of shape {rows.shape[1:]}: {error!r}"
        ) from error
    return recorded_spec(rows.shape[1:], rows.dtype, actions)


def _resolve(text: str, module_name: str, attribute: str) -> Any:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise PolicyError(
            f"policy {text!r}: {error}; it must be importable from the current directory or be"
            " installed"
        ) from error
    except (Exception, SystemExit) as error:  # user code
        raise PolicyError(f"policy {text!r}: importing {module_name!r} fails: {error!r}") from error
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise PolicyError(f"policy {text!r}: {error}") from None


def _call(text: str, factory: Any) -> nn.Module:
    wanted = "a torch.nn.Module, or something that returns one when called without arguments"
    if not callable(factory):
        raise PolicyError(f"policy {text!r} is a {type(factory).__name__}, not {wanted}")
    try:
        made = factory()
    except (Exception, SystemExit) as error:  # user code
        raise PolicyError(f"policy {text!r}: calling it fails: {error!r}") from error
    if not isinstance(made, nn.Module):
        raise PolicyError(f"policy {text!r} returned a {type(made).__name__}, not {wanted}")
    return made
