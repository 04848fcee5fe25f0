"""What a JSON report holds, as far as it is read again (docs/report.md has all of it)."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from pytest_drlcompress.reading.typed import Count, Name, ShortSha256, StateName


class ReportedVerdict(Struct):
    """One verdict."""

    gate: Name
    policy: Name
    variant: Name
    state: StateName
    reason: str
    estimate: float | None
    interval: tuple[float, float] | None
    limit: float | None
    sample_size: Count
    unit: str
    e_value: float | None
    alpha: float | None
    details: dict[str, Any]


class ReportedArtifact(Struct):
    """The fingerprint of one variant's artifact."""

    policy: Name
    variant: Name
    sha256: ShortSha256
    bytes: Count
    source: str
    processor: str
    operators: dict[str, Count]
    parts: dict[str, str]
    settings: dict[str, Any]
    versions: dict[str, str]
    code: dict[str, str]


class ReportedRun(Struct):
    """How the run was made."""

    processor: str | None = None


class ReportFile(Struct):
    """A report."""

    schema_version: Annotated[int, Meta(ge=0, le=2**31)]
    verdicts: list[ReportedVerdict]
    artifacts: list[ReportedArtifact] = []
    run: ReportedRun | None = None
