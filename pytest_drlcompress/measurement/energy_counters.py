"""Energy counters: RAPL of the processor through powercap, NVML of NVIDIA GPUs.

Read directly: powercap is two text files for each domain, and the libraries around it either
estimate where no counter is readable, or answer 0 J for it. A counter here is read, or it is not
there and a reason says why.
"""

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_drlcompress.core.errors import CounterError

POWERCAP = Path("/sys/class/powercap")
_COUNTED = re.compile(r"package-\d+|dram")
"""Domains that do not contain one another: ``psys`` holds the packages, they hold their cores."""


class EnergyCounter(Protocol):
    """Counts joules."""

    @property
    def name(self) -> str:
        """The counters that are read, and so the devices that are seen."""
        ...

    def joules(self) -> float:
        """Joules since some moment of the past; never decreases.

        Raises:
            CounterError: it cannot be read any more.
        """
        ...


@dataclass(eq=False)
class WrappingCounter:
    """Makes a counter that wraps around to zero, such as RAPL's, one that only grows.

    ``read`` gives the raw count in ``unit`` joules, ``modulus`` counts lie between two zeros. At
    most one wrap may happen between two readings: at 100 W the smallest known range
    (65 kJ) lasts eleven minutes.
    """

    name: str
    read: Callable[[], int]
    modulus: int
    unit: float = 1e-6
    _last: int | None = field(default=None, init=False)
    _total: int = field(default=0, init=False)

    def joules(self) -> float:
        """See ``EnergyCounter``."""
        try:
            raw = self.read()
        except (OSError, ValueError) as error:
            raise CounterError(f"{self.name} cannot be read any more ({error})") from None
        if self._last is not None:
            self._total += (raw - self._last) % self.modulus
        self._last = raw
        return self._total * self.unit


@dataclass(frozen=True, eq=False)
class SummedCounter:
    """Several counters of disjoint parts of the machine as one."""

    parts: Sequence[EnergyCounter]

    @property
    def name(self) -> str:
        """Every part's name."""
        return " + ".join(part.name for part in self.parts)

    def joules(self) -> float:
        """See ``EnergyCounter``."""
        return sum(part.joules() for part in self.parts)


def find_counter(device: str, powercap: Path = POWERCAP) -> tuple[EnergyCounter | None, str]:
    """The counter that sees ``device`` (``"cpu"`` or ``"cuda"``); else ``None`` and the reason.

    A GPU's counter sees nothing of a policy that runs on the processor, and is not offered for it.
    """
    return rapl_counter(powercap) if device == "cpu" else nvml_counter()


def rapl_counter(powercap: Path = POWERCAP) -> tuple[EnergyCounter | None, str]:
    """The processor packages and their memory."""
    zones = sorted(powercap.glob("intel-rapl:*"))  # AMD's are called so, too
    if not zones:
        return None, (
            f"no energy counter is readable: {powercap} has no RAPL domain (a virtual machine or"
            " container shows none)"
        )
    parts: list[EnergyCounter] = []
    for zone in zones:
        try:
            name = (zone / "name").read_text().strip()
            if not _COUNTED.fullmatch(name):
                continue
            counter = WrappingCounter(
                f"RAPL {name}",
                _reader(zone / "energy_uj"),
                # the counter runs through 0 ... max_energy_range_uj
                int((zone / "max_energy_range_uj").read_text()) + 1,
            )
            counter.joules()
        except PermissionError as error:
            return None, _refused(error.filename)
        except CounterError as error:
            refused = not _readable(zone / "energy_uj")
            return None, _refused(zone / "energy_uj") if refused else f"{error}"
        except (OSError, ValueError) as error:
            return None, f"no energy counter is readable: {zone} is damaged ({error})"
        parts.append(counter)
    if not parts:
        return None, f"no energy counter is readable: {powercap} has neither package nor dram"
    return SummedCounter(parts), ""


def nvml_counter() -> tuple[EnergyCounter | None, str]:
    """All NVIDIA GPUs; ``nvmlDeviceGetTotalEnergyConsumption`` counts mJ from Volta on."""
    if importlib.util.find_spec("pynvml") is None:
        return None, (
            "no energy counter is readable: NVML needs nvidia-ml-py"
            " (pip install 'pytest-drlcompress[energy]')"
        )
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        parts = [_Nvml(pynvml, handle, f"NVML GPU {i}") for i, handle in enumerate(handles)]
        for part in parts:
            part.joules()
    except (pynvml.NVMLError, CounterError) as error:
        return None, f"no energy counter is readable: NVML says {error}"
    if not parts:
        return None, "no energy counter is readable: NVML sees no GPU"
    return SummedCounter(parts), ""


@dataclass(frozen=True, eq=False)
class _Nvml:
    """One GPU; 64 bits of millijoules since its driver was loaded do not wrap."""

    library: Any
    handle: Any
    name: str

    def joules(self) -> float:
        try:
            return float(self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle)) * 1e-3
        except self.library.NVMLError as error:
            raise CounterError(f"{self.name} cannot be read any more ({error})") from None


def _reader(path: Path) -> Callable[[], int]:
    return lambda: int(path.read_text())


def _readable(path: Path) -> bool:
    try:
        path.read_text()
    except OSError:
        return False
    return True


def _refused(path: Any) -> str:
    return (
        f"no energy counter is readable: {path} is for root only"
        " (sudo chmod a+r /sys/class/powercap/*/energy_uj)"
    )
