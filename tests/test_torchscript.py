"""TorchScript and torch.export files against torch itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pytest_drlcompress.core.errors import PolicyError, UntrustedPickleError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.load import load_policy_source
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.runtime.onnxruntime import OnnxController

ROWS = np.random.default_rng(0).normal(0, 1, (200, 3)).astype(np.float32)


class Looping(nn.Module):
    """With a loop, and the action second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.value = nn.Linear(3, 1), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        action = torch.tanh(self.body(x))
        for _ in range(2):
            action = action * 1.1
        return self.value(x), action


def load(path: Path, output: str = "", *, trust: bool = False) -> Policy:
    return load_policy_source(
        str(path),
        env=EnvSpec.parse("Pendulum-v1"),
        trust=trust,
        vecnormalize=None,
        baselines=Path("nowhere"),
        interface=Interface(output),
    )


@pytest.mark.parametrize("kind", ["script", "trace"])
@pytest.mark.filterwarnings("ignore")
def test_actions_equal_torchscript(kind: str, tmp_path: Path) -> None:
    network = Looping().eval()
    made = (
        torch.jit.script(network)
        if kind == "script"
        else torch.jit.trace(network, (torch.zeros(2, 3),))  # type: ignore[no-untyped-call]
    )
    torch.jit.save(made, str(tmp_path / "My.pt"))  # type: ignore[no-untyped-call]
    policy = load(tmp_path / "My.pt")
    assert policy.id == "my"
    assert isinstance(policy.source, bytes)
    with torch.no_grad():
        wanted = made(torch.from_numpy(ROWS))[1].numpy()
    got = OnnxController(policy.source).act(ROWS)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_refusals(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 1), tmp_path / "pickle.pt")
    torch.save(nn.Linear(3, 1).state_dict(), tmp_path / "weights.pt")
    (tmp_path / "text.jit").write_text("hello")
    for name in ("pickle.pt", "weights.pt", "text.jit"):
        with pytest.raises(PolicyError, match=r"not a TorchScript file.*module:attribute"):
            load(tmp_path / name)
    torch.jit.save(torch.jit.script(nn.Linear(5, 1)), str(tmp_path / "five.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(PolicyError, match=r"fails on observations of shape \(3,\)"):
        load(tmp_path / "five.pt")


@pytest.mark.parametrize("fixed", [False, True], ids=["open batch", "batch of one"])
def test_actions_equal_torch_export(fixed: bool, tmp_path: Path) -> None:
    network = Looping().eval()
    shapes = None if fixed else ({0: torch.export.Dim("batch")},)
    example = torch.zeros(1 if fixed else 2, 3)
    program = torch.export.export(network, (example,), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "my.pt2")
    with pytest.raises(UntrustedPickleError, match="can run code that is in them: say --drlc"):
        load(tmp_path / "my.pt2")
    policy = load(tmp_path / "my.pt2", trust=True)
    assert isinstance(policy.source, bytes)
    with torch.no_grad():
        wanted = network(torch.from_numpy(ROWS))[1].numpy()
    np.testing.assert_allclose(OnnxController(policy.source).act(ROWS), wanted, atol=1e-6)
    (tmp_path / "bad.pt2").write_bytes(b"text")
    with pytest.raises(PolicyError, match=r"not a torch\.export file"):
        load(tmp_path / "bad.pt2", trust=True)
