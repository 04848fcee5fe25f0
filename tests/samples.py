"""Observations and the environment that the compression tests share."""

import numpy as np

from pytest_drlcompress.environments.spec import EnvSpec

ENV = EnvSpec.parse("Hopper-v5")
SPANS = np.geomspace(0.3, 25, 11).astype(np.float32)


class Samples:
    """Observations whose dimensions span very different ranges."""

    def sample(self, count):
        return np.random.default_rng(0).normal(size=(count, 11)).astype(np.float32) * SPANS

    def describe(self, count):
        return {"observations": count}

    @property
    def teacher(self):
        return None

    def visited(self, student, count, number):  # noqa: ARG002
        return np.random.default_rng(number).normal(size=(count, 11)).astype(np.float32) * SPANS
