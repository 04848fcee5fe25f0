"""A TorchScript file as a policy: converted to ONNX, which is what is deployed and measured.

``torch.jit.load`` unpickles nothing of Python's; the file's own TorchScript code is run when it
is converted.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.parts import Part
from pytest_drlcompress.environments.recorded import Recording
from pytest_drlcompress.environments.spec import EnvSpec, network_dtype
from pytest_drlcompress.policies.onnx_file import policy_from_model
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.part_layers import torch_type
from pytest_drlcompress.policies.policy import Policy

_OPSET = 18


def load_torchscript(
    path: Path, env: EnvSpec | None, recording: Recording | None, interface: Interface
) -> Policy:
    """The policy in the file at ``path``, which ``torch.jit.save`` wrote.

    Further outputs are treated as those of an ONNX file, and are named ``output_0``, ...

    Raises:
        PolicyError: not a TorchScript file, or it fails on observations, cannot be converted,
            or does not fit ``env``.
        EnvironmentSpecError: the environment cannot be made.
    """
    if env is not None:
        shape, dtype = env.observation_shape, network_dtype(env.spaces[1])
    else:
        assert recording is not None
        dtype = np.dtype(np.float32)
        shape = recording.rows(None, dtype).shape[1:]
    return policy_from_model(
        path,
        _converted(path, shape, dtype, () if env is None else env.parts),
        env,
        recording=recording,
        interface=interface,
    )


def _converted(
    path: Path, shape: tuple[int, ...], dtype: "np.dtype[np.generic]", parts: Sequence[Part]
) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have everybody use torch.export
        try:
            module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except Exception as error:  # torch raises whatever its readers meet
            raise PolicyError(
                f"{path}: not a TorchScript file ({_first_line(error)}). A file of torch.save holds"
                " weights or a pickle: name the network as module:attribute, or write it with"
                " torch.jit.save"
            ) from None
        names = ["observation"]
        examples = [torch.from_numpy(np.zeros((2, *shape), dtype))]
        if parts:
            names, examples = _arguments(path, module, parts)
        try:
            with torch.no_grad():
                made = module(*examples)
            outputs = [made] if isinstance(made, torch.Tensor) else list(made)
            results = (
                ["action"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
            )
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "model.onnx"
                torch.onnx.export(
                    module, tuple(examples), target, dynamo=False, opset_version=_OPSET,
                    input_names=names, output_names=results,
                    dynamic_axes={name: {0: "batch"} for name in (*names, *results)},
                )  # fmt: skip
                return target.read_bytes()
        except Exception as error:  # the file's own code, or the exporter
            raise PolicyError(
                f"{path}: fails on observations of shape {shape}, or cannot be converted to ONNX:"
                f" {_first_line(error)}"
            ) from None


def _arguments(
    path: Path, module: torch.nn.Module, parts: Sequence[Part]
) -> tuple[list[str], list[torch.Tensor]]:
    """Names and examples of the parts, each of which is an argument of the file's ``forward``."""
    schema: Any = module.forward
    given = [argument.name for argument in schema.schema.arguments][1:]
    observed = {part.name or "observation": part for part in parts}
    if len(given) != len(parts):
        raise PolicyError(
            f"{path}: takes {len(given)} arguments, the environment observes"
            f" {', '.join(observed)}: give forward one tensor for each, or name the network as"
            " module:attribute, which gets them as the environment gives them"
        )
    ordered = [observed[name] for name in given] if set(given) == set(observed) else list(parts)
    names = [f"part_{part.name}" for part in ordered]
    return names, [torch.zeros((2, *part.shape), dtype=torch_type(part)) for part in ordered]


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__
