"""Distillation: a student learns its teacher's actions on the teacher's own observations."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pytest_drlcompress.compression.distillation.loss import are_images
from pytest_drlcompress.core.progress import step_counter

_IMAGE_BATCH = 64
_EVALUATIONS = 20
_HELD_OUT = 2048


def batch_size(observations: Tensor, usual: int = 256) -> int:
    """Observations a training step learns from: fewer images, which say more and cost more."""
    return _IMAGE_BATCH if are_images(observations) else usual


@dataclass(frozen=True)
class DistillationResult:
    """``before`` and ``after`` are mean squared errors on held-out observations."""

    before: float
    after: float
    steps: int
    batch: int
    kept_step: int


def distill(
    student: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    groups: Sequence[dict[str, Any]],
    observations: Tensor,
    targets: Tensor,
    *,
    steps: int,
    batch: int | None = None,
    seed: int = 0,
    masks: Sequence[tuple[Tensor, Tensor]] = (),
    title: str = "distillation",
) -> DistillationResult:
    """Train ``student`` in place by Adam with cosine decay to zero; the best weights are kept.

    ``observations`` ``(count, *shape)`` in random order, of which the last are held out (at most
    2048, at most a fifth); ``targets`` what the teacher makes of them; ``groups`` Adam's
    parameter groups with their learning rates. Each ``(parameter, mask)`` keeps the parameter at
    zero where the mask is. The same seed gives the same weights.
    """
    batch = batch or batch_size(observations)
    held_out = min(_HELD_OUT, len(observations) // 5)
    train, check = slice(0, len(observations) - held_out), slice(len(observations) - held_out, None)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(list(groups))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    inputs, wanted = observations[train], targets[train]

    def evaluate() -> float:
        with torch.no_grad():
            return float(loss(student(observations[check]), targets[check]))

    before = best = evaluate()
    kept, kept_step = _copy(student), 0
    every = max(1, steps // _EVALUATIONS)
    with step_counter(title, steps) as on_steps:
        for step in range(1, steps + 1):
            rows = torch.randint(len(inputs), (min(batch, len(inputs)),), generator=generator)
            optimizer.zero_grad(set_to_none=True)
            loss(student(inputs[rows]), wanted[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for parameter, mask in masks:
                    parameter.mul_(mask)
            if step % every == 0 or step == steps:
                now = evaluate()
                if now < best:
                    best, kept, kept_step = now, _copy(student), step
            on_steps(1)
    student.load_state_dict(kept)
    return DistillationResult(before, best, steps, batch, kept_step)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
