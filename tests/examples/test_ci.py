"""examples/ci: the steps of the workflow file, run as a CI machine does, at the size of a test."""

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPO, plain_environment, put_tools, warm

LITTLE = {"GPTCTL_STEPS": "4", "GPTCTL_EPOCHS": "1", "GPTCTL_EXECUTOR": "serial"}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout with gptctl and python in PATH."""
    (tmp_path / "examples").symlink_to(REPO / "examples")
    put_tools(tmp_path, warm("gptctl"))
    return tmp_path


def run(machine: Path, command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a step as GitHub does."""
    environment = plain_environment() | {"PATH": f"{machine / 'bin'}:{os.environ['PATH']}"} | settings
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", command], cwd=machine, env=environment, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip


def read_workflow() -> dict[str, Any]:
    """Read the job of the workflow file."""
    found: dict[str, Any] = yaml.safe_load((REPO / "examples" / "ci" / "gptctl.yml").read_text())
    return found["jobs"]["train-and-evaluate"]  # type: ignore[no-any-return]


@pytest.mark.slow
def test_steps_of_the_workflow(machine: Path) -> None:
    job = read_workflow()
    settings = job["env"] | LITTLE | {"BAR": "0", "GITHUB_STEP_SUMMARY": str(machine / "summary.md")}
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    assert list(steps) == ["Install", "Data", "Train and evaluate", "Scores on the summary page"]
    assert (REPO / "constraints.txt").exists() and "constraints.txt '.[train]'" in steps["Install"]  # needs a network
    shorten = "\nfor part in train val test; do head -60 out/labelled/$part.jsonl > part; mv part out/labelled/$part.jsonl; done"
    for name, more in (("Data", shorten), ("Train and evaluate", ""), ("Scores on the summary page", "")):
        done = run(machine, steps[name] + more, **settings)
        assert done.returncode == 0, (name, done.stderr)
    summary = (machine / "summary.md").read_text()
    assert "1 of 1 gates passed" in summary and "| nb |" in summary
    kept = next(step["with"]["path"] for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    for path in kept.split():
        assert (machine / path).stat().st_size > 0
    assert "<svg" in (machine / "out/ci/report.html").read_text()

    # The gate: another bar on the finished outputs takes no training, fails with 7, and the page is there all the same.
    (machine / "out/ci/report.html").unlink()
    done = run(machine, steps["Train and evaluate"], **settings | {"BAR": "1", "OUT": "out/ci"})
    assert done.returncode == 7, done.stderr
    assert done.stderr.count("up to date") == 5
    assert "eval: failed" in done.stderr
    assert (machine / "out/ci/report.html").exists()
    suite = ElementTree.parse(machine / "out/ci/eval.xml").getroot()
    assert suite.get("failures") == "1"
