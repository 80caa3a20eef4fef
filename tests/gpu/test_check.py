"""The checks for a GPU: at a small size on the CPU, and one by one where there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from tests.conftest import REPO
from tests.gpu import check, packages

SCRIPT = REPO / "tests" / "gpu" / "check.sh"


def run_script(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder, with this interpreter."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OUT", "WHEELS", "NANOGPT_DIR")}
    command = ["bash", str(SCRIPT), *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment | {"PYTHON": sys.executable}
    )


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine
@pytest.mark.parametrize("suite", ["right", "fast"])
def test_the_checks_pass_on_the_cpu(suite: str, tmp_path: Path) -> None:
    """Every check of both suites, at a small size; the JSON has a verdict for each bound.

    A relative path is one in the folder where the script is run, which may hold tests of its own.
    """
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    done = run_script(tmp_path, suite, "--cpu", "--out", "found.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["check"] for each in found["checks"]] == [each.name for each in check.load(suite)]
    rows = [row for each in found["checks"] for row in each["rows"]]
    assert {row["verdict"] for row in rows if row["bound"] is not None} <= {"ok"}
    assert all(row["value"] is not None or row["note"] for row in rows)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [each.name for each in check.load("right")])
def test_the_device_is_right(name: str) -> None:
    """One check on the GPU."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA GPU")
    (chosen,) = (each for each in check.load("right") if each.name == name)
    rows = list(chosen.function(check.Setting(torch.device("cuda"))))
    assert rows
    assert not [row for row in rows if row.verdict == "failed"]


def test_a_failed_check_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 for a figure beyond its bound and for an error, but not for a goal that is not reached."""

    def beyond(setting: check.Setting) -> list[check.Row]:
        return [check.Row("figure", 2.0, 1.0), check.Row("goal", 0.3, 0.5, at_least=True, is_goal=True)]

    def broken(setting: check.Setting) -> list[check.Row]:
        raise ValueError("no such device")

    checks = [check.Check("a.beyond", "", beyond), check.Check("a.broken", "", broken)]  # type: ignore[arg-type]
    assert check.run(checks, check.Setting(torch.device("cpu")), tmp_path / "found.json") == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == ["a.beyond", "a.broken"]
    assert [row["verdict"] for row in found["checks"][0]["rows"]] == ["failed", "below goal"]
    assert "no such device" in capsys.readouterr().out
    assert check.run([], check.Setting(torch.device("cpu")), None) == 0


def test_checks_without_time_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A suite that did not run all of them does not say that all passed."""
    monkeypatch.setattr(check, "SECONDS", -1)
    late = check.Check("a.late", "", lambda setting: iter([check.Row("figure", 1.0, 1.0)]))
    assert check.run([late], check.Setting(torch.device("cuda")), None) == 0
    assert "; not run: a.late\n" in capsys.readouterr().out


def test_missing_packages_are_named_or_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder of wheels, without a network."""
    monkeypatch.setattr(packages, "NEEDED", {"torch": "torch", "tiny_gpu_check": "tiny-gpu-check"})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    assert "missing packages: tiny-gpu-check" in packages.provide("")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    assert "does not have all of tiny-gpu-check" in packages.provide(str(wheels))
    with zipfile.ZipFile(wheels / "tiny_gpu_check-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_gpu_check.py", "")
        info = "tiny_gpu_check-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-gpu-check\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    assert packages.provide(str(wheels)) == ""
    assert packages.find_missing() == []
