# ruff: noqa: D103, INP001, S603 (written like the tests; starts this interpreter)
"""Does the latency gate give the same verdict ten times, whatever else the machine does?

    pytest benchmarks/test_latency_gate.py -s

Each repeat is a fresh process that judges one variant of one baseline; in every second one, as many
busy processes as there are cores compete with it. The variant's ratio is first measured on its own;
then budgets are set that it exceeds by 10 % (it must FAIL ten times in ten) and undercuts by 10 %
(it must PASS ten times in ten). ``DRLC_BENCHMARK_POLICY`` and ``DRLC_BENCHMARK_VARIANTS`` choose.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time

import pytest

from pytest_drlcompress.verdict import State

POLICY = os.environ.get("DRLC_BENCHMARK_POLICY", "sac-halfcheetah")
VARIANTS = os.environ.get("DRLC_BENCHMARK_VARIANTS", "ptdq,l2@50").split(",")
REPEATS = int(os.environ.get("DRLC_BENCHMARK_REPEATS", "10"))

JUDGE = """
import json, sys
from pathlib import Path
from pytest_drlcompress.budgets import Budgets
from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.costs import judge_latency
from pytest_drlcompress.options import default_settings
from pytest_drlcompress.workbench import Workbench

policy, variant, *limits = sys.argv[1:]
settings = default_settings(policies=(policy,), baselines=Path("baselines"))
bench = Workbench(settings, builtin_registry())
for which in ("", variant):
    bench.controller(policy, which).act_one(bench.probe_observations(policy)[0])
print("ready", flush=True)
sys.stdin.readline()
for limit in limits:
    verdict = judge_latency(bench, policy, variant, Budgets(max_latency_ratio=float(limit)))
    print(json.dumps(verdict.to_json()), flush=True)
bench.close()
"""


@contextlib.contextmanager
def load(processes):
    """That many processes that never rest."""
    spin = "while True: sum(range(10000))"
    running = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def judge(variant, limits, *, loaded):
    """Verdicts of one fresh process; the load starts when its artifacts are made."""
    process = subprocess.Popen(
        [sys.executable, "-c", JUDGE, POLICY, variant, *map(str, limits)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    while (line := process.stdout.readline()) and line.strip() != "ready":
        pass
    with load(os.cpu_count() if loaded else 0):
        time.sleep(0.2)
        output, _ = process.communicate("go\n")
    assert process.returncode == 0, output
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_ten_repeats_give_one_verdict(variant):
    ratio = statistics.median(judge(variant, [1000], loaded=False)[0]["estimate"] for _ in range(3))
    over, under = ratio / 1.1, ratio / 0.9
    print(f"\n{POLICY} / {variant}: ratio {ratio:.3f}; budgets {over:.3f} and {under:.3f}")
    ratios, states = {False: [], True: []}, {over: [], under: []}
    for repeat in range(REPEATS):
        loaded = repeat % 2 == 1
        for limit, verdict in zip(states, judge(variant, states, loaded=loaded), strict=True):
            states[limit].append(verdict["state"])
            ratios[loaded].append(verdict["estimate"])
            low, high = verdict["interval"]
            print(
                f"{'loaded' if loaded else 'quiet ':6} {verdict['estimate']:.3f} [{low:.3f},"
                f" {high:.3f}] against {limit:.3f}: {verdict['state']:12}"
                f" {verdict['sample_size']} blocks, {verdict['details']['candidate_us']:.2f} us",
                flush=True,
            )
    for loaded, found in ratios.items():
        print(
            f"{'loaded' if loaded else 'quiet'}: mean {statistics.fmean(found):.4f},"
            f" sd {statistics.stdev(found):.4f}, range {min(found):.3f} ... {max(found):.3f}"
        )
    assert states[over] == [State.FAIL] * REPEATS
    assert states[under] == [State.PASS] * REPEATS
