"""Training with sparsity and quantization (``train sac Hopper-v5 --recipe sparse@95+qat``).

The segments, checkpoints and seeds of ``train``, with ``SparseTraining`` in the model's ``learn``.
At the end of every segment the actor is exported as it would be deployed, and the zeros in that
*file* are recorded beside what the schedule says.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from pytest_drlcompress.compression.in_training.export import export_network
from pytest_drlcompress.compression.in_training.plan import SparsePlan
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import TrainingError
from pytest_drlcompress.core.files import write_atomic, write_json
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.measurement.sparsity import measure_sparsity
from pytest_drlcompress.policies.sb3.live import extract_network
from pytest_drlcompress.training import checkpoint
from pytest_drlcompress.training.checkpoint import TrainingState
from pytest_drlcompress.training.models import set_threads
from pytest_drlcompress.training.recipes import TrainingRecipe
from pytest_drlcompress.training.train import (
    evaluate_artifact,
    fingerprint,
    open_segment,
    step_reporter,
)

ARTIFACT = "best.onnx"


def train_sparse(
    recipe: TrainingRecipe,
    plan: SparsePlan,
    work: Path,
    *,
    on_segment: Callable[[TrainingState], None] = lambda state: None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> tuple[Artifact, TrainingState]:
    """Train (or resume) in ``work``; the best finished artifact is then ``work / "best.onnx"``.

    Only artifacts at the final sparsity, quantized if the plan says so, can be the best.

    Raises:
        TrainingError: the recipe of an image policy, or no segment ended at the final sparsity.
    """
    if recipe.network:
        raise TrainingError(
            f"{recipe.id}: an image policy is not pruned while it learns: train it, then"
            f" 'compress {recipe.id} {plan.recipe}'"
        )
    set_threads()
    mark = hashlib.sha256(f"{fingerprint(recipe)} {plan}".encode()).hexdigest()[:16]
    state = checkpoint.read_state(work)
    if state is None or state.fingerprint != mark:
        state = TrainingState(mark, recipe.steps)
    spec = EnvSpec.parse(recipe.environment)
    total = plan.callback(recipe.steps, {}).learn_steps
    facts = checkpoint.read_extra(work, state)
    while state.steps < total:
        started = time.monotonic()
        model, env = open_segment(recipe, work, state)
        sparsity = plan.callback(recipe.steps, facts.get("callback", {}))
        model.learn(
            min(recipe.segment, total - state.steps),
            callback=[sparsity, step_reporter(on_steps, total)],
            reset_num_timesteps=False,
        )
        network = extract_network(recipe.algorithm, model, spec, env if recipe.normalize else None)
        artifact = export_network(network, sparsity, spec, recipe.id)
        value, steps = evaluate_artifact(artifact.model, spec), int(model.num_timesteps)
        best = sparsity.finished and (state.best_return is None or value > state.best_return)
        measured = measure_sparsity(artifact.model)
        segments = [
            *facts.get("segments", []),
            [steps, sparsity.scheduled(steps), measured.total, round(value, 2)],
        ]
        facts = {"callback": sparsity.state(), "segments": segments}
        if best:
            provenance = {**artifact.provenance, "segments": segments}
            write_atomic(work / ARTIFACT, artifact.model)
            write_json(work / "best.json", provenance)
        state = state.after_segment(steps, time.monotonic() - started, value, best=best)
        checkpoint.save(work, state, model, env, facts)
        env.close()
        on_segment(state)
    provenance = {
        "training": {**recipe.to_json(), "trained_steps": state.steps, "seconds": state.seconds},
        "best_steps": state.best_steps,
        "segments_columns": ["steps", "scheduled sparsity", "zeros in the artifact", "return"],
        "segments": facts["segments"],
        "prunings_columns": ["step", "scheduled", "reached"],
        "prunings": facts["callback"]["history"],
        "distribution": plan.distribution,
    }
    if not (work / ARTIFACT).exists():
        raise TrainingError(
            f"no segment of {recipe.id} ended at the final sparsity: train for more steps"
        )
    return Artifact((work / ARTIFACT).read_bytes(), recipe.id, plan.recipe, provenance), state
