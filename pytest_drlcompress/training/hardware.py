"""What a training may use of a machine."""

from dataclasses import dataclass

import torch

from pytest_drlcompress.core.errors import TrainingError


@dataclass(frozen=True)
class Hardware:
    """``device``, torch's, holds networks and rollouts of image policies; ``cores`` step their
    emulators and evaluate every policy.

    On the CPU a training resumed is bit for bit the one never interrupted, whatever ``cores``; CUDA
    promises no such thing.
    """

    device: str = "cpu"
    cores: int = 1

    def check(self) -> None:
        """Use the device once.

        Raises:
            TrainingError: torch does not find such a device here.
        """
        try:
            torch.empty(1, device=self.device)
        except (AssertionError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrainingError(
                f"torch {torch.__version__} cannot use --device {self.device} here: {reason}"
            ) from None

    @property
    def name(self) -> str:
        """The device by its maker's name, for a record."""
        device = torch.device(self.device)
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


CPU = Hardware()
"""One core, no accelerator."""
