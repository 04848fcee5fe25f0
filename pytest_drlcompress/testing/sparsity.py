"""Invariants of gradual pruning, as checks to run against your own schedule and pruner.

The formulas stand here a second time on purpose: a check that asked the code under test for the
right answer would agree with it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class SparseTrainer(Protocol):
    """A training that prunes: what ``check_pruning`` drives.

    ``weights()`` and ``biases()`` give the present values by layer, ``prune(sparsity)`` prunes
    to that share of all weights, ``step(gradients)`` makes one step of the optimizer with these
    gradients (by layer, in the shapes of the weights).
    """

    def weights(self) -> Arrays:
        """The weights by layer."""
        ...

    def biases(self) -> Arrays:
        """The biases by layer."""
        ...

    def prune(self, sparsity: float) -> None:
        """Prune to ``sparsity``."""
        ...

    def step(self, gradients: Arrays) -> None:
        """One optimizer step."""
        ...


def check_schedule(
    schedule: Callable[[float], float], *, final: float, start: float, interval: float, count: int
) -> None:
    """``schedule(step)`` is the cubic one, at every pruning step and between them.

    s_t = s_f (1 - (1 - (t - t_s) / (n dt))^3), Ivanov et al., equation 1.

    Raises:
        AssertionError: says at which step, and what was expected there.
    """
    before = 0.0
    for k in range(count + 1):
        step = start + k * interval
        expected, actual = final * (1 - (1 - k / count) ** 3), schedule(step)
        assert math.isclose(actual, expected, rel_tol=1e-9, abs_tol=1e-12), (
            f"check_schedule: at pruning step {k} of {count} (training step {step:g}) the sparsity"
            f" is {actual:.6f}, not {expected:.6f}. A schedule of another shape prunes late, when"
            " little training is left to recover."
        )
        assert actual >= before, f"check_schedule: the sparsity falls at step {step:g}"
        before = actual
    for step, expected in (
        (start, 0.0),
        (start - interval, 0.0),
        (start + count * interval, final),
        (start + 2 * count * interval, final),
    ):
        assert schedule(step) == expected, (
            f"check_schedule: at step {step:g} the sparsity is {schedule(step)!r}, not exactly"
            f" {expected!r}"
        )


def check_distribution(weights: Arrays, sparsity: float, distribution: str) -> None:
    """The zeros of ``weights`` are ``sparsity`` in total, and distributed over layers as asked.

    ``global`` is held to the total only (``check_pruning`` compares magnitudes).

    Raises:
        AssertionError: names the layer.
    """
    sizes = {name: array.size for name, array in weights.items()}
    kept = {name: int(np.count_nonzero(array)) for name, array in weights.items()}
    total = sum(sizes.values())
    expected_total = total - round(sparsity * total)
    assert sum(kept.values()) == expected_total, (
        f"check_distribution: {sum(kept.values())} of {total} weights are left, not"
        f" {expected_total}: the sparsity is {1 - sum(kept.values()) / total:.4f}, not"
        f" {sparsity:.4f}. Are biases counted as weights?"
    )
    if distribution == "global":
        return
    wanted = _expected_counts([array.shape for array in weights.values()], sparsity, distribution)
    for name, count in zip(weights, wanted, strict=True):
        assert abs(kept[name] - count) <= 1, (
            f"check_distribution: layer {name!r} keeps {kept[name]} of {sizes[name]} weights;"
            f" {distribution} asks for {count:.1f}"
        )


def check_pruning(
    make: Callable[[Arrays, Arrays, str], SparseTrainer],
    shapes: Sequence[tuple[int, ...]],
    sparsities: Sequence[float],
    distribution: str,
    *,
    seed: int = 0,
) -> None:
    """A pruned weight stays exactly zero, whatever the optimizer remembers; no bias is touched.

    ``make(weights, biases, distribution)`` starts a training. It is pruned to each of the rising
    ``sparsities`` in turn, with optimizer steps before, between and after.

    Raises:
        AssertionError: says what came back, was lost, or was distributed wrongly.
    """
    random = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> NDArray[np.float32]:
        # no exact zeros: what is zero afterwards was pruned
        sign = np.where(random.random(shape) < 0.5, -1, 1)
        return (sign * random.uniform(0.05, 1.0, shape)).astype(np.float32)

    names = [f"layer{i}" for i in range(len(shapes))]
    weights = {name: draw(shape) for name, shape in zip(names, shapes, strict=True)}
    biases = {name: draw(shape[:1]) * 0.05 for name, shape in zip(names, shapes, strict=True)}
    training = make(weights, biases, distribution)

    def steps(number: int) -> None:
        for _ in range(number):
            training.step({name: draw(array.shape) for name, array in weights.items()})

    steps(3)  # something for momentum to remember
    dead = {name: np.zeros(array.shape, bool) for name, array in weights.items()}
    for sparsity in sparsities:
        before = {name: np.array(array) for name, array in training.weights().items()}
        training.prune(sparsity)
        now = {name: np.array(array) for name, array in training.weights().items()}
        check_distribution(now, sparsity, distribution)
        _check_smallest_went(before, now, dead, distribution)
        dead = {name: array == 0 for name, array in now.items()}
        for gradient in ("zero", "random"):
            if gradient == "zero":  # whatever moves now is moved by memory alone
                training.step({n: np.zeros(a.shape, np.float32) for n, a in weights.items()})
            else:
                steps(3)
            for name, array in training.weights().items():
                revived = int(np.count_nonzero(np.asarray(array)[dead[name]]))
                cause = "momentum" if gradient == "zero" else "the gradient"
                assert revived == 0, (
                    f"check_pruning: {cause} brought {revived} pruned weights of layer {name!r}"
                    f" back at sparsity {sparsity:g}. The file would not be as sparse as it claims."
                )
    for name, array in training.biases().items():
        assert np.count_nonzero(array) == array.size, (
            f"check_pruning: biases of layer {name!r} were pruned; only weights may be"
        )


def _check_smallest_went(before: Arrays, now: Arrays, dead: Arrays, distribution: str) -> None:
    for name in before:
        back = int(np.count_nonzero((now[name] != 0) & dead[name]))
        assert back == 0, f"check_pruning: {back} pruned weights of layer {name!r} grew back"
    groups = [list(before)] if distribution == "global" else [[name] for name in before]
    for group in groups:
        left = [np.abs(before[n][(now[n] != 0) & ~dead[n]]) for n in group]
        gone = [np.abs(before[n][(now[n] == 0) & ~dead[n]]) for n in group]
        smallest_left = min((a.min() for a in left if a.size), default=math.inf)
        largest_gone = max((a.max() for a in gone if a.size), default=0.0)
        assert largest_gone <= smallest_left, (
            f"check_pruning: in {', '.join(group)} a weight of magnitude {largest_gone:.4g} was"
            f" pruned and one of {smallest_left:.4g} kept"
        )


def _expected_counts(
    shapes: Sequence[tuple[int, ...]], sparsity: float, distribution: str
) -> list[float]:
    sizes = [math.prod(shape) for shape in shapes]
    budget = sum(sizes) - round(sparsity * sum(sizes))
    if distribution == "uniform":
        return [budget / sum(sizes) * size for size in sizes]
    assert distribution == "erdos-renyi", f"unknown distribution {distribution!r}"
    low, high = 0.0, float(max(sizes))
    for _ in range(200):  # the epsilon at which the capped layers together meet the budget
        middle = (low + high) / 2
        counts = [min(size, middle * sum(shape)) for size, shape in zip(sizes, shapes, strict=True)]
        low, high = (middle, high) if sum(counts) < budget else (low, middle)
    return counts
