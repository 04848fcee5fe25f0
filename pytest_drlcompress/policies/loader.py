"""What loads a policy from the text that names it: the protocol, for own loaders as well."""

from dataclasses import dataclass, field
from typing import Protocol

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.recorded import Recording
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.policy import Policy


@dataclass(frozen=True)
class LoadOptions:
    """What the run says about its policies.

    ``env`` is ``--drlc-env``; ``trust`` allows reading pickles; ``vecnormalize`` is the path of
    a zip's observation statistics, ``"none"`` to go without, or ``None`` to look for them beside
    the zip. ``recording`` holds recorded observations, which stand in for an environment.
    ``interface`` is what is said of the inputs and outputs of ONNX files.
    """

    env: EnvSpec | None = None
    trust: bool = False
    vecnormalize: str | None = None
    recording: Recording | None = None
    interface: Interface = field(default_factory=Interface)

    def environment(self, text: str) -> EnvSpec:
        """The environment of the policy ``text``, which does not say it itself.

        Raises:
            PolicyError: ``--drlc-env`` is missing.
        """
        if self.env is None:
            raise PolicyError(
                f"policy {text!r} does not say which environment it acts in: add --drlc-env, for"
                " example --drlc-env=Hopper-v5, or name recorded observations with"
                " --drlc-observations"
            )
        return self.env


class PolicyLoader(Protocol):
    """Loads the policies that one kind of text names: files with a suffix, a registry's names.

    The first loader that ``matches`` the text of ``--drlc-policy`` loads it; own loaders are
    asked before those that come with the plugin. A loader of a network's bare weights:

        class ActorLoader:
            def matches(self, text):
                return text.endswith(".safetensors")

            def load(self, text, options):
                actor = Actor()
                actor.load_state_dict(safetensors.torch.load_file(text))
                return Policy(Path(text).stem, options.environment(text), actor, origin=text)

    What is loaded is then run on two zero observations, so that a network that does not fit its
    environment, or leaves its action space, is refused before anything is measured.
    """

    def matches(self, text: str) -> bool:
        """Whether ``text`` is this loader's to load, even if that will fail.

        It is also asked of each file that a glob (``models/*``) finds. Reads and imports nothing
        that costs time.
        """
        ...

    def load(self, text: str, options: LoadOptions) -> Policy:
        """The policy that ``text`` names.

        Its ``source`` is a torch network, or the bytes of an ONNX file, from observations
        ``(batch, *observation_shape)`` to actions ``(batch, *action_shape)`` inside the action
        space (integers ``(batch,)`` for discrete ones), with everything that the deployed
        controller needs folded in. ``id`` should be short and not depend on the machine;
        ``origin`` is ``text``.

        Raises:
            PolicyError: it cannot be read or does not fit; one line that says what to do.
        """
        ...
