"""What ``baseline.json``, ``training.json`` and a stored variant's JSON file hold."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from pytest_drlcompress.reading.typed import (
    Count,
    Name,
    Scalar,
    Seconds,
    Sha256,
    ShortSha256,
    StateName,
    check,
)

Returns = Annotated[list[float], Meta(min_length=1)]
Bytes = Annotated[int, Meta(ge=0, le=2**53)]

ARTIFACT = "artifact"
"""The key, beside the gates, under which a variant's artifact is described."""


class GateEntry(Struct):
    """The recorded verdict of one gate."""

    state: StateName
    sample_size: Count = 0
    artifact: ShortSha256 | None = None
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None


class ArtifactEntry(Struct):
    """The artifact that a variant's verdicts were recorded of."""

    sha256: Sha256
    bytes: Bytes
    source: ShortSha256
    processor: str
    operators: dict[str, Count]
    parts: dict[str, str]
    settings: dict[str, Any]
    versions: dict[str, str]


class RecordedReference(Struct):
    """The policy's own returns: in a file of their own, or (earlier versions) here."""

    random: Returns
    zero: Returns
    mean: float | None = None
    episodes: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    sha256: Sha256 | None = None
    returns: Returns | None = None
    lengths: list[Count] | None = None
    first_seed: Count | None = None

    def __post_init__(self) -> None:
        if self.returns is None:
            if self.episodes is None or self.sha256 is None:
                raise ValueError("expected returns, or episodes and sha256 of a pool")
            return
        if self.first_seed is None:
            raise ValueError("expected first_seed beside returns")
        for name, told in (("lengths", len(self.lengths or [])), ("episodes", self.episodes)):
            if told and told != len(self.returns):
                raise ValueError(f"{len(self.returns)} returns, but {told} {name}")


class Training(Struct):
    """The provenance of a policy, as far as it is read again."""

    published: float | None = None
    trained_steps: Count | None = None
    best_steps: Count | None = None
    seconds: Seconds | None = None
    curve: list[tuple[float, float]] = []
    source: str = ""
    teacher: str = ""


class BaselineFile(Struct):
    """``baseline.json``. What is not named here is kept as it is."""

    environment: Name
    sha256: Sha256
    algorithm: str = ""
    quality: str = "unrated"
    reference: RecordedReference | None = None
    versions: dict[str, str] | None = None
    verdicts: dict[str, dict[str, dict[str, Any]]] = {}
    training: Training | None = None
    budgets: dict[str, dict[str, Scalar]] = {}


class FailedPolicy(Struct):
    """What a policy earned that is not competent."""

    mean: float
    deviation: float
    length: float
    random: float
    zero: float


class FailedTraining(Struct):
    """The provenance of a training that failed."""

    trained_steps: Count
    seconds: Seconds
    published: float | None
    curve: list[tuple[float, float]] = []


class FailureFile(Struct):
    """``training.json``: a training that did not learn its task."""

    reason: str
    policy: FailedPolicy
    training: FailedTraining


class TrainedSteps(Struct):
    """``state.json`` of a training under way, as far as a table shows it."""

    steps: Count


class VariantFile(Struct):
    """The JSON file beside a stored variant."""

    policy_sha256: Sha256
    recipe: str
    sha256: Sha256
    provenance: dict[str, Any]
    made: dict[str, Any]
    policy: str = ""


def check_baseline(found: Any) -> None:
    """Hold builtins to ``BaselineFile``, each recorded verdict included.

    Raises:
        ContentError: the field that does not fit, and how.
    """
    check(found, BaselineFile)
    for variant, gates in found.get("verdicts", {}).items():
        for gate, entry in gates.items():
            schema = ArtifactEntry if gate == ARTIFACT else GateEntry
            check(entry, schema, f"verdicts.{variant}.{gate}")
