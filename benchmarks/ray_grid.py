# ruff: noqa: INP001 (a script)
"""A grid on two Ray nodes of one core each, on this machine alone, and under xdist: the same?

``python benchmarks/ray_grid.py [--how=ray,local,xdist] [--policies=...] [--out=DIR]``; needs
``pytest-drlcompress[ray]``. Prints wall times and every difference between the reports.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
POLICIES = (
    "ddpg-halfcheetah,ppo-halfcheetah,sac-halfcheetah,td3-halfcheetah,trpo-halfcheetah,sac-swimmer"
)
VARIANTS = "fp32,ptdq,ptsq,ptsq:equalize=true"
STORE_BYTES = 80 * 2**20


def main() -> None:
    """Run the grid in each way and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--how", default="ray,local,xdist")
    parser.add_argument("--policies", default=POLICIES)
    parser.add_argument("--variants", default=VARIANTS)
    parser.add_argument("--max-episodes", default="200")
    parser.add_argument("--out", type=Path, default=Path(".ray-grid"))
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    reports = {}
    for how in arguments.how.split(","):
        path = arguments.out / f"{how}.json"
        with options(how) as extra:
            started = time.monotonic()
            run(arguments, extra, path)
            seconds = time.monotonic() - started
        reports[how] = verdicts(path)
        episodes = sum(found["sample_size"] for found in reports[how].values())
        print(
            f"{how}: {len(reports[how])} verdicts, {episodes:,} episodes, {seconds:.0f} s",
            flush=True,
        )
    first, *others = reports
    for other in others:
        different = [
            key for key in reports[first] if reports[first][key] != reports[other].get(key)
        ]
        print(f"{first} and {other}: {len(different)} differ {different or ''}")


def run(arguments: argparse.Namespace, extra: list[str], report: Path) -> None:
    """One run, without the cache; what its tests say is in the report."""
    command = [
        sys.executable, "-m", "pytest", "suites/test_return_retention.py", "-q",
        "-p", "no:cacheprovider", "--drlc-no-cache", f"--drlc-report={report.resolve()}",
        *(f"--drlc-policy={policy}" for policy in arguments.policies.split(",")),
        *(f"--drlc-variant={variant}" for variant in arguments.variants.split(",")),
        f"--drlc-max-episodes={arguments.max_episodes}", *extra,
    ]  # fmt: skip
    ended = subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = ended.stdout.splitlines()
    print("\n".join(line for line in said if line.startswith("ray:") or "passed" in line))


def verdicts(report: Path) -> dict[str, dict[str, Any]]:
    """By policy and variant, all that must be equal."""
    found = {}
    for verdict in json.loads(report.read_text())["verdicts"]:
        kept = {name: verdict[name] for name in ("state", "estimate", "interval", "sample_size")}
        details = {k: v for k, v in verdict["details"].items() if k != "seconds"}
        found[f"{verdict['policy']} {verdict['variant']}"] = {**kept, "details": details}
    return found


@contextlib.contextmanager
def options(how: str) -> Iterator[list[str]]:
    """What pytest is told; a cluster while it is needed."""
    if how == "local":
        yield []
    elif how == "xdist":
        yield ["-n2"]
    else:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        node = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            yield ["--drlc-executor=ray", f"--drlc-ray-address={cluster.address}"]
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
