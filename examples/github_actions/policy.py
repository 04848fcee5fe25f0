"""Stands for your committed policy: ``policy:actor`` is what --drlc-policy names."""

import torch
from torch import nn


class Greedy(nn.Module):
    """The choice with the larger score."""

    def forward(self, scores):
        """An integer for each row."""
        return torch.argmax(scores, dim=-1)


def actor():
    """Pushes the cart below the pole: what training finds for CartPole."""
    first, last = nn.Linear(4, 2), nn.Linear(2, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[0.1, 0.3, 1.5, 0.8], [-0.1, -0.3, -1.5, -0.8]]))
        last.weight.copy_(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
        first.bias.zero_()
        last.bias.zero_()
    return nn.Sequential(first, nn.Tanh(), last, Greedy()).eval()
