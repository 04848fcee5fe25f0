"""SAC, TD3 and DDPG of Stable-Baselines3, with updates that take 0.6 to 0.8 of the time.

Losses, order of the updates, random numbers and optimizers are SB3's: in single precision the
same transitions give the same parameters to rounding (a test holds the two together). What
differs is how an update is computed (``fast_networks``). What the written-out gradients do not
cover is left to SB3's own update: another activation than ReLU, state-dependent exploration,
hooks that quantize a layer.

Sources: Haarnoja et al. 2018 (SAC, equations 5 to 8 and the temperature's), Fujimoto et al. 2018
(TD3, algorithm 1), Lillicrap et al. 2015 (DDPG: TD3 with one critic, no delay and no target noise).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
from stable_baselines3 import DDPG, SAC, TD3
from torch import Tensor, nn

from pytest_drlcompress.core.precision import fastest_dtype
from pytest_drlcompress.training.fast_networks import Mlp, Pass

if TYPE_CHECKING:
    from stable_baselines3.common.policies import ContinuousCritic
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

LOG_STD_RANGE = (-20.0, 2.0)
"""Where SB3 clips the logarithm of SAC's deviation."""

SQUASH_EPSILON = 1e-6
"""Keeps SB3's logarithm of the tanh's slope finite."""


class FastSAC(SAC):
    """SAC whose update is written out."""

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Make ``gradient_steps`` updates of ``batch_size`` transitions each."""
        actor = _mlp(self.actor.latent_pi, (self.actor.mu, self.actor.log_std))
        critics, targets = _mlps(self.critic), _mlps(self.critic_target)
        if actor is None or critics is None or targets is None or self.use_sde:
            super().train(gradient_steps, batch_size)
            return
        memory = self.replay_buffer
        assert memory is not None
        self.policy.set_training_mode(True)
        temperature = [] if self.ent_coef_optimizer is None else [self.ent_coef_optimizer]
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer, *temperature])
        for step in range(gradient_steps):
            batch: ReplayBufferSamples = memory.sample(batch_size, env=self._vec_normalize_env)
            acted = _act(actor, batch.observations)
            scale = self._temperature(acted.log_prob)
            after = _act(actor, batch.next_observations)
            value = _least(targets, batch.next_observations, after.actions)
            target = _target(batch, value - scale * after.log_prob, self.gamma)
            _descend(self.critic, critics, batch, target, weight=1.0)
            self._improve(actor, critics, batch, acted, scale)
            if step % self.target_update_interval == 0:
                _follow(self.critic, self.critic_target, targets, self.tau)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _temperature(self, log_prob: Tensor) -> float:
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return float(self.ent_coef_tensor)
        before = float(self.log_ent_coef.detach().exp())
        assert isinstance(self.target_entropy, float)
        self.log_ent_coef.grad = -(log_prob + self.target_entropy).mean().reshape(1)
        self.ent_coef_optimizer.step()
        return before

    @torch.no_grad()
    def _improve(
        self,
        actor: Mlp,
        critics: list[Mlp],
        batch: "ReplayBufferSamples",
        acted: "_Acted",
        scale: float,
    ) -> None:
        """One step of the actor: the gradient of ``scale log_prob - min Q`` by its outputs."""
        actions = acted.actions
        count = len(actions)
        inputs = torch.cat([batch.observations, actions], 1).to(actor.dtype)
        passes = [critic.forward(inputs) for critic in critics]
        values = torch.cat([value.output for value in passes], 1)
        chosen = torch.zeros_like(values).scatter_(1, values.argmin(1, keepdim=True), -1 / count)
        by_action = torch.zeros_like(actions)
        for index, (critic, value) in enumerate(zip(critics, passes, strict=True)):
            gradient = chosen[:, index : index + 1]
            by_action += critic.input_gradient(value, gradient, batch.observations.shape[1])
        slope = 1 - actions.square()
        entropy = scale / count
        by_mean = slope * (by_action + 2 * entropy * actions / (slope + SQUASH_EPSILON))
        raw = acted.done.output[:, actions.shape[1] :]
        clipped = raw.clamp(*LOG_STD_RANGE)
        by_log_std = (by_mean * acted.noise * clipped.exp() - entropy) * (raw == clipped)
        actor.backward(acted.done, torch.cat([by_mean, by_log_std], 1))
        self.actor.optimizer.step()
        actor.refresh()


class FastTD3(TD3):
    """TD3 whose update is written out."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Make ``gradient_steps`` updates of ``batch_size`` transitions each."""
        actor, actor_target = _tanh_mlp(self.actor.mu), _tanh_mlp(self.actor_target.mu)
        critics, targets = _mlps(self.critic), _mlps(self.critic_target)
        if actor is None or actor_target is None or critics is None or targets is None:
            super().train(gradient_steps, batch_size)
            return
        memory = self.replay_buffer
        assert memory is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch: ReplayBufferSamples = memory.sample(batch_size, env=self._vec_normalize_env)
            noise = torch.empty_like(batch.actions).normal_(0, self.target_policy_noise)
            noise.clamp_(-self.target_noise_clip, self.target_noise_clip)
            next_actions = actor_target.forward(batch.next_observations).output.tanh()
            next_actions = (next_actions + noise).clamp(-1, 1)
            value = _least(targets, batch.next_observations, next_actions)
            target = _target(batch, value, self.gamma)
            _descend(self.critic, critics, batch, target, weight=2.0)
            if self._n_updates % self.policy_delay == 0:
                self._improve(actor, critics[0], batch)
                _follow(self.critic, self.critic_target, targets, self.tau)
                _follow(self.actor, self.actor_target, [actor_target], self.tau)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    @torch.no_grad()
    def _improve(self, actor: Mlp, critic: Mlp, batch: "ReplayBufferSamples") -> None:
        """One step of the actor up the first critic's value."""
        done = actor.forward(batch.observations)
        actions = done.output.tanh()
        value = critic.forward(torch.cat([batch.observations, actions], 1))
        gradient = torch.full_like(value.output, -1 / len(actions))
        by_action = critic.input_gradient(value, gradient, batch.observations.shape[1])
        actor.backward(done, by_action * (1 - actions.square()))
        self.actor.optimizer.step()
        actor.refresh()


