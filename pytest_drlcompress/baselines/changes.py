"""Is the artifact still the recorded one, and if not, what changed in it? Pure data in and out.

With the versions and on the processor of the record, the same code makes the same bytes, so any
difference is a change of the code. On another processor floating-point kernels differ in their
last bits, rollouts and calibration with them: there the settings, the operators and the size
are compared exactly and the action error within ``NOISE``. With other library versions only
the settings and the action error are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_drlcompress.core.artifact import SHORT

NOISE = (1.5, 0.002)
"""An action error counts as other than recorded beyond a factor of 1.5 and 0.2 % of the action
range: other seeds for calibration and comparison move it by up to 1.22 times, in one case of twelve
by 2.2 times, 0.0017 (benchmarks/test_action_error_spread.py)."""


@dataclass(frozen=True)
class Change:
    """How an artifact differs from the recorded one.

    ``worse`` must be looked at, ``better`` is news, ``elsewhere`` is what another processor or
    other libraries explain.
    """

    kind: Literal["worse", "better", "elsewhere"]
    text: str


def artifact_section(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What of a ``fingerprint`` is recorded."""
    left_out = ("policy", "variant", "code")
    return {name: value for name, value in facts.items() if name not in left_out}


def find_change(
    entry: Mapping[str, Any],
    section: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
    error: tuple[float | None, float | None],
) -> Change | None:
    """What changed since a gate was recorded as ``entry``; ``None`` for the same artifact.

    ``section`` is the recorded ``artifact_section`` of the variant, ``facts`` the fingerprint
    now, ``error`` the mean action error as recorded and now. An entry that does not say of which
    artifact it is (records of earlier versions) is never found changed.
    """
    recorded = entry.get("artifact")
    if recorded is None or facts["sha256"].startswith(recorded):
        return None
    if section is None or not section["sha256"].startswith(recorded):
        return Change("worse", "This gate was recorded of another artifact of the variant.")
    same_versions = section["versions"] == facts["versions"]
    same_place = same_versions and section["processor"] == facts["processor"]
    same_source = section["source"] == facts["source"]
    settings = _differences(section["settings"], facts["settings"])
    operators = _differences(section["operators"], facts["operators"])
    grown = section["bytes"] != facts["bytes"]
    unexplained = bool(same_place or settings or (same_versions and (operators or grown)))
    figure = _compare(*error) if same_source else None
    if figure == "better":
        kind: Literal["worse", "better", "elsewhere"] = "better"
    else:
        kind = "worse" if unexplained or figure == "worse" else "elsewhere"
    lines = [_headline(settings, section, facts)]
    lines += _inside(section, facts, operators)
    if None not in error and same_source:
        lines.append("Mean action error {:.4f} -> {:.4f}.".format(*error))
    if not same_versions:
        lines.append(f"Versions: {_listed(_differences(section['versions'], facts['versions']))}.")
    elif not same_place:
        lines.append("It was recorded on another processor.")
    lines.append(f"Place: {_place(settings, facts, same_source=same_source)}.")
    return Change(kind, "\n    ".join(lines))


def _compare(before: float | None, now: float | None) -> str | None:
    if before is None or now is None:
        return None
    factor, floor = NOISE
    if now > before * factor + floor:
        return "worse"
    return "better" if now < before / factor - floor else None


def _headline(settings: Sequence[str], section: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    text = "The artifact is not the recorded one"
    if settings:
        return f"{text}: {_listed(settings)}."
    shas = f"{section['sha256'][:SHORT]} -> {facts['sha256'][:SHORT]}"
    return f"{text} (SHA-256 {shas}), and its recipe's settings are unchanged."


def _inside(
    section: Mapping[str, Any], facts: Mapping[str, Any], operators: Sequence[str]
) -> list[str]:
    lines = []
    if section["bytes"] != facts["bytes"]:
        lines.append(f"Bytes {section['bytes']:,} -> {facts['bytes']:,}.")
    if operators:
        lines.append(f"Operators: {_listed(operators)}.")
    before, now = section["parts"], facts["parts"]
    names = sorted({*before, *now})
    changed = [name for name in names if before.get(name) != now.get(name)]
    same = [name for name in names if name not in changed]
    if changed:
        kept = f"; unchanged: {', '.join(same)}" if same else ""
        lines.append(f"Changed in it: {', '.join(changed)}{kept}.")
    return lines


def _place(settings: Sequence[str], facts: Mapping[str, Any], *, same_source: bool) -> str:
    if not same_source:
        return (
            "the fp32 policy that every recipe starts from is another: loading"
            " (pytest_drlcompress.policies) or exporting it (pytest_drlcompress.policies.export)"
        )
    named = [s for s in facts["code"] if any(line.startswith(f"{s} ") for line in settings)]
    steps = ", ".join(f"{step} ({facts['code'][step]})" for step in named or facts["code"])
    return f"step {steps}" if steps else "the file itself"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name.replace('.', ' ')} {before.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _listed(differences: Sequence[str]) -> str:
    return "; ".join(differences)
