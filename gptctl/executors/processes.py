"""Run the function in worker processes, on all CPUs of this machine.

Workers are forked from a server process: they start fast, and they inherit no threads of Arrow or of tokenizers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeVar

from gptctl.core import plugins
from gptctl.core.cpus import available_cpus
from gptctl.core.errors import MachineError
from gptctl.core.main_module import without_current_folder, without_main_module
from gptctl.core.watcher import HANDLED
from gptctl.executors import serial

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PENDING_PER_WORKER = 2  # keeps workers busy, and bounds the results that wait in memory


def worker_count(workers: int) -> int:
    """Return the number of workers that the user asks for, or one per available CPU."""
    return workers or available_cpus()


def run(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed by `workers` processes.

    One worker, or a single item, runs in this process. The fork server imports the modules of `preload` once for all
    workers. Raises MachineError (4) if a worker dies.
    """
    remaining = iter(items)
    first = [item for _, item in zip(range(2), remaining, strict=False)]
    if workers <= 1 or len(first) < 2:
        yield from serial.run(function, first, 1)
        yield from serial.run(function, remaining, 1)
        return
    start_server(preload)
    function = plugins.carried(function)
    pool = open_pool(workers, Path.cwd())
    pending: deque[Future[Result]] = deque()
    try:
        for item in chain(first, remaining):
            with without_main_module():
                pending.append(pool.submit(function, item))
            if len(pending) >= workers * MAX_PENDING_PER_WORKER:
                yield pending[0].result()
                pending.popleft()
        while pending:
            yield pending[0].result()
            pending.popleft()
    except (BrokenProcessPool, OSError) as error:
        if not pool._broken:
            raise
        kill_workers(pool)
        open_pool.cache_clear()
        raise MachineError(
            "a worker process died (killed, or out of memory)",
            f"run the same command again; to use less memory: --workers {max(1, workers // 2)}",
        ) from error
    finally:
        for future in pending:
            future.cancel()
        wait(pending)  # a running item writes under the folder's lock, and must not outlive it


@lru_cache(maxsize=1)
def open_pool(workers: int, folder: Path) -> ProcessPoolExecutor:
    """Open a pool of workers in `folder`. It is kept for later calls, since starting workers takes 40 ms.

    Raises MachineError (4) if this system does not allow it.
    """
    context = multiprocessing.get_context("forkserver")
    try:
        return ProcessPoolExecutor(workers, mp_context=context, initializer=initialize_worker)
    except OSError as error:  # semaphores are files in /dev/shm
        what = f"worker processes cannot be started: {error.strerror or error}"
        raise MachineError(what, "use --workers 1, or make /dev/shm a tmpfs that can be written") from error


def kill_workers(pool: ProcessPoolExecutor) -> None:
    """Kill the workers that a broken pool has left.

    When a pool breaks, it ends the workers that it knows, closes its pipes and waits for all workers. A worker that
    `submit` was starting at that moment either cannot start, which is an OSError, or is waited for without end. Python
    3.14 has a public method that kills workers.
    """
    for process in list(pool._processes.values()):
        process.kill()


def start_server(preload: Sequence[str]) -> None:
    """Start the fork server if it is not running, so that its imports run at the same time as ours.

    It blocks the signals that stop a command, and so do the workers that it forks. A terminal, Slurm and systemd send
    these signals to all processes of a command, and the command decides what happens to its workers.
    """
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["gptctl.executors._fork_server", "gptctl.pipeline.shard_pipeline", *preload]
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        with without_current_folder():
            resource_tracker.ensure_running()  # which unblocks some of them
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def initialize_worker() -> None:
    """Set up Arrow, leave signals to the parent, and watch for the parent's death, of which nothing else would tell."""
    from gptctl.io.dataset.schema import prepare_arrow

    prepare_arrow()
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """End this process as soon as the process that wants its results has ended.

    The parent's process id would not show this: a worker's parent is the fork server, which lives as long as its
    workers do.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
