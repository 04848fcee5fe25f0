"""The errors a user can cause; each message says what was wrong, where, and what to do.

The plugin turns them into ``pytest.UsageError`` while it configures and into a clean
test failure afterwards; the command line prints the message and exits with 2.
"""

_MOST_CHARACTERS = 10_000


class DrlcError(Exception):
    """Base of every error whose message is meant for the user as it stands.

    What is quoted from a file may be of any length; nobody reads megabytes of it.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ... (cut)"


class OptionTextError(DrlcError):
    """``key=value,...`` text that cannot be read."""


class OptionError(DrlcError):
    """An option's value that is impossible."""


class EnvironmentSpecError(DrlcError):
    """An environment that does not exist, cannot be made, or is not supported."""


class ObservationsError(DrlcError):
    """Recorded observations that cannot be read, or do not fit the policy."""


class PolicyError(DrlcError):
    """A policy file that cannot be read, is not supported, or does not fit its environment."""


class UntrustedPickleError(PolicyError):
    """A pickle would have to be read, and the user has not said that it may be."""


class RecipeError(DrlcError):
    """A recipe that cannot be parsed, or that does not apply to the policy at hand."""


class QuantizationError(DrlcError, ValueError):
    """Numbers that cannot be quantized as asked: NaN, infinities, nothing, a shape that is off."""


class ArtifactError(DrlcError):
    """An ONNX file that cannot be loaded or does not have one input and one output."""


class CounterError(DrlcError):
    """An energy counter that was readable and is not any more."""


class EpisodeError(DrlcError):
    """An episode that could not be completed: the environment or the policy failed in it."""


class ActionError(EpisodeError):
    """The policy produced an action outside the action space (NaN counts as outside).

    ``cause`` is what it probably comes of.
    """

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message, cause)
        self.cause = cause

    def __str__(self) -> str:
        return str(self.args[0])


class ExecutorError(DrlcError):
    """What the work is to be done on is gone, cannot be reached, or may not take part."""


class BaselineError(DrlcError):
    """A baseline folder that is missing, damaged, or does not match its record."""


class ReportError(DrlcError):
    """A JSON report that cannot be read or compared."""


class MissingExtraError(DrlcError):
    """What was asked for needs a package that only an extra of this distribution brings."""


class TrainingError(DrlcError):
    """A training recipe that cannot be run, or a trained policy that did not learn its task."""


class CodeGenerationError(ArtifactError):
    """An ONNX model that cannot be written as C, or C that cannot be compiled here."""
