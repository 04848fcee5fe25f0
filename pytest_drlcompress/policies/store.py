"""The safe on-disk format: ``policy.safetensors`` (weights; architecture in its metadata)
beside ``baseline.json`` (what the policy is). No pickle, no critic, no optimizer.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pytest_drlcompress.core.errors import BaselineError, PolicyError
from pytest_drlcompress.core.files import settled, sha256_of, write_atomic
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.network import Layer, build, describe
from pytest_drlcompress.policies.policy import Policy, check_network
from pytest_drlcompress.policies.record_file import RECORD, read_record
from pytest_drlcompress.reading.typed import ContentError, decode_json

WEIGHTS = "policy.safetensors"
FORMAT = "pytest-drlcompress policy 1"


def save_network(folder: Path, network: nn.Module) -> str:
    """Write ``network`` to ``folder`` and return the SHA-256 of the file; errors as below."""
    content = network_bytes(network)
    write_atomic(folder / WEIGHTS, content)
    return hashlib.sha256(content).hexdigest()


def network_bytes(network: nn.Module) -> bytes:
    """``network`` as a file in the safe format; equal weights give equal bytes.

    Raises:
        PolicyError: the network is not a ``Sequential`` of known layers.
    """
    if not isinstance(network, nn.Sequential):
        raise PolicyError(
            "only a torch.nn.Sequential of known layers can be stored; keep this policy as"
            " module:attribute or export it to ONNX"
        )
    metadata = {"format": FORMAT, "architecture": json.dumps(describe(network))}
    tensors = {name: _compact(tensor) for name, tensor in network.state_dict().items()}
    return _canonical(save(tensors, metadata))


def load_policy(folder: Path) -> Policy:
    """Read a policy in the safe format and check it against its record and environment.

    Raises:
        BaselineError: a missing or damaged file, or weights whose hash is not the recorded one.
        PolicyError: a network that does not fit the environment.
    """
    record = read_record(folder)
    network = load_network(folder, record["sha256"])
    env = EnvSpec.parse(record["environment"])
    check_network(folder.name, env, network)
    return Policy(
        id=folder.name,
        env=env,
        source=network,
        algorithm=record.get("algorithm", ""),
        origin=str(folder),
    )


def load_network(folder: Path, expected_sha256: str | None = None) -> nn.Sequential:
    """The network stored in ``folder``, in evaluation mode.

    Raises:
        BaselineError: a missing or damaged file, or one with another hash than expected.
    """
    path = folder / WEIGHTS
    if expected_sha256 is not None:
        path = settled(path, lambda file: sha256_of(file) == expected_sha256)
    if not path.is_file():
        raise BaselineError(f"{folder} has no {WEIGHTS}")
    if expected_sha256 is not None and sha256_of(path) != expected_sha256:
        raise BaselineError(
            f"{path} is not the file that {RECORD} describes (its SHA-256 is"
            f" {sha256_of(path)[:12]}..., recorded {expected_sha256[:12]}...): restore it, or train"
            " or import the policy again"
        )
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        architecture = decode_json(metadata["architecture"].encode(), list[dict[str, Any]])
        _check_sizes(architecture, tensors)
        network = build(architecture)
        network.load_state_dict(tensors)
    except KeyError as error:
        raise BaselineError(f"{path} cannot be read: its metadata lacks {error}") from None
    except (SafetensorError, ContentError, OSError, RuntimeError, PolicyError) as error:
        raise BaselineError(f"{path} cannot be read: {_one_line(error)}") from None
    return network.eval().requires_grad_(requires_grad=True)


def _check_sizes(architecture: Sequence[Layer], tensors: Mapping[str, Tensor]) -> None:
    """Hold the described network to the tensors at hand before it takes memory.

    Raises:
        PolicyError: unknown layers or arguments, a tensor too many, too few or of another shape
            or kind.
    """
    with torch.device("meta"):
        described = build(architecture).state_dict()
    if odd := sorted(described.keys() ^ tensors.keys()):
        raise PolicyError(f"its layers and tensors do not belong together: {odd[0]!r}")
    for name, tensor in tensors.items():
        if tensor.shape != described[name].shape:
            raise PolicyError(
                f"tensor {name!r} has shape {tuple(tensor.shape)}, its layer"
                f" {tuple(described[name].shape)}"
            )
        if not tensor.is_floating_point():
            raise PolicyError(f"tensor {name!r} is of type {tensor.dtype}, not of floats")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _compact(tensor: Tensor) -> Tensor:
    """Weights that bfloat16 holds exactly (of a network trained in it) in half the bytes."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.float32 and tensor.ndim > 1:
        half = tensor.to(torch.bfloat16)
        if torch.equal(half.to(torch.float32), tensor):
            return half
    return tensor


def _canonical(content: bytes) -> bytes:
    """A safetensors file with its header in order: ``save`` writes the metadata in random order.

    Without this, equal weights would not have equal hashes. (The format: the header's length in
    8 bytes, the header as JSON padded with spaces to a multiple of 8, the data.)
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]
