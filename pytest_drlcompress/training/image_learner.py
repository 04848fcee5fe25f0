"""What learners of image policies share: environments, network, optimizer, checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.environments.atari.vector import make_vector
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.training.hardware import CPU, Hardware
from pytest_drlcompress.training.image_networks import IMAGE_NETWORKS, make_image_network
from pytest_drlcompress.training.recipes import TrainingRecipe

if TYPE_CHECKING:
    from ale_py import AtariVectorEnv

Settings = TypeVar("Settings")


class ImageLearner:
    """A network of Q values in training, at ``steps`` environment steps.

    ``source`` is the folder of a checkpoint to go on from; on ``hardware`` networks and rollouts
    lie and emulators run.

    Raises:
        TrainingError: an environment that is no Atari game, or no such network.
    """

    checkpoint: ClassVar[str]
    """Name of the file that holds network and optimizer."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        rate: float,
        steps: int,
        seed: int,
        source: Path | None,
        *,
        hardware: Hardware = CPU,
    ) -> None:
        self.steps = steps
        self._hardware, self._device = hardware, torch.device(hardware.device)
        self._spec, self._seed, self._slots = EnvSpec.parse(recipe.environment), seed, recipe.n_envs
        atari = self._spec.atari
        if atari is None or atari.preprocessing != "gymnasium":
            raise TrainingError(
                f"{recipe.id}: {recipe.algorithm} trains on Atari with preprocessing=gymnasium"
            )
        if recipe.network not in IMAGE_NETWORKS:
            raise TrainingError(
                f"{recipe.id}: network {recipe.network!r} is not one of {', '.join(IMAGE_NETWORKS)}"
            )
        self._atari = atari
        torch.manual_seed(seed)
        self._actions = self._spec.action.n
        self.network = make_image_network(recipe.network, atari.stack, self._actions)
        stored: Mapping[str, Any] | None = None
        if source is not None:
            stored = torch.load(source / self.checkpoint, self._device, weights_only=True)
            self.network.load_state_dict(stored["network"])
        lay_out(self.network, self._device)
        self._optimizer = torch.optim.Adam(self.network.parameters(), rate, eps=1e-5, fused=True)
        if stored is not None:
            self._optimizer.load_state_dict(stored["optimizer"])

    def save(self, folder: Path) -> None:
        """Write what the next segment starts from into ``folder``."""
        state = {"network": self.network.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save(state, folder / self.checkpoint)

    def learn(self, steps: int, on_steps: Callable[[int], None]) -> None:
        """At least ``steps`` more environment steps, in whole rollouts, on fresh episodes."""
        raise NotImplementedError

    def _environments(self, *, life_loss_info: bool) -> "AtariVectorEnv":
        return make_vector(
            self._spec.id,
            self._atari,
            self._slots,
            autoreset="SameStep",
            life_loss_info=life_loss_info,
            threads=self._hardware.cores,
        )

    def _descend(self, loss: Tensor, max_norm: float) -> None:
        """One step of the optimizer."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), max_norm, foreach=True)
        self._optimizer.step()


def settings_of(kind: type[Settings], recipe: TrainingRecipe) -> Settings:
    """The hyperparameters of ``recipe`` as the dataclass ``kind``.

    Raises:
        TrainingError: one that it does not have.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(recipe.hyperparameters) - known)
    if unknown:
        raise TrainingError(
            f"{recipe.id}: {recipe.algorithm} has no hyperparameter {', '.join(unknown)}; known:"
            f" {', '.join(sorted(known))}"
        )
    return kind(**recipe.hyperparameters)


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Move to ``device``, in the memory format in which bfloat16 convolutions are fast."""
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def q_values(network: nn.Sequential, observations: Tensor) -> Tensor:
    """What ``network``, which begins with ``Pixels``, makes of ``uint8`` images, in bfloat16.

    That is twice as fast here; every value of a byte is one of its own.
    """
    images = observations.to(torch.bfloat16).mul_(1 / 255)
    with torch.autocast(observations.device.type, torch.bfloat16):
        values: Tensor = network[1:](images.contiguous(memory_format=torch.channels_last))
    return values.float()
