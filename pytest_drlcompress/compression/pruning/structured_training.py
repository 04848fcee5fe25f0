"""Structured pruning with training (``l2@30:train=distill``): sparse training, pruning, repair.

Group-norm sparse training (Fang et al. 2023, section 3.3; Lu et al., section 2.2) first pushes
the weights of the least important channels towards zero while the network goes on giving its
actions: R(g, k) = sum_k gamma_k I_{g,k} with I_{g,k} = sum ||w[k]||^2 and
gamma_k = 2^(alpha (I_max - I_k) / (I_max - I_min)), alpha = 4. What is left after pruning then
learns the original's actions. Both parts learn by distillation, on observations of the
original's own rollouts; no reward and no environment is needed.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn

from pytest_drlcompress.compression.distillation.distill import batch_size, distill
from pytest_drlcompress.compression.distillation.loss import (
    action_loss,
    reproducible_training,
    split,
)
from pytest_drlcompress.compression.pruning.structured import Plan, make_pruner, prune
from pytest_drlcompress.compression.pruning.tracing import traced_outputs
from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.progress import step_counter

_RATE = 3e-4
_REGULARIZATION = 1e-3
_NOISE = 0.1


def prune_with_training(
    network: nn.Module, rollouts: NDArray[Any], *, p: int, plan: Plan, steps: int
) -> tuple[nn.Module, dict[str, Any]]:
    """``network`` trained, pruned to ``plan`` and trained again, and what the training reports.

    ``rollouts`` ``(count, *observation_shape)``. Half of ``steps`` are sparse training. The same
    arguments give the same weights.

    Raises:
        RecipeError: the network has no differentiable output, or training diverged.
    """
    with reproducible_training():
        observations = _disturbed(rollouts)
        teacher, head = _before_squashing(copy.deepcopy(network).eval())
        with torch.no_grad():
            targets = teacher(observations)
        loss = action_loss(head, targets)
        pruner = make_pruner(
            partial(tp.pruner.GroupNormPruner, reg=_REGULARIZATION, alpha=4),
            network, observations[:2], p=p, plan=plan,
        )  # fmt: skip
        sparse = steps // 2
        student, _ = _before_squashing(network)
        _train_sparse(student, pruner, loss, observations, targets, steps=sparse)
        prune(network, observations[:2], p=p, plan=plan, pruner=pruner)
        # pruning has made new parameters: whatever held the old ones is of no use
        repaired = distill(
            student,
            loss,
            [{"params": list(network.parameters()), "lr": _RATE}],
            observations,
            targets,
            steps=steps - sparse,
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


class _Traced(nn.Module):
    """A network of any form up to what gradients reach: its values to choose among, say."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, observations: Tensor) -> Tensor:
        output = traced_outputs(self.network, observations)[0]
        return output if torch.is_grad_enabled() else output.detach()


def _before_squashing(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    if isinstance(network, nn.Sequential):
        return split(network)
    return _Traced(network), nn.Identity()


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
    batch = batch_size(observations)
    pruner.update_regularizer()
    with step_counter("sparse training", steps) as on_steps:
        for _ in range(steps):
            rows = torch.randint(len(observations), (batch,), generator=generator)
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
