"""Each module of gptctl can be imported first: none works only because another one was imported before it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import gptctl
from tests.conftest import plain_environment

# What the modules need from elsewhere is imported once. A fork of that interpreter imports one module of gptctl alone.
IMPORT_EACH = """
import importlib, os, sys
import numpy, pyarrow, pydantic, torch
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(reader)
    for name in sys.argv[1:]:
        importlib.import_module(name)
    names = [name for name in sys.modules if name.partition(".")[0] != "gptctl"]
    with open(writer, "w") as pipe:
        pipe.write("\\n".join(names))
    os._exit(0)
os.close(writer)
with open(reader) as pipe:
    for name in pipe.read().split("\\n"):
        try:
            importlib.import_module(name)
        except Exception:  # some modules are made by others, under names that cannot be imported
            pass
os.wait()
assert not any(name.startswith("gptctl.") for name in sys.modules)
failed = 0
for name in sys.argv[1:]:
    sys.stdout.flush()
    if os.fork() == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    failed |= os.wait()[1]
sys.exit(failed != 0)
"""


@pytest.mark.slow
def test_each_module_can_be_imported_alone() -> None:
    """In an interpreter where no other module of gptctl is."""
    names = [module.name for module in pkgutil.walk_packages(gptctl.__path__, "gptctl.")]
    assert len(names) > 200
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *names], capture_output=True, text=True, env=plain_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_data_stages_start_fast() -> None:
    """Their modules import nothing that takes long and that not every run needs."""
    slow = {"pandas", "numba", "torch", "nltk", "matplotlib", "transformers", "datasets", "tokenizers", "ray"}
    show = f"print(*sorted(set(sys.modules) & {slow}))"
    stages = ", ".join(f"gptctl.stages.{stage}" for stage in ("clean", "dedup", "tokenize", "split", "doctor"))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, gptctl.cli.main, {stages}; {show}"],
        capture_output=True, text=True, env=plain_environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr + done.stdout
