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
    """Text to id."""
    texts = run.bench.policy_texts()
    if not texts:
        raise pytest.Collector.CollectError(
            f"there is no policy to judge: {run.settings.baselines} holds no baseline; give"
            " --drlc-policy (and --drlc-env), or --drlc-baselines"
        )
    return {text: run.bench.load(text).policy.id for text in texts}


def _parametrizes(metafunc: pytest.Metafunc, argument: str) -> bool:
    for marker in metafunc.definition.iter_markers("parametrize"):
        names = marker.args[0] if marker.args else marker.kwargs.get("argnames", ())
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        if argument in names:
            return True
    return False
