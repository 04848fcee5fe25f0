"""Pictures of an episode: which steps are worth showing, real renderings, and what a page takes."""

import base64
import ctypes.util
import io

import numpy as np
import pytest

from pytest_drlcompress.compression.registry import builtin_registry
from pytest_drlcompress.core.settings import default_settings
from pytest_drlcompress.playback.film import film
from pytest_drlcompress.playback.pictures import FRAMES, Frame, clip, filmstrip, frame_steps
from pytest_drlcompress.playback.trace import Trace, Window, in_words, telling_window
from pytest_drlcompress.reporting.html import bounded
from pytest_drlcompress.workbench.workbench import Workbench

Image = pytest.importorskip("PIL.Image")
RENDERER = ctypes.util.find_library("EGL") or ctypes.util.find_library("OSMesa")


def test_the_end_of_the_shorter_episode_is_shown():
    window = telling_window(Trace((1.0,) * 1000, False), Trace((1.0,) * 300, True), rate=125)
    assert window.first < 300 < window.last <= 350
    # it begins with the episode where that is shorter than the window
    assert telling_window(Trace((1.0,) * 99, False), Trace((1.0,) * 5, True), 125).first == 0


def test_where_the_candidate_falls_behind_is_shown():
    steady = Trace((2.0,) * 1000, False)
    stuck = Trace((2.0,) * 600 + (0.0,) * 400, False)
    assert telling_window(steady, stuck, rate=100).first >= 600
    longer = telling_window(Trace((1.0,) * 20, True), Trace((1.0,) * 40, False), rate=100)
    assert longer == Window(0, 40)


def test_the_words_say_what_is_seen():
    text = in_words(Trace((3.0,) * 1000, False), Trace((2.0,) * 300, True), Window(200, 320), 7)
    assert text == (
        "Seed 7. The baseline goes on to the end (1,000 steps) and earns 3,000, the candidate is"
        " terminated after 300 steps (it falls or fails) and earns 600. In the steps shown, 200 to"
        " 320, the baseline earns 360 and the candidate 200."
    )


def test_frames_are_evenly_spread():
    steps = frame_steps(100, 300)
    assert (steps[0], steps[-1], len(steps)) == (100, 299, FRAMES)
    assert frame_steps(5, 6) == [5]


def picture(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_an_ended_episode_is_marked():
    white = np.full((90, 120, 3), 255, np.uint8)
    frames = [Frame(white, step, step > 10) for step in range(FRAMES)]
    parts = filmstrip([("baseline", frames), ("candidate", frames)])
    pixels = [np.asarray(Image.open(io.BytesIO(part)).convert("L")) for part in parts]
    tiles = np.concatenate(pixels, axis=1).reshape(2, -1, 6, pixels[0].shape[1] // 3)
    first, *_, last = np.median(tiles, axis=(0, 1, 3))
    assert first > 240
    assert 100 < last < 200
    moving = Image.open(io.BytesIO(clip([("a", frames), ("b", frames)])))
    assert moving.n_frames == FRAMES


@pytest.fixture(scope="module")
def hopper():
    bench = Workbench(default_settings(policies=("trpo-hopper",), workers=1), builtin_registry())
    yield bench.candidate("trpo-hopper", "l2@50")
    bench.close()


@pytest.mark.skipif(not RENDERER, reason="needs libEGL or OSMesa to render without a display")
def test_a_real_fall(hopper, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    models = hopper.loaded.exported.model, hopper.artifact.model
    found = film(*models, "Hopper-v5", seed=5)
    assert "missing" not in found, found
    assert "The baseline goes on to the end (1,000 steps)" in found["text"]
    assert "the candidate is terminated" in found["text"]
    strip = np.asarray(picture(found["strip"][-1]).convert("L"), float)
    baseline, candidate = np.split(strip, 2)
    assert baseline.std() > 20  # not one colour
    assert np.abs(baseline - candidate).mean() > 3  # the last frames differ
    assert picture(found["clip"]).n_frames > 2
    assert sum(map(len, found["strip"])) + len(found["clip"]) < 300_000


def test_without_a_renderer_the_reason_is_told(hopper, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    model = hopper.loaded.exported.model
    missing = film(model, model, "Hopper-v5", seed=5)["missing"]
    assert missing.startswith("It could not be rendered without a display (nonsense: ")
    assert "\n" not in missing


def test_a_page_has_a_bound():
    films = [
        {"policy": "p", "variant": str(n), "strip": ["s" * 20] * 2, "clip": "c" * 30}
        for n in range(4)
    ]
    shown, omitted = bounded(films, room=150)
    assert [film["variant"] for film in shown] == ["0", "1", "2"]
    assert [bool(film["clip"]) for film in shown] == [True, False, False]
    assert omitted == ["p / 3"]
    assert bounded([{"policy": "p", "variant": "v", "missing": "no GL"}], room=0)[1] == []


@pytest.mark.skipif(not RENDERER, reason="needs libEGL or OSMesa to render without a display")
def test_a_failed_gate_is_shown_in_the_page(suites):
    pytest.importorskip("matplotlib")
    arguments = ["--drlc-policy=trpo-hopper", "--drlc-variant=l2@50", "--drlc-report=page.html"]
    suites.runpytest("suites/test_return_retention.py", *arguments).assert_outcomes(failed=1)
    page = (suites.path / "page.html").read_text()
    assert page.count('class="strip"') == 1
    assert 'alt="Seed ' in page
    assert "the candidate is terminated" in page
    assert "prefers-reduced-motion" in page
    assert len(page) < 700_000
