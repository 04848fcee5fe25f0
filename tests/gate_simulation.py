"""The promises of the retention gate by simulation: how often it errs, and how soon it decides.

Run it for the whole tables (minutes): ``python tests/gate_simulation.py``, or some of them:
``power``, ``power2000``, ``errors``, ``caps``.
``test_gate_promise.py`` holds a short version of each to what is promised.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.baselines.record import read_baseline_record
from pytest_drlcompress.evaluation.eprocess import (
    BETS,
    POOL_SHARE,
    WEIGHTS,
    ReturnRange,
    log_e_values,
    log_threshold,
)
from pytest_drlcompress.evaluation.reference import POOL_EPISODES, Reference

ALPHA, RHO, CAP = 0.05, 0.9, 1000
BASELINES = Path(__file__).resolve().parent.parent / "baselines"
NOISY_AND_TIGHT = (
    "sac-walker2d", "sac-humanoid", "trpo-humanoid", "ddpg-hopper", "trpo-ant", "ddpg-humanoid",
    "sac-halfcheetah",
)  # fmt: skip

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


@dataclass(frozen=True)
class Shape:
    """Baseline returns, and a candidate that keeps exactly 0.90 of them over ``random_mean``."""

    random_mean: float
    baseline: Draw
    candidate: Draw | None = None

    def kept(self, rng: np.random.Generator, count: int, share: float = RHO) -> NDArray[np.float64]:
        """``count`` returns of a candidate; by default the baseline's, shrunk."""
        if self.candidate is not None:
            return self.candidate(rng, count)
        own = self.baseline(rng, count)
        return self.random_mean + share * (own - self.random_mean)


def _bimodal(rng, n):
    return np.where(rng.random(n) < 0.5, rng.normal(400, 60, n), rng.normal(1600, 60, n))


def _falls(rng, n, share=0.02):
    return np.where(rng.random(n) < share, rng.uniform(0, 200, n), rng.normal(1000, 30, n))


def _more_falls(rng, n):
    # the mean of _falls is 982; 0.9 of it needs falls (mean 100) in 12.9 % of the episodes
    return _falls(rng, n, share=(1000 - 0.9 * 982) / 900)


def _jackpots(rng, n):
    return np.where(rng.random(n) < 0.01, rng.normal(10_000, 100, n), rng.normal(500, 50, n))


SHAPES = {
    "normal (cv 0.2)": Shape(0, lambda rng, n: rng.normal(1000, 200, n)),
    "bimodal (cv 0.6)": Shape(0, _bimodal),
    "rare falls, shrunk": Shape(0, _falls),
    "rare falls, more of them": Shape(0, _falls, _more_falls),
    "heavy tails (t, 3 df)": Shape(0, lambda rng, n: 1000 + 150 * rng.standard_t(3, n)),
    "skewed (lognormal)": Shape(5, lambda rng, n: 100 * rng.lognormal(0, 1, n)),
    "negative (gamma)": Shape(
        -1200, lambda rng, n: -rng.gamma(3, 50, n), lambda rng, n: -rng.gamma(3, 50, n) - 105
    ),
    "jackpots (1 % x 20)": Shape(0, _jackpots),
    "weak baseline (gain 0.8 sd)": Shape(
        100, lambda rng, n: rng.normal(140, 50, n), lambda rng, n: rng.normal(136, 50, n)
    ),
}


def reference(shape_mean: float, pool: NDArray[np.float64]) -> Reference:
    """What is recorded of a baseline whose random policy always earns ``shape_mean``."""
    random = (float(shape_mean),) * 2
    return Reference(tuple(pool.tolist()), tuple(range(len(pool))), random, random)


