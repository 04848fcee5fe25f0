"""A machine is tuned only where everything that moves absolute times is known to be off."""

import pytest

from pytest_drlcompress.measurement.machine import untuned_reasons


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """The files of a tuned machine, and a way to change one."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    cpu = tmp_path / "sys/devices/system/cpu"
    files = {
        cpu / "isolated": "2-3,6",
        cpu / "cpu3/cpufreq/scaling_governor": "performance",
        cpu / "intel_pstate/no_turbo": "1",
        tmp_path / "proc/cpuinfo": "processor : 0\nflags\t\t: fpu avx512f\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return tmp_path


CPU3 = frozenset({3})


def test_a_tuned_machine_has_no_reasons(tuned):
    assert untuned_reasons(tuned, CPU3) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("sys/devices/system/cpu/isolated", "", "not isolated"),
        ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave", "is powersave"),
        ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", None, "is unreadable"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0", "turbo"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", None, "turbo"),
        ("proc/cpuinfo", "flags : fpu hypervisor avx2", "virtual machine"),
    ],
)
def test_each_disturbance_is_named(tuned, file, text, expected):
    path = tuned / file
    path.unlink() if text is None else path.write_text(text)
    (reason,) = untuned_reasons(tuned, CPU3)
    assert expected in reason


def test_a_second_processor_that_is_not_isolated_counts(tuned):
    governor = tuned / "sys/devices/system/cpu/cpu5/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("performance")
    (reason,) = untuned_reasons(tuned, frozenset({3, 5}))
    assert "processors 5, which are not isolated" in reason


def test_a_worker_of_xdist_is_never_alone(tuned, monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert "pytest-xdist" in untuned_reasons(tuned, CPU3)[0]
