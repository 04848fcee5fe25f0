"""One entrance for every way to name a policy."""

import difflib
import glob
import re
from pathlib import Path

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.policy import Policy

_RECORD = "baseline.json"
_MODULE_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_FILES = (".zip", ".onnx")
_NO_VECNORMALIZE = "none"


def load_policy_source(
    text: str, *, env: EnvSpec | None, trust: bool, vecnormalize: str | None, baselines: Path
) -> Policy:
    """The policy that ``text`` names.

    ``text`` is a folder in the safe format or the id of one under ``baselines``, an SB3
    ``.zip``, an ``.onnx`` file, or ``module:attribute``; all but the first need ``env``.
    ``vecnormalize`` is the path of a zip's observation statistics, ``"none"`` to go without,
    or ``None`` to look for them beside the zip.

    Raises:
        PolicyError: nothing of that name, or it cannot be loaded or does not fit.
        UntrustedPickleError: statistics would have to be unpickled, and ``trust`` is ``False``.
        BaselineError: a damaged baseline.
        EnvironmentSpecError: the environment cannot be made.
    """
    path = Path(text)
    folder = next((f for f in (path, baselines / text) if (f / _RECORD).is_file()), None)
    if folder is not None:
        return _load_baseline(folder, env)
    suffix = path.suffix.lower()
    if suffix in _FILES and not path.is_file():
        raise PolicyError(f"policy {text!r}: no such file{_similar_files(path)}")
    if suffix not in _FILES and not _MODULE_ATTRIBUTE.fullmatch(text):
        raise _unknown(text, baselines)
    if env is None:
        raise PolicyError(
            f"policy {text!r} does not say which environment it acts in: add --drlc-env, for"
            " example --drlc-env=Hopper-v5"
        )
    if suffix == ".zip":
        return _load_zip(path, env, trust=trust, vecnormalize=vecnormalize)
    if suffix == ".onnx":
        from pytest_drlcompress.policies.onnx_file import load_onnx

        return load_onnx(path, env)
    from pytest_drlcompress.policies.torch_module import load_torch

    return load_torch(text, env)


def expand(text: str) -> list[str]:
    """The policies that a glob such as ``models/*.zip`` matches, sorted; other text as it is.

    Raises:
        PolicyError: a glob that matches no zip, ONNX file or baseline folder.
    """
    if not glob.has_magic(text) or Path(text).exists():
        return [text]
    found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (text may be absolute)
    policies = [name for name in found if _is_policy(Path(name))]
    if not policies:
        others = f" ({len(found)} other files match)" if found else ""
        raise PolicyError(f"{text!r} matches no .zip, .onnx or baseline folder{others}")
    return policies


def baseline_ids(baselines: Path) -> list[str]:
    """The ids of the policies stored under ``baselines``, sorted."""
    return sorted(record.parent.name for record in baselines.glob(f"*/{_RECORD}"))


def _load_baseline(folder: Path, env: EnvSpec | None) -> Policy:
    from pytest_drlcompress.policies.store import load_policy

    policy = load_policy(folder)
    if env is not None and env != policy.env:
        raise PolicyError(
            f"baseline {policy.id!r} is recorded on {str(policy.env)!r}, not on {str(env)!r}: leave"
            " --drlc-env out, or import the policy for that environment"
        )
    return policy


def _load_zip(path: Path, env: EnvSpec, *, trust: bool, vecnormalize: str | None) -> Policy:
    from pytest_drlcompress.policies.sb3.load import policy_from_zip
    from pytest_drlcompress.policies.sb3.vecnormalize import find_vecnormalize
    from pytest_drlcompress.policies.sb3.zip import read_zip

    saved = read_zip(path)
    if vecnormalize is None:
        statistics = find_vecnormalize(path)
        if statistics is None and saved.saw_vecnormalize:
            raise saved.error(
                "it was trained behind VecNormalize, whose statistics are not beside it: name them"
                " with --drlc-vecnormalize=PATH, or say --drlc-vecnormalize=none if only rewards"
                " were normalized"
            )
    else:
        statistics = None if vecnormalize == _NO_VECNORMALIZE else Path(vecnormalize)
    return policy_from_zip(saved, env, policy_id="", vecnormalize=statistics, trust=trust)


def _is_policy(path: Path) -> bool:
    return path.suffix.lower() in _FILES or (path / _RECORD).is_file()


def _unknown(text: str, baselines: Path) -> PolicyError:
    known = baseline_ids(baselines)
    close = difflib.get_close_matches(text, known, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(known) or f"none under {baselines}"
    return PolicyError(
        f"policy {text!r} is not a baseline (known: {listing}), an SB3 .zip, an .onnx file, or"
        f" module:attribute{guess}"
    )


def _similar_files(path: Path) -> str:
    siblings = [p.name for p in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {str(path.parent / close[0])!r}?" if close else ""
