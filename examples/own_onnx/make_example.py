"""Writes what stands for your trained policy: an ONNX file with a value beside the action."""

import torch
from torch import nn

torch.manual_seed(0)


class Actor(nn.Module):
    """Fitted to a controller that you would have trained."""

    def __init__(self):
        """Two hidden layers and two heads."""
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.mean, self.value = nn.Linear(32, 1), nn.Linear(32, 1)

    def forward(self, observation):
        """Action and value."""
        latent = self.body(observation)
        return torch.tanh(self.mean(latent)), self.value(latent)


actor = Actor()
optimizer = torch.optim.Adam(actor.parameters(), 0.01)
for _ in range(300):
    seen = torch.randn(256, 2) * 1.5
    wanted = torch.tanh(-1.5 * seen[:, :1] - 2.0 * seen[:, 1:])
    loss = nn.functional.mse_loss(actor(seen)[0], wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.onnx.export(
    actor.eval(),
    (torch.zeros(2, 2),),
    "policy.onnx",
    input_names=["obs"],
    output_names=["action", "value"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
    external_data=False,
)
