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
class Normed:
    """What layer normalisation leaves behind: its input, and the rows' means and 1 / deviations."""

    inputs: Tensor
    mean: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Pass:
    """What a forward pass leaves behind: its input, the hidden layers, and the output (float32).

    ``normed`` belongs to the hidden layers, where these are normalised.
    """

    inputs: Tensor
    hidden: tuple[Tensor, ...]
    normed: tuple[Normed, ...]
    output: Tensor


class Mlp:
    """Linear layers with ReLU between them; ``heads`` share the last hidden layer.

    ``dtype`` is that of the hidden layers' products. With ``norms``, one a hidden layer, each is
    normalised before its ReLU.
    """

    def __init__(
        self,
        hidden: Sequence[nn.Linear],
        heads: Sequence[nn.Linear],
        dtype: torch.dtype,
        norms: Sequence[nn.LayerNorm] = (),
    ) -> None:
        self.hidden, self.heads, self.dtype = tuple(hidden), tuple(heads), dtype
        self.norms = tuple(norms)
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
        hidden, normed = [], []
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            value = functional.linear(value, weight, bias)
            if self.norms:
                norm, before = self.norms[index], value.float()
                value, mean, scale = torch.native_layer_norm(
                    before, norm.normalized_shape, norm.weight, norm.bias, norm.eps
                )
                normed.append(Normed(before, mean, scale))
                value = value.to(self.dtype)
            value = value.relu_()
            hidden.append(value)
        last = value.float()
        outputs = [functional.linear(last, head.weight, head.bias) for head in self.heads]
        return Pass(inputs, tuple(hidden), tuple(normed), torch.cat(outputs, 1))

    @torch.no_grad()
    def backward(self, done: Pass, gradient: Tensor) -> None:
        """Write the parameters' gradients; ``gradient`` is the loss's by the output."""
        last = done.hidden[-1].float()
        for head, part in zip(self.heads, self._by_head(gradient), strict=True):
            head.weight.grad, head.bias.grad = part.t() @ last, part.sum(0)
        for index, delta in self._deltas(done, gradient, learn=True):
            below = done.hidden[index - 1] if index else done.inputs
            layer = self.hidden[index]
            layer.weight.grad = (delta.t() @ below).float()
            layer.bias.grad = delta.sum(0, dtype=torch.float32)

    @torch.no_grad()
    def input_gradient(self, done: Pass, gradient: Tensor, first: int) -> Tensor:
        """The loss's gradient by the inputs from ``first`` on; the parameters' stay as they are."""
        *_, (_, delta) = self._deltas(done, gradient)
        return (delta @ self._weights[0][:, first:]).float()

    def _deltas(
        self, done: Pass, gradient: Tensor, *, learn: bool = False
    ) -> Iterator[tuple[int, Tensor]]:
        """The loss's gradient by each hidden layer's linear outputs, from the last to the first.

        With ``learn`` the gradients of normalisations are written.
        """
        delta = self._before_heads(self._by_head(gradient))
        for index in reversed(range(len(self.hidden))):
            delta = torch.ops.aten.threshold_backward(delta, done.hidden[index], 0)
            if self.norms:
                delta = self._through_norm(index, delta.float(), done.normed[index], learn=learn)
            yield index, delta
            if index:
                delta = delta @ self._weights[index]

    def _through_norm(self, index: int, delta: Tensor, normed: Normed, *, learn: bool) -> Tensor:
        norm = self.norms[index]
        by_input, by_weight, by_bias = torch.ops.aten.native_layer_norm_backward(
            delta, normed.inputs, norm.normalized_shape, normed.mean, normed.scale,
            norm.weight, norm.bias, [True, learn, learn],
        )  # fmt: skip
        if learn:
            norm.weight.grad, norm.bias.grad = by_weight, by_bias
        before: Tensor = by_input.to(self.dtype)
        return before

    def _by_head(self, gradient: Tensor) -> tuple[Tensor, ...]:
        return torch.split(gradient, [head.out_features for head in self.heads], 1)

    def _before_heads(self, parts: Sequence[Tensor]) -> Tensor:
        total = parts[0] @ self.heads[0].weight
        for head, part in zip(self.heads[1:], parts[1:], strict=True):
            total.addmm_(part, head.weight)
        return total.to(self.dtype)
