"""A recurrent actor as single steps: observation and states in, action and next states out.

Each cell is written out as linear layers and what joins them (Hochreiter & Schmidhuber 1997, with
the forget gate of Gers et al. 2000, as in ``torch.nn.LSTM``). So its two matrices are linear
layers like all others: they can be quantized statically, which an LSTM operator cannot.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class LstmCell(nn.Module):
    """One layer of ``torch.nn.LSTM``, one step of it, with what its gates get from either side."""

    def __init__(self, input_gates: nn.Linear, hidden_gates: nn.Linear) -> None:
        super().__init__()
        self.width = hidden_gates.in_features
        self.input, self.hidden = input_gates, hidden_gates

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The next ``h`` and ``c`` ``(batch, width)`` after ``x`` ``(batch, inputs)``."""
        gates = self.input(x) + self.hidden(h)
        enter, keep, new, leave = torch.chunk(gates, 4, dim=1)
        c = torch.sigmoid(keep) * c + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(leave) * torch.tanh(c), c


class RecurrentNetwork(nn.Module):
    """``before``, then the cells one upon the other, then ``after``."""

    def __init__(
        self, before: nn.Sequential, cells: Sequence[LstmCell], after: nn.Sequential
    ) -> None:
        super().__init__()
        self.before, self.cells, self.after = before, nn.ModuleList(cells), after

    @property
    def states(self) -> Mapping[str, int]:
        """The widths of the states by name: ``h`` and ``c``, numbered where there are several."""
        number = [""] if len(self.cells) == 1 else [str(i) for i in range(len(self.cells))]
        return {
            f"{kind}{suffix}": cell.width
            for suffix, cell in zip(number, self._cells, strict=True)
            for kind in ("h", "c")
        }

    @property
    def _cells(self) -> list[LstmCell]:
        return [cell for cell in self.cells if isinstance(cell, LstmCell)]

    def forward(self, observation: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The action, then the next states, in the order of ``states``."""
        x, following = self.before(observation), []
        for i, cell in enumerate(self.cells):
            x, c = cell(x, states[2 * i], states[2 * i + 1])
            following += [x, c]
        return self.after(x), *following
