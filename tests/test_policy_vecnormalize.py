"""VecNormalize pickles: exact statistics, and nothing in them ever runs."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from zoo import zoo_path

from pytest_drlcompress.core.errors import PolicyError, UntrustedPickleError
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.evaluation.rollout import rollout
from pytest_drlcompress.policies.network import normalize_layer
from pytest_drlcompress.policies.policy import Policy
from pytest_drlcompress.policies.sb3.load import load_sb3
from pytest_drlcompress.policies.sb3.vecnormalize import find_vecnormalize, read_vecnormalize


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def normalizer(env_id: str = "Hopper-v5", **kwargs: Any) -> VecNormalize:
    """Statistics of 64 random steps."""
    wrapped = VecNormalize(DummyVecEnv([lambda: gym.make(env_id)]), **kwargs)
    wrapped.seed(0)
    wrapped.action_space.seed(0)
    wrapped.reset()
    for _ in range(64):
        wrapped.step(np.array([wrapped.action_space.sample()]))
    wrapped.training = False
    return wrapped


def dump(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


class Poison:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._marker,)


# --- equal to VecNormalize -------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_normalizes_as_sb3_does(protocol: int, tmp_path: Path) -> None:
    original = normalizer(clip_obs=2.5, epsilon=1e-4)
    path = dump(tmp_path / "stats.pkl", original, protocol)
    read = read_vecnormalize(path, trust=True)
    np.testing.assert_array_equal(read.mean, original.obs_rms.mean)
    np.testing.assert_array_equal(read.variance, original.obs_rms.var)
    assert (read.epsilon, read.clip, read.enabled) == (1e-4, 2.5, True)
    rows = np.random.default_rng(0).normal(0, 3, (200, 11)).astype(np.float32)
    layer = normalize_layer(read.mean, read.variance, epsilon=read.epsilon, clip=read.clip)
    expected = original.normalize_obs(rows)
    assert np.mean(np.abs(expected) == 2.5) > 0.05  # some are clipped
    np.testing.assert_allclose(layer(torch.from_numpy(rows)).numpy(), expected, rtol=0, atol=1e-5)


def test_vecnormalize_and_policy_together(tmp_path: Path) -> None:
    env = EnvSpec.parse("Hopper-v5")
    wrapped = normalizer()
    torch.manual_seed(3)
    model = PPO("MlpPolicy", wrapped, n_steps=64, device="cpu")
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    model.save(tmp_path / "model.zip")
    wrapped.save(str(tmp_path / "stats.pkl"))
    policy = load_sb3(
        tmp_path / "model.zip",
        env,
        policy_id="",
        vecnormalize=tmp_path / "stats.pkl",
        trust=True,
    )
    rows = np.random.default_rng(0).normal(0, 2, (200, 11)).astype(np.float32)
    expected, _ = model.predict(wrapped.normalize_obs(rows), deterministic=True)
    with torch.no_grad():
        got = policy.network(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    without, _ = model.predict(rows, deterministic=True)
    assert np.abs(got - without).max() > 0.1  # the statistics matter


def test_norm_obs_false_changes_nothing(tmp_path: Path) -> None:
    path = dump(tmp_path / "stats.pkl", normalizer(norm_obs=False))
    read = read_vecnormalize(path, trust=True)
    assert not read.enabled
    PPO("MlpPolicy", "Hopper-v5", n_steps=64, device="cpu").save(tmp_path / "model.zip")
    env = EnvSpec.parse("Hopper-v5")
    names = [
        [type(layer).__name__ for layer in load(tmp_path / "model.zip", env, chosen).network]
        for chosen in (path, None)
    ]
    assert names[0] == names[1]


# --- trust -----------------------------------------------------------------------------------


def test_without_trust_nothing_is_read(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = dump(tmp_path / "stats.pkl", Poison(marker))
    with pytest.raises(UntrustedPickleError, match=r"--drlc-trust.*--drlc-vecnormalize=none") as e:
        read_vecnormalize(path, trust=False)
    assert "\n" not in str(e.value)
    assert not marker.exists()


def test_with_trust_still_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = dump(tmp_path / "stats.pkl", Poison(marker))
    with pytest.raises(PolicyError, match="not a VecNormalize"):
        read_vecnormalize(path, trust=True)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()  # the poison works


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_poison_beside_true_statistics_does_not_run(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    wrapped = normalizer()
    wrapped.poison = Poison(marker)
    wrapped.obs_rms.count = Poison(marker)
    wrapped.more = [{Poison(marker)}, {"a": [Poison(marker)] * 2}]
    path = dump(tmp_path / "stats.pkl", wrapped, protocol)
    if protocol == 2:  # holds bytes as text to be encoded by a named function; SB3 never wrote it
        with pytest.raises(PolicyError, match="not a readable VecNormalize"):
            read_vecnormalize(path, trust=True)
    else:
        read = read_vecnormalize(path, trust=True)
        np.testing.assert_array_equal(read.mean, wrapped.obs_rms.mean)
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch MARKER'\ntR.",
        b"(S'touch MARKER'\nios\nsystem\n.",
        b'cbuiltins\nexec\n(S\'open("MARKER","w")\'\ntR.',
        b"cbuiltins\ngetattr\n(cos\nS'system'\ntR(S'touch MARKER'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"cnumpy\nload\n(S'MARKER'\ntR.",
        b"cpytest_drlcompress.policies.vecnormalize\npickle.loads\n(S'x'\ntR.",
    ],
)
def test_handwritten_programs_do_not_run(
    program: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "stats.pkl"
    path.write_bytes(program)
    with pytest.raises(PolicyError):
        read_vecnormalize(path, trust=True)
    assert not (tmp_path / "MARKER").exists()
    assert sorted(tmp_path.iterdir()) == [path]


# --- pickles that cannot serve ---------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(PolicyError) as caught:
        read_vecnormalize(path, trust=True)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "stats.pkl")


@pytest.mark.parametrize("content", [[1, 2], {"norm_obs": True}, RunningMeanStd(), "text", None])
def test_other_pickles(content: Any, tmp_path: Path) -> None:
    assert "not a VecNormalize" in refusal(dump(tmp_path / "stats.pkl", content))


@pytest.mark.parametrize("keep", [0, 40, 0.5, 0.99])
def test_truncated_pickle(keep: float, tmp_path: Path) -> None:
    path = dump(tmp_path / "stats.pkl", normalizer())
    raw = path.read_bytes()
    path.write_bytes(raw[: keep if isinstance(keep, int) else int(len(raw) * keep)])
    assert "not a readable VecNormalize" in refusal(path)


def test_every_damaged_byte_is_survived(tmp_path: Path) -> None:
    """A flipped byte gives statistics or a PolicyError, never another exception."""
    path = dump(tmp_path / "stats.pkl", normalizer())
    raw = path.read_bytes()
    generator = np.random.default_rng(0)
    for position in generator.integers(0, len(raw), 300).tolist():
        damaged = bytearray(raw)
        damaged[position] = int(generator.integers(256))
        path.write_bytes(damaged)
        try:
            read = read_vecnormalize(path, trust=True)
        except PolicyError:
            continue
        assert read.mean.shape == read.variance.shape
        assert np.all(np.isfinite(read.mean))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean", np.full(11, np.nan)),
        ("var", np.full(11, -1.0)),
        ("var", np.ones(10)),
        ("mean", np.array([object()] * 11)),
        ("mean", "text"),
    ],
)
def test_damaged_statistics(field: str, value: Any, tmp_path: Path) -> None:
    wrapped = normalizer()
    setattr(wrapped.obs_rms, field, value)
    message = refusal(dump(tmp_path / "stats.pkl", wrapped))
    assert "damaged" in message or "not a readable VecNormalize" in message


def test_dict_statistics_do_not_fit_a_box(tmp_path: Path) -> None:
    wrapped = normalizer()
    wrapped.obs_rms = {"camera": wrapped.obs_rms, "joints": wrapped.obs_rms}
    path = dump(tmp_path / "stats.pkl", wrapped)
    PPO("MlpPolicy", "Hopper-v5", n_steps=64, device="cpu").save(tmp_path / "model.zip")
    with pytest.raises(PolicyError, match="statistics of a Dict of observations"):
        load(tmp_path / "model.zip", EnvSpec.parse("Hopper-v5"), path)


def test_statistics_of_another_environment(tmp_path: Path) -> None:
    path = dump(tmp_path / "stats.pkl", normalizer("HalfCheetah-v5"))
    PPO("MlpPolicy", "Hopper-v5", n_steps=64, device="cpu").save(tmp_path / "model.zip")
    with pytest.raises(PolicyError, match=r"stats\.pkl: statistics of 17 .* gives 11"):
        load(tmp_path / "model.zip", EnvSpec.parse("Hopper-v5"), path)


@pytest.mark.parametrize("shape", [(11,), (4, 5, 6)], ids=["bytes", "images"])
def test_statistics_of_bytes(shape: tuple[int, ...], tmp_path: Path) -> None:
    class Ram(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
        action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return self.observation_space.sample(), {}

        def step(self, action: Any) -> Any:  # noqa: ARG002
            return self.observation_space.sample(), 0.0, False, False, {}

    wrapped = VecNormalize(DummyVecEnv([Ram]))
    model = PPO("MlpPolicy", wrapped, n_steps=64, n_epochs=1, learning_rate=0.05, device="cpu")
    model.learn(64)
    model.save(tmp_path / "model.zip")
    wrapped.training = False
    path = dump(tmp_path / "stats.pkl", wrapped)
    rows = np.random.default_rng(0).integers(0, 256, (200, *shape), np.uint8)
    expected = model.predict(wrapped.normalize_obs(rows), deterministic=True)[0]
    gym.register("drlc-test/Bytes-v0", Ram)
    try:
        policy = load(tmp_path / "model.zip", EnvSpec.parse("drlc-test/Bytes-v0"), path)
        actions = policy.network(torch.from_numpy(rows)).detach().numpy()
    finally:
        del gym.registry["drlc-test/Bytes-v0"]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(actions, expected, atol=1e-5)


# --- where they lie --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "statistics"),
    [
        ("Hopper-v3.zip", "Hopper-v3/vecnormalize.pkl"),
        ("model.zip", "vecnormalize.pkl"),
        ("model.zip", "vec_normalize.pkl"),
        ("model.zip", "model_vecnormalize.pkl"),
        ("model.zip", "model.pkl"),
        ("rl_model_5000_steps.zip", "rl_model_vecnormalize_5000_steps.pkl"),
    ],
)
def test_found_beside_the_zip(model: str, statistics: str, tmp_path: Path) -> None:
    (tmp_path / model).touch()
    assert find_vecnormalize(tmp_path / model) is None
    (tmp_path / statistics).parent.mkdir(exist_ok=True)
    (tmp_path / statistics).touch()
    assert find_vecnormalize(tmp_path / model) == tmp_path / statistics


def test_the_own_statistics_come_before_the_folder_s(tmp_path: Path) -> None:
    for name in ("vecnormalize.pkl", "a_vecnormalize_10_steps.pkl", "a_vecnormalize_20_steps.pkl"):
        (tmp_path / name).touch()
    found = find_vecnormalize(tmp_path / "a_20_steps.zip")
    assert found == tmp_path / "a_vecnormalize_20_steps.pkl"
    assert find_vecnormalize(tmp_path / "b_20_steps.zip") == tmp_path / "vecnormalize.pkl"


# --- published policies of 2021 (gym is not installed) ---------------------------------------

ANT = "Ant-v5:contact_cost_weight=0.0,include_cfrc_ext_in_observation=false,pad_observation=84"


class TorchActor:
    """The torch network itself at the controls."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def act(self, rows: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            return np.asarray(self._policy.network(torch.from_numpy(rows.astype(np.float32))))