def decisions(
    candidate: NDArray[np.float64], recorded: Reference, rho: float = RHO, alpha: float = ALPHA
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The episode (from 0) at which each gate passes and fails; the cap where it does not.

    ``candidate`` is ``(gates, cap)``. A gate ends with what comes first.
    """
    declared = ReturnRange(recorded.random_mean, recorded.low, recorded.high)
    bounds = recorded.mean_bounds(POOL_SHARE * alpha)
    cap, parts = candidate.shape[1], []
    for start in range(0, len(candidate), 50):  # as much as the processor's cache holds
        sides = log_e_values(candidate[start : start + 50], bounds, declared, rho)
        crossed = [side >= log_threshold(alpha) for side in sides]
        parts.append([np.where(c.any(1), c.argmax(1), cap) for c in crossed])
    at_pass, at_fail = (np.concatenate(part) for part in zip(*parts, strict=True))
    return at_pass, at_fail


def error_rates(candidate: NDArray[np.float64], recorded: Reference) -> NDArray[np.float64]:
    """Shares of PASS and of FAIL."""
    at_pass, at_fail = decisions(candidate, recorded)
    return np.array([(at_pass < at_fail).mean(), (at_fail < at_pass).mean()])


def conditional_errors(
    shape: Shape, rng: np.random.Generator, *, pools: int, screen: int, gates: int, worst: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False PASS and FAIL rates at 0.90: over all pools, and given the worst of ``pools``.

    ``screen`` gates find the ``worst`` pools, whose rates ``gates`` fresh ones measure: the
    largest of many noisy rates would be the noisiest.
    """
    drawn = [shape.baseline(rng, POOL_EPISODES) for _ in range(pools)]
    recorded = [reference(shape.random_mean, pool) for pool in drawn]
    rates = np.array(
        [error_rates(shape.kept(rng, screen * CAP).reshape(screen, CAP), r) for r in recorded]
    )
    found = np.zeros(2)
    for side, sign in ((0, 1), (1, -1)):
        # a low pool lets pass and a high one fails; ties of the screening go by the mean
        means = sign * np.array([pool.mean() for pool in drawn])
        for index in np.lexsort((means, -rates[:, side]))[:worst]:
            fresh = shape.kept(rng, gates * CAP).reshape(gates, CAP)
            found[side] = max(found[side], error_rates(fresh, recorded[index])[side])
    return rates.mean(axis=0), found


def raised_caps(shape: Shape, rng: np.random.Generator, *, gates: int) -> NDArray[np.float64]:
    """False PASS and FAIL rates ``(4, 2)`` of who raises the cap until it decides.

    200 and 400 episodes on a pool of 2,000, then 800 on 5,000 and 1,600 on 10,000, which begin
    with the smaller pools.
    """
    stages = ((200, 2000), (400, 2000), (800, 5000), (1600, 10_000))
    wrong = np.zeros((len(stages), 2))
    for _ in range(gates):
        pool = shape.baseline(rng, stages[-1][1])
        candidate = shape.kept(rng, stages[-1][0])[None]
        for stage, (cap, size) in enumerate(stages):
            at_pass, at_fail = decisions(
                candidate[:, :cap], reference(shape.random_mean, pool[:size])
            )
            if at_pass[0] != at_fail[0]:
                wrong[stage:, int(at_fail[0] < at_pass[0])] += 1
                break
    return wrong / gates


def paired_error(
    shape: Shape, rng: np.random.Generator, *, pools: int, gates: int, k: int = 5
) -> float:
    """The worst false PASS rate given a pool if its episodes are used instead of its mean.

    Each candidate episode against the mean of ``k`` of the pool's, each once, in random order:
    what is not done, and why.
    """
    cap, worst = POOL_EPISODES // k, 0.0
    for _ in range(pools):
        pool = shape.baseline(rng, POOL_EPISODES)
        recorded = reference(shape.random_mean, pool)
        order = np.argsort(rng.random((gates, POOL_EPISODES)), axis=1)
        means = pool[order].reshape(gates, cap, k).mean(2)
        zero = shape.random_mean
        y = shape.kept(rng, gates * cap).reshape(gates, cap) - zero - RHO * (means - zero)
        scale = RHO * (recorded.high - zero) - (recorded.low - zero)
        steps = np.log1p(np.maximum(np.array(BETS)[:, None] * (y / scale)[:, None], -0.999))
        wealth = np.logaddexp.reduce(np.cumsum(steps, 2) + np.log(WEIGHTS)[:, None], axis=1)
        worst = max(worst, float((wealth.max(1) >= np.log(1 / ALPHA)).mean()))
    return worst


def power(
    returns: NDArray[np.float64],
    random_mean: float,
    retention: float,
    rng: np.random.Generator,
    *,
    pools: int,
    gates: int,
    falls: bool = False,
    cap: int = CAP,
) -> tuple[float, float, float]:
    """Shares of PASS and FAIL of a candidate that keeps ``retention``, and the mean episodes.

    Pools, as large as ``returns``, and candidates are drawn from ``returns``. With ``falls`` the
    candidate loses by falls to a tenth of the gain, else in every episode.
    """
    results = []
    for _ in range(pools):
        recorded = reference(random_mean, rng.choice(returns, len(returns)))
        gain = rng.choice(returns, (gates, cap)) - random_mean
        if falls:
            gain *= np.where(rng.random(gain.shape) < (1 - retention) / 0.9, 0.1, 1)
        else:
            gain *= retention
        at_pass, at_fail = decisions(random_mean + gain, recorded)
        used = np.minimum(np.minimum(at_pass, at_fail) + 1, cap)
        results.append([(at_pass < at_fail).mean(), (at_fail < at_pass).mean(), used.mean()])
    passed, failed, used_mean = np.mean(results, axis=0).tolist()
    return passed, failed, used_mean


def _print_power(cap: int = CAP) -> None:
    print(f"share decided within {cap:,} episodes, mean episodes; pools as recorded\n")
    cases = [(1.0, False), (0.97, False), (0.95, False), (0.9, False), (0.85, False), (0.8, False)]
    cases += [(0.97, True), (0.9, True), (0.8, True)]
    titles = [f"{r:g}{' by falls' if falls else ''}" for r, falls in cases]
    print("| baseline | cv | pool | " + " | ".join(titles) + " |")
    print("|---|---|---|" + "---|" * len(cases))
    for name in NOISY_AND_TIGHT:
        recorded = read_baseline_record(BASELINES / name).reference
        returns, zero = np.array(recorded.returns), recorded.random_mean
        cells = []
        for retention, falls in cases:
            rng = np.random.default_rng(1)
            passed, failed, used = power(
                returns, zero, retention, rng, pools=40, gates=25, falls=falls, cap=cap
            )
            wrong = failed if retention > RHO else passed
            both = f"P {passed:.1%} F {failed:.1%}" if retention == RHO else ""
            cells.append(both or f"{passed + failed:.1%}, {used:.0f}, wrong {wrong:.1%}")
        cv = returns.std() / (returns.mean() - zero)
        print(f"| {name} | {cv:.2f} | {len(returns)} | " + " | ".join(cells) + " |", flush=True)


def _print_errors() -> None:
    print("false PASS / false FAIL at exactly 0.90, cap 1,000, pools of 2,000\n")
    print("| returns | over all pools | given the worst of 200 pools |\n|---|---|---|")
    for name, shape in SHAPES.items():
        mean, worst = conditional_errors(
            shape, np.random.default_rng(2), pools=200, screen=40, gates=2000, worst=3
        )
        print(
            f"| {name} | {mean[0]:.1%} / {mean[1]:.1%} | {worst[0]:.1%} / {worst[1]:.1%} |",
            flush=True,
        )
    rng = np.random.default_rng(3)
    worst_paired = paired_error(SHAPES["bimodal (cv 0.6)"], rng, pools=200, gates=200)
    print(f"\nfive pool episodes for each candidate episode, bimodal: worst {worst_paired:.1%}")


def _print_caps() -> None:
    print("false PASS / false FAIL at exactly 0.90 by who raises the cap until it decides\n")
    print("| returns | 200 | 400 | 800 | 1,600 |\n|---|---|---|---|---|")
    for name, shape in SHAPES.items():
        rates = raised_caps(shape, np.random.default_rng(4), gates=2000)
        cells = " | ".join(f"{passed:.1%} / {failed:.1%}" for passed, failed in rates)
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    tables = {
        "power": _print_power,
        "power2000": partial(_print_power, 2000),
        "errors": _print_errors,
        "caps": _print_caps,
    }
    for asked in sys.argv[1:] or tables:
        tables[asked]()
        print()
