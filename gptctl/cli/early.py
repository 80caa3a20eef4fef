"""Start the fork server of a command before anything else, so that it imports while this process does."""

from __future__ import annotations

import os

# The modules that the workers of a stage import and its command line does not.
WORKERS_IMPORT = {"clean": ("gptctl.text.kernels.words",), "dedup": ("gptctl.text.kernels.shingles",)}
# With these options a stage has no workers.
NO_WORKERS = frozenset({"--help", "--dry-run", "--print-config", "--explain", "serial"})


def start_workers(args: list[str]) -> None:
    """Start the fork server if the command line uses workers and this process may use several processors."""
    several = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
    wanted = {*args, os.environ.get("GPTCTL_EXECUTOR", "")}
    if several and len(args) > 1 and args[0] in WORKERS_IMPORT and not wanted & NO_WORKERS:
        from gptctl.executors.processes import start_server

        start_server((f"gptctl.stages.{args[0]}", *WORKERS_IMPORT[args[0]]))
