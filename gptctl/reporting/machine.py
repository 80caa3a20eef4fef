"""A description of this machine: processors, memory, GPUs, disks and library versions."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

from gptctl.core.config import Values
from gptctl.core.cpus import available_cpus
from gptctl.core.errors import MachineError
from gptctl.core.extras import require
from gptctl.core.formatting import format_bytes
from gptctl.core.run_record import library_versions
from gptctl.io.object_storage.address import is_uri

LOW_BYTES = 10**9


def describe_machine(paths: tuple[str, ...]) -> Values:
    """Return the facts about this machine by name.

    The disks are those of the local `paths`. Without any path, return the disk of the current folder and the GPUs.
    """
    import psutil

    memory = psutil.virtual_memory()
    facts: Values = {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": available_cpus(),
        "memory": f"{format_bytes(memory.available)} free of {format_bytes(memory.total)}",
    }
    folders = {str(nearest_folder(path)) for path in paths if not is_uri(path)} or {str(Path.cwd())}
    for folder in sorted(folders):
        usage = shutil.disk_usage(folder)
        low = ", little" if usage.free < LOW_BYTES else ""
        facts[f"disk of {folder}"] = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)}{low}"
    if not paths:
        facts["accelerators"] = accelerators()
    return facts | library_versions()


def nearest_folder(path: str) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    folder = Path(path).resolve()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def accelerators() -> str:
    """Return the names of the GPUs that torch can use, or that torch is not installed."""
    try:
        torch: Any = require("torch")
    except MachineError as error:
        return f"unknown: {error.message}"

    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "Apple GPU" if torch.backends.mps.is_available() else "none"
