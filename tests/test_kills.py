"""Killed at any moment, nothing that was finished is lost, and nothing is refused afterwards."""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import time

import pytest
import torch
from reports import full_report

from conftest import ROOT
from pytest_drlcompress.baselines.record import read_baseline_record
from pytest_drlcompress.baselines.variants import load_variant, store_variant
from pytest_drlcompress.baselines.verdicts import record_verdicts
from pytest_drlcompress.core.artifact import Artifact
from pytest_drlcompress.core.files import write_described
from pytest_drlcompress.core.verdict import State, Verdict
from pytest_drlcompress.evaluation.cache import EpisodeCache
from pytest_drlcompress.evaluation.episodes import Episode
from pytest_drlcompress.evaluation.pool import POOL_FILE, pool_bytes, pool_digest
from pytest_drlcompress.policies.store import WEIGHTS, load_network, network_bytes
from pytest_drlcompress.reporting.compare import read_report
from pytest_drlcompress.reporting.write import write_reports
from pytest_drlcompress.training.checkpoint import TrainingState, read_state, replace_current

KILLS = 8
"""Of each kind; ``DRLC_KILLS`` says another number."""


def first_bias(network):
    return next(layer for layer in network if isinstance(layer, torch.nn.Linear)).bias


class Storing:
    """A variant and its JSON file."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, number):
        artifact = Artifact(str(number).encode() * 5000, "p", "ptdq", {"number": number})
        store_variant(self.folder, artifact, {"how": "x"})

    def read(self):
        found = load_variant(self.folder, "p", "ptdq")
        if found is None:
            return 0
        assert found.model == str(found.provenance["number"]).encode() * 5000
        return found.provenance["number"]


class Recording:
    """Verdicts in the record of a baseline."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, number):
        verdict = Verdict("retention", "p", "x", State.PASS, "", float(number))
        record_verdicts(self.folder, [verdict], {}, only_new=False)

    def read(self):
        verdicts = read_baseline_record(self.folder).verdicts
        assert len(verdicts["fp32"]) > 1
        return verdicts.get("x", {}).get("retention", {}).get("estimate", 0)


class Baseline:
    """Weights and pool of a baseline, and the record that describes both."""

    def __init__(self, folder):
        self.folder = folder
        self.network = load_network(folder)

    def write(self, number):
        with torch.no_grad():
            first_bias(self.network).fill_(number)
        weights = network_bytes(self.network)
        pool = [Episode(seed, float(number), 10) for seed in range(50)]
        record = json.loads((ROOT / "baselines/trpo-hopper/baseline.json").read_text())
        record["sha256"] = hashlib.sha256(weights).hexdigest()
        record["reference"] |= {"episodes": 50, "sha256": pool_digest(pool)}
        files = {self.folder / WEIGHTS: weights, self.folder / POOL_FILE: pool_bytes(pool)}
        write_described(files, self.folder / "baseline.json", record)

    def read(self):
        record = read_baseline_record(self.folder)
        network = load_network(self.folder, record.sha256)
        if len(record.reference.returns) != 50:
            return 0
        assert first_bias(network)[0] == record.reference.returns[0]
        return int(record.reference.returns[0])


class Caching:
    """Episodes."""

    def __init__(self, folder):
        self.path = folder / "c.sqlite"

    def write(self, number):
        EpisodeCache(self.path).store("key", [Episode(number, 1.0, 1)])

    def read(self):
        said = []
        found = EpisodeCache(self.path, said.append).find("key", range(10**6))
        assert said == []
        assert set(found) == set(range(1, len(found) + 1))
        return len(found)


class Reporting:
    """A JSON and a Markdown report."""

    def __init__(self, folder):
        self.paths = (folder / "r.json", folder / "r.md")
        self.report = full_report()

    def write(self, number):
        report = dataclasses.replace(self.report, notes=(str(number),))
        assert write_reports(report, self.paths)[1] == []

    def read(self):
        if not self.paths[0].exists():
            return 0
        return int(read_report(self.paths[0])["notes"][0])


class Training:
    """The checkpoint of a training."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, number):
        state = TrainingState("x", segment=number, steps=number, curve=[[1, 2.0]])
        replace_current(self.folder, state, lambda f: (f / "m").write_bytes(b"x" * 10**5))

    def read(self):
        state = read_state(self.folder)
        if state is None:
            return 0
        assert (self.folder / f"segment-{state.segment}" / "m").stat().st_size == 10**5
        return state.segment


def _until_killed(job, first, done):
    for number in range(first, first + 10**6):
        job.write(number)
        os.write(done, struct.pack("q", number))


@pytest.mark.parametrize("kind", [Storing, Recording, Baseline, Caching, Reporting, Training])
def test_killed_at_any_moment(kind, tmp_path):
    shutil.copytree(ROOT / "baselines/trpo-hopper", tmp_path / "b")
    job, generator, last = kind(tmp_path / "b"), random.Random(kind.__name__), 0
    for _ in range(int(os.environ.get("DRLC_KILLS", KILLS))):
        told, done = os.pipe()
        child = os.fork()  # nothing but files is worked on in it
        if child == 0:
            try:
                _until_killed(job, last + 1, done)
            finally:
                os._exit(9)
        os.close(done)
        time.sleep(generator.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        with os.fdopen(told, "rb") as stream:
            finished = [number for (number,) in struct.iter_unpack("q", stream.read())]
        found = job.read()
        assert found >= max(finished, default=last)
        last = int(found)
