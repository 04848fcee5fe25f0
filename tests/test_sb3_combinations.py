"""Every combination of algorithm, space and option that was tried, and what docs/policies.md says.

Equal: the actions on 200 observations are those of ``predict``. Refused: one line with the reason.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_models import load, off, on
from several_parts import Several
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from torch import nn

from conftest import ROOT  # type: ignore[import-not-found]
from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.parts import pack
from pytest_drlcompress.runtime.onnxruntime import OnnxController

ON_POLICY = (PPO, A2C, TRPO)
OFF_POLICY = (SAC, TD3, DDPG, TQC)
CHOOSING = (DQN, QRDQN)
OBSERVED = ("dict", "camera", "integer", "integers", "binary")
REMEMBERED = ("camera", "integer", "binary")
"""Of integers in one MultiDiscrete, SB3's own LSTM cannot be made: their number is an int64."""

EQUAL = [
    *((a, o, c, {}) for a in ON_POLICY for o in OBSERVED for c in ("box", "choice")),
    *((a, o, "box", {}) for a in OFF_POLICY for o in OBSERVED),
    *((a, o, "choice", {}) for a in CHOOSING for o in OBSERVED),
    *((RecurrentPPO, o, "box", {"lstm_hidden_size": 8}) for o in REMEMBERED),
    *((a, "dict", "box", {"share_features_extractor": False}) for a in (PPO, TRPO)),
    *((a, "dict", "box", {"use_sde": True}) for a in (PPO, SAC, TQC)),
    *((a, "dict", "box", {"activation_fn": nn.Mish}) for a in (PPO, SAC, TD3)),
    *((a, "camera", "box", {"normalize_images": False}) for a in (PPO, SAC)),
    (PPO, "camera", "box", {"features_extractor_kwargs": {"cnn_output_dim": 16}}),
]
REFUSED = [
    (CrossQ, "integer", "box", "policy class comes from 'sb3_contrib.crossq"),
    (MaskablePPO, "dict", "choice", "policy class comes from 'sb3_contrib.common.maskable"),
    (ARS, "integer", "box", "policy class comes from 'sb3_contrib.ars"),
    (PPO, "from_one", "box", "counts from 0"),
]
EQUAL_IDS = ["-".join([a.__name__, o, c, *options]) for a, o, c, options in EQUAL]


def make(algorithm: Any, observed: str, acted: str, options: dict[str, Any]) -> Any:
    flat = observed in {"integer", "integers", "binary", "from_one"}
    kind = "MlpPolicy" if flat else "MultiInputPolicy"
    if algorithm is RecurrentPPO:
        kind = "MlpLstmPolicy" if flat else "MultiInputLstmPolicy"
    kind = "LinearPolicy" if algorithm is ARS else kind
    env = Several(observed, acted)
    if algorithm is ARS:
        return ARS(kind, env, device="cpu")
    settings = (
        on(**options) if algorithm in {*ON_POLICY, RecurrentPPO, MaskablePPO} else off(**options)
    )
    if "use_sde" in options:
        settings["policy_kwargs"].pop("use_sde")
        settings["use_sde"] = True
    return algorithm(kind, env, **settings)


@pytest.mark.parametrize(("algorithm", "observed", "acted", "options"), EQUAL, ids=EQUAL_IDS)
def test_equal(algorithm: Any, observed: str, acted: str, options: Any, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = make(algorithm, observed, acted, dict(options))
    with torch.no_grad():  # SB3 starts with actions near zero
        for name, weights in model.policy.named_parameters():
            if weights.ndim == 2 and "value" not in name and "extractor" not in name:
                weights.normal_(0, 0.3)
    model.save(tmp_path / "m.zip")
    where = f"several_parts:Several:observed={observed},acted={acted}"
    policy = load(tmp_path / "m.zip", where)
    space = model.env.unwrapped.envs[0].unwrapped.observation_space
    space.seed(0)
    seen = [space.sample() for _ in range(200)]
    rows = np.stack([pack(policy.env.parts, one) for one in seen])
    batch: Any = (
        np.stack(seen)
        if not isinstance(seen[0], dict)
        else {key: np.stack([one[key] for one in seen]) for key in seen[0]}
    )
    starts = {"episode_start": np.ones(200)} if algorithm is RecurrentPPO else {}
    expected = model.predict(batch, deterministic=True, **starts)[0]
    if isinstance(policy.source, bytes):
        actions = OnnxController(policy.source).act(rows)
    else:
        with torch.no_grad():
            actions = policy.network(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(actions, expected, atol=5e-5)


@pytest.mark.parametrize(("algorithm", "observed", "acted", "reason"), REFUSED)
def test_refused(algorithm: Any, observed: str, acted: str, reason: str, tmp_path: Path) -> None:
    make(algorithm, observed, acted, {}).save(tmp_path / "m.zip")
    with pytest.raises(PolicyError, match=reason) as caught:
        load(tmp_path / "m.zip", f"several_parts:Several:observed={observed},acted={acted}")
    assert "\n" not in str(caught.value)


def test_the_documentation_lists_every_algorithm() -> None:
    page = (ROOT / "docs" / "policies.md").read_text()
    table = page.partition("### Combinations tried")[2].partition("\n## ")[0]
    for algorithm in {case[0] for case in (*EQUAL, *REFUSED)}:
        assert re.search(rf"\b{algorithm.__name__}\b", table), algorithm.__name__
