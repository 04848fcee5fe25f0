"""A ``torch.export`` file as a policy: converted to ONNX, which is what is deployed and measured.

torch's reader unpickles what such a file asks it to, and evaluates expressions in it. So it is read
only where the user trusts the file.
"""

from pathlib import Path

import torch

from pytest_drlcompress.core.errors import PolicyError, UntrustedPickleError
from pytest_drlcompress.environments.recorded import Recording
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.onnx_graph.export import decomposed, export_exported
from pytest_drlcompress.policies.onnx_file import policy_from_model
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.policy import Policy


def load_torch_export(
    path: Path,
    env: EnvSpec | None,
    recording: Recording | None,
    interface: Interface,
    *,
    trust: bool,
) -> Policy:
    """The policy in the file at ``path``, which ``torch.export.save`` wrote.

    Its inputs have the names of the arguments that were exported, its outputs are ``action``, or
    ``output_0``, ... where there are several; all are treated as those of an ONNX file.

    Raises:
        UntrustedPickleError: ``trust`` is ``False``; nothing has been read.
        PolicyError: not such a file, or it cannot be converted, or does not fit ``env``.
        EnvironmentSpecError: the environment cannot be made.
    """
    if not trust:
        raise UntrustedPickleError(
            f"{path}: torch's reader of torch.export files can run code that is in them: say"
            " --drlc-trust if you know where this one comes from, or give it as ONNX"
        )
    try:
        program = torch.export.load(path)
    except Exception as error:  # torch raises whatever its readers meet
        text = " ".join(str(error).split())[:300]
        raise PolicyError(f"{path}: not a torch.export file: {text}") from None
    count = len(program.graph_signature.user_outputs)
    names = ["action"] if count == 1 else [f"output_{position}" for position in range(count)]
    try:
        model = export_exported(decomposed(program), outputs=names)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None
    return policy_from_model(path, model, env, recording=recording, interface=interface)
