"""Running a network for torch-pruning: what of it is traced, and what it has and costs."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pytest_drlcompress.core.errors import RecipeError

UNTRACEABLE = "torch-pruning cannot trace this network: "
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)  # noqa: SLF001 (torch has no public base class)


def traced_outputs(network: nn.Module, observation: Tensor) -> list[Tensor]:
    """The outputs that gradients reach: the action, or what went into ``argmax``."""
    with torch.enable_grad(), _BeforeArgmax() as seen:
        output = network(observation)
    outputs = [output] if isinstance(output, Tensor) else list(output)
    return [tensor for tensor in (*outputs, *seen.inputs) if tensor.requires_grad]


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers; buffers such as normalisation statistics are not among them."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, observation: Tensor) -> int:
    """Multiplications of linear and convolutional layers for one observation."""
    total = 0

    def add(layer: Any, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        fan_in = layer.weight[0].numel()
        total += output[0].numel() * fan_in

    hooks = [m.register_forward_hook(add) for m in network.modules() if is_layer(m)]
    try:
        with torch.no_grad():
            network(observation)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def is_layer(module: nn.Module) -> bool:
    """Fully connected or convolutional."""
    return isinstance(module, _LAYERS)


class _BeforeArgmax(TorchFunctionMode):
    """Remembers what choices are made on: behind ``argmax`` there is no gradient to follow."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.argmax, Tensor.argmax):
            self.inputs.append(args[0])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """torch-pruning traces gradients, warns of harmless things, and fails in any way."""
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            yield
        except RecipeError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise RecipeError(f"{UNTRACEABLE}{type(error).__name__}: {text}") from error
