"""Joules per inference from counters that wrap, drift, vanish or are not there.

No machine with a readable counter was at hand: the traces are synthetic, and say so.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from pytest_drlcompress.core.errors import CounterError
from pytest_drlcompress.measurement import energy_counters
from pytest_drlcompress.measurement.energy import energy_per_inference, measure_windows
from pytest_drlcompress.measurement.energy_counters import (
    SummedCounter,
    WrappingCounter,
    find_counter,
    rapl_counter,
)

TRACES = Path(__file__).parent / "energy_traces"
CALL = 5e-6
BASELINE, CANDIDATE = 12 * CALL, 6 * CALL
"""Joules per call in the traces: watts above idle times seconds."""


class Replay:
    """A machine whose clock moves by calls and sleep, and whose counter says what the trace says.

    The trace's power follows the schedule of ``measure_windows`` with windows of half a second.
    """

    def __init__(self, name):
        self.trace = json.loads((TRACES / f"{name}.json").read_text())
        self.now = 0.0

    def clock(self):
        return self.now

    def pass_time(self, seconds):
        self.now += seconds

    def act(self):
        self.now += CALL

    def read(self):
        raw = self.trace["energy_uj"][int(self.now / self.trace["tick_seconds"])]
        if raw is None:
            raise FileNotFoundError("energy_uj")
        return raw

    def windows(self, **replaced):
        counter = WrappingCounter("RAPL package-0", self.read, self.trace["modulus_uj"])
        options = {"seconds": 0.5, "clock": self.clock, "sleep": self.pass_time, **replaced}
        return measure_windows(counter, self.act, self.act, **options)


@pytest.mark.parametrize("name", ["steady", "wraps", "busy"])
def test_joules_are_per_inference_above_idle(name):
    measured = energy_per_inference(Replay(name).windows())
    # one tick of the counter in fifty is the window's uncertainty
    assert measured.baseline == pytest.approx(BASELINE, rel=0.06)
    assert measured.candidate == pytest.approx(CANDIDATE, rel=0.06)
    assert measured.interval[0] <= measured.candidate <= measured.interval[1]
    assert measured.ratio == pytest.approx(0.5, rel=0.1)
    assert measured.rounds == 5


def test_rounds_take_turns_and_are_long_enough():
    windows = Replay("steady").windows(rounds=2)
    assert [w.kind for w in windows] == [
        "idle", "baseline", "candidate", "idle", "candidate", "baseline",
    ]  # fmt: skip
    assert all(w.inferences >= 100_000 for w in windows if w.kind != "idle")
    assert all(w.seconds >= 0.5 for w in windows)


def test_without_idle_subtraction_the_answer_would_be_another():
    windows = Replay("steady").windows()
    gross = [w.joules / w.inferences for w in windows if w.kind == "candidate"]
    assert np.median(gross) == pytest.approx(14 * CALL, rel=0.06)


def test_a_counter_that_vanishes_is_an_error_not_a_figure():
    with pytest.raises(CounterError, match="RAPL package-0 cannot be read any more"):
        Replay("vanishes").windows()


def test_a_wrap_counts_on():
    readings = iter([90, 95, 3, 3, 50])
    counter = WrappingCounter("c", lambda: next(readings), 100, unit=1.0)
    assert [counter.joules() for _ in range(5)] == [0, 5, 13, 13, 60]


def zone(root, path, name, energy, largest=1000):
    folder = root / path
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    return folder / "energy_uj"


def test_packages_and_memory_count_once(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 990)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 10)
    for path, name in (
        ("intel-rapl:0:0", "core"), ("intel-rapl:1", "psys"), ("intel-rapl-mmio:0", "package-0"),
    ):  # fmt: skip
        zone(tmp_path, path, name, 10**6)
    counter, reason = rapl_counter(tmp_path)
    assert (counter.name, reason) == ("RAPL package-0 + RAPL dram", "")
    assert counter.joules() == 0
    package.write_text("9\n")  # 0 ... 1000 has 1001 counts
    memory.write_text("110\n")
    assert counter.joules() == pytest.approx((20 + 100) * 1e-6)
    memory.unlink()
    with pytest.raises(CounterError, match="dram"):
        counter.joules()


def test_no_domain_a_refused_one_and_a_damaged_one_say_so(tmp_path, monkeypatch):
    counter, reason = rapl_counter(tmp_path)
    assert counter is None
    assert "has no RAPL domain" in reason
    energy = zone(tmp_path, "intel-rapl:0", "package-0", 5)

    def refuse(path):
        def read():
            raise PermissionError(13, "Permission denied", str(path))

        return read

    with monkeypatch.context() as patch:
        patch.setattr(energy_counters, "_reader", refuse)
        patch.setattr(energy_counters, "_readable", lambda path: False)
        counter, reason = rapl_counter(tmp_path)
    assert counter is None
    assert "root only" in reason
    energy.write_text("nonsense")
    counter, reason = rapl_counter(tmp_path)
    assert counter is None
    assert "cannot be read" in reason


def test_a_gpu_counter_is_never_offered_for_the_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(energy_counters, "nvml_counter", lambda: (SummedCounter([]), ""))
    assert find_counter("cpu", tmp_path)[0] is None
    assert find_counter("cuda", tmp_path)[0] is not None


def test_nvml_measures_a_gpu_where_there_is_one():
    counter, reason = find_counter("cuda")
    if counter is None:
        assert "no energy counter is readable" in reason
        pytest.skip(reason)
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no GPU")
    matrix = torch.randn(4096, 4096, device="cuda")

    def work(size):
        def run():
            (matrix[:size] @ matrix).sum().item()

        return run

    windows = measure_windows(counter, work(1024), work(4096), seconds=2, rounds=5)
    measured = energy_per_inference(windows)
    assert 0 < measured.baseline < measured.candidate
