"""What a network in training is held to: the original's actions, and what they are made from.

Quantization-aware training, training after pruning and every other distillation share the split
of a network before its squashing and the loss; ``distill`` is the loop.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pytest_drlcompress.core.errors import RecipeError
from pytest_drlcompress.core.precision import fastest_dtype
from pytest_drlcompress.policies.network import Argmax, ArgmaxParts, LikelyBits

_BEFORE_SQUASHING = 0.05
"""Weight of the errors before squashing, whose gradient does not vanish where actions saturate."""


class Advantages(nn.Module):
    """Values less their mean over the choices: all that ``Argmax`` looks at.

    ``sizes`` are the numbers of choices of each of several integers; none: there is one.
    """

    def __init__(self, sizes: Sequence[int] = ()) -> None:
        super().__init__()
        self.sizes = list(sizes)

    def forward(self, values: Tensor) -> Tensor:
        """``values`` of shape ``(batch, choices)``, same shape."""
        parts = torch.split(values, self.sizes, dim=-1) if self.sizes else (values,)
        return torch.cat([part - part.mean(dim=-1, keepdim=True) for part in parts], dim=-1)


def split(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The layers up to the last linear one, and what squashes or clips after it.

    In the place of an ``Argmax``, which has no gradient, stands ``Advantages``: a state's value
    may be a hundred times what distinguishes its actions, and must not decide the loss.

    Both parts share their modules with ``network``: training the first trains it. A network that
    is no ``Sequential`` is its own first part.

    Raises:
        RecipeError: there is no linear layer.
    """
    if not isinstance(network, nn.Sequential):
        return network, nn.Identity()
    layers = list(network)
    last = max(
        (i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d)),
        default=None,
    )
    if last is None:
        raise RecipeError("this network has no linear layer that could be trained")
    rest = [_differentiable(layer) for layer in layers[last + 1 :]]
    return nn.Sequential(*layers[: last + 1]), nn.Sequential(*rest)


def _differentiable(layer: nn.Module) -> nn.Module:
    """What stands for ``layer`` in a loss."""
    if isinstance(layer, ArgmaxParts):
        return Advantages(layer.sizes)
    if isinstance(layer, LikelyBits):
        return nn.Sigmoid()
    return Advantages() if isinstance(layer, Argmax) else layer


def action_loss(head: nn.Module, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Squared error of actions, and a little of what they are made from, in units of spread.

    ``targets`` ``(count, *shape)`` is what the original gives before ``head``; the loss takes two
    batches of such values.
    """
    with torch.no_grad():
        spread = head(targets).std(0).clamp_min(1e-6)
        raw_spread = targets.std(0).clamp_min(1e-6)

    def loss(actual: Tensor, wanted: Tensor) -> Tensor:
        squashed = (head(actual) - head(wanted)) / spread
        raw = (actual - wanted) / raw_spread
        return torch.mean(squashed**2) + _BEFORE_SQUASHING * torch.mean(raw**2)

    return loss


def are_images(observations: Tensor) -> bool:
    """Whether a batch of ``observations`` is one of ``uint8`` images."""
    return observations.dtype == torch.uint8 and observations.dim() == 4


def image_layout(network: nn.Module, observations: Tensor) -> nn.Module:
    """``network``, laid out in memory as convolutions are fast where ``observations`` are images.

    A residual network's training step then takes three quarters of the time.
    """
    if are_images(observations):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def image_precision(observations: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Products in bfloat16 where ``observations`` are images and the processor is fast at it.

    Weights, loss and optimizer stay in single precision. Not for fake quantization: bfloat16 does
    not tell 256 steps of a grid apart.
    """
    fast = are_images(observations) and fastest_dtype() == torch.bfloat16
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


@contextlib.contextmanager
def reproducible_training() -> Iterator[None]:
    """One thread, with gradients: the order of sums, and so the artifact, depends on the number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
