"""A TorchScript file as a policy: converted to ONNX, which is what is deployed and measured.

``torch.jit.load`` unpickles nothing of Python's; the file's own TorchScript code is run when it
is converted.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.recorded import Recording
from pytest_drlcompress.environments.spec import EnvSpec, network_dtype
from pytest_drlcompress.policies.onnx_file import policy_from_model
from pytest_drlcompress.policies.onnx_interface import Interface
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
        path, _converted(path, shape, dtype), env, recording=recording, interface=interface
    )


def _converted(path: Path, shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> bytes:
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
        example = torch.from_numpy(np.zeros((2, *shape), dtype))
        try:
            with torch.no_grad():
                made = module(example)
            outputs = [made] if isinstance(made, torch.Tensor) else list(made)
            names = (
                ["action"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
            )
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "model.onnx"
                torch.onnx.export(
                    module, (example,), target, dynamo=False, opset_version=_OPSET,
                    input_names=["observation"], output_names=names,
                    dynamic_axes={name: {0: "batch"} for name in ("observation", *names)},
                )  # fmt: skip
                return target.read_bytes()
        except Exception as error:  # the file's own code, or the exporter
            raise PolicyError(
                f"{path}: fails on observations of shape {shape}, or cannot be converted to ONNX:"
                f" {_first_line(error)}"
            ) from None


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__
