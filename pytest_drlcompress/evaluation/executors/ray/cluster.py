"""The cluster: one that is running, or one on this machine that lives as long as the run.

Nothing is reported to anybody: usage statistics and the dashboard are off where we start Ray.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

from pytest_drlcompress.core.errors import ExecutorError

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster on this machine: artifacts and policies are small."""

SILENCE_S = 10.0
"""How long a cluster may have no node, or not answer, before it counts as lost."""

_LOOK_S = 1.0

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
    ``lost`` says why the cluster is gone, and is empty while it is there.

    Raises:
        ExecutorError: there is none at ``address``, or this process has a connection to another.
    """

    def __init__(self, address: str | None, cores: int, runtime_env: Path | None = None) -> None:
        self.runtime_env = {} if runtime_env is None else _read(runtime_env)
        self.lost = ""
        if ray.is_initialized():
            raise ExecutorError(
                "this process is connected to Ray already: call ray.shutdown() before"
            )
        with _environment(_QUIET):
            self._connect(address, cores)
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = (host, int(port))
        self._closing = threading.Event()
        self._heard = time.monotonic()
        self._threads = [
            threading.Thread(target=target, daemon=True, name="drlcompress-ray")
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
        if _answers(self._head):
            ray.shutdown()
            return
        # what it says goodbye to does not answer
        goodbye = threading.Thread(target=ray.shutdown, daemon=True)
        goodbye.start()
        goodbye.join(SILENCE_S)

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
        """Notice the loss of the head, of all nodes, and silence."""
        last = time.monotonic()
        while not self._closing.wait(_LOOK_S):
            if _answers(self._head):
                last = time.monotonic()
            elif time.monotonic() - last > SILENCE_S:
                self.lost = "the Ray cluster was lost: its head node does not answer"
                return
            if time.monotonic() - self._heard > _STUCK_S:
                self.lost = f"the Ray cluster was lost: no answer within {_STUCK_S:g} s"
                return

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
                self.lost = "the Ray cluster was lost: every node has died"


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


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=5):
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
