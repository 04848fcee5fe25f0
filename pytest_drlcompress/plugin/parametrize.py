"""Which policies and variants a test runs over, under short stable ids."""

import pytest

from pytest_drlcompress.compression.variant import Variant
from pytest_drlcompress.core.errors import DrlcError
from pytest_drlcompress.plugin.session import RUN, Run

_POLICY = "_drlc_policy_text"


def generate(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test that uses ``policy`` or ``variant`` and does not do so itself."""
    names = metafunc.fixturenames
    if _POLICY not in names:
        return
    run = metafunc.config.stash[RUN]
    try:
        policies = _policies(run)
        own_variants = "variant" not in names or _parametrizes(metafunc, "variant")
        if not policies:  # said once, when all is collected, not for each module
            metafunc.parametrize(_POLICY if own_variants else (_POLICY, "variant"), [])
            return
        if own_variants:
            metafunc.parametrize(
                _POLICY, list(policies), ids=list(policies.values()), indirect=True, scope="session"
            )
            return
        pairs = {
            (text, variant): f"{short}-{Variant(variant).id}"
            for text, short in policies.items()
            for variant in run.bench.variant_texts(text)
        }
    except DrlcError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    metafunc.parametrize(
        (_POLICY, "variant"), list(pairs), ids=list(pairs.values()), indirect=True, scope="session"
    )


def _policies(run: Run) -> dict[str, str]:
    """Text to id; none, and the reason in ``run.unnamed``, where no policy is named."""
    texts = run.bench.policy_texts()
    if not texts:
        run.unnamed = (
            f"there is no policy to judge: {run.settings.baselines} holds no baseline; name yours"
            " with --drlc-policy=model.zip --drlc-env=Hopper-v5, or a folder with --drlc-baselines"
        )
        if run.worker:  # whose controller would not be told why it ended
            raise pytest.Collector.CollectError(run.unnamed)
    return {text: run.bench.load(text).policy.id for text in texts}


def _parametrizes(metafunc: pytest.Metafunc, argument: str) -> bool:
    for marker in metafunc.definition.iter_markers("parametrize"):
        names = marker.args[0] if marker.args else marker.kwargs.get("argnames", ())
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        if argument in names:
            return True
    return False
