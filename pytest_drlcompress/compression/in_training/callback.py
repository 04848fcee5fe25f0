"""Sparsity and quantization during RL training: a callback for Stable-Baselines3's ``learn``.

Ivanov et al., section 3.3: the actor is pruned by the cubic schedule from 20 % to 80 % of the
steps and trained on to 100 %; then it is trained with quantized weights and activations to 120 %.
A sparsity of 0 quantizes alone, as Lu et al. do. Works with SAC, TD3, DDPG, PPO, TRPO and DQN::

    sparsity = SparseTraining(0.95, total_steps=1_000_000, qat=True)
    model.learn(sparsity.learn_steps, callback=sparsity)
    artifact = export_sparse(model, sparsity, "Hopper-v5")
"""

from collections.abc import Mapping
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import nn

from pytest_drlcompress.compression.pruning.distribution import Distribution
from pytest_drlcompress.compression.pruning.masks import MaskedWeights
from pytest_drlcompress.compression.pruning.schedule import PRUNING_STEPS, CubicSchedule
from pytest_drlcompress.compression.quantization.running_quantizer import RunningQuantizer
from pytest_drlcompress.core.errors import RecipeError

QAT_SHARE = 0.2
"""Steps with fake quantization after ``total_steps``, as a share of them."""


class SparseTraining(BaseCallback):
    """Prunes the actor (DQN: the Q network) while it learns, then quantizes it.

    ``sparsity`` is the final share of zeros, 0 with ``qat`` for quantization alone, and
    ``schedule`` is ``None`` then; ``total_steps`` is what the shares ``start`` and ``end`` refer
    to; ``prunings`` n of the schedule (the paper: 600 for SAC, 300 for DQN).
    ``history`` holds ``[step, scheduled, reached]`` of every pruning. ``state`` (what ``state()``
    returned) goes on where another instance ended, on a model with its weights.

    Raises:
        RecipeError: an impossible schedule or an unknown distribution.
    """

    def __init__(
        self,
        sparsity: float,
        total_steps: int,
        *,
        distribution: Distribution = "erdos-renyi",
        start: float = 0.2,
        end: float = 0.8,
        prunings: int = PRUNING_STEPS,
        qat: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.schedule: CubicSchedule | None = None
        if sparsity or not qat:
            self.schedule = CubicSchedule.over(
                total_steps, sparsity, start=start, end=end, count=prunings
            )
        self.total_steps, self.distribution, self.qat = total_steps, distribution, qat
        given = dict(state or {})
        self.history: list[list[float]] = [list(row) for row in given.get("history", [])]
        self.quantizer: RunningQuantizer | None = None
        self._quantizer_state = given.get("quantizer")
        self._handles: list[Any] = []
        self._masked: MaskedWeights | None = None

    @property
    def learn_steps(self) -> int:
        """What ``learn`` is to be given: ``total_steps``, and a fifth more with QAT."""
        return self.total_steps + (int(QAT_SHARE * self.total_steps) if self.qat else 0)

    @property
    def finished_pruning(self) -> bool:
        """Whether the final sparsity is reached."""
        return (
            self.schedule is None or self.schedule.reached(self.num_timesteps) > self.schedule.count
        )

    @property
    def quantizing(self) -> bool:
        """Whether weights and activations are being quantized, with ranges that were observed."""
        return self.quantizer is not None and self.quantizer.low[0] is not None

    @property
    def finished(self) -> bool:
        """Whether the actor is what was asked for: as sparse, and quantized with ``qat``."""
        return self.finished_pruning and self.quantizing == self.qat

    def scheduled(self, step: int) -> float:
        """The sparsity that the schedule asks for at ``step``."""
        return 0.0 if self.schedule is None else self.schedule.at(step)

    def state(self) -> dict[str, Any]:
        """What another instance needs to go on, as JSON builtins."""
        quantizer = self.quantizer.state() if self.quantizer else self._quantizer_state
        return {"history": self.history, "quantizer": quantizer}

    def _init_callback(self) -> None:
        self._release()
        if self.schedule is not None:
            self._begin_pruning(self.schedule)
        if self.qat and (self.quantizer is not None or self._quantizer_state is not None):
            self._quantize(self._quantizer_state or {})

    def _begin_pruning(self, schedule: CubicSchedule) -> None:
        layers = actor_layers(self.model)
        self._masked = MaskedWeights(
            {name: layer.weight for name, layer in layers.items()}, self.distribution
        )
        self._pruned = schedule.reached(self.model.num_timesteps)
        if self._pruned > 1:
            self._masked.adopt_zeros()
        optimizer = actor_optimizer(self.model)
        masked = self._masked
        self._handles.append(optimizer.register_step_post_hook(lambda *_: masked.apply(optimizer)))
        if not isinstance(self.model, OffPolicyAlgorithm):
            # TRPO moves the weights without its optimizer: no forward pass may see them unmasked
            for layer in layers.values():
                self._handles.append(layer.register_forward_pre_hook(lambda *_: masked.apply()))

    def _on_step(self) -> bool:
        if self.schedule is not None:
            self._prune(self.schedule)
        if self.qat and self.quantizer is None and self.num_timesteps >= self.total_steps:
            self._quantize({})
        return True

    def _prune(self, schedule: CubicSchedule) -> None:
        assert self._masked is not None
        reached = schedule.reached(self.num_timesteps)
        if reached > self._pruned:
            self._pruned = reached
            scheduled = schedule.at(self.num_timesteps)
            self._masked.prune(scheduled)
            self._masked.apply(actor_optimizer(self.model))
            self.history.append([self.num_timesteps, scheduled, self._masked.sparsity])

    def _on_training_end(self) -> None:
        if self._masked is not None:
            self._masked.apply(actor_optimizer(self.model))
        self._release()

    def _quantize(self, state: Mapping[str, Any]) -> None:
        if self.quantizer is None:
            self.quantizer = RunningQuantizer(list(actor_layers(self.model).values()), state)
        self._handles += self.quantizer.attach()

    def _release(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def actor_layers(model: Any) -> dict[str, nn.Linear | nn.Conv2d]:
    """The linear layers between observation and deterministic action, in order, by name.

    Raises:
        RecipeError: an algorithm whose actor is not known.
    """
    policy = model.policy
    parts: list[nn.Module]
    if hasattr(policy, "q_net"):
        parts = [policy.q_net.features_extractor, policy.q_net.q_net]
    elif hasattr(policy, "mlp_extractor"):
        parts = [
            policy.pi_features_extractor, policy.mlp_extractor.policy_net, policy.action_net
        ]  # fmt: skip
    elif hasattr(policy, "actor"):
        # SAC: the log_std head is not deployed; TD3 and DDPG have one sequence, mu
        body = getattr(policy.actor, "latent_pi", nn.Identity())
        parts = [policy.actor.features_extractor, body, policy.actor.mu]
    else:
        raise RecipeError(
            f"sparsity in training knows SAC, TD3, DDPG, PPO, TRPO and DQN, not"
            f" {type(model).__name__}"
        )
    layers: dict[str, nn.Linear | nn.Conv2d] = {}
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                layers[str(len(layers))] = module
    return layers


def actor_optimizer(model: Any) -> torch.optim.Optimizer:
    """The optimizer that moves the actor's weights."""
    actor = getattr(model.policy, "actor", None)
    optimizer: torch.optim.Optimizer = (model.policy if actor is None else actor).optimizer
    return optimizer
