"""The safe format, atomic files, and the episode cache."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from torch import nn

from pytest_drlcompress.core.errors import BaselineError, PolicyError
from pytest_drlcompress.core.files import sha256_of, write_atomic, write_json
from pytest_drlcompress.evaluation.cache import EpisodeCache, through_cache
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.policies.network import normalize_layer, squash_layers
from pytest_drlcompress.policies.store import load_network, load_policy, save_network


@pytest.fixture
def network():
    low, high = -np.ones(3, np.float32) * 2, np.ones(3, np.float32)
    front = normalize_layer(np.arange(11.0), np.ones(11), epsilon=1e-8, clip=5.0)
    return nn.Sequential(
        front, nn.Linear(11, 8), nn.ReLU(), nn.Linear(8, 3), *squash_layers(low, high)
    )


class TestSafeFormat:
    def test_a_network_comes_back_as_it_was(self, tmp_path, network):
        save_network(tmp_path, network)
        again = load_network(tmp_path)
        x = torch.randn(5, 11)
        assert torch.equal(network(x), again(x))
        assert all(p.requires_grad for p in again.parameters())

    def test_equal_networks_have_equal_hashes(self, tmp_path, network):
        assert len({save_network(tmp_path, network) for _ in range(20)}) == 1

    def test_changed_weights_are_noticed(self, tmp_path, network):
        sha256 = save_network(tmp_path, network)
        path = tmp_path / "policy.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(BaselineError, match="SHA-256"):
            load_network(tmp_path, sha256)

    @pytest.mark.parametrize(
        "content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", b"x" * 99]
    )
    def test_a_damaged_file_is_one_clear_error(self, tmp_path, content):
        (tmp_path / "policy.safetensors").write_bytes(content)
        with pytest.raises(BaselineError, match="cannot be read"):
            load_network(tmp_path)

    @pytest.mark.parametrize("record", ["", "[]", "{", '{"environment": "Hopper-v5"}'])
    def test_a_damaged_record_is_one_clear_error(self, tmp_path, record):
        (tmp_path / "baseline.json").write_text(record)
        with pytest.raises(BaselineError, match=r"baseline\.json"):
            load_policy(tmp_path)

    def test_a_network_for_another_environment_is_refused(self, tmp_path, network):
        sha256 = save_network(tmp_path, network)
        record = {"environment": "HalfCheetah-v5", "sha256": sha256, "algorithm": "sac"}
        write_json(tmp_path / "baseline.json", record)
        with pytest.raises(PolicyError, match="does not fit"):
            load_policy(tmp_path)

    def test_nan_weights_are_refused(self, tmp_path, network):
        with torch.no_grad():
            network[1].weight[0, 0] = float("nan")
        sha256 = save_network(tmp_path, network)
        record = {"environment": "Hopper-v5", "sha256": sha256, "algorithm": "sac"}
        write_json(tmp_path / "baseline.json", record)
        with pytest.raises(PolicyError, match="NaN"):
            load_policy(tmp_path)

    def test_an_unknown_layer_is_refused(self, tmp_path):
        with pytest.raises(PolicyError, match="BatchNorm1d"):
            save_network(tmp_path, nn.Sequential(nn.BatchNorm1d(3)))


def _write_forever(path):
    size = 4_000_000
    while True:
        for letter in (b"a", b"b"):
            write_atomic(path, letter * size)


def test_a_write_killed_midway_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"a" * 4_000_000)
    process = multiprocessing.get_context("spawn").Process(target=_write_forever, args=(path,))
    process.start()
    started = path.stat().st_ino
    while path.stat().st_ino == started:  # until it has begun to replace the file
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    content = path.read_bytes()
    assert len(content) == 4_000_000
    assert len(set(content)) == 1


def test_json_is_sorted_and_keeps_numbers_on_one_line(tmp_path):
    path = tmp_path / "file.json"
    data = {"b": [1.5, 2.0], "a": {"z": None, "y": [[1, 2], [3, 4]]}, "c": [], "d": {}}
    write_json(path, data)
    assert json.loads(path.read_text()) == data
    assert '"b": [1.5, 2.0]' in path.read_text()
    with pytest.raises(ValueError, match=r"JSON compliant|Out of range"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == data
    assert sha256_of(path)


class TestEpisodeCache:
    def run(self, cache, seeds, asked, stop_after=None):
        def episodes(missing):
            asked.extend(missing)
            for seed in missing:
                yield Episode(seed, seed / 7, 10)

        made = []
        iterator = through_cache(cache, "key", seeds, episodes)
        for episode in iterator:
            made.append(episode)
            if len(made) == stop_after:
                iterator.close()
        return made

    def test_a_second_run_asks_for_nothing_and_gets_the_same(self, tmp_path):
        cache, asked = EpisodeCache(tmp_path / "c.sqlite"), []
        first = self.run(cache, [3, 1, 2], asked)
        second = self.run(cache, [3, 1, 2], asked)
        assert first == second
        assert asked == [3, 1, 2]

    def test_only_missing_seeds_run_and_order_is_kept(self, tmp_path):
        cache, asked = EpisodeCache(tmp_path / "c.sqlite"), []
        self.run(cache, [1, 3], asked)
        made = self.run(cache, [4, 3, 2, 1], asked)
        assert [episode.seed for episode in made] == [4, 3, 2, 1]
        assert asked == [1, 3, 4, 2]

    def test_what_was_made_before_an_interruption_is_kept(self, tmp_path):
        cache, asked = EpisodeCache(tmp_path / "c.sqlite"), []
        self.run(cache, [1, 2, 3, 4], asked, stop_after=2)
        assert sorted(cache.find("key", [1, 2, 3, 4])) == [1, 2]

    def test_other_keys_share_nothing(self, tmp_path):
        cache = EpisodeCache(tmp_path / "c.sqlite")
        cache.store("one", [Episode(1, 2.0, 3)])
        assert cache.find("two", [1]) == {}

    def test_many_processes_lose_nothing(self, tmp_path):
        path = tmp_path / "c.sqlite"
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_store_many, args=(path, n)) for n in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(EpisodeCache(path).find("key", range(400))) == 400


def _store_many(path, worker):
    cache = EpisodeCache(path)
    for seed in range(worker * 100, worker * 100 + 100):
        cache.store("key", [Episode(seed, 1.0, 1)])
