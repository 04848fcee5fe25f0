"""Cells of a grid (a policy and a variant) on other machines: made there, judged there.

The verdicts come home, and the artifact with them; the gates of a cell that must be judged here
(latency, energy, chip) are judged on it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pytest_drlcompress.compression.variant import Variant
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.evaluation.executors.base import Executor, Jobs, Node
from pytest_drlcompress.evaluation.executors.waiting import as_they_end
from pytest_drlcompress.evaluation.reference import Reference
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.gates.budgets import Budgets
from pytest_drlcompress.gates.kinds import GATE_KINDS, RETENTION
from pytest_drlcompress.workbench.candidate import Candidate
from pytest_drlcompress.workbench.loaded import LoadedPolicy
from pytest_drlcompress.workbench.parcel import Parcel

Asked = tuple[str, Budgets]
"""A gate by its name, and its budgets."""


@dataclass(frozen=True)
class Judged:
    """What came home of a cell: an error in the place of a verdict that there is none of.

    ``artifact`` is ``None`` where it could not be made.
    """

    artifact: Artifact | None
    verdicts: tuple[Verdict | DrlcError, ...]


@dataclass(frozen=True)
class _Question:
    """What a node is asked of a variant; ``artifact`` where it need not be made."""

    variant: str
    artifact: Artifact | None
    asked: tuple[Asked, ...]
    references: Mapping[str, Reference]


@dataclass
class _Cell:
    candidate: Candidate
    asked: list[Asked] = field(default_factory=list)
    future: "Future[Judged]" = field(default_factory=Future)

    def receive(self, sent: "Future[Judged]") -> None:
        """What came of it."""
        if error := sent.exception():
            self.future.set_exception(error)
        else:
            self.future.set_result(sent.result())


class Cells:
    """The cells of a run, on their way as soon as they are here.

    ``wanted`` are the gates of the run: whose they are, and what is asked.
    """

    def __init__(self, jobs: Jobs, wanted: Iterable[tuple[Candidate, Asked | None]]) -> None:
        self._jobs = jobs
        self._cells: dict[tuple[str, str], _Cell] = {}
        for candidate, asked in wanted:
            cell = self._cells.setdefault(_key(candidate), _Cell(candidate))
            if asked is not None and asked not in cell.asked:
                cell.asked.append(asked)

    def start(self) -> None:
        """Send them all.

        Raises:
            DrlcError: the first policy cannot be rolled out; there are no machines.
        """
        by_policy: dict[str, list[_Cell]] = {}
        for cell in self._cells.values():
            by_policy.setdefault(cell.candidate.policy, []).append(cell)
        first = next(iter(self._cells.values())).candidate.loaded
        prove_nodes(first)
        for cells in by_policy.values():
            self._send(cells)

    def fetch(self, candidate: Candidate) -> Judged | None:
        """Wait for the cell of ``candidate``, whose artifact it has from then on.

        ``None`` where it is none of the cells.

        Raises:
            DrlcError: what kept the cell from being judged.
        """
        cell = self._cells.get(_key(candidate))
        if cell is None:
            return None
        next(as_they_end(self._jobs, [cell.future], "cells"))
        judged = cell.future.result()
        if judged.artifact is not None:
            candidate.adopt(judged.artifact)
        return judged

    def verdict(self, candidate: Candidate, asked: Asked) -> Verdict | None:
        """The verdict that came home; ``None`` where it must be judged here.

        Raises:
            DrlcError: what kept it from being judged.
        """
        judged = self.fetch(candidate)
        cell = self._cells.get(_key(candidate))
        if judged is None or cell is None or asked not in cell.asked:
            return None
        verdict = judged.verdicts[cell.asked.index(asked)]
        if isinstance(verdict, DrlcError):
            raise verdict
        return verdict

    def _send(self, cells: Sequence[_Cell]) -> None:
        """The cells of one policy; before them, its reference where none is recorded."""
        loaded = cells[0].candidate.loaded
        parcel = self._jobs.share(Parcel.of(loaded))
        settings = loaded.tools.settings
        missing = {
            perturb
            for cell in cells
            for name, budgets in cell.asked
            if name == RETENTION.name
            and not loaded.has_reference(perturb := budgets.perturbation(settings))
        }
        if not missing:
            self._submit(cells, parcel, {})
            return
        first = self._jobs.submit(_references, parcel, sorted(missing), group=loaded.policy.id)

        def measured(future: "Future[dict[str, Reference]]") -> None:
            if error := future.exception():
                for cell in cells:
                    cell.future.set_exception(error)
                return
            loaded.references.update(future.result())
            self._submit(cells, parcel, future.result())

        first.add_done_callback(measured)

    def _submit(
        self, cells: Sequence[_Cell], parcel: Any, references: Mapping[str, Reference]
    ) -> None:
        for cell in cells:
            try:
                artifact = cell.candidate.ready
            except DrlcError as error:
                cell.future.set_exception(error)
                continue
            sent = self._jobs.submit(
                _judge_cell,
                parcel,
                _Question(cell.candidate.recipe, artifact, tuple(cell.asked), references),
                group=cell.candidate.policy,
            )
            sent.add_done_callback(cell.receive)


def measured_elsewhere(
    executor: Executor,
    candidates: Sequence[Candidate],
    measure: Callable[[Candidate], Any],
    keep: Callable[[Candidate, Any], None],
) -> Callable[[Candidate], Any]:
    """``measure`` for ``candidates``: what nodes of a cluster have measured, where there is one.

    They begin at once; the reference of each policy is known before. ``keep`` is told of each as
    soon as it is there, in another thread: one that is lost with the cluster takes no other along.

    Raises:
        DrlcError: the first policy cannot be rolled out; there are no nodes.
    """
    jobs = executor.jobs
    if jobs is None or not candidates:
        return measure
    prove_nodes(candidates[0].loaded)
    parcels: dict[str, tuple[Any, Reference]] = {}
    futures: dict[tuple[str, str], Future[Any]] = {}
    for candidate in candidates:
        policy, loaded = candidate.policy, candidate.loaded
        if policy not in parcels:
            parcels[policy] = (jobs.share(Parcel.of(loaded)), loaded.reference(""))
        parcel, reference = parcels[policy]
        question = _Question(candidate.recipe, candidate.ready, (), {"": reference})
        future = jobs.submit(_measure_cell, parcel, question, measure, group=policy)
        future.add_done_callback(partial(_kept, candidate, keep))
        futures[_key(candidate)] = future
    return lambda one: next(as_they_end(jobs, [futures[_key(one)]], "cells")).result()


def _kept(
    candidate: Candidate, keep: Callable[[Candidate, Any], None], future: "Future[Any]"
) -> None:
    if not future.cancelled() and future.exception() is None:
        keep(candidate, future.result())


def prove_nodes(loaded: LoadedPolicy) -> None:
    """Let the nodes of a cluster show that they give two of the policy's recorded episodes.

    Raises:
        DrlcError: the policy cannot be rolled out; there are no nodes.
    """
    policy, tools = loaded.policy, loaded.tools
    model = loaded.exported.model
    for _ in rollout(policy.env, model, range(2), workers=tools.executor, engines=tools.engines):
        pass


def _judge_cell(node: Node, parcel: Parcel, question: _Question) -> Judged:
    """On a node: make the variant, unless it is there, and judge it."""
    candidate = _candidate(node, parcel, question)
    verdicts: list[Verdict | DrlcError] = []
    kinds = {kind.name: kind for kind in GATE_KINDS}
    for name, budgets in question.asked:
        try:
            verdicts.append(kinds[name].load_judge()(candidate, budgets))
        except DrlcError as error:
            verdicts.append(error)
    try:
        made = candidate.artifact
    except DrlcError:  # its verdicts say so
        made = None
    return Judged(made, tuple(verdicts))


def _measure_cell(
    node: Node, parcel: Parcel, question: _Question, measure: Callable[[Candidate], Any]
) -> Any:
    """On a node: ``measure`` the variant."""
    return measure(_candidate(node, parcel, question))


def _candidate(node: Node, parcel: Parcel, question: _Question) -> Candidate:
    loaded = parcel.unpack(node)
    loaded.references.update(question.references)
    candidate = Candidate(loaded, Variant(question.variant))
    if question.artifact is not None:
        candidate.adopt(question.artifact)
    return candidate


def _references(node: Node, parcel: Parcel, perturbs: Sequence[str]) -> dict[str, Reference]:
    """On a node: what nothing is recorded of."""
    loaded = parcel.unpack(node)
    return {perturb: loaded.reference(perturb) for perturb in perturbs}


def _key(candidate: Candidate) -> tuple[str, str]:
    return candidate.policy, candidate.recipe
