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

from pytest_drlcompress.core.verdict import State

POLICY = os.environ.get("DRLC_BENCHMARK_POLICY", "sac-halfcheetah")
VARIANTS = os.environ.get("DRLC_BENCHMARK_VARIANTS", "ptdq,l2@50").split(",")
REPEATS = int(os.environ.get("DRLC_BENCHMARK_REPEATS", "10"))

JUDGE = """
import json, sys
from pathlib import Path
from pytest_drlcompress import Workbench, builtin_registry, default_settings
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.latency import judge_latency

policy, asked = sys.argv[1], json.loads(sys.argv[2])
settings = default_settings(policies=(policy,), baselines=Path("baselines"))
bench = Workbench(settings, builtin_registry())
loaded = bench.load(policy)
candidates = {variant: bench.candidate(policy, variant) for variant, _ in asked}
for judged in (loaded, *candidates.values()):
    judged.controller.act_one(loaded.probe_observations[0])
print("ready", flush=True)
sys.stdin.readline()
for variant, limit in asked:
    verdict = judge_latency(candidates[variant], Budgets(max_latency_ratio=limit))
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


def judge(asked, *, loaded):
    """Verdicts of one fresh process; the load starts when its artifacts are made."""
    process = subprocess.Popen(
        [sys.executable, "-c", JUDGE, POLICY, json.dumps(asked)],
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


def test_ten_repeats_give_one_verdict():
    first = [judge([(v, 1000) for v in VARIANTS], loaded=False) for _ in range(3)]
    truth = [
        statistics.median(v["estimate"] for v in column) for column in zip(*first, strict=True)
    ]
    asked = [(v, ratio / f) for v, ratio in zip(VARIANTS, truth, strict=True) for f in (1.1, 0.9)]
    expected = [State.FAIL, State.PASS] * len(VARIANTS)
    verdicts = []
    for repeat in range(REPEATS):
        loaded = repeat % 2 == 1
        print(f"\nrepeat {repeat + 1}, {'both cores loaded' if loaded else 'not loaded by us'}")
        verdicts.append(judge(asked, loaded=loaded))
        for verdict in verdicts[-1]:
            low, high = verdict["interval"]
            print(
                f"{verdict['variant']:6} {verdict['estimate']:.3f} [{low:.3f}, {high:.3f}]"
                f" against {verdict['limit']:.3f}: {verdict['state']:12}"
                f" {verdict['sample_size']} blocks, {verdict['details']['candidate_us']:.2f} us",
                flush=True,
            )
    print()
    for place, variant in enumerate(VARIANTS):
        for loaded in (False, True):
            found = [v["estimate"] for row in verdicts[loaded::2] for v in row[2 * place :][:2]]
            print(
                f"{variant:6} {'loaded' if loaded else 'quiet '}: mean ratio"
                f" {statistics.fmean(found):.4f}, sd {statistics.stdev(found):.4f},"
                f" range {min(found):.3f} ... {max(found):.3f}"
            )
    wrong = [v for row in verdicts for v, e in zip(row, expected, strict=True) if v["state"] != e]
    print(f"{len(wrong)} of {REPEATS * len(asked)} verdicts are not the expected ones")
    assert not wrong
