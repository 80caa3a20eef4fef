"""What the tests share: the real command line in a subprocess, and small real data from the standard library."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gptctl.core import plugins
from tests import file_faults

REPO = Path(__file__).parent.parent
SHARED_DATA = REPO.parent / "shared" / "data"
CACHE = Path(tempfile.gettempdir()) / "gptctl-test-cache"  # not the user's
AT_START = ("PYTHON", "OMP_", "MKL_", "MALLOC_", "LD_")  # names of variables that count while an interpreter starts


settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
settings.load_profile("no clock")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests are started with nohup


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to have the tests in the same order again, which `-q` would hide."""
    if (seed := config.getoption("randomly_seed", None)) is not None:
        terminalreporter.write_line(f"order of the tests: --randomly-seed={seed}")


@pytest.fixture(autouse=True)
def denormals() -> None:
    """Compute with denormal numbers again, which a model in this process turns off and Hypothesis draws."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def no_plugins_of_other_tests() -> Iterator[None]:
    """Forget the plug-in files that a test registers in this process."""
    yield
    for name in [name for _, name in plugins._files]:
        sys.modules.pop(plugins.FILE_MODULE + name, None)
    plugins._files.clear()


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def error_lines(self) -> list[str]:
        """The lines of standard error that report the failure."""
        return [line for line in self.err.splitlines() if line.startswith(("error:", "hint:"))]


def run_gptctl(
    *args: object,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float = 240,
    fault: str = "",
    **environment: str,
) -> Ran:
    """Run `gptctl ARGS` as a user does, or with a fault of file_faults.py; fail on a traceback."""
    command = warm("gptctl", environment)
    done = subprocess.run(
        [*command, *map(str, args)], input=stdin, cwd=cwd, capture_output=True, timeout=timeout,
        env=plain_environment() | ({} if fault else one_process(args))
        | {"COLUMNS": "80", "GPTCTL_CACHE": str(CACHE), **environment} | file_faults.environment(fault),
    )  # fmt: skip
    err = done.stderr.decode("utf-8", "replace")
    assert "Traceback" not in err, err
    return Ran(done.returncode, done.stdout, err)


def plain_environment() -> dict[str, str]:
    """Give this process's environment without the settings of gptctl."""
    dropped = ("GPTCTL_", "PYTHONDONTWRITEBYTECODE")  # without bytecode each process compiles all of gptctl
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return inherited | {"PYTHONPATH": str(REPO)}


def one_process(args: Sequence[object]) -> dict[str, str]:
    """Choose the serial engine, whose output is the same, where a command asks for no other: starting a fork server and
    its workers takes 1 to 2 s of a processor, and most of what tests read is a single shard."""
    asked = any(str(arg).startswith(("--workers", "--executor")) for arg in args)
    return {} if asked else {"GPTCTL_EXECUTOR": "serial"}


def at_start() -> dict[str, str]:
    """Return the variables that an interpreter reads while it starts."""
    return {name: value for name, value in plain_environment().items() if name.startswith(AT_START)}


def warm(module: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return a command that does what `python -m MODULE` does in an interpreter that has imported torch (warm_start.py):
    starting one takes 1 to 4 s of a processor, and the tests do it a thousand times. Where the environment is to differ
    in what an interpreter reads while it starts, it is `python -m MODULE`; so it is on macOS, whose own libraries start
    threads that a fork loses."""
    if sys.platform == "darwin":
        return [sys.executable, "-m", module]
    path, read = warm_server()
    if read != at_start() or any(name.startswith(AT_START) for name in environment or {}):
        return [sys.executable, "-m", module]
    return [sys.executable, "-S", "-E", str(REPO / "tests" / "warm_call.py"), str(path), module]


@cache
def warm_server() -> tuple[Path, dict[str, str]]:
    """Start warm_start.py, once a process; give where it listens, and the variables that it started with."""
    folder = Path(tempfile.mkdtemp(prefix="gptctl-warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "socket"
    command = [sys.executable, str(REPO / "tests" / "warm_start.py"), str(path)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, env=plain_environment())
    atexit.register(server.communicate)  # it ends with its standard input
    while not path.exists():
        assert server.poll() is None, "tests/warm_start.py ended"
        time.sleep(0.05)
    return path, at_start()


def put_tools(folder: Path, gptctl: Sequence[str], python: str = "") -> Path:
    """Make a folder for PATH with `gptctl`, which runs that command, and `python`, this one or what a script says."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "gptctl").write_text(f'#!/bin/sh\nexec {shlex.join(gptctl)} "$@"\n')
    (tools / "python").write_text(python or f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    return tools


@pytest.fixture
def gptctl(tmp_path: Path) -> Callable[..., Ran]:
    """Run gptctl in the test's own folder."""

    def run(*args: object, **more: Any) -> Ran:
        return run_gptctl(*args, cwd=more.pop("cwd", tmp_path), **more)

    return run


def documents(count: int, words: int = 60) -> list[dict[str, str]]:
    """Make documents of real text: pieces of the language reference that comes with Python, with some exact copies."""
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics)).split()
    step = max(1, (len(text) - words) // count)
    rows = [{"id": f"d{i}", "text": " ".join(text[i * step : i * step + words])} for i in range(count)]
    for i in range(7, count, 10):
        rows[i]["text"] = rows[i - 5]["text"]
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines, or of all such files of a folder in the order of their names."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def tree_bytes(folder: Path, *names: str) -> dict[str, bytes]:
    """Read everything below a folder that must not depend on how it was made."""
    volatile = {"run.json", "events.jsonl", "log.txt", ".lock", "config.toml"}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in volatile)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not names or path.relative_to(folder).parts[0] in names
    }


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole chain on a small scale, made once with the real command line: raw.jsonl, clean, unique, tokens, run,
    labelled, classifier. Tests read it and write elsewhere."""
    folder = tmp_path_factory.mktemp("workspace")
    write_jsonl(folder / "raw.jsonl", documents(150))
    labelled = folder / "labelled"
    labelled.mkdir()
    for split, count in (("train", 60), ("val", 20), ("test", 20)):
        rows = [
            {
                "text": f"number {i} of {split} is {'even' if i % 2 == 0 else 'odd one out'}",
                "label": "even" if i % 2 == 0 else "odd",
            }
            for i in range(count)
        ]
        write_jsonl(labelled / f"{split}.jsonl", rows)
    (folder / "prompts.jsonl").write_text('{"id": "a", "text": "The"}\n{"id": "b", "text": "An expression"}\n')
    (folder / "corpus.txt").write_text("\n".join(row["text"] for row in documents(20)))
    (folder / "pages").mkdir()
    (folder / "pages" / "a.html").write_text(
        "<!doctype html><html><body><h1>Title</h1><p>A page about the with statement, of fair length.</p></body></html>"
    )
    for command in (
        "clean raw.jsonl -o clean",
        "dedup clean -o unique",
        "tokenize unique -o tokens --vocab-size 320 --val 0.1 --test 0.1",
        "pretrain tokens -o run --preset test-modern --steps 20",
        "finetune run labelled -o classifier --epochs 2",
    ):
        done = run_gptctl(*command.split(), cwd=folder)
        assert done.code == 0, done.err
    return folder
