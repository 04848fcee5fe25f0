"""The cluster: one that is running, or one on this machine that lives as long as the run.

Nothing is reported to anybody: usage statistics and the dashboard are off where we start Ray.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private import auto_init_hook, worker

from pytest_drlcompress.core.errors import ExecutorError
from pytest_drlcompress.evaluation.executors.ray.worker import join_threads

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster on this machine: artifacts and policies are small."""

SILENCE_S = 10.0
"""How long a cluster may have no node, or not answer, before it counts as lost."""

_LOOK_S = 1.0

_GRACE_S = 3.0
"""For threads to leave Ray before it is shut down; the head tells of a dead raylet later."""

_STUCK_S = 30.0
"""After which a question to Ray without an answer counts as silence."""

_QUIET: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would end this process a minute after the head node, and finished verdicts with it
    "RAY_gcs_rpc_server_reconnect_timeout_s": "1000000",
}


class Cluster:
    """A connection to the cluster at ``address``, or to one of ``cores`` started here.

    ``runtime_env`` is Ray's: what the processes on the nodes need beside what is installed there.
    ``lost`` says why the cluster is gone, and is empty while it is there; ``gone`` is set then.

    Raises:
        ExecutorError: there is none at ``address``, or this process has a connection to another.
    """

    def __init__(self, address: str | None, cores: int, runtime_env: Path | None = None) -> None:
        self.runtime_env = {} if runtime_env is None else _read(runtime_env)
        self.lost = ""
        self.gone = threading.Event()
        if ray.is_initialized():
            raise ExecutorError(
                "this process is connected to Ray already: call ray.shutdown() before"
            )
        # else a call that comes after the loss of this cluster starts another
        auto_init_hook.enable_auto_connect = False
        with _environment(_QUIET):
            self._connect(address, cores)
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = (host, int(port))
        self._raylet = _raylet_here()
        self._agents = _agents()  # they outlive their raylet by a minute where the head is gone
        self._closing = threading.Event()
        self._heard = time.monotonic()
        self._lock = threading.Lock()
        self._goodbye = threading.Thread(target=_say_goodbye, daemon=True)
        self._threads = [
            threading.Thread(target=target, daemon=True, name="drlcompress-ray-watch")
            for target in (self._watch, self._listen)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def cores(self) -> int:
        """Cores of all nodes."""
        resources: Any = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return int(resources.get("CPU", 0))

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        self._closing.set()
        for thread in self._threads:
            thread.join(2 * _LOOK_S)
        self._leave()
        # where the head is gone, it waits for an answer for ever
        self._goodbye.join(SILENCE_S if self.lost or not _answers(self._head) else None)
        if self.lost:
            _end(self._agents)

    def _connect(self, address: str | None, cores: int) -> None:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            try:
                ray.init(
                    address="local",
                    num_cpus=cores,
                    num_gpus=0,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    **common,
                )
            except Exception as error:  # a bare one where a node takes more than half a minute
                raise ExecutorError(
                    f"Ray cannot be started here: {' '.join(str(error).split())[:300]}"
                ) from None
            return
        where = f"--drlc-ray-address={address}"
        if address.startswith("ray://"):
            raise ExecutorError(
                f"{where}: Ray Client does not stream: run pytest on a node of the cluster, with"
                " the address that `ray start` has printed, or auto"
            )
        if address != "auto" and not _answers(_split(address, where)):
            raise ExecutorError(f"{where}: nothing answers there; is `ray start --head` running?")
        try:
            ray.init(address=address, **common)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ExecutorError(f"{where}: {' '.join(str(error).split())[:300]}") from None

    def _watch(self) -> None:
        """Notice the loss of the cluster, and leave it at once.

        Ray ends this process, and finished verdicts with it, where its raylet is gone and a call
        needs it, or where it is told by the head.
        """
        last = time.monotonic()
        while not self._closing.wait(_LOOK_S):
            if _answers(self._head):
                last = time.monotonic()
            if _refuses(self._raylet):
                self._lose("Ray's process on this machine, the raylet, has died")
            elif time.monotonic() - last > SILENCE_S:
                self._lose("its head node does not answer")
            elif time.monotonic() - self._heard > _STUCK_S:
                self._lose(f"no answer within {_STUCK_S:g} s")
            if self.lost:
                join_threads(_GRACE_S)
                self._leave()
                return

    def _leave(self) -> None:
        with self._lock:
            if self._goodbye.ident is None:
                self._goodbye.start()

    def _lose(self, why: str) -> None:
        self.lost = f"the Ray cluster was lost: {why}"
        self.gone.set()

    def _listen(self) -> None:
        seen = time.monotonic()
        while not self._closing.wait(_LOOK_S) and not self.lost:
            alive = None
            with contextlib.suppress(Exception):  # Ray is shut down under it, or cannot answer
                nodes: Any = ray.nodes()  # type: ignore[no-untyped-call]
                alive = any(n["Alive"] and n["Resources"].get("CPU", 0) > 0 for n in nodes)
            if alive is None:
                continue
            self._heard = time.monotonic()
            if alive:
                seen = time.monotonic()
            elif time.monotonic() - seen > SILENCE_S:
                self._lose("every node has died")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ExecutorError(f"--drlc-ray-runtime-env={path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ExecutorError(
            f'--drlc-ray-runtime-env={path} must hold a JSON object, such as {{"working_dir": "."}}'
        )
    return found


def _split(address: str, where: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ExecutorError(f"{where} must be HOST:PORT or auto")
    return host, int(port)


def _raylet_here() -> tuple[str, int]:
    here = ray.get_runtime_context().get_node_id()
    nodes: Any = ray.nodes()  # type: ignore[no-untyped-call]
    (node,) = (node for node in nodes if node["NodeID"] == here)
    return node["NodeManagerAddress"], int(node["NodeManagerPort"])


def _say_goodbye() -> None:
    with contextlib.suppress(Exception):  # parts of what it says goodbye to are gone
        ray.shutdown()


def _agents() -> set[tuple[int, str]]:
    """What the raylet that was started here, if any, has started: process ids and start times."""
    node: Any = worker._global_node  # noqa: SLF001
    infos = [] if node is None else [i for kind in node.all_processes.values() for i in kind]
    started = {info.process.pid for info in infos}
    return {(pid, began) for pid, parent, began in _processes() if parent in started}


def _end(processes: Collection[tuple[int, str]]) -> None:
    for pid, _, began in _processes():
        if (pid, began) in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[tuple[int, int, str]]:
    """Id, parent and start time of each process; none where the system has no ``/proc``."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            yield int(folder.name), int(fields[1]), fields[19]


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=5):
            return True
    except OSError:
        return False


def _refuses(address: tuple[str, int]) -> bool:
    """Whether nobody is there at all; a machine under load only answers late."""
    try:
        with socket.create_connection(address, timeout=5):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
