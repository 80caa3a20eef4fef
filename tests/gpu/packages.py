"""The packages that the checks need. Imports nothing but the standard library."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec

MIN_TORCH = (2, 11)
# The module and the package of each.
NEEDED = {
    "numpy": "numpy",
    "orjson": "orjson",
    "psutil": "psutil",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "safetensors": "safetensors",
    "tomli_w": "tomli-w",
    "xxhash": "xxhash",
}


def provide(wheels: str) -> str:
    """Install what is missing from a folder of wheels into a temporary folder. Return what is wrong, or "" if all is well."""
    if find_spec("torch") is None:
        return "torch is missing; it is never installed from WHEELS"
    found = torch_version()
    if found < MIN_TORCH:
        return f"torch {'.'.join(map(str, found))} is older than {'.'.join(map(str, MIN_TORCH))}"
    missing = find_missing()
    if missing and wheels:
        target = tempfile.mkdtemp(prefix="gptctl-gpu-check-")
        atexit.register(shutil.rmtree, target, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
        done = subprocess.run(
            [*pip, "--find-links", wheels, "--target", target, *missing], capture_output=True, text=True
        )
        if done.returncode:
            return f"{wheels} does not have all of {', '.join(missing)}: {done.stderr.strip().splitlines()[-1]}"
        use(target)
        missing = find_missing()
    return (
        f"missing packages: {', '.join(missing)}; put their wheels into a folder and set WHEELS to it"
        if missing
        else ""
    )


def find_missing() -> list[str]:
    """Return the packages whose modules are not found."""
    return [package for module, package in NEEDED.items() if find_spec(module) is None]


def use(folder: str) -> None:
    """Let this process and those that it starts import from a folder, after everything that is installed."""
    sys.path.append(folder)
    importlib.invalidate_caches()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH", ""), folder)))


def torch_version() -> tuple[int, int]:
    """Return the first two numbers of torch's version, without importing torch."""
    from importlib.metadata import version

    major, minor = version("torch").split(".")[:2]
    return int(major), int(minor)
