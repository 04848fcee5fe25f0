"""Baseline and candidate at the same seed, as pictures for a report; or why there are none."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_drlcompress.core.threads import ONE_THREAD
from pytest_drlcompress.playback import worker
from pytest_drlcompress.playback.pictures import PARTS

BACKENDS = ("egl", "osmesa")
"""Ways to render without a display, unless the environment variable MUJOCO_GL names one."""

TIMEOUT_S = 180.0
LARGEST = 250_000
"""Bytes of a clip and its filmstrip; a larger clip is left out."""


def film(baseline: bytes, candidate: bytes, env: str, seed: int) -> dict[str, Any]:
    """Pictures of both artifacts on ``env``, as JSON builtins.

    ``text`` says what happens, ``strip`` (a list of parts) and ``clip`` are WebP in Base64; or
    ``missing`` says why there are none.
    """
    chosen = os.environ.get("MUJOCO_GL")
    reasons = []
    with tempfile.TemporaryDirectory(prefix="drlcompress-film-") as folder:
        place = Path(folder)
        (place / worker.BASELINE).write_bytes(baseline)
        (place / worker.CANDIDATE).write_bytes(candidate)
        request = json.dumps({"folder": folder, "env": env, "seed": seed})
        for backend in (chosen,) if chosen else BACKENDS:
            reason = _run(request, backend)
            if not reason:
                return _pictures(place)
            reasons.append(f"{backend}: {reason}")
    return {"missing": f"It could not be rendered without a display ({'; '.join(reasons)})."}


def _run(request: str, backend: str) -> str:
    """Empty, or the last line of what went wrong."""
    root = str(Path(__file__).parents[2])
    code = (
        f"import sys; sys.path.insert(0, {root!r});"
        f" from {worker.__name__} import main; main(sys.argv[1])"
    )
    environment: Mapping[str, str] = {
        **os.environ, **ONE_THREAD, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend,
    }  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter and code)
            [sys.executable, "-P", "-c", code, request],
            stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it took longer than {TIMEOUT_S:g} seconds"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else f"exit status {done.returncode}"


def _pictures(place: Path) -> dict[str, Any]:
    strip = [(place / worker.STRIP.format(part=part)).read_bytes() for part in range(PARTS)]
    moving = (place / worker.CLIP).read_bytes()
    text = str(json.loads((place / worker.FACTS).read_text())["text"])
    return {
        "text": text,
        "strip": [base64.b64encode(part).decode() for part in strip],
        "clip": base64.b64encode(moving).decode() if len(moving) <= LARGEST else "",
    }
