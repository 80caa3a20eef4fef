"""What pip installs: the wheel in an environment of its own, with the dependencies that it names and no others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPO, Ran, documents, plain_environment, write_jsonl

pytestmark = pytest.mark.slow
Run = Callable[..., Ran]
NO_TORCH = "error: training and running models needs the package torch, which is not installed"


def outside() -> dict[str, str]:
    """Return an environment in which Python doesn't see the checkout."""
    return {name: value for name, value in plain_environment().items() if name != "PYTHONPATH"}


def needed(requirements: list[str], extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """Return the distributions that requirements name, directly or through one another."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(text), extras) for text in requirements]
    while waiting:
        wanted, asked = waiting.pop()
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *asked)):
            continue
        name = canonicalize_name(wanted.name)
        if name not in found or wanted.extras:
            found[name] = distribution(name)
            waiting += [(Requirement(text), frozenset(wanted.extras)) for text in found[name].requires or ()]
    return found


def site_packages(environment: Path) -> Path:
    """Return where a virtual environment keeps its packages."""
    return next((environment / "lib").glob("python3.*")) / "site-packages"


def environment_of(folder: Path, wheel: Path, extras: frozenset[str] = frozenset()) -> Path:
    """Make a virtual environment of a wheel and of this environment's packages that it needs."""
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, env=outside())
    site = site_packages(folder)
    (installed,) = (Distribution.at(path) for path in site.glob("gptctl-*.dist-info"))
    for package in needed(installed.requires or [], extras).values():
        for top in {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))).resolve())
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source."""
    folder = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns(".*", "out", "*.egg-info", "build", "tests")
    shutil.copytree(REPO, folder / "source", ignore=skipped)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, folder / "source"]
    subprocess.run(build, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture
def installed(tmp_path: Path, wheel: Path) -> Callable[[frozenset[str]], Run]:
    """Install the wheel with some extras; return a function that runs its console script in the test's folder."""

    def install(extras: frozenset[str]) -> Run:
        program = environment_of(tmp_path / "environment", wheel, extras) / "bin" / "gptctl"

        def run(*args: object) -> Ran:
            done = subprocess.run([program, *map(str, args)], cwd=tmp_path, capture_output=True, env=outside())
            return Ran(done.returncode, done.stdout, done.stderr.decode())

        return run

    return install


def test_data_stages_need_no_torch(installed: Callable[[frozenset[str]], Run], tmp_path: Path) -> None:
    """The core alone cleans, deduplicates, tokenizes, scores predictions and reports; for models it asks for torch."""
    gptctl = installed(frozenset())
    write_jsonl(tmp_path / "raw.jsonl", documents(60))
    rows = [{"id": i, "label": "ab"[i % 2], "pred": "ab"[i % 3 == 0]} for i in range(20)]
    write_jsonl(tmp_path / "predictions.jsonl", rows)
    for command in (
        "clean raw.jsonl -o clean --workers 2 --remove-stopwords english",
        "dedup clean -o unique --workers 2",
        "split unique -o splits --workers 2",
        "tokenize unique -o tokens --vocab-size 300 --workers 2",
        "inspect tokens",
        "eval --predictions predictions.jsonl -o scores",
        "report tokens scores -o report.html",
        "doctor tokens scores --lineage",
        "pretrain --list-presets",
        "finetune --help",
    ):
        done = gptctl(*command.split())
        assert done.code == 0, f"{command}: {done.err}"
    assert "needs the package torch" in gptctl("doctor").out.decode()
    for command in (
        "pretrain tokens -o run --max-minutes 1",
        "pretrain tokens -o run --preset test-modern",
        "pretrain tokens -o run --preset test-modern --dry-run",
    ):
        done = gptctl(*command.split())
        assert (done.code, done.error_lines[0]) == (4, NO_TORCH), done.err
        assert done.error_lines[1].startswith("hint: uv pip install --python ")  # the environment has no pip
        assert "'torch>=2.10'" in done.error_lines[1]
    assert not (tmp_path / "run").exists()


def test_train_brings_what_models_need(
    installed: Callable[[frozenset[str]], Run], tmp_path: Path, workspace: Path
) -> None:
    """The extra `train` adds torch, and with it every stage runs outside the checkout."""
    gptctl = installed(frozenset({"train"}))
    done = gptctl("pretrain", workspace / "tokens", "-o", "run", "--preset", "test-modern", "--steps", "2", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["metrics"]["steps"] == 2
    assert gptctl("generate", "run", "The", "--max-tokens", "2").code == 0
    assert not list(site_packages(tmp_path / "environment").glob("gguf*"))
    assert gptctl("export", "run", "-o", "exported", "--format", "gguf").code == 4