@pytest.mark.parametrize(
    ("file", "env_id", "mean", "tolerance"),
    [
        # ten episodes were measured at 2438 +- 5, 5889 +- 27, 1790 +- 100, 4998 +- 326
        ("ppo/Hopper-v3_1/Hopper-v3.zip", "Hopper-v5", 2438, 40),
        ("ppo/HalfCheetah-v3_1/HalfCheetah-v3.zip", "HalfCheetah-v5", 5889, 200),
        ("trpo/HalfCheetah-v3_1/HalfCheetah-v3.zip", "HalfCheetah-v5", 1790, 250),
        ("trpo/Ant-v3_1/Ant-v3.zip", ANT, 4998, 900),
    ],
)
def test_published_policies_earn_their_return(
    file: str, env_id: str, mean: float, tolerance: float
) -> None:
    path = zoo_path(file)
    policy = load(path, EnvSpec.parse(env_id), find_vecnormalize(path))
    returns = [e.total for e in rollout(policy.env, TorchActor(policy), range(1000, 1003))]
    assert np.mean(returns) == pytest.approx(mean, abs=tolerance)


def test_published_ant_with_its_time_feature() -> None:
    # returns scatter widely: 60 episodes gave 1316 +- 423
    path = zoo_path("ppo/Ant-v3_1/Ant-v3.zip")
    env = EnvSpec.parse(f"{ANT},time_feature=1000")
    policy = load(path, env, find_vecnormalize(path))
    returns = [e.total for e in rollout(env, TorchActor(policy), range(1000, 1004))]
    assert np.mean(returns) > 500


def test_published_policy_needs_trust(tmp_path: Path) -> None:
    source = zoo_path("trpo/Hopper-v3_1/Hopper-v3.zip")
    shutil.copytree(source.parent, tmp_path / "copy")
    path = tmp_path / "copy" / source.name
    with pytest.raises(UntrustedPickleError, match="--drlc-trust"):
        load(path, EnvSpec.parse("Hopper-v5"), find_vecnormalize(path), trust=False)


def load(path: Path, env: EnvSpec, statistics: Path | None, *, trust: bool = True) -> Policy:
    return load_sb3(path, env, policy_id="", vecnormalize=statistics, trust=trust)
