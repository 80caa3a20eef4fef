"""What a command does before anything else: find a place for temporary files, and start the fork server."""

from __future__ import annotations

import os

from gptctl.cli.console import show_starting
from gptctl.cli.stages import stage_names
from gptctl.core.cache_folder import out_argument, set_matplotlib_folder, use_temporary_folder_in
from gptctl.core.watcher import start_watcher
from gptctl.text.kernels import cache

# The modules that the workers of a stage import and its command line does not.
WORKERS_IMPORT = {"clean": ("gptctl.text.kernels.words",), "dedup": ("gptctl.text.kernels.shingles",)}
# With these options nothing is said, or something short at once.
QUIET = frozenset({"--help", "-h", "--quiet", "-q", "--print-config"})
# With these options nothing is computed.
TELLS_ONLY = frozenset({"--help", "-h", "--print-config"})
# With these options a stage has no workers.
SHOWS_ONLY = frozenset({"--help", "--dry-run", "--print-config", "--explain"})


# Below this, numpy and LLVM end the process themselves while they start, without an error that could be reported.
MIN_ADDRESS_SPACE = 800 * 2**20
compiles = False  # whether this command will compile kernels, because no earlier one has


def require_address_space(args: list[str]) -> None:
    """Raise MachineError (4) if `ulimit -v` is too low for any command."""
    import resource

    from gptctl.core.errors import MachineError
    from gptctl.core.formatting import format_bytes

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE and args and not {"--help", "-h"} & {*args}:
        raise MachineError(
            f"out of memory: the limit of this process is {format_bytes(limit)} of address space (ulimit -v)",
            f"gptctl needs {format_bytes(MIN_ADDRESS_SPACE)}, and training about 2 GB: ulimit -v 2097152",
        )


def reserve_little() -> None:
    """Keep Arrow and the C library from reserving address space in advance, 1 GB and more, if `ulimit -v` limits it."""
    import resource

    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # for the workers


def start_workers(args: list[str]) -> None:
    """Start the fork server if the command line uses workers and this process may use several processors.

    It then imports, and compiles, while this process does.
    """
    global compiles
    require_address_space(args)
    reserve_little()
    if args and args[0] in stage_names() and not TELLS_ONLY & {*args}:
        start_watcher()
    if len(args) > 1 and args[0] in stage_names() and not QUIET & {*args}:
        show_starting(args[0])
    if out := out_argument(args):
        use_temporary_folder_in(out)
    set_matplotlib_folder()
    wanted = {*args, os.environ.get("GPTCTL_EXECUTOR", "")}
    if len(args) < 2 or args[0] not in WORKERS_IMPORT or wanted & SHOWS_ONLY:
        return
    compiles = not cache.are_compiled(WORKERS_IMPORT[args[0]])
    several = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
    if several and "serial" not in wanted:
        from gptctl.executors.processes import start_server

        start_server((f"gptctl.stages.{args[0]}", *WORKERS_IMPORT[args[0]]))
