"""The front of SB3's ``MultiInputPolicy``, and of policies that observe integers.

SB3 makes integers one-hot, images floats in [0, 1], and ``CombinedExtractor`` puts Nature CNN on
each image and all features side by side. Here that is one layer on the packed observation.
"""

from collections.abc import Sequence

import numpy as np
from torch import nn

from pytest_drlcompress.core.errors import PolicyError
from pytest_drlcompress.environments.parts import Part
from pytest_drlcompress.policies.network import (
    ChannelsFirst,
    Normalize,
    Pixels,
    Reshape,
    normalize_layer,
)
from pytest_drlcompress.policies.part_layers import Floats, OneHot, Parts
from pytest_drlcompress.policies.sb3.actors import Layers, check_extractor, nature_cnn
from pytest_drlcompress.policies.sb3.vecnormalize import Statistics
from pytest_drlcompress.policies.sb3.zip import OTHER_WAYS, Sb3Zip


def combined(
    saved: Sb3Zip, prefix: str, parts: Sequence[Part], statistics: Statistics | None
) -> Layers:
    """The layer that makes features of a packed observation of ``parts``.

    Raises:
        PolicyError: parts that SB3 does not take, or tensors or statistics that do not fit them.
    """
    check_extractor(saved)
    _check_parts(saved, parts)
    given = {} if statistics is None or not statistics.enabled else dict(statistics.by_key)
    branches = []
    for part in parts:
        normalize = _normalization(part, given.pop(part.name, None))
        branches.append(nn.Sequential(*_branch(saved, prefix, part, normalize)))
    if given:
        assert statistics is not None
        raise PolicyError(
            f"{statistics.path}: statistics of {', '.join(sorted(given))}, which the environment"
            " does not observe"
        )
    return [Parts([part.width for part in parts], branches)]


def _check_parts(saved: Sb3Zip, parts: Sequence[Part]) -> None:
    kind, told = saved.space("observation_space").kind, saved.parts
    named = [part.name for part in parts]
    if any(len(part.path) > 1 or part.path[:1] == (0,) for part in parts):
        raise saved.error("Stable-Baselines3 takes neither Tuple nor nested observations")
    if told and sorted(told) != sorted(named):
        raise saved.error(
            f"it was trained on the observations {', '.join(told)}; the environment gives"
            f" {', '.join(filter(None, named)) or kind}"
        )
    for part in parts:
        if any(part.starts):
            raise saved.error(
                f"Stable-Baselines3 counts from 0, and observation {part.name!r} does not: wrap it"
            )


def _branch(saved: Sb3Zip, prefix: str, part: Part, normalize: Normalize | None) -> Layers:
    if part.sizes:
        return [OneHot(part.sizes)]
    floats: Layers = [Floats()] if part.dtype == np.uint8 else []
    network = nature_cnn(saved, f"{prefix}.extractors.{part.name}") if part.name else []
    front: Layers = [*floats, normalize] if normalize else floats
    if len(part.shape) == 3 and network:
        front += [Reshape(part.shape)]
        first = network[0]
        assert isinstance(first, nn.Conv2d)
        if int(np.argmin(part.shape)) != 0 and first.in_channels == part.shape[2]:
            front.append(ChannelsFirst())
        elif first.in_channels != part.shape[0]:
            raise saved.error(
                f"it was trained on {first.in_channels} channels of {part.name!r}; the environment"
                f" gives shape {part.shape}; {OTHER_WAYS}"
            )
    scaled = str(saved.policy_kwargs.get("normalize_images", True)) != "False"
    if part.pixels and scaled and not normalize:
        front.append(Pixels())
    return [*front, *network]


def _normalization(part: Part, statistics: Statistics | None) -> Normalize | None:
    if statistics is None:
        return None
    if statistics.mean.size != part.width:
        raise PolicyError(
            f"{statistics.path}: statistics of {statistics.mean.size} numbers for {part.name!r};"
            f" the environment gives {part.width}"
        )
    return normalize_layer(
        statistics.mean, statistics.variance, epsilon=statistics.epsilon, clip=statistics.clip
    )
