"""Multilayer perceptrons of SB3's actors and critics, with their gradients written out.

An update of SAC or TD3 is some twenty products of small matrices. What surrounds them in PyTorch
(the autograd graph, gradients that nobody uses, single precision) costs more than they do; here
each network is a chain of products and nothing else. Inputs and hidden layers are bfloat16 where
the processor multiplies that in hardware, summed in single precision; output layers, losses,
optimizers and all parameters stay in single precision: rewards add up to values of a thousand,
where bfloat16 counts in steps of four.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Pass:
    """What a forward pass leaves behind: its input, the hidden layers, and the output (float32)."""

    inputs: Tensor
    hidden: tuple[Tensor, ...]
    output: Tensor


class Mlp:
    """Linear layers with ReLU between them; ``heads`` share the last hidden layer.

    ``dtype`` is that of the hidden layers' products.
    """

    def __init__(
        self, hidden: Sequence[nn.Linear], heads: Sequence[nn.Linear], dtype: torch.dtype
    ) -> None:
        self.hidden, self.heads, self.dtype = tuple(hidden), tuple(heads), dtype
        self.refresh()

    def refresh(self) -> None:
        """Take over the parameters after an optimizer changed them."""
        with torch.no_grad():
            self._weights = [layer.weight.to(self.dtype) for layer in self.hidden]
            self._biases = [layer.bias.to(self.dtype) for layer in self.hidden]

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Pass:
        """``inputs`` of shape ``(batch, inputs)``; the output has the heads side by side."""
        value = inputs = inputs.to(self.dtype)
        hidden = []
        for weight, bias in zip(self._weights, self._biases, strict=True):
            value = functional.linear(value, weight, bias).relu_()
            hidden.append(value)
        last = value.float()
        outputs = [functional.linear(last, head.weight, head.bias) for head in self.heads]
        return Pass(inputs, tuple(hidden), torch.cat(outputs, 1))

    @torch.no_grad()
    def backward(self, done: Pass, gradient: Tensor) -> None:
        """Write the parameters' gradients; ``gradient`` is the loss's by the output."""
        last = done.hidden[-1].float()
        for head, part in zip(self.heads, self._by_head(gradient), strict=True):
            head.weight.grad, head.bias.grad = part.t() @ last, part.sum(0)
        for index, delta in self._deltas(done, gradient):
            below = done.hidden[index - 1] if index else done.inputs
            layer = self.hidden[index]
            layer.weight.grad = (delta.t() @ below).float()
            layer.bias.grad = delta.sum(0, dtype=torch.float32)

    @torch.no_grad()
    def input_gradient(self, done: Pass, gradient: Tensor, first: int) -> Tensor:
        """The loss's gradient by the inputs from ``first`` on; the parameters' stay as they are."""
        *_, (_, delta) = self._deltas(done, gradient)
        return (delta @ self._weights[0][:, first:]).float()

    def _deltas(self, done: Pass, gradient: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The loss's gradient before each hidden layer's ReLU, from the last layer to the first."""
        delta = self._before_heads(self._by_head(gradient))
        for index in reversed(range(len(self.hidden))):
            delta = torch.ops.aten.threshold_backward(delta, done.hidden[index], 0)
            yield index, delta
            if index:
                delta = delta @ self._weights[index]

    def _by_head(self, gradient: Tensor) -> tuple[Tensor, ...]:
        return torch.split(gradient, [head.out_features for head in self.heads], 1)

    def _before_heads(self, parts: Sequence[Tensor]) -> Tensor:
        total = parts[0] @ self.heads[0].weight
        for head, part in zip(self.heads[1:], parts[1:], strict=True):
            total.addmm_(part, head.weight)
        return total.to(self.dtype)
