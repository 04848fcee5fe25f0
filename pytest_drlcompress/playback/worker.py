"""The process that films: two artifacts at one seed, rendered without a display.

A process of its own: OpenGL's backend is chosen by an environment variable before MuJoCo is
imported, and what is wrong with a driver may end the process.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.core.errors import EnvironmentSpecError
from pytest_drlcompress.core.files import write_atomic, write_json
from pytest_drlcompress.environments.spec import EnvSpec
from pytest_drlcompress.playback.pictures import Frame, clip, filmstrip, frame_steps
from pytest_drlcompress.playback.trace import (
    act,
    in_words,
    steps_per_second,
    telling_window,
    trace,
)
from pytest_drlcompress.runtime.controller import Controller
from pytest_drlcompress.runtime.factory import make_runtime

BASELINE, CANDIDATE = "baseline.onnx", "candidate.onnx"
STRIP, CLIP, FACTS = "strip{part}.webp", "clip.webp", "facts.json"

_MUJOCO = (("camera_name", "track"), ("width", 240), ("height", 180))
"""Gymnasium's own models all have that camera; its default one stays where it is."""


def film(folder: str, env: str, seed: int) -> None:
    """Film the two artifacts in ``folder``; write strip, clip and facts there.

    Raises:
        Exception: whatever the environment or the renderer raises; the parent reads the last
            line.
    """
    place, spec = Path(folder), EnvSpec.parse(env)
    rendered = spec if spec.images else _rendering(spec)
    controllers = {
        label: make_runtime().load((place / name).read_bytes())
        for label, name in (("baseline", BASELINE), ("candidate", CANDIDATE))
    }
    made = rendered.make()
    try:
        baseline, candidate = (trace(made, c, spec, seed) for c in controllers.values())
        window = telling_window(baseline, candidate, steps_per_second(made))
        steps = frame_steps(window.first, window.last)
        rows = [(label, _frames(made, c, spec, seed, steps)) for label, c in controllers.items()]
    finally:
        made.close()
    for part, image in enumerate(filmstrip(rows)):
        write_atomic(place / STRIP.format(part=part), image)
    write_atomic(place / CLIP, clip(rows))
    write_json(place / FACTS, {"text": in_words(baseline, candidate, window, seed)})


def _rendering(spec: EnvSpec) -> EnvSpec:
    """``spec`` with images; small ones by a camera that follows, where it can be told."""
    mode = ("render_mode", "rgb_array")
    small = dataclasses.replace(spec, kwargs=(*spec.kwargs, mode, *_MUJOCO))
    try:
        small.make().close()
    except EnvironmentSpecError:
        return dataclasses.replace(spec, kwargs=(*spec.kwargs, mode))
    return small


def _frames(
    env: gym.Env[Any, Any], controller: Controller, spec: EnvSpec, seed: int, steps: Sequence[int]
) -> list[Frame]:
    """The frames before each of ``steps``; the last one stays where the episode is over."""
    integer = spec.action.discrete and not spec.action.shape
    observation, _ = env.reset(seed=seed)
    frames: list[Frame] = []
    pixels, over, done = _pixels(env, observation, spec), False, 0
    for step in steps:
        while done < step and not over:
            observation, _, terminated, truncated, _ = env.step(
                act(controller, observation, integer=integer)
            )
            done, over = done + 1, bool(terminated or truncated)
        if not frames or frames[-1].step < done:
            pixels = _pixels(env, observation, spec)
        frames.append(Frame(pixels, done, over))
    return frames


def _pixels(env: gym.Env[Any, Any], observation: Any, spec: EnvSpec) -> NDArray[np.uint8]:
    """What there is to see: the renderer's image, or of a game what the policy itself sees."""
    if spec.images:
        newest = np.asarray(observation)[-1]
        return np.ascontiguousarray(np.repeat(newest[:, :, None], 3, axis=2))
    image: Any = env.render()
    return np.asarray(image, np.uint8)


def main(request: str) -> None:
    """``request`` holds the arguments of ``film`` as JSON."""
    film(**json.loads(request))
