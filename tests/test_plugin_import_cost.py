"""An unrelated pytest run must not pay for the plugin."""

import subprocess
import sys

HEAVY = (
    "torch",
    "numpy",
    "gymnasium",
    "onnxruntime",
    "onnx",
    "scipy",
    "mujoco",
    "stable_baselines3",
    "rich",
    "jinja2",
    "matplotlib",
)


def test_an_unrelated_run_imports_nothing_heavy(tmp_path):
    (tmp_path / "test_unrelated.py").write_text("def test_nothing(): pass\n")
    script = f"""
import sys, pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", {str(tmp_path)!r}])
assert code == 0, code
assert "pytest_drlcompress.plugin" in sys.modules
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "LOADED []" in run.stdout, run.stdout + run.stderr


def test_help_and_markers_import_nothing_heavy(tmp_path):
    script = f"""
import sys, pytest
pytest.main(["--help"]); pytest.main(["--markers"])
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "LOADED []" in run.stdout, run.stdout + run.stderr
    assert "--drlc-policy" in run.stdout
    assert "@pytest.mark.drlcompress(*, min_retention" in run.stdout
