"""A Ray cluster of nodes with one core each on this machine, and ways to kill parts of it."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

STORE = 80 * 2**20


@contextlib.contextmanager
def small_cluster(nodes: int) -> Iterator["object"]:
    """A head without a core, and ``nodes`` beside it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": STORE,
            "include_dashboard": False,
            "_system_config": {
                # a node that is gone is noticed in seconds
                "health_check_period_ms": 1000,
                "health_check_failure_threshold": 5,
                # Ray's workers give way to others: beside other tests they would not get on
                "worker_niceness": 0,
            },
        },
    )
    try:
        for _ in range(nodes):
            add_node(cluster)
        yield cluster
    finally:
        with contextlib.suppress(Exception):  # parts of it may have been killed
            cluster.shutdown()


def add_node(cluster, **arguments):
    return cluster.add_node(num_cpus=1, object_store_memory=STORE, **arguments)


def worker_pids(node) -> list[int]:
    """The processes of our workers on ``node``; other runs on this machine have their own."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            command = (folder / "cmdline").read_bytes()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ours = command.startswith(b"ray::NodeWorker") and fields[0] not in "ZX"
            if ours and int(fields[1]) == raylet(node):
                found.append(int(folder.name))
    return found


def orphans() -> set[int]:
    """The processes of clusters on this machine that no pytest run, here or beside, still holds."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            commands[int(folder.name)] = (folder / "cmdline").read_bytes()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])

    rays = {
        pid
        for pid, command in commands.items()
        if command.startswith(b"ray::") or b"/ray/core/src/ray/" in command
    }

    def held(pid: int) -> bool:
        above = parents.get(pid)
        if above is None:
            return False
        # a folder of pytest's may be among the arguments of Ray's own
        return (above not in rays and b"pytest" in commands.get(above, b"")) or held(above)

    return {pid for pid in rays if not held(pid)}


def raylet(node) -> int:
    return node.all_processes["raylet"][0].process.pid


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
