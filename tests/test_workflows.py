"""The workflows: what users are told to copy is valid and asks for options that exist."""

import re
import subprocess

import pytest

from conftest import ROOT

yaml = pytest.importorskip("yaml")

WORKFLOWS = [
    *ROOT.glob("docs/workflows/*.yml"),
    *ROOT.glob("examples/github_actions/*.yml"),
    *ROOT.glob(".github/workflows/*.yml"),
]


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_a_workflow_reports_even_when_gates_fail(pytester, path):
    workflow = yaml.safe_load(path.read_text())
    assert "pull_request" in workflow[True]  # YAML 1.1 reads the key "on" as true
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    steps = {step.get("name", step.get("uses", step.get("run"))): step for step in job["steps"]}
    for step in steps.values():
        if "run" in step:
            subprocess.run(["bash", "-n", "-c", step["run"]], check=True)
    upload = next(s for s in steps.values() if "upload-artifact" in s.get("uses", ""))
    summary = steps["Summary"]
    assert upload["if"] == summary["if"] == "always()"
    assert ".html" in upload["with"]["path"]
    known = pytester.runpytest("--help").stdout.str()
    for option in re.findall(r"--drlc-[a-z-]+", path.read_text()):
        assert option in known
