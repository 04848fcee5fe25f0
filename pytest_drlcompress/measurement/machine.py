"""Is this machine tuned so that absolute times mean something? Read-only: nothing is changed.

``pyperf system tune`` sets what is asked for here, but for the virtual machine.
"""

import os
from pathlib import Path


def untuned_reasons(root: Path = Path("/"), cpus: frozenset[int] | None = None) -> list[str]:
    """Why absolute times on this machine do not count; empty on a tuned one.

    ``cpus`` are those this process may run on. What cannot be read counts as not tuned.
    """
    allowed = _affinity() if cpus is None else cpus
    if not allowed:
        return ["which processors this process runs on cannot be read on this system"]
    cpu = root / "sys/devices/system/cpu"
    reasons = []
    isolated = _cpu_list(_text(cpu / "isolated"))
    if not allowed <= isolated:
        reasons.append(
            f"it may run on processors {_joined(allowed - isolated)}, which are not isolated"
            " (boot with isolcpus=, start with taskset)"
        )
    governors = {_text(cpu / f"cpu{n}/cpufreq/scaling_governor") or "unreadable" for n in allowed}
    if governors != {"performance"}:
        reasons.append(f"the frequency governor is {', '.join(sorted(governors))}, not performance")
    turbo_off = _text(cpu / "intel_pstate/no_turbo") == "1" or _text(cpu / "cpufreq/boost") == "0"
    if not turbo_off:
        reasons.append("turbo frequencies are on, or cannot be read")
    flags = next(
        (line for line in _text(root / "proc/cpuinfo").splitlines() if line.startswith("flags")), ""
    )
    if "hypervisor" in flags.split():
        reasons.append("it is a virtual machine, whose processor the host may take away")
    if os.environ.get("PYTEST_XDIST_WORKER"):
        reasons.append("pytest-xdist runs other tests at the same time")
    return reasons


def _affinity() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cpu_list(text: str) -> frozenset[int]:
    """``"2-3,6"`` as numbers."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def _joined(numbers: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