class FastDDPG(FastTD3, DDPG):
    """DDPG whose update is written out: SB3's is its TD3 with one critic and no delay."""


def _mlp(body: nn.Module, heads: Sequence[object]) -> Mlp | None:
    """``None`` where the network is not linear layers with ReLU after each hidden one.

    All of the hidden ones may be normalised before it.
    """
    if not isinstance(body, nn.Sequential) or len(body) < 2:
        return None
    layers = list(body)
    norms = [layer for layer in layers[1::3] if type(layer) is nn.LayerNorm]
    period = 3 if norms else 2
    linear = [layer for layer in layers[::period] if _plain(layer)]
    relus = [layer for layer in layers[period - 1 :: period] if type(layer) is nn.ReLU]
    outputs = [head for head in heads if _plain(head)]
    known = len(linear) + len(norms) + len(relus)
    if known != len(layers) or len(linear) != len(relus) or len(outputs) != len(heads):
        return None
    return Mlp(linear, outputs, fastest_dtype(), norms)


def _plain(layer: object) -> TypeGuard[nn.Linear]:
    """A linear layer that nothing listens to: quantization-aware training changes it by hooks."""
    if type(layer) is not nn.Linear:
        return False
    return not (layer._forward_hooks or layer._forward_pre_hooks)  # noqa: SLF001


def _mlps(critic: "ContinuousCritic") -> list[Mlp] | None:
    networks = [
        _mlp(network[:-1], (network[-1],)) if isinstance(network, nn.Sequential) else None
        for network in critic.q_networks
    ]
    known = [network for network in networks if network is not None]
    return known if len(known) == len(networks) else None


def _tanh_mlp(network: nn.Module) -> Mlp | None:
    if not isinstance(network, nn.Sequential) or type(network[-1]) is not nn.Tanh:
        return None
    return _mlp(network[:-2], (network[-2],))


@dataclass(frozen=True)
class _Acted:
    """SAC's actions, their log probabilities ``(batch, 1)``, and what they were made of."""

    done: Pass
    actions: Tensor
    log_prob: Tensor
    noise: Tensor


def _act(actor: Mlp, observations: Tensor) -> _Acted:
    done = actor.forward(observations)
    mean, log_std = done.output.chunk(2, 1)
    log_std = log_std.clamp(*LOG_STD_RANGE)
    noise = torch.randn_like(mean)
    actions = torch.tanh(mean + log_std.exp() * noise)
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_prob = normal - torch.log(1 - actions.square() + SQUASH_EPSILON)
    return _Acted(done, actions, log_prob.sum(1, keepdim=True), noise)


def _least(critics: list[Mlp], observations: Tensor, actions: Tensor) -> Tensor:
    inputs = torch.cat([observations, actions], 1).to(critics[0].dtype)
    values = [critic.forward(inputs).output for critic in critics]
    return torch.cat(values, 1).amin(1, keepdim=True)


def _target(batch: "ReplayBufferSamples", value: Tensor, gamma: float) -> Tensor:
    discounts = gamma if batch.discounts is None else batch.discounts
    target: Tensor = batch.rewards + (1 - batch.dones) * discounts * value
    return target


@torch.no_grad()
def _descend(
    module: "ContinuousCritic",
    critics: list[Mlp],
    batch: "ReplayBufferSamples",
    target: Tensor,
    *,
    weight: float,
) -> None:
    """One step of the critics down ``weight / 2`` times the mean squared error of each."""
    inputs = torch.cat([batch.observations, batch.actions], 1).to(critics[0].dtype)
    for critic in critics:
        done = critic.forward(inputs)
        critic.backward(done, (done.output - target) * (weight / len(target)))
    module.optimizer.step()
    for critic in critics:
        critic.refresh()


@torch.no_grad()
def _follow(source: nn.Module, target: nn.Module, networks: list[Mlp], tau: float) -> None:
    """Move the target's parameters by ``tau`` of the way."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)
    for network in networks:
        network.refresh()
