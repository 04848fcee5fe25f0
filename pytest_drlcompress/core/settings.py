"""The options of a run, as one table that pytest and the commands share, and their ``Settings``.

Each option knows its help, its default and how its text is read; nothing here knows pytest or
argparse.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_drlcompress.core.option_values import (
    named_value,
    number,
    one_of,
    read_value,
    report_path,
    whole,
)
from pytest_drlcompress.core.quantities import parse_bytes


@dataclass(frozen=True)
class Settings:
    """What one run was asked for. ``from_cli`` names the fields given on the command line."""

    policies: tuple[str, ...]
    env: str | None
    observations: Path | None
    output: str
    inputs: tuple[str, ...]
    variants: tuple[str, ...]
    stored: tuple[str, ...]
    min_retention: float
    alpha: float
    max_episodes: int
    precision: float | None
    seed: int
    max_action_error: float
    inconclusive: str
    perturb: str
    workers: int
    executor: str
    ray_address: str | None
    ray_runtime_env: Path | None
    trust: bool
    vecnormalize: str | None
    baselines: Path
    record: bool
    record_new: bool
    record_anyway: bool
    report: tuple[Path, ...]
    film: str
    sweep: bool
    plan: bool
    cache: bool
    unmeasured: str
    hard_deadline: bool
    max_latency_ratio: float | None
    max_latency_us: float | None
    deadline_hz: float | None
    max_bytes: float | None
    fits: float | None
    max_energy_uj: float | None
    runtime: str
    target: str | None
    max_flash: float | None
    max_ram: float | None
    max_instructions: float | None
    from_cli: frozenset[str]

    def rerun_options(self) -> list[str]:
        """What was given on the command line and another run of the same gates needs, too."""
        once = ("report", "film", "record", "record_new", "record_anyway", "plan")
        texts = []
        for option in OPTIONS:
            if option.field not in self.from_cli or option.field in once:
                continue
            if option.flag:
                texts.append(option.switch)
                continue
            value = getattr(self, option.field)
            texts += [f"{option.switch}={v}" for v in (value if option.multiple else [value])]
        return texts

    def header(self) -> str:
        """The effective values in one line."""
        asked = f", policies {' '.join(self.policies)}" if self.policies else ""
        perturbed = f", perturbed by {self.perturb}" if self.perturb else ""
        seen = f", observations {self.observations}" if self.observations else ""
        variants = f", variants {' '.join(self.variants)}" if self.variants else ""
        narrow = "" if self.precision is None else f", to a precision of {self.precision:g}"
        return (
            f"drlcompress: retention >= {self.min_retention:g}, alpha {self.alpha:g}, at most"
            f" {self.max_episodes} episodes{narrow}, seed {self.seed}, inconclusive:"
            f" {self.inconclusive}, action error <= {self.max_action_error:g}"
            f"{perturbed}{asked}{seen}{variants}"
        )


@dataclass(frozen=True)
class Option:
    """One option; one that is ``multiple`` is repeatable, and read text by text.

    ``read`` makes a value of text, or raises a ``ValueError`` that says what it must be.
    """

    field: str
    help: str
    read: Callable[[str], Any]
    default: Any
    multiple: bool = False
    flag: bool = False
    metavar: str | None = None

    @property
    def ini(self) -> str:
        """Its name in an ini file."""
        return f"drlc_{self.field}"

    @property
    def switch(self) -> str:
        """Its name on pytest's command line."""
        singular = {"policies": "policy", "variants": "variant", "inputs": "input"}.get(
            self.field, self.field
        )
        return "--drlc-" + singular.replace("_", "-")


NEEDS_RAY = "--drlc-executor=ray needs Ray: pip install 'pytest-drlcompress[ray]'"

CHIPS = ("cortex-m0", "cortex-m4", "cortex-m7", "cortex-m55", "riscv32")
"""Microcontrollers that ``codegen.targets`` knows."""

