"""An interpreter that has imported gptctl and torch already, and becomes `python -m MODULE ARGS` in a fork of itself, a
process of its own with the caller's files, folder and environment: the same command without the seconds of importing torch.

    python tests/warm_start.py SOCKET      listens until its standard input ends
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

from tests import file_faults

HEAVY = (
    "torch.distributed.fsdp",
    "torch._dynamo",
    "torch.optim",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "scipy.sparse.csgraph",
)
EXTRAS = ("gptctl.executors.ray", "gptctl.evals.harness.lm_eval")  # start threads, or are needed by few
NOT_HERE = (*EXTRAS, "gptctl.executors._fork_server", "gptctl.__main__")  # those two are what a process is


def load() -> None:
    """Import what a command may need."""
    import gptctl

    for name in HEAVY:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(gptctl.__path__, "gptctl."):
        if not module.name.startswith(NOT_HERE):
            importlib.import_module(module.name)


def serve(path: str) -> list[str] | None:
    """Answer callers. Returns in a forked child that is to be a command: its arguments."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(16)
        Path(f"{path}.new").rename(path)  # there once it answers
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            caller, _ = listener.accept()
            with caller:
                if os.fork() == 0:
                    listener.close()
                    return watch(caller)
    return None


def watch(caller: socket.socket) -> list[str] | None:
    """Fork the command, tell the caller how it ended; kill it if the caller goes away before."""
    data, files, *_ = socket.recv_fds(caller, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += caller.recv(1 << 20)
    wanted = json.loads(data)
    ended, wake = os.pipe()  # has something to read once the child has ended
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(ended)
        os.close(wake)
        caller.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(wanted["cwd"])
        os.environ.clear()
        os.environ.update(wanted["environment"])
        return list(wanted["args"])
    for file in [*files, 0, 1, 2]:
        os.close(file)
    if ended not in select.select([ended, caller], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(arguments: list[str]) -> NoReturn:
    """Run a module as the command, and leave without taking down all that was imported, which takes up to 2 s."""
    code: int | str | None = 0
    try:
        file_faults.install()
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # as an interpreter does that ends: first the threads, then what was registered for the end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    os.environ |= {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
    load()
    threads = psutil.Process().num_threads()
    assert threads == 1, f"{threads} threads, of which a fork would have one"
    arguments = serve(sys.argv[1])
    if arguments is not None:
        become(arguments)
