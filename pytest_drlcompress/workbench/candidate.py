"""The candidate: a policy and a variant of it, which every gate judges."""

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Any

from pytest_drlcompress.baselines.changes import Change
from pytest_drlcompress.baselines.fingerprint import change_since, fingerprint
from pytest_drlcompress.baselines.variants import load_variant
from pytest_drlcompress.baselines.verdicts import Expectation
from pytest_drlcompress.compression.recipe import Step
from pytest_drlcompress.compression.step import StepKind
from pytest_drlcompress.compression.variant import Variant
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.errors import ArtifactError, DrlcError
from pytest_drlcompress.core.settings import Settings
from pytest_drlcompress.core.verdict import Verdict
from pytest_drlcompress.measurement.action_error import ActionError, measure_action_error
from pytest_drlcompress.policies.onnx_file import read_variant
from pytest_drlcompress.runtime.controller import Controller
from pytest_drlcompress.workbench.loaded import LoadedPolicy


class Candidate:
    """``variant`` of the policy in ``loaded``: its id, artifact and controller, made once."""

    def __init__(self, loaded: LoadedPolicy, variant: Variant) -> None:
        self.loaded = loaded
        self.variant = variant

    def adopt(self, artifact: Artifact) -> None:
        """``artifact`` is this variant's: it was made, or read, elsewhere."""
        self.ready = self.artifact = artifact

    @property
    def id(self) -> str:
        """The variant's name in verdicts, tables and records."""
        return self.variant.id

    @property
    def recipe(self) -> str:
        """The variant as it was asked for."""
        return self.variant.text

    @property
    def policy(self) -> str:
        """The policy's name there."""
        return self.loaded.policy.id

    @property
    def settings(self) -> Settings:
        """What the run was asked for."""
        return self.loaded.tools.settings

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The recipe's steps with every option filled in; none for a file.

        Raises:
            RecipeError: the recipe is not valid.
        """
        recipe = self.variant.recipe
        if recipe is None:
            return ()
        images = self.loaded.policy.env.images
        return self.loaded.tools.registry.resolve(recipe, images=images).steps

    @property
    def kinds(self) -> Mapping[str, StepKind]:
        """The kind of each of ``steps``, by name."""
        return {step.name: self.loaded.tools.registry.kinds[step.name] for step in self.steps}

    @cached_property
    def artifact(self) -> Artifact:
        """The file that would be deployed: the user's, the stored one, or compressed now.

        Raises:
            ArtifactError: the user's file cannot be read.
            RecipeError: the recipe is not valid, or does not apply to this policy.
            BaselineError: the stored variant is damaged.
        """
        if self.ready is not None:
            return self.ready
        assert self.variant.recipe is not None
        return self.loaded.compressed(self.variant.recipe)

    @cached_property
    def ready(self) -> Artifact | None:
        """The user's file or the stored artifact; ``None`` where it must be made.

        Raises:
            ArtifactError: the user's file cannot be read.
            BaselineError: the stored variant is damaged.
        """
        loaded, recipe = self.loaded, self.variant.recipe
        if recipe is None:
            assert self.variant.file is not None
            read = read_variant(self.variant.file, loaded.policy.env, loaded.tools.interface)
            notes = {"interface": list(read.notes)}
            return Artifact(read.model, self.policy, self.variant.id, notes)
        if loaded.folder is None:
            return None
        return load_variant(loaded.folder, self.policy, str(recipe))

    @cached_property
    def controller(self) -> Controller:
        """What runs ``artifact``.

        Raises:
            ArtifactError: it cannot be loaded, or does not fit the environment.
        """
        return self.loaded.controller_of(self.artifact)

    @cached_property
    def fingerprint(self) -> Mapping[str, Any]:
        """What identifies ``artifact``, by ``baselines.fingerprint``.

        Raises:
            DrlcError: the artifact cannot be made or read.
        """
        with self.analysis():
            return fingerprint(self.artifact, self.id, self.loaded.exported, self.kinds)

    def change_since(self, expected: Expectation) -> Change | None:
        """How the artifact differs from the one that was recorded; ``None`` if it does not.

        Raises:
            DrlcError: the artifact cannot be made or run.
        """
        return change_since(expected, self.fingerprint, lambda: self.action_error.mean)

    @cached_property
    def action_error(self) -> ActionError:
        """How far its actions are from the fp32 artifact's on the probe observations.

        Raises:
            ArtifactError: the artifact cannot be run.
        """
        loaded = self.loaded
        return measure_action_error(
            loaded.controller,
            self.controller,
            loaded.probe_observations,
            loaded.policy.env.action,
        )

    @contextlib.contextmanager
    def analysis(self) -> Iterator[None]:
        """What fails in it on a user's own file is that file's fault; on others it is ours.

        Raises:
            ArtifactError: instead of whatever was raised on a user's file.
        """
        try:
            yield
        except DrlcError:
            raise
        except Exception as error:  # graphs of any toolchain
            if self.variant.file is None:
                raise
            text = " ".join(str(error).split()) or "no message"
            raise ArtifactError(
                f"{self.variant.file} cannot be analysed ({type(error).__name__}: {text})"
            ) from error

    def verdict(self, gate: str, limit: float | None) -> partial[Verdict]:
        """A verdict of this candidate; what was found is left to the caller."""
        return partial(Verdict, gate=gate, policy=self.policy, variant=self.id, limit=limit)
