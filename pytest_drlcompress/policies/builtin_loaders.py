"""The loaders that come with the plugin, in the order in which they are asked."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.core.extras import need
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.policies.loader import LoadOptions, PolicyLoader
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.record_file import RECORD

_MODULE_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_NO_VECNORMALIZE = "none"


@dataclass(frozen=True)
class BaselineLoader:
    """A folder in the safe format, or the id of one under ``baselines``."""

    baselines: Path

    def matches(self, text: str) -> bool:
        """Whether there is such a folder."""
        return self._folder(text) is not None

    def load(self, text: str, options: LoadOptions) -> Policy:
        """The stored policy.

        Raises:
            BaselineError: a damaged baseline.
            PolicyError: it is recorded on another environment than ``options.env``.
        """
        need("torch", f"policy {text!r}: a baseline")
        from pytest_drlcompress.policies.store import load_policy

        folder = self._folder(text)
        assert folder is not None
        policy = load_policy(folder)
        if options.env is not None and options.env != policy.env:
            raise PolicyError(
                f"baseline {policy.id!r} is recorded on {str(policy.env)!r}, not on"
                f" {str(options.env)!r}: leave --drlc-env out, or import the policy for that"
                " environment"
            )
        return policy

    def _folder(self, text: str) -> Path | None:
        folders = (Path(text), self.baselines / text)
        return next((folder for folder in folders if (folder / RECORD).is_file()), None)


class Sb3Loader:
    """A zip of Stable-Baselines3 or sb3-contrib, and its VecNormalize statistics."""

    def matches(self, text: str) -> bool:
        """By its suffix."""
        return Path(text).suffix.lower() == ".zip"

    def load(self, text: str, options: LoadOptions) -> Policy:
        """The actor in the zip, with its statistics folded in.

        Raises:
            PolicyError: a zip that cannot be read, does not fit, or lacks its statistics.
            UntrustedPickleError: they would have to be unpickled, which ``options`` do not allow.
        """
        need("torch", f"policy {text!r}: an SB3 zip")
        from pytest_drlcompress.policies.sb3.load import policy_from_zip, spec_of
        from pytest_drlcompress.policies.sb3.vecnormalize import find_vecnormalize
        from pytest_drlcompress.policies.sb3.zip import read_zip

        path = _existing(text)
        unnamed = options.env is None and options.recording is not None
        env: EnvSpec | None = None if unnamed else options.environment(text)
        saved = read_zip(path)
        if options.vecnormalize is None:
            statistics = find_vecnormalize(path)
            if statistics is None and saved.saw_vecnormalize:
                raise saved.error(
                    "it was trained behind VecNormalize, whose statistics are not beside it: name"
                    " them with --drlc-vecnormalize=PATH, or say --drlc-vecnormalize=none if only"
                    " rewards were normalized"
                )
        else:
            none = options.vecnormalize == _NO_VECNORMALIZE
            statistics = None if none else Path(options.vecnormalize)
        return policy_from_zip(
            saved, env or spec_of(saved), policy_id="", vecnormalize=statistics, trust=options.trust
        )


class OnnxLoader:
    """An ONNX file of any toolchain."""

    def matches(self, text: str) -> bool:
        """By its suffix."""
        return Path(text).suffix.lower() == ".onnx"

    def load(self, text: str, options: LoadOptions) -> Policy:
        """The file as a policy.

        Raises:
            PolicyError: a file that cannot be read or does not fit.
        """
        from pytest_drlcompress.policies.onnx_file import load_onnx

        path = _existing(text)
        env = options.env if options.recording else options.environment(text)
        return load_onnx(path, env, recording=options.recording, interface=options.interface)


class TorchScriptLoader:
    """A TorchScript file (``torch.jit.save``)."""

    def matches(self, text: str) -> bool:
        """By its suffix."""
        return Path(text).suffix.lower() in (".pt", ".jit", ".ts")

    def load(self, text: str, options: LoadOptions) -> Policy:
        """The file, converted to ONNX.

        Raises:
            PolicyError: a file that cannot be read or converted, or does not fit.
        """
        need("torch", f"policy {text!r}: a TorchScript file")
        from pytest_drlcompress.policies.torchscript import load_torchscript

        env = options.env if options.recording else options.environment(text)
        return load_torchscript(_existing(text), env, options.recording, options.interface)


class TorchExportLoader:
    """A ``torch.export`` file (``torch.export.save``)."""

    def matches(self, text: str) -> bool:
        """By its suffix."""
        return Path(text).suffix.lower() == ".pt2"

    def load(self, text: str, options: LoadOptions) -> Policy:
        """The file, converted to ONNX.

        Raises:
            UntrustedPickleError: ``options`` do not allow to read it.
            PolicyError: a file that cannot be read or converted, or does not fit.
        """
        need("torch", f"policy {text!r}: a torch.export file")
        from pytest_drlcompress.policies.torch_export import load_torch_export

        env = options.env if options.recording else options.environment(text)
        return load_torch_export(
            _existing(text), env, options.recording, options.interface, trust=options.trust
        )


class TorchLoader:
    """``module:attribute``: a torch module in code that can be imported."""

    def matches(self, text: str) -> bool:
        """Whether it reads like this; nothing is imported."""
        return _MODULE_ATTRIBUTE.fullmatch(text) is not None

    def load(self, text: str, options: LoadOptions) -> Policy:
        """The module, imported.

        Raises:
            PolicyError: the import fails, or what it gives does not fit.
        """
        need("torch", f"policy {text!r}: module:attribute")
        from pytest_drlcompress.policies.torch_module import load_torch

        env = options.env if options.recording else options.environment(text)
        return load_torch(text, env, recording=options.recording)


FILE_LOADERS: tuple[PolicyLoader, ...] = (
    Sb3Loader(),
    OnnxLoader(),
    TorchScriptLoader(),
    TorchExportLoader(),
)


def builtin_loaders(baselines: Path) -> tuple[PolicyLoader, ...]:
    """Every loader of the plugin; ``baselines`` is the folder of the run's baselines."""
    return (BaselineLoader(baselines), *FILE_LOADERS, TorchLoader())


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise PolicyError(f"policy {text!r}: no such file{_similar_files(path)}")
    return path


def _similar_files(path: Path) -> str:
    siblings = [p.name for p in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {str(path.parent / close[0])!r}?" if close else ""
