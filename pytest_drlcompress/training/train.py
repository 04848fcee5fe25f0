"""Training in segments that start from a checkpoint on disk, so that a resumed training is
the same training.

Each segment loads the checkpoint, reseeds every generator from (seed, segment), resets the
environments and learns for ``recipe.segment`` steps; an interrupted training repeats its
last segment from the same state and so ends in the same weights as an uninterrupted one.
The price is one cut episode per environment and segment.

A recipe whose ``steps`` were changed goes on from where it is. If it had ended at a multiple
of ``segment``, as off-policy recipes do, this too is the training that more steps from the
start would have been; on-policy ones round each segment up to whole rollouts, and the last
one is cut. A learning rate that falls over the recipe's steps falls from there over the new ones.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import SLOTS, rollout
from pytest_drlcompress.policies.export import export_onnx
from pytest_drlcompress.policies.network import Argmax
from pytest_drlcompress.policies.record_file import RECORD
from pytest_drlcompress.policies.sb3.live import extract_network
from pytest_drlcompress.policies.store import load_policy, save_network
from pytest_drlcompress.training import checkpoint
from pytest_drlcompress.training.checkpoint import TrainingState
from pytest_drlcompress.training.hardware import CPU, Hardware
from pytest_drlcompress.training.models import (
    algorithm_class,
    buffer_size,
    make_env,
    make_model,
    set_threads,
)
from pytest_drlcompress.training.recipes import IMAGE_LEARNERS, OFF_POLICY, TrainingRecipe

EVALUATION_SEEDS = range(900_000, 900_010)
"""Episodes that choose the best checkpoint; no reference pool contains them."""


def train(
    recipe: TrainingRecipe,
    work: Path,
    *,
    baselines: Path = Path("baselines"),
    hardware: Hardware = CPU,
    on_segment: Callable[[TrainingState], None] = lambda state: None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> TrainingState:
    """Train (or resume) in ``work``; the best network is then in ``work / "best"``.

    A recipe's teacher is in ``baselines``. ``on_segment`` is told each new state, ``on_steps`` the
    steps trained so far. Only image policies train elsewhere than on the CPU: for networks of 256
    units the way there and back costs more than it saves.

    Raises:
        TrainingError: a recipe that cannot be trained, or not on this ``hardware``.
    """
    if hardware.device != "cpu" and not recipe.network:
        raise TrainingError(f"{recipe.id} trains on the CPU: --device is for image policies")
    hardware.check()
    set_threads()
    state = _resumed(recipe, work)
    spec = EnvSpec.parse(recipe.environment)
    while state.steps < recipe.steps:
        started = time.monotonic()
        if recipe.algorithm in IMAGE_LEARNERS:
            segment = _image_segment(recipe, work, baselines, state, on_steps, hardware=hardware)
        else:
            segment = _sb3_segment(recipe, work, state, on_steps, hardware=hardware)
        value = evaluate(segment.network, spec, cores=hardware.cores)
        best = state.best_return is None or value > state.best_return
        if best:
            save_network(work / "best", segment.network)
        state = state.after_segment(
            segment.steps, time.monotonic() - started, value, best=best, device=hardware.name
        )
        segment.save(state)
        on_segment(state)
    return state


@dataclass(frozen=True)
class Segment:
    """What one segment ended with: total steps, the policy, and how its checkpoint is written."""

    steps: int
    network: nn.Sequential
    save: Callable[[TrainingState], None]


def _sb3_segment(
    recipe: TrainingRecipe,
    work: Path,
    state: TrainingState,
    on_steps: Callable[[int], None],
    *,
    hardware: Hardware,
) -> Segment:
    model, env = open_segment(recipe, work, state, hardware)
    model.learn(
        min(recipe.segment, recipe.steps - state.steps),
        callback=step_reporter(on_steps, recipe.steps),
        reset_num_timesteps=False,
    )
    if recipe.network:
        from pytest_drlcompress.training.dqn import greedy_policy

        network = greedy_policy(model)
    else:
        statistics = env if recipe.normalize else None
        network = extract_network(
            recipe.algorithm, model, EnvSpec.parse(recipe.environment), statistics
        )

    def save(state: TrainingState) -> None:
        checkpoint.save(work, state, model, env)
        env.close()

    return Segment(int(model.num_timesteps), network, save)


def _image_segment(
    recipe: TrainingRecipe,
    work: Path,
    baselines: Path,
    state: TrainingState,
    on_steps: Callable[[int], None],
    *,
    hardware: Hardware,
) -> Segment:
    from pytest_drlcompress.training.image_learner import ImageLearner
    from pytest_drlcompress.training.image_networks import greedy

    source = work / f"segment-{state.segment}" if state.segment else None
    seed = _segment_seed(recipe, state)
    learner: ImageLearner
    if recipe.teacher:
        from pytest_drlcompress.training.policy_distillation import PolicyDistillation

        teacher = teacher_network(recipe, baselines)
        learner = PolicyDistillation(recipe, teacher, state.steps, seed, source, hardware=hardware)
    else:
        from pytest_drlcompress.training.pqn import Pqn

        learner = Pqn(recipe, state.steps, seed, source, hardware=hardware)
    learner.learn(min(recipe.segment, recipe.steps - state.steps), on_steps)
    return Segment(
        learner.steps,
        greedy(learner.deployed),
        lambda state: checkpoint.replace_current(work, state, learner.save),
    )


def teacher_network(recipe: TrainingRecipe, baselines: Path) -> nn.Sequential:
    """The Q values of the recipe's teacher.

    Raises:
        TrainingError: it has not been trained, or acts in another environment.
    """
    folder = baselines / recipe.teacher
    if not (folder / RECORD).exists():
        raise TrainingError(
            f"{recipe.id} learns from {recipe.teacher}, which {baselines} does not hold: train"
            f" {recipe.teacher} first"
        )
    policy = load_policy(folder)
    network = policy.network
    assert isinstance(network, nn.Sequential)
    if policy.env != EnvSpec.parse(recipe.environment) or type(network[-1]) is not Argmax:
        raise TrainingError(
            f"{recipe.id} learns from {recipe.teacher}, which acts in {policy.env}: both need the"
            " same environment and discrete actions"
        )
    return nn.Sequential(*list(network)[:-1])


def evaluate(network: nn.Module, spec: EnvSpec, cores: int = 1) -> float:
    """Mean return of the exported network over the evaluation seeds."""
    shape, dtype, _ = spec.spaces
    return evaluate_artifact(export_onnx(network, shape, dtype), spec, cores)


def evaluate_artifact(model: bytes, spec: EnvSpec, cores: int = 1) -> float:
    """Mean return of an ONNX file over the evaluation seeds, on ``cores`` worker processes."""
    # an emulator costs so much more than an array operation that idle slots would tell
    slots = -(-len(EVALUATION_SEEDS) // cores) if spec.atari else SLOTS
    episodes = rollout(spec, model, EVALUATION_SEEDS, slots=slots, workers=cores)
    return float(np.mean([episode.total for episode in episodes]))


def fingerprint(recipe: TrainingRecipe) -> str:
    """Identity of what determines the training; a checkpoint of another one is not resumed."""
    facts = recipe.to_json()
    for not_training in ("published", "source", "id"):
        del facts[not_training]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _resumed(recipe: TrainingRecipe, work: Path) -> TrainingState:
    """The state to go on from: of the same recipe, whose steps may have changed since."""
    state = checkpoint.read_state(work)
    new = TrainingState(fingerprint(recipe), recipe.steps)
    if state is None:
        return new
    stored = replace(recipe, steps=state.planned or recipe.steps)
    if state.fingerprint != fingerprint(stored) or recipe.steps < state.steps:
        return new
    return replace(state, fingerprint=new.fingerprint, planned=new.planned)


def open_segment(
    recipe: TrainingRecipe, work: Path, state: TrainingState, hardware: Hardware = CPU
) -> tuple[Any, Any]:
    """The model to go on with and its environments, all generators seeded for this segment."""
    seed = _segment_seed(recipe, state)
    env, device = make_env(recipe, hardware.cores), hardware.device
    if state.segment == 0:
        model: Any = make_model(recipe, env, seed, device)
    else:
        changes = {"buffer_size": buffer_size(recipe)} if recipe.algorithm in OFF_POLICY else {}
        kind = algorithm_class(recipe.algorithm)
        model = checkpoint.restore(work, state, kind, env, device, **changes)
        model.set_random_seed(seed)
    return model, env


def _segment_seed(recipe: TrainingRecipe, state: TrainingState) -> int:
    return int(np.random.SeedSequence([recipe.seed, state.segment]).generate_state(1)[0] >> 1)


def step_reporter(on_steps: Callable[[int], None], planned: int) -> Any:
    """An SB3 callback that tells ``on_steps`` the steps trained so far.

    SB3's own schedules, such as DQN's exploration, run over the ``planned`` steps, not over those
    of a segment.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    class Counter(BaseCallback):
        def _on_training_start(self) -> None:
            self.model._total_timesteps = planned  # noqa: SLF001 (SB3 offers nothing else)

        def _on_step(self) -> bool:
            if self.n_calls % 256 == 0:
                on_steps(self.num_timesteps)
            return True

    return Counter()
