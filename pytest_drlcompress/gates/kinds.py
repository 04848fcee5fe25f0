"""The table of gates: the one place that says which gates there are and what each is about.

Fixtures, reports, records, comparisons and plots derive from it. A new gate is one entry here and
its judge. Imports nothing heavy: the plugin reads it when it is loaded.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class GateKind:
    """One gate.

    ``name`` is how verdicts, records and tables call it, ``fixture`` how tests ask for it, and
    ``summary`` what ``pytest --fixtures`` shows. ``judge`` is ``"module:function"``, imported
    when first needed: ``(candidate, budgets) -> Verdict``, or for a gate of a whole ``"policy"``
    what ``plugin.fixtures`` says.

    ``recorded`` says what a baseline's record is for: an ``"expectation"`` that a later verdict is
    held to as long as the budget named ``limit`` is the same, a ``"figure"`` to be read, or
    nothing. ``machine_bound`` figures are compared between runs on one machine only. ``benchmark``
    says what a ``benchmark`` fixture in the same test gets: ``"figures"``, or ``"calls"`` as well.

    A figure times ``scale`` is shown with ``unit`` behind it, in tables by the format ``cell``, in
    a line by ``line`` (empty: as a plain number). ``frontier`` is what it is called where the
    X
    """

    name: str
    fixture: str
    summary: str
    judge: str
    better: Better
    of: Literal["variant", "policy"] = "variant"
    recorded: Literal["expectation", "figure", ""] = ""
    limit: str = ""
    machine_bound: bool = False
    benchmark: Literal["figures", "calls", ""] = ""
    scale: float = 1.0
    unit: str = ""
    cell: str = ".3g"
    line: str = ""
    frontier: str = ""
    anywhere: bool = False

    def load_judge(self) -> Callable[..., Any]:
        """The function that ``judge`` names."""
        function: Callable[..., Any] = pkgutil.resolve_name(self.judge)
        return function

    def in_cell(self, value: float) -> str:
        """``value`` as a table shows it."""
        return self._shown(value, self.cell)

    def in_line(self, value: float, plain: str) -> str:
        """``value`` as a verdict's line shows it; ``plain`` is the format of a plain number."""
        return self._shown(value, self.line or plain)

    def _shown(self, value: float, digits: str) -> str:
        return f"{value * self.scale:{digits}}{' ' if self.unit else ''}{self.unit}"


RETENTION = GateKind(
    name="retention",
    fixture="retention",
    summary="Gate on the share of the baseline's return that the variant keeps.",
    judge="pytest_drlcompress.gates.retention:judge_retention",
    better="higher",
    recorded="expectation",
    limit="min_retention",
    cell=".3f",
    anywhere=True,
)
ACTION_ERROR = GateKind(
    name="action error",
    fixture="action_error",
    summary="Gate on how far the variant's actions are from the fp32 artifact's.",
    judge="pytest_drlcompress.gates.action_error:judge_action_error",
    better="lower",
    recorded="expectation",
    limit="max_action_error",
    anywhere=True,
)
SPARSITY = GateKind(
    name="sparsity",
    fixture="sparsity",
    summary="""Gate on the zeros among the artifact's own weights, per layer and in total.

    Held to the marker's ``target_sparsity``, else to what a ``sparse@N`` recipe says.
    """,
    judge="pytest_drlcompress.gates.sparsity:judge_sparsity",
    better="higher",
    recorded="figure",
    cell=".1%",
    anywhere=True,
)
LATENCY = GateKind(
    name="latency",
    fixture="latency",
    summary="""Gate on the time of one action, against the baseline's artifact.

    A test that also takes pytest-benchmark's ``benchmark`` records the artifact's own
    microseconds there.
    """,
    judge="pytest_drlcompress.gates.latency:judge_latency",
    better="lower",
    machine_bound=True,
    benchmark="calls",
    frontier="latency ratio",
)
MEMORY = GateKind(
    name="memory",
    fixture="memory",
    summary="Gate on the bytes of the artifact, on disk and while it runs.",
    judge="pytest_drlcompress.gates.memory:judge_memory",
    better="lower",
    recorded="figure",
    benchmark="figures",
    unit="B",
    cell=",.0f",
    line=",.0f",
    frontier="bytes",
    anywhere=True,
)
ENERGY = GateKind(
    name="energy",
    fixture="energy",
    summary="Gate on the joules of one action; NOT_MEASURED where no counter is readable.",
    judge="pytest_drlcompress.gates.energy:judge_energy",
    better="lower",
    machine_bound=True,
    benchmark="figures",
    scale=1e6,
    unit="uJ",
    line=".3g",
)
CHIP = GateKind(
    name="chip",
    fixture="chip",
    summary="""Gate on flash, RAM and instructions on the microcontroller of ``--drlc-target``.

    NOT_MEASURED without a target, or where its compiler or QEMU is not installed.
    """,
    judge="pytest_drlcompress.gates.chip:judge_chip",
    better="lower",
    unit="B",
    cell=",.0f",
    line=",.0f",
    frontier="flash",
)
PRUNING = GateKind(
    name="pruning",
    fixture="pruning_sweep",
    summary="""Gate on the most pruning that keeps the return; needs ``--drlc-sweep``.

    Parametrize it (``indirect=True``) with recipes without an amount: ``l1``, ``l2+ptdq``. The
    retention verdict of each ratio is in the reports as well.
    """,
    judge="pytest_drlcompress.gates.pruning:run_sweep",
    better="higher",
    of="policy",
    cell=".1%",
)

GATE_KINDS: tuple[GateKind, ...] = (
    RETENTION,
    ACTION_ERROR,
    SPARSITY,
    LATENCY,
    MEMORY,
    ENERGY,
    CHIP,
    PRUNING,
)
"""Every gate, in the order of the columns of a table."""


def kind_of(gate: str) -> GateKind | None:
    """The kind of a verdict's ``gate``; ``None`` for one that users made.

    A gate under other conditions keeps the name in front: ``"retention under mass=1.2"``.
    """
    return next((kind for kind in GATE_KINDS if gate.startswith(kind.name)), None)
