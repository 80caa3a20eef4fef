"""Run shard tasks on all processors of this machine, answers in the order of the items.

Workers come from a fork server: they start fast, and do not inherit threads of Arrow or of the tokenizers library.
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
from gptctl.core.errors import MachineError
from gptctl.core.main_module import without_main_module
from gptctl.executors import serial

Item = TypeVar("Item")
Answer = TypeVar("Answer")

IN_FLIGHT_PER_WORKER = 2  # keeps workers busy while bounding what waits in memory


def run(
    function: Callable[[Item], Answer], items: Iterable[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Answer]:
    """Yield function(item) for each item, in order, computed by `workers` processes.

    One worker, or a single item, is run in this process. `preload` names modules that take long to import: the fork
    server imports them once for all workers. Raises MachineError (4) if a worker dies.
    """
    waiting = iter(items)
    first = [item for _, item in zip(range(2), waiting, strict=False)]
    if workers <= 1 or len(first) < 2:
        yield from serial.run(function, first, 1)
        yield from serial.run(function, waiting, 1)
        return
    start_server(preload)
    function = plugins.carried(function)
    pool = open_pool(workers, Path.cwd())
    flying: deque[Future[Answer]] = deque()
    try:
        for item in chain(first, waiting):
            with without_main_module():
                flying.append(pool.submit(function, item))
            if len(flying) >= workers * IN_FLIGHT_PER_WORKER:
                yield flying[0].result()
                flying.popleft()
        while flying:
            yield flying[0].result()
            flying.popleft()
    except BrokenProcessPool as error:
        open_pool.cache_clear()
        raise MachineError(
            "a worker process died (killed, or out of memory)",
            f"run the same command again; with less memory in use: --workers {max(1, workers // 2)}",
        ) from error
    finally:
        for future in flying:
            future.cancel()
        wait(flying)  # what is under way writes under the folder's lock, and must not outlive it


@lru_cache(maxsize=1)
def open_pool(workers: int, folder: Path) -> ProcessPoolExecutor:
    """Open a pool whose workers stay for the passes to come: starting them takes 40 ms. `folder` is where they work."""
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)


def start_server(preload: Sequence[str]) -> None:
    """Start the fork server, if it is not running, so that its imports run beside ours."""
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["gptctl.executors.fork_server", "gptctl.pipeline.execution", *preload]
    )
    forkserver.ensure_running()


def begin_worker() -> None:
    """Leave signals to the parent, and end when it is gone (a killed parent cannot tell its workers)."""
    from gptctl.io.dataset.schema import prepare_arrow

    prepare_arrow()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=watch_parent, daemon=True).start()


def watch_parent() -> None:
    """End this process once the one that wants its answers is gone.

    Its process id would not tell: a worker's parent is the fork server, which lives as long as its workers do.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
