"""Run the function as Ray tasks, on a cluster or on a local one that is started here.

Every node must read the inputs and write the output folder under the same path as this process, on shared storage, and
must have gptctl installed. Functions and results travel pickled between processes, as with multiprocessing. No pickle
is written to a file of gptctl.

A task whose worker or node dies is run again elsewhere. This is safe: the same item gives the same bytes, and a file
appears under its final name only when it is complete, so a second run writes the bytes that the first would write.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
import secrets
import shutil
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeVar

from gptctl.core import plugins
from gptctl.core.cpus import available_cpus
from gptctl.core.errors import GptctlError, MachineError, StoppedError
from gptctl.core.extras import require

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PENDING_PER_WORKER = 2
MAX_RETRIES = 3  # of a task whose worker or node died
OBJECT_STORE_BYTES = (
    2**30
)  # of the local cluster; Ray spills the rest to disk. Two results of a few MiB wait per worker.
CONNECT_SECONDS = 5.0  # in which a cluster must answer; Ray itself would try for 163 s
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would upload the current folder, data and all
    "RAY_task_oom_retries": str(MAX_RETRIES),  # else a task that runs out of memory is tried for ever
}
MISSING_CODE = "The remote function failed to import"  # the start of Ray's message if a node lacks gptctl


def worker_count(workers: int) -> int:
    """Return the number that the user asks for; 0 stays and takes the whole cluster."""
    return workers


def run(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    preload: Sequence[str] = (),
    address: str | None = None,
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed by up to `workers` Ray tasks at a time.

    With 0 workers all CPUs are used, of the cluster at `address` (else at RAY_ADDRESS) or of this machine. Without an
    address a local cluster is started; later calls use it too, and it ends with this process. `function` is sent to
    each worker once. `preload` is ignored. What a task raises is raised here. Raises MachineError (4) if Ray is not
    installed, if no cluster answers, or if the workers of a task die repeatedly.
    """
    remaining = iter(items)
    first = list(islice(remaining, 1))
    if not first:
        return  # nothing is left to do, so Ray need not start
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    ray = connect(target, workers)
    task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(run_item)
    # In a list: Ray would unpickle a plain argument again for each task.
    function_ref = [ray.put(plugins.carried(function))]
    folder = os.getcwd()  # noqa: PTH109  (workers receive text)
    # A local cluster has one CPU per worker. On any other, only the number of running tasks bounds the workers.
    max_running = workers if target != "local" else 0
    max_pending = MAX_PENDING_PER_WORKER * (max_running or round(ray.cluster_resources().get("CPU", 1)))
    pending: deque[Any] = deque()
    try:
        for item in chain(first, remaining):
            if max_running:
                wait_for_slot(ray, list(pending), max_running)
            pending.append(task.remote(folder, function_ref, item))
            if len(pending) >= max_pending:
                yield result_of(ray, pending.popleft())
        while pending:
            yield result_of(ray, pending.popleft())
    finally:
        for reference in pending:
            ray.cancel(reference)
        if pending:  # running tasks are not interrupted (see `prepare_worker`), and must not outlive the folder's lock
            ray.wait(list(pending), num_returns=len(pending), fetch_local=False)


def wait_for_slot(ray: Any, pending: list[Any], max_running: int) -> None:
    """Wait until fewer than `max_running` tasks are unfinished."""
    if len(pending) >= max_running:
        _, unfinished = ray.wait(pending, num_returns=len(pending), timeout=0)
        if len(unfinished) >= max_running:
            ray.wait(unfinished, num_returns=len(unfinished) - max_running + 1)


def result_of(ray: Any, reference: Any) -> Any:
    """Return what a task returned, or raise what it raised."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise cause_of(error) from error
    except ray.exceptions.RayError as error:
        raise MachineError(
            "a worker process died (killed, or out of memory)",
            "run the same command again; to use less memory: --workers 1",
        ) from error


def cause_of(error: Any) -> Exception:
    """Return the exception that a task raised in its worker."""
    cause = error.cause
    if isinstance(cause, RuntimeError) and str(cause).startswith(MISSING_CODE):
        return missing_code("a node")
    if isinstance(cause, Exception) and not type(cause).__module__.startswith("ray."):
        return cause
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return GptctlError(f"internal error: {lines[-1]}", "run again with --debug and report the traceback")


def run_item(folder: str, function_ref: list[Any], item: Any) -> Any:
    """Call the function on one item, in a worker."""
    return prepare_worker(folder, function_ref[0])(item)


@lru_cache(maxsize=1)
def prepare_worker(folder: str, reference: Any) -> Callable[[Any], Any]:
    """Set up this worker for a function and return the function. It is cached, so what it caches itself stays, too.

    The worker changes to the command's folder, for relative paths, and ignores interrupts, so that neither Ctrl-C nor a
    cancelled task interrupts a write.
    """
    import ray

    from gptctl.io.dataset.schema import prepare_arrow

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_arrow()
    try:
        os.chdir(folder)
    except OSError as error:
        raise MachineError(
            f"node {platform.node()} has no folder {folder}",
            "run the command in a folder on storage that all nodes share under one path",
        ) from error
    try:
        function: Callable[[Any], Any] = ray.get(reference)
    except ImportError as error:
        raise missing_code(f"node {platform.node()}") from error
    return function


def missing_code(node: str) -> MachineError:
    """Return the error for a node that cannot import what this process can."""
    return MachineError(
        f"{node} of the Ray cluster cannot import this version of gptctl",
        "install the same version of gptctl, with its extra ray, on every node, where Ray runs",
    )


def connect(address: str, workers: int) -> Any:
    """Connect to the cluster at `address` and return the ray module. A process that is connected stays connected.

    "local" starts a cluster on this machine. Starting it takes 4 s, stopping it 2 s, and a random token protects it.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    local = address == "local"
    if local and "ray" not in sys.modules:  # else Ray would write a token into the home folder
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray: Any = require("ray")
    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {"address": address}
    if local:
        options |= {
            "num_cpus": workers or available_cpus(),
            "num_gpus": 0,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        check_answers(address)
    with sigterm_handler_kept():
        try:
            found: Any = ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
        except (OSError, RuntimeError, ValueError) as error:  # Ray raises these for addresses, versions and timeouts
            raise unreachable(address, " ".join(str(error).split())[:200]) from error
    if local:
        atexit.register(stop, ray, found.address_info["session_dir"])
    return ray


def stop(ray: Any, session: str) -> None:
    """Stop the local cluster and remove its logs."""
    ray.shutdown()
    shutil.rmtree(session, ignore_errors=True)


def check_answers(address: str) -> None:
    """Raise MachineError (4) where nobody listens at a HOST:PORT."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise unreachable(address, str(error)) from error


def unreachable(address: str, why: str) -> MachineError:
    """Return the error for a cluster that cannot be reached or started."""
    where = "a local Ray cluster cannot be started" if address == "local" else f"no Ray cluster answers at {address}"
    return MachineError(f"{where}: {why}", "name the head node's HOST:PORT with --ray-address (`ray status` shows it)")


@contextmanager
def sigterm_handler_kept() -> Iterator[None]:
    """Restore our SIGTERM handler: while Ray starts, it installs one that ends the process."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        raise StoppedError("stopped while Ray started", "run the same command again", signal.SIGTERM) from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
