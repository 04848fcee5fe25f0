"""The workflows: what users are told to copy is valid and asks for options that exist."""

import re
import subprocess
import tomllib

import pytest

from conftest import ROOT
from pytest_drlcompress import __version__

yaml = pytest.importorskip("yaml")

WORKFLOWS = [
    *ROOT.glob("docs/workflows/*.yml"),
    *ROOT.glob("examples/github_actions/*.yml"),
    ROOT / ".github/workflows/ci.yml",
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


@pytest.mark.parametrize("name", ["pythons", "release"])
def test_a_workflow_of_ours_is_valid_and_grants_little(name):
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        assert "contents: write" not in str(job.get("permissions", ""))
        for step in job["steps"]:
            if "run" in step:
                subprocess.run(["bash", "-n", "-c", step["run"]], check=True)


def test_the_pythons_that_are_promised_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = [c.rpartition(" ")[2] for c in project["classifiers"] if ":: 3." in c]
    workflow = yaml.safe_load((ROOT / ".github/workflows/pythons.yml").read_text())
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == promised
    tox = (ROOT / "tox.ini").read_text()
    assert all(f"py{version.replace('.', '')}" in tox for version in promised)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    for template in ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"):
        assert yaml.safe_load(template.read_text()), template
