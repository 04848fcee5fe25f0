"""Writes what this example needs: a policy, and a recorded flight."""

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
policy = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 4), nn.Tanh()).eval()
torch.onnx.export(
    policy,
    (torch.zeros(2, 12),),
    "policy.onnx",
    input_names=["observation"],
    output_names=["motors"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
    external_data=False,
)
steps = np.random.default_rng(0).normal(0, 0.05, (2000, 12))
np.savez("flight.npz", observations=np.cumsum(steps, axis=0), time=np.arange(2000) / 100)
