# ruff: noqa: INP001 (a script)
"""20 random SIGKILLs of a node's processes in mid-gate: is any verdict another one?

``python benchmarks/ray_kills.py [KILLS]``; needs ``pytest-drlcompress[ray]``. Two Ray nodes of one
core on this machine; what is killed is a worker, or the node itself (its raylet and its worker).
"""

import os
import random
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from ray_cluster import add_node, raylet, small_cluster, worker_pids

from pytest_drlcompress.baselines.record import read_baseline_record
from pytest_drlcompress.compression.pipeline import export_policy
from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.executors.base import Executor
from pytest_drlcompress.evaluation.executors.ray.run import RayRun
from pytest_drlcompress.evaluation.retention import RetentionSettings, episode_seeds, judge
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.policies.store import load_policy

FOLDER = Path(__file__).resolve().parent.parent / "baselines/trpo-hopper"
SPEC = EnvSpec.parse("Hopper-v5:max_episode_steps=150")
SETTINGS = RetentionSettings(max_episodes=60, precision=1e-6)


def main() -> None:
    """Kill, compare, and count."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    model = export_policy(load_policy(FOLDER)).model
    chosen, unchanged = random.Random(0), 0  # noqa: S311
    with small_cluster(2) as cluster:
        executor = RayRun(address=cluster.address)
        for number in range(kills):
            expected = verdict(model, number, 1)
            node = chosen.choice(list(cluster.worker_nodes))
            whole = chosen.random() < 0.3

            def strike(node: object = node, *, whole: bool = whole) -> None:
                for pid in worker_pids(node) if not whole else (*worker_pids(node), raylet(node)):
                    os.kill(pid, signal.SIGKILL)

            found = verdict(model, number, executor, chosen.randrange(1, 40), strike)
            unchanged += found == expected
            print(
                f"{number + 1}: {'node' if whole else 'worker'} killed,"
                f" {found.state.value} {found.estimate:.6f} on {found.sample_size} episodes,"
                f" {'the same' if found == expected else f'was {expected}'}",
                flush=True,
            )
            if whole:
                cluster.remove_node(node)
                add_node(cluster)
        print(f"{unchanged} of {kills} verdicts unchanged; {executor.notes()[0]}")
        executor.close()


def verdict(
    model: bytes,
    number: int,
    executor: int | Executor,
    at: int = 0,
    strike: "object" = None,
) -> Verdict:
    """The gate ``number``; ``strike`` is called after ``at`` episodes."""
    seeds = episode_seeds(f"gate {number}", str(SPEC), SETTINGS, SETTINGS.max_episodes)
    episodes = rollout(SPEC, model, seeds, workers=executor)
    return judge(
        (episode.total for episode in episodes),
        read_baseline_record(FOLDER).reference,
        SETTINGS,
        policy="trpo-hopper",
        variant="fp32",
        on_progress=lambda p: strike() if callable(strike) and p.episodes == at else None,
    )


if __name__ == "__main__":
    main()