OPTIONS = (
    Option(
        "policies",
        "policy to judge: a baseline's id, an SB3 .zip, an .onnx or TorchScript file,"
        " module:attribute of a torch module, or a glob; repeatable (default: every baseline)",
        str, (), multiple=True, metavar="POLICY",
    ),
    Option(
        "env",
        "environment of the policies that are not baselines, for example Hopper-v5,"
        " Ant-v4:pad_observation=84 or package.module:make_env",
        str, None, metavar="ENV",
    ),
    Option(
        "observations",
        "recorded observations (.npy, .npz, .parquet, or a folder of them) to compare actions and"
        " calibrate on instead of rollouts; makes --drlc-env optional",
        Path, None, metavar="PATH",
    ),
    Option(
        "output", "the output of ONNX files that is the action (default: action, actions, mean, or"
        " the only one that fits)",
        str, "", metavar="NAME",
    ),
    Option(
        "inputs",
        "an input of ONNX files that is not the observation: its value if it is constant"
        " (time_step=0), step if it counts the steps, or the output that a state goes on with"
        " (h_in=h_out); repeatable",
        named_value, (), multiple=True, metavar="NAME=VALUE",
    ),
    Option(
        "variants",
        "compression to judge: a recipe such as ptdq or ptsq:equalize=true, or the .onnx file of"
        " any toolchain; repeatable",
        str, (), multiple=True, metavar="RECIPE|FILE",
    ),
    Option(
        "stored",
        "which of the variants that a baseline brings (stored beside it, or recorded) are judged"
        " beside the default ones where no variant is asked for; repeatable (default: all)",
        str, (), multiple=True, metavar="RECIPE",
    ),
    Option(
        "min_retention", "share of the baseline's return to keep (default 0.90)",
        number(0, 10, closed=True), 0.90, metavar="SHARE",
    ),
    Option(
        "alpha", "bound on each error of the retention gate (default 0.05)",
        number(0, 0.5), 0.05, metavar="P",
    ),
    Option(
        "max_episodes", "episodes after which a gate is INCONCLUSIVE (default 1000)",
        whole(1), 1000, metavar="N",
    ),
    Option(
        "precision",
        "go on after the retention gate's decision until its interval is that narrow, for example"
        " 0.02",
        number(0, 10), None, metavar="WIDTH",
    ),
    Option("seed", "seed of every random choice (default 0)", whole(0), 0, metavar="N"),
    Option(
        "max_action_error",
        "largest mean action error, as a share of the action range (discrete: share of greedy"
        " actions changed) (default 0.05)",
        number(0, 1, closed=True), 0.05, metavar="SHARE",
    ),
    Option(
        "inconclusive", "what an INCONCLUSIVE gate does: fail (default), xfail or skip",
        one_of(("fail", "xfail", "skip")), "fail", metavar="OUTCOME",
    ),
    Option(
        "perturb",
        "judge retention under disturbances: observation_noise=0.05 (in standard deviations),"
        " action_noise=0.1 (in half ranges), mass=1.2, friction=0.8 (factors), joined by commas",
        str, "", metavar="KEY=NUMBER,...",
    ),
    Option(
        "workers", "processor cores for rollouts (default: all; 1 in an xdist worker)",
        whole(1), 0, metavar="N",
    ),
    Option(
        "executor",
        "where rollouts and compression run: local (the default), or ray (the nodes of a Ray"
        " cluster)",
        one_of(("local", "ray")), "local", metavar="NAME",
    ),
    Option(
        "ray_address",
        "HOST:PORT of a running Ray cluster, or auto (default: a cluster on this machine, started"
        " and ended with the run)",
        str, None, metavar="ADDRESS",
    ),
    Option(
        "ray_runtime_env",
        "a JSON file with Ray's runtime environment: what your own code needs on the nodes, such"
        ' as {"working_dir": "."}',
        Path, None, metavar="FILE",
    ),
    Option(
        "trust",
        "allow reading the pickle of VecNormalize statistics beside an SB3 zip, and .pt2 files",
        str, False, flag=True,
    ),
    Option(
        "vecnormalize",
        "VecNormalize statistics of an SB3 zip: a path, or none (default: looked for beside it)",
        str, None, metavar="PATH|none",
    ),
    Option(
        "baselines", "folder of the baselines (default: baselines under the root directory)",
        Path, Path("baselines"), metavar="DIR",
    ),
    Option(
        "record",
        "record the verdicts of this run in its baselines, also where others are recorded; prints"
        " old and new",
        str, False, flag=True,
    ),
    Option("record_new", "record the verdicts that are missing", str, False, flag=True),
    Option(
        "record_anyway",
        "allow --drlc-record and --drlc-record-new under xdist and where CI is set",
        str, False, flag=True,
    ),
    Option(
        "report",
        "write a report at the end of the run, in the form that the suffix names: .html, .md or"
        " .json; repeatable",
        report_path, (), multiple=True, metavar="PATH",
    ),
    Option(
        "film",
        "of which retention gates an .html report shows an episode of baseline and candidate side"
        " by side: failures (default), all or none",
        one_of(("failures", "all", "none")), "failures", metavar="WHICH",
    ),
    Option(
        "sweep", "run the pruning sweeps, which take minutes for each policy", str, False, flag=True
    ),
    Option(
        "plan",
        "say what the retention gates would cost, episodes and minutes expected, and run nothing",
        str, False, flag=True,
    ),
    Option("no_cache", "measure every episode again", str, False, flag=True),
    Option(
        "unmeasured",
        "what a NOT_MEASURED gate does, such as energy without a readable counter: skip (default)"
        " or fail",
        one_of(("skip", "fail")), "skip", metavar="OUTCOME",
    ),
    Option(
        "hard_deadline",
        "hold max_latency_us and deadline_hz against this machine's clock; it must be tuned"
        " (pyperf system tune, an isolated core)",
        str, False, flag=True,
    ),
    Option(
        "max_latency_ratio", "largest latency, as a ratio to the baseline's own artifact",
        number(0, math.inf), None, metavar="RATIO",
    ),
    Option(
        "max_latency_us", "largest median time of one action; needs --drlc-hard-deadline",
        number(0, math.inf), None, metavar="US",
    ),
    Option(
        "deadline_hz",
        "control rate whose period at most 1 action in 1000 may exceed; needs"
        " --drlc-hard-deadline",
        number(0, math.inf), None, metavar="HZ",
    ),
    Option(
        "max_bytes", "largest artifact on disk, for example 80kB", parse_bytes, None, metavar="SIZE"
    ),
    Option(
        "fits", "memory that weights and activations must fit, for example 256KiB", parse_bytes,
        None, metavar="SIZE",
    ),
    Option(
        "max_energy_uj", "largest measured energy of one action in microjoules",
        number(0, math.inf), None, metavar="UJ",
    ),
    Option(
        "runtime",
        "what runs the artifact: onnx (ONNX Runtime, the default) or c (generated C, compiled here"
        " by the system's compiler)",
        one_of(("onnx", "c")), "onnx", metavar="NAME",
    ),
    Option(
        "target",
        "microcontroller to compile for and to count instructions on, under QEMU:"
        f" {', '.join(CHIPS)}",
        one_of(CHIPS), None, metavar="CHIP",
    ),
    Option(
        "max_flash", "largest code and constants on the --drlc-target, for example 8KiB",
        parse_bytes, None, metavar="SIZE",
    ),
    Option(
        "max_ram", "largest stack and data of one action on the --drlc-target", parse_bytes, None,
        metavar="SIZE",
    ),
    Option(
        "max_instructions", "most instructions of one action on the --drlc-target",
        number(0, math.inf), None, metavar="N",
    ),
)  # fmt: skip


SUBJECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "what is judged": (
            "policies", "env", "variants", "stored", "observations", "perturb", "output", "inputs",
            "trust", "vecnormalize",
        ),
        "the return": (
            "min_retention", "alpha", "max_episodes", "precision", "inconclusive", "seed",
        ),
        "what an action may cost": (
            "max_action_error", "max_latency_ratio", "max_latency_us", "deadline_hz",
            "hard_deadline", "max_bytes", "fits", "max_energy_uj", "unmeasured", "runtime",
            "target", "max_flash", "max_ram", "max_instructions",
        ),
        "records and reports": (
            "baselines", "record", "record_new", "record_anyway", "report", "film",
        ),
        "how it runs": (
            "plan", "sweep", "workers", "no_cache", "executor", "ray_address", "ray_runtime_env",
        ),
    }
)  # fmt: skip
"""The options by subject, as ``pytest --help`` and the reference group them."""


def default_settings(**given: Any) -> Settings:
    """Every option's default, but for the fields ``given``: settings outside pytest."""
    values = {option.field: option.default for option in OPTIONS}
    cache = not values.pop("no_cache")
    return Settings(**{"cache": cache, "from_cli": frozenset(given), **values, **given})


def read(option: Option, source: str, given: Any) -> Any:
    """The value of ``option``, whose text (a list of texts if ``multiple``) stands in ``source``.

    Raises:
        OptionError: an impossible value, naming ``source`` and the text.
    """
    if option.flag:
        return bool(given)
    if option.multiple:
        return tuple(read_value(source, option.read, text) for text in given)
    return read_value(source, option.read, given)
