"""Run shard tasks as Ray core tasks, on a cluster or on a small one of our own, answers in the order of the items.

Every node reads the inputs and writes the output folder under the same path as this process: storage that all nodes
share. gptctl is installed on each. Functions and answers travel pickled between processes, as with multiprocessing;
nothing pickled is written to a file of ours.

A task that dies with its worker or its node is run again elsewhere. That is safe because it decides nothing by itself:
the same item gives the same bytes, which appear under their final name whole or not at all, so that the second run
writes what the first one wrote, or would have.
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
from gptctl.core.errors import GptctlError, MachineError, StoppedError
from gptctl.core.machine import available_cpus

Item = TypeVar("Item")
Answer = TypeVar("Answer")

IN_FLIGHT_PER_WORKER = 2
RETRIES = 3  # of one task whose worker or node died
OBJECT_STORE_BYTES = 2**30  # of the local cluster; more goes to disk. Answers are a few MiB at most, two per worker.
ANSWER_SECONDS = 5.0  # in which a cluster must answer; Ray itself would try for 163 s
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would upload the current folder, data and all
    "RAY_task_oom_retries": str(RETRIES),  # else a task that is too large for the memory is tried for ever
}
MISSING_CODE = "The remote function failed to import"  # how Ray's message begins where a node lacks gptctl


def run(
    function: Callable[[Item], Answer],
    items: Iterable[Item],
    workers: int,
    preload: Sequence[str] = (),
    address: str | None = None,
) -> Iterator[Answer]:
    """Yield function(item) for each item, in order, computed by up to `workers` tasks at a time.

    0 workers take all processors: of the cluster at `address` (else RAY_ADDRESS), or of this machine. Without an
    address a local cluster is started, which later calls use too and which ends with this process. `function` is sent
    once to each worker. `preload` is not used. What a task raises is raised here; MachineError (4) where Ray is not
    installed, no cluster answers, or the workers that try a task die again and again.
    """
    waiting = iter(items)
    first = list(islice(waiting, 1))
    if not first:
        return  # everything is done already: nothing to start Ray for
    given = address or os.environ.get("RAY_ADDRESS") or "local"
    ray = connect(given, workers)
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(work)
    # In a list: an argument of its own would be unpickled again for each task.
    sent = [ray.put(plugins.carried(function))]
    folder = os.getcwd()  # noqa: PTH109  (workers are sent text)
    # A local cluster has as many processors as there are workers; on another one, only the tasks sent are a bound.
    most = workers if given != "local" else 0
    in_flight = IN_FLIGHT_PER_WORKER * (most or round(ray.cluster_resources().get("CPU", 1)))
    flying: deque[Any] = deque()
    try:
        for item in chain(first, waiting):
            if most:
                wait_for_place(ray, list(flying), most)
            flying.append(task.remote(folder, sent, item))
            if len(flying) >= in_flight:
                yield answer(ray, flying.popleft())
        while flying:
            yield answer(ray, flying.popleft())
    finally:
        for reference in flying:
            ray.cancel(reference)
        if flying:  # tasks under way are not cut off (see `receive`), and must not outlive the folder's lock
            ray.wait(list(flying), num_returns=len(flying), fetch_local=False)


def wait_for_place(ray: Any, flying: list[Any], most: int) -> None:
    """Return once fewer than `most` tasks are unfinished."""
    if len(flying) >= most:
        _, unfinished = ray.wait(flying, num_returns=len(flying), timeout=0)
        if len(unfinished) >= most:
            ray.wait(unfinished, num_returns=len(unfinished) - most + 1)


def answer(ray: Any, reference: Any) -> Any:
    """Return what a task returned, or raise what it raised."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise cause_of(error) from error
    except ray.exceptions.RayError as error:
        raise MachineError(
            "a worker process died (killed, or out of memory)",
            "run the same command again; with less memory in use: --workers 1",
        ) from error


def cause_of(error: Any) -> Exception:
    """Return the exception that a task raised in its worker."""
    cause = error.cause
    if isinstance(cause, RuntimeError) and str(cause).startswith(MISSING_CODE):
        return unlike("a node")
    if isinstance(cause, Exception) and not type(cause).__module__.startswith("ray."):
        return cause
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return GptctlError(f"internal error: {lines[-1]}", "run again with --debug and report the traceback")


def work(folder: str, sent: list[Any], item: Any) -> Any:
    """Do one task, in a worker."""
    return receive(folder, sent[0])(item)


@lru_cache(maxsize=1)
def receive(folder: str, reference: Any) -> Callable[[Any], Any]:
    """Make a worker ready for a function and get it, once: what the function caches stays with the worker.

    Relative paths start at the folder of the command. Interrupts are left to the command, so that neither Ctrl-C nor a
    cancelled task cuts off a write.
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
        raise unlike(f"node {platform.node()}") from error
    return function


def unlike(node: str) -> MachineError:
    """Say that a node cannot import what this process can."""
    return MachineError(
        f"{node} of the Ray cluster cannot import gptctl as it is here",
        "install the same version on every node, where Ray runs: pip install 'gptctl[ray]'",
    )


def connect(address: str, workers: int) -> Any:
    """Return the ray module, connected to the cluster at `address`; a process that is connected stays where it is.

    "local" starts a cluster of this machine, which takes 4 s, and 2 s to end; strangers to its token cannot use it.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    local = address == "local"
    if local and "ray" not in sys.modules:  # else Ray would leave a token in the home folder
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise MachineError("--executor ray needs the package ray", "pip install 'gptctl[ray]'") from error
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
    with handlers_kept():
        try:
            found: Any = ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
        except (OSError, RuntimeError, ValueError) as error:  # what Ray raises for addresses, versions and time-outs
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
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise unreachable(address, str(error)) from error


def unreachable(address: str, why: str) -> MachineError:
    """Say that there is no cluster."""
    where = "a local Ray cluster cannot be started" if address == "local" else f"no Ray cluster answers at {address}"
    return MachineError(f"{where}: {why}", "name the head node's HOST:PORT with --ray-address (`ray status` shows it)")


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put our handler of SIGTERM back, which Ray replaces by one that ends the process while it starts."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        raise StoppedError("stopped while Ray started", "run the same command again", signal.SIGTERM) from error
    finally:
        if ours is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)
