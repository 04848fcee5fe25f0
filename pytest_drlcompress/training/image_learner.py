"""What learners of image policies share: environments, network, optimizer, checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.core.precision import fastest_dtype
from pytest_drlcompress.environments.atari.spec import AtariSpec
from pytest_drlcompress.environments.atari.vector import make_vector
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.training.hardware import CPU, Hardware
from pytest_drlcompress.training.hyperparameters import check_values
from pytest_drlcompress.training.image_networks import IMAGE_NETWORKS, make_image_network
from pytest_drlcompress.training.recipes import TrainingRecipe

if TYPE_CHECKING:
    from ale_py import AtariVectorEnv


@dataclass(frozen=True)
class LearnerSettings:
    """The hyperparameters of every learner.

    The learning rate falls linearly over the recipe's steps to ``learning_rate_end``, if there is
    one. ``average`` is the decay, per step of the optimizer, of an exponential moving average of
    the weights (Polyak and Juditsky 1992; as Izmailov et al. 2018 evaluate it) that is the policy
    then; 0: the weights themselves are.
    """

    learning_rate: float = 3e-4
    learning_rate_end: float | None = None
    average: float = 0.0
    max_grad_norm: float = 10.0


Settings = TypeVar("Settings", bound=LearnerSettings)


class ImageLearner:
    """A network of Q values in training, at ``steps`` environment steps.

    ``source`` is the folder of a checkpoint to go on from; on ``hardware`` networks and rollouts
    lie and emulators run.

    Raises:
        TrainingError: an environment that is no Atari game, or no such network.
    """

    checkpoint: ClassVar[str]
    """Name of the file that holds network, optimizer and average."""

    settings: LearnerSettings
    """A subclass sets its own before it calls ``__init__``."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        steps: int,
        seed: int,
        source: Path | None,
        *,
        hardware: Hardware = CPU,
    ) -> None:
        self.steps, self._planned = steps, recipe.steps
        self._hardware, self._device = hardware, torch.device(hardware.device)
        self._seed, self._slots = seed, recipe.n_envs
        self._spec, self._atari = image_specification(recipe)
        torch.manual_seed(seed)
        self._actions = self._spec.action.n
        self.network = make_image_network(recipe.network, self._atari.stack, self._actions)
        stored: Mapping[str, Any] | None = None
        if source is not None:
            stored = torch.load(source / self.checkpoint, self._device, weights_only=True)
            self.network.load_state_dict(stored["network"])
        lay_out(self.network, self._device)
        self._optimizer = torch.optim.Adam(
            self.network.parameters(), self.settings.learning_rate, eps=1e-5, fused=True
        )
        self._average: AveragedModel | None = None
        if self.settings.average:
            by = get_ema_multi_avg_fn(self.settings.average)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(self.network, multi_avg_fn=by)
        if stored is not None:
            self._optimizer.load_state_dict(stored["optimizer"])
            if self._average is not None:
                self._average.load_state_dict(stored["average"])

    @property
    def deployed(self) -> nn.Sequential:
        """The network that is evaluated and kept: the average, where the recipe asks for one."""
        if self._average is None:
            return self.network
        averaged = self._average.module
        assert isinstance(averaged, nn.Sequential)
        return averaged

    def save(self, folder: Path) -> None:
        """Write what the next segment starts from into ``folder``."""
        state = {"network": self.network.state_dict(), "optimizer": self._optimizer.state_dict()}
        if self._average is not None:
            state["average"] = self._average.state_dict()
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

    def _set_rate(self, share: float = 1.0) -> None:
        """Learn at ``share`` of what the schedule says at this step."""
        first, last = self.settings.learning_rate, self.settings.learning_rate_end
        rate = first
        if last is not None:
            rate += (last - first) * min(1.0, self.steps / self._planned)
        self._optimizer.param_groups[0]["lr"] = rate * share

    def _descend(self, loss: Tensor) -> None:
        """One step of the optimizer."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(
            self.network.parameters(), self.settings.max_grad_norm, foreach=True
        )
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.network)


def image_specification(recipe: TrainingRecipe) -> tuple[EnvSpec, AtariSpec]:
    """The game that a recipe trains an image network on.

    Raises:
        TrainingError: an environment that is no Atari game, or no such network.
    """
    spec = EnvSpec.parse(recipe.environment)
    if spec.atari is None or spec.atari.preprocessing != "gymnasium":
        raise TrainingError(
            f"{recipe.id}: {recipe.algorithm} trains on Atari with preprocessing=gymnasium"
        )
    if recipe.network not in IMAGE_NETWORKS:
        raise TrainingError(
            f"{recipe.id}: network {recipe.network!r} is not one of {', '.join(IMAGE_NETWORKS)}"
        )
    return spec, spec.atari


def settings_of(kind: type[Settings], recipe: TrainingRecipe) -> Settings:
    """The hyperparameters of ``recipe`` as the dataclass ``kind``.

    Raises:
        TrainingError: one that it does not have, or an impossible one.
    """
    check_values(recipe, {field.name: field.default for field in fields(kind)})
    settings = kind(**recipe.hyperparameters)
    last = settings.learning_rate_end
    if last is not None and not (type(last) in (int, float) and last >= 0):
        raise TrainingError(
            f"{recipe.id}: hyperparameter learning_rate_end must be a number >= 0, not {last!r}"
        )
    if settings.average >= 1:
        raise TrainingError(
            f"{recipe.id}: hyperparameter average must be below 1, as 0.999 is, not"
            f" {settings.average}"
        )
    return settings


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Move to ``device``, in the memory format in which convolutions are fast."""
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def q_values(network: nn.Sequential, observations: Tensor) -> Tensor:
    """What ``network``, which begins with ``Pixels``, makes of ``uint8`` images.

    In bfloat16 where the device has instructions for it, which is up to twice as fast; every
    value of a byte is one of its own.
    """
    kind = observations.device.type
    dtype = fastest_dtype(kind)
    images = observations.to(dtype).mul_(1 / 255)
    with torch.autocast(kind, dtype, enabled=dtype is torch.bfloat16):
        values: Tensor = network[1:](images.contiguous(memory_format=torch.channels_last))
    return values.float()
