"""A Ray cluster of nodes with one core each on this machine, and ways to kill parts of it."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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


class Process(NamedTuple):
    """A running process of this machine; ``command`` has NUL bytes between its arguments."""

    pid: int
    parent: int
    state: str
    command: bytes


def processes() -> Iterator[Process]:
    """What ``/proc`` holds now."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended since
            command = (folder / "cmdline").read_bytes()
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            yield Process(int(folder.name), int(parent), state, command)


def worker_pids(node) -> list[int]:
    """The processes of our workers on ``node``; other runs on this machine have their own."""
    return [
        process.pid
        for process in processes()
        if process.command.startswith(b"ray::NodeWorker")
        and process.state not in "ZX"
        and process.parent == raylet(node)
    ]


def orphans() -> set[int]:
    """The processes of clusters on this machine that no pytest run, here or beside, still holds."""
    found = {process.pid: process for process in processes()}
    rays = {
        pid
        for pid, (_, _, _, command) in found.items()
        if command.startswith(b"ray::") or b"/ray/core/src/ray/" in command
    }

    def held(pid: int) -> bool:
        above = found.get(found[pid].parent)
        if above is None:
            return False
        # a folder of pytest's may be among the arguments of Ray's own
        return (above.pid not in rays and b"pytest" in above.command) or held(above.pid)

    return {pid for pid in rays if not held(pid)}


def raylet(node) -> int:
    return node.all_processes["raylet"][0].process.pid


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
