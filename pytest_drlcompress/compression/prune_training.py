"""Structured pruning with training (``l2@30:train=distill``): sparse training, pruning, repair.

Group-norm sparse training (Fang et al. 2023, section 3.3; Lu et al., section 2.2) first pushes
the weights of the least important channels towards zero while the network goes on giving its
actions: R(g, k) = sum_k gamma_k I_{g,k} with I_{g,k} = sum ||w[k]||^2 and
gamma_k = 2^(alpha (I_max - I_k) / (I_max - I_min)), alpha = 4. What is left after pruning then
learns the original's actions. Both parts learn by distillation, on observations of the
original's own rollouts; no reward and no environment is needed.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.compression.distill import distill
from pytest_drlcompress.compression.structured import Plan, make_pruner, prune, traced_outputs
from pytest_drlcompress.errors import RecipeError
from pytest_drlcompress.policies.network import Argmax
from pytest_drlcompress.progress import step_counter

_BATCH = 256
_RATE = 3e-4
_REGULARIZATION = 1e-3
_NOISE = 0.1
_RAW = 0.05
"""Weight of errors before squashing, whose gradient does not vanish where actions saturate."""


def prune_with_training(
    network: nn.Module, rollouts: NDArray[Any], *, p: int, plan: Plan, steps: int
) -> tuple[nn.Module, dict[str, Any]]:
    """``network`` trained, pruned to ``plan`` and trained again, and what the training reports.

    ``rollouts`` ``(count, *observation_shape)``. Half of ``steps`` are sparse training. The same
    arguments give the same weights.

    Raises:
        RecipeError: the network has no differentiable output, or training diverged.
    """
    with _one_thread():
        observations = _disturbed(rollouts)
        teacher = _Raw(copy.deepcopy(network).eval())
        with torch.no_grad():
            targets = teacher(observations)
        loss = _loss(teacher.squash, targets)
        pruner = make_pruner(
            partial(tp.pruner.GroupNormPruner, reg=_REGULARIZATION, alpha=4),
            network, observations[:2], p=p, plan=plan,
        )  # fmt: skip
        sparse = steps // 2
        _train_sparse(_Raw(network), pruner, loss, observations, targets, steps=sparse)
        prune(network, observations[:2], p=p, plan=plan, pruner=pruner)
        # pruning has made new parameters: whatever held the old ones is of no use
        student = _Raw(network)
        repaired = distill(
            student,
            loss,
            [{"params": list(network.parameters()), "lr": _RATE}],
            observations,
            targets,
            steps=steps - sparse,
            batch=_BATCH,
            title="distillation after pruning",
        )
    if not np.isfinite(repaired.after):
        raise RecipeError("training after pruning diverged; leave train=distill out")
    return network, {
        "sparse_steps": sparse,
        "distillation_steps": repaired.steps,
        "held_out_loss_pruned": repaired.before,
        "held_out_loss": repaired.after,
    }


class _Raw(nn.Module):
    """A network up to its last linear layer; ``squash`` is what comes after it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.cut = 0
        if isinstance(network, nn.Sequential):
            layers = (nn.Linear, nn.Conv2d)
            self.cut = max(i for i, layer in enumerate(network) if isinstance(layer, layers)) + 1

    def forward(self, observations: Tensor) -> Tensor:
        if self.cut:
            return self.network[: self.cut](observations)  # type: ignore[index,no-any-return]
        if not torch.is_grad_enabled():
            return traced_outputs(self.network, observations)[0].detach()
        return traced_outputs(self.network, observations)[0]

    def squash(self, raw: Tensor) -> Tensor:
        """The action; values to choose among stay as they are."""
        rest = self.network[self.cut :] if self.cut else []  # type: ignore[index]
        for layer in rest:
            if not isinstance(layer, Argmax):
                raw = layer(raw)
        return raw


def _loss(
    squash: Callable[[Tensor], Tensor], targets: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """Squared error of actions, and a little of what they are made from, in units of spread."""
    with torch.no_grad():
        spread = squash(targets).std(0).clamp_min(1e-6)
        raw_spread = targets.std(0).clamp_min(1e-6)

    def loss(actual: Tensor, wanted: Tensor) -> Tensor:
        actions = ((squash(actual) - squash(wanted)) / spread).square().mean()
        return actions + _RAW * ((actual - wanted) / raw_spread).square().mean()

    return loss


def _train_sparse(
    student: nn.Module,
    pruner: Any,
    loss: Callable[[Tensor, Tensor], Tensor],
    observations: Tensor,
    targets: Tensor,
    *,
    steps: int,
) -> None:
    optimizer = torch.optim.Adam(student.parameters(), _RATE)
    generator = torch.Generator().manual_seed(1)
    pruner.update_regularizer()
    with step_counter("sparse training", steps) as on_steps:
        for _ in range(steps):
            rows = torch.randint(len(observations), (_BATCH,), generator=generator)
            optimizer.zero_grad()
            loss(student(observations[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]
            pruner.regularize(student)
            optimizer.step()
            on_steps(1)


def _disturbed(rollouts: NDArray[Any]) -> Tensor:
    """Rollouts in random order; half of them with noise, since the pruned policy strays."""
    random = np.random.default_rng(0)
    shuffled = rollouts[random.permutation(len(rollouts))]
    if shuffled.dtype.kind == "f":
        half = len(shuffled) // 2
        noise = random.standard_normal(shuffled[:half].shape) * shuffled.std(0) * _NOISE
        shuffled[:half] += noise.astype(shuffled.dtype)
        shuffled = shuffled[random.permutation(len(shuffled))]
    return torch.from_numpy(shuffled)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The order of sums depends on the number of threads, and so would the artifact."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
