"""One entrance for every way to name a policy."""

import difflib
import glob
from collections.abc import Sequence
from pathlib import Path

from pytest_drlcompress.core.errors import DrlcError, PolicyError
from pytest_drlcompress.environments.recorded import Recording
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.builtin_loaders import FILE_LOADERS, builtin_loaders
from pytest_drlcompress.policies.loader import LoadOptions, PolicyLoader
from pytest_drlcompress.policies.onnx_interface import Interface
from pytest_drlcompress.policies.policy import Policy, check_network
from pytest_drlcompress.policies.record_file import RECORD


def load_policy_source(
    text: str,
    *,
    env: EnvSpec | None,
    trust: bool,
    vecnormalize: str | None,
    baselines: Path,
    loaders: Sequence[PolicyLoader] = (),
    recording: Recording | None = None,
    interface: Interface | None = None,
) -> Policy:
    """The policy that ``text`` names, by the first loader that it matches.

    ``loaders`` are the user's own, asked first. Otherwise ``text`` is a folder in the safe
    format or the id of one under ``baselines``, an SB3 ``.zip``, an ``.onnx`` file, a TorchScript
    file, or ``module:attribute``; all but the first need ``env``, or a ``recording`` of
    observations. The other options are those of ``LoadOptions``.

    Raises:
        PolicyError: nothing of that name, or it cannot be loaded or does not fit.
        UntrustedPickleError: statistics would have to be unpickled, and ``trust`` is ``False``.
        BaselineError: a damaged baseline.
        EnvironmentSpecError: the environment cannot be made.
    """
    options = LoadOptions(env, trust, vecnormalize, recording, interface or Interface())
    for own in loaders:
        if own.matches(text):
            return _by_own(own, text, options)
    for loader in builtin_loaders(baselines):
        if loader.matches(text):
            return loader.load(text, options)
    raise _unknown(text, baselines)


def expand(text: str, loaders: Sequence[PolicyLoader] = ()) -> list[str]:
    """The policies that a glob such as ``models/*.zip`` matches, sorted; other text as it is.

    ``loaders`` are the user's own, whose files count as policies too.

    Raises:
        PolicyError: a glob that matches no zip, ONNX file, baseline folder or file of ``loaders``.
    """
    if not glob.has_magic(text) or Path(text).exists():
        return [text]
    found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (text may be absolute)
    asked = (*loaders, *FILE_LOADERS)
    policies = [
        name
        for name in found
        if (Path(name) / RECORD).is_file() or any(loader.matches(name) for loader in asked)
    ]
    if not policies:
        others = f" ({len(found)} other files match)" if found else ""
        raise PolicyError(f"{text!r} matches no .zip, .onnx, .pt or baseline folder{others}")
    return policies


def baseline_ids(baselines: Path) -> list[str]:
    """The ids of the policies stored under ``baselines``, sorted."""
    return sorted(record.parent.name for record in baselines.glob(f"*/{RECORD}"))


def _by_own(loader: PolicyLoader, text: str, options: LoadOptions) -> Policy:
    where = f"policy {text!r}: {type(loader).__name__}"
    try:
        policy = loader.load(text, options)
    except DrlcError:
        raise
    except (Exception, SystemExit) as error:  # user code
        raise PolicyError(f"{where} fails: {error!r}") from error
    if not isinstance(policy, Policy):
        raise PolicyError(f"{where} returned a {type(policy).__name__}, not a Policy")
    if isinstance(policy.source, bytes):
        from pytest_drlcompress.policies.onnx_file import check_model

        check_model(text, policy.env, policy.source)
    else:
        check_network(policy.id, policy.env, policy.source)
    return policy


def _unknown(text: str, baselines: Path) -> PolicyError:
    known = baseline_ids(baselines)
    close = difflib.get_close_matches(text, known, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(known) or f"none under {baselines}"
    return PolicyError(
        f"policy {text!r} is not a baseline (known: {listing}), an SB3 .zip, an .onnx file, a"
        f" TorchScript .pt, a torch.export .pt2, or module:attribute{guess}"
    )
