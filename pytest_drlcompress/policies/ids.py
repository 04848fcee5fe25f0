"""Ids that tell the policies of a run apart: in verdicts, tables, reports and records."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import PurePath

from pytest_drlcompress.policies.policy import Policy

_JOINT = "~"


def unique_ids(policies: Sequence[tuple[str, Policy]]) -> dict[str, str]:
    """Text to id, each id once, for policies by the texts that name them.

    A policy keeps its id (``sac-hopper``) where no other has it. A baseline keeps it in any case,
    for its record goes by it. Of the others that share it, each adds the stem of its file
    (``sac-hopper~best``); those with one stem add the folders that tell them apart, the nearest
    that do (``sac-hopper~run2~best``; of modules, the packages). The same file named in two ways
    adds a digest of the text.

    The order of ``policies`` does not matter, and a policy without a namesake changes nothing.
    """
    given = dict(policies)
    ids = {text: policy.id for text, policy in given.items()}
    for shared in _repeated(ids):
        namesakes = {text: given[text] for text, found in ids.items() if found == shared}
        owner = _owner(shared, namesakes)
        rest = {t: _names(t, policy, shared) for t, policy in namesakes.items() if t != owner}
        stems = sorted(rest, key=lambda text: rest[text][0])
        for _, same in groupby(stems, key=lambda text: rest[text][0]):
            ids.update(_named_apart(shared, {text: rest[text] for text in same}))
    for shared in _repeated(ids):
        for text in [t for t, found in ids.items() if found == shared != given[t].id]:
            ids[text] += _JOINT + hashlib.sha256(text.encode()).hexdigest()[:6]
    return ids


def _repeated(ids: Mapping[str, str]) -> list[str]:
    return sorted(found for found, count in Counter(ids.values()).items() if count > 1)


def _owner(shared: str, namesakes: Mapping[str, Policy]) -> str | None:
    """The one that was asked for by this id, or the only baseline folder of this name."""
    if shared in namesakes:
        return shared
    folders = [t for t, policy in namesakes.items() if PurePath(policy.origin).name == shared]
    return folders[0] if len(folders) == 1 else None


def _names(text: str, policy: Policy, shared: str) -> tuple[str, ...]:
    """The stem, then the file's name in lower case, then the folders above it, the nearest first.

    The stem is empty where it says no more than the id.
    """
    origin = policy.origin or text
    module, colon, attribute = origin.partition(":")
    if colon and "/" not in origin and os.sep not in origin:
        parts = (*module.split("."), *attribute.split(".")[:-1])
        return ("", "", *reversed(parts))
    path = PurePath(os.path.normpath(origin))
    stem = "" if shared.lower() in (path.stem.lower(), path.name.lower()) else path.stem
    return (stem, path.name.lower(), *reversed(path.parent.parts))


def _named_apart(shared: str, names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The ids of policies whose files have one stem, the first of their ``names``."""
    if len(names) == 1:
        ((text, (stem, _, *folders)),) = names.items()
        return {text: _joined(shared, [stem or (folders[0] if folders else "")])}
    stem = next(iter(names.values()))[0]
    levels: list[int] = []
    for level in range(1, max(map(len, names.values()))):
        found = {text: _level(own, level) for text, own in names.items()}
        if len(set(found.values())) > 1:
            levels.append(level)
        told = {text: [_level(own, at) for at in levels] for text, own in names.items()}
        if len(set(map(tuple, told.values()))) == len(names):
            break
    ends = dict.fromkeys(names, "" if 1 in levels else stem)  # the name has the stem in it
    return {text: _joined(shared, [*reversed(told[text]), ends[text]]) for text in names}


def _level(names: Sequence[str], level: int) -> str:
    return names[level] if level < len(names) else ""


def _joined(shared: str, parts: Sequence[str]) -> str:
    return _JOINT.join([shared, *filter(None, parts)])
