"""Resident memory of a fresh process that loads and runs an artifact: what a deployment sees.

Most of it is Python and ONNX Runtime. It depends on their versions and on the system, so it is
reported and never gated.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_CALLS = 100
_TIMEOUT = 60
_PROGRAM = """
import json, sys
import numpy as np
from pytest_drlcompress.runtime.factory import make_runtime

def resident():
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

with open(sys.argv[1], "rb") as file:
    model = file.read()
runtime = make_runtime(sys.argv[3])
before = resident()
controller = runtime.load(model)
observation = np.zeros(controller.observation_shape, controller.observation_dtype)
for _ in range(int(sys.argv[2])):
    controller.act_one(observation)
print(json.dumps({"resident_bytes": resident(), "resident_before_bytes": before}))
"""


def resident_memory(model: bytes, runtime: str = "onnx") -> tuple[dict[str, int | None], str]:
    """``resident_bytes`` after running ``model``, ``resident_before_bytes`` before loading it.

    ``runtime`` is the name of what runs it. Both are ``None``, and the second value says why,
    where they cannot be measured.
    """
    nothing: dict[str, int | None] = {"resident_bytes": None, "resident_before_bytes": None}
    if not Path("/proc/self/status").exists():
        return nothing, "this system has no /proc/self/status"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artifact.onnx"
        path.write_bytes(model)
        paths = os.pathsep.join(filter(None, sys.path))
        try:
            done = subprocess.run(  # noqa: S603 (this interpreter, a program of our own)
                [sys.executable, "-c", _PROGRAM, str(path), str(_CALLS), runtime],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                check=True,
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            )
            return json.loads(done.stdout), ""
        except subprocess.SubprocessError as error:
            last = str(getattr(error, "stderr", "") or "").strip().splitlines()[-1:]
            return nothing, f"the fresh process failed: {last[0] if last else error}"
