"""Start the ranks of a run on this machine, carry their words and errors to the user, start them again when one dies.

gloo connects ranks on CPUs, NCCL those on GPUs. Other machines of the same run do the same (see nodes.py).
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gptctl.core import atomic, errors
from gptctl.core.context import Context
from gptctl.core.errors import GptctlError, MachineError, StoppedError
from gptctl.core.rundir import Run
from gptctl.core.signals import HANDLED, StopFlag
from gptctl.model import device
from gptctl.train.job import TrainJob
from gptctl.train.monitor.heartbeat import Pulse, Watcher

Fit = Callable[[TrainJob, Run, Context, Any], dict[str, Any]]
Make = Callable[[TrainJob, torch.device, Pulse], Any]  # an engine, inside a rank

SAVE_SECONDS = 300  # how long a stopped rank may take for its checkpoint
AGAIN = "run the same command again to go on from the last checkpoint"


class LostRankError(MachineError):
    """A rank died or fell silent through no doing of ours: starting all of them again may help."""


def launch(make: Make, fit: Fit, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call `fit` in each of this machine's ranks and give what the first of them gave.

    A rank that dies or falls silent ends them all; they start again from the last checkpoint, up to job.max_restarts
    times. Raises what a rank raised; MachineError (4) if one was lost and no restart is left; StoppedError after a
    signal, which every rank is sent.
    """
    if device.select_device(job.device).type == "cuda":
        device.select_device("cuda", job.local_ranks)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what it says, we say in one line
    for attempt in range(job.max_restarts + 1):
        try:
            return attempt_once(make, fit, job, run, context, attempt)
        except LostRankError as lost:
            if attempt == job.max_restarts:
                raise
            context.warn(f"{lost.message}; all ranks start again ({attempt + 1} of {job.max_restarts} times)")
            atomic.sweep(run.path / "checkpoints")  # of what was under way
    raise AssertionError


def attempt_once(make: Make, fit: Fit, job: TrainJob, run: Run, context: Context, attempt: int) -> dict[str, Any]:
    """Start the ranks and wait for them."""
    with (
        listening(context) as messages,
        original_handlers(),
        tempfile.TemporaryDirectory(prefix="gptctl-ranks-") as logs,
        Watcher(Path(logs), job.timeout_seconds) as watcher,
    ):
        try:
            start = elastic_launch(configure(job, logs, attempt), work)
            results = start(make, fit, job, run.path, run.stage, logs, messages)
        except SignalException as error:
            raise StoppedError("training stopped", "run the same command again to go on", int(error.sigval)) from error
        except ChildFailedError as error:
            for path in sorted(Path(logs).rglob("stderr.log")):
                run.log(f"{path.parent.name}: {path.read_text(errors='replace')}")
            if watcher.found:
                raise LostRankError(watcher.found, AGAIN) from error
            raise worst(error) from error
        except RendezvousError as error:
            raise MachineError(
                f"not all of {job.nodes} machines came to {job.rendezvous or 'this one'} in time",
                "start the same command on each of them",
            ) from error
    metrics: dict[str, Any] = results[min(results)]
    return metrics


def configure(job: TrainJob, logs: str, attempt: int) -> LaunchConfig:
    """Tell torch's launcher about this machine's ranks. It restarts none itself: it could not say so to anybody."""
    alone = job.nodes == 1
    near = alone or job.rendezvous.partition(":")[0] in ("localhost", "127.0.0.1")
    return LaunchConfig(
        min_nodes=job.nodes,
        max_nodes=job.nodes,
        nproc_per_node=job.local_ranks,
        run_id=f"gptctl-{os.getpid() if alone else 'run'}-{attempt}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0" if alone else job.rendezvous,
        rdzv_configs={} if alone else {"is_host": False},  # nodes.py hosts it
        local_addr="localhost" if near else None,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=Std.ALL),
        signals_to_handle=",".join(number.name for number in HANDLED),
        shutdown_timeout=SAVE_SECONDS,
    )


@contextmanager
def listening(context: Context) -> Iterator[Any]:
    """Return a queue and pass on what the first rank puts into it."""
    messages = get_context("spawn").SimpleQueue()
    listener = threading.Thread(target=listen, args=(messages, context), daemon=True)
    listener.start()
    try:
        yield messages
    finally:
        messages.put(None)
        listener.join()


@contextmanager
def original_handlers() -> Iterator[None]:
    """Put our signal handlers back, which torch's launcher replaces."""
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def work(
    make: Make, fit: Fit, job: TrainJob, path: Path, stage: str, folder: str, messages: Any
) -> dict[str, Any]:  # fmt: skip
    """Be one rank. Errors leave as JSON, since the launcher keeps only their text."""
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    pulse = Pulse(Path(folder) / f"pulse-{os.environ['RANK']}")
    chosen = device.select_device(job.device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        with RankStop() as stop:
            context = Context(
                progress=partial(tell, messages, "progress"),
                warn=partial(tell, messages, "warn"),
                say=partial(tell, messages, "say"),
                figures=partial(tell, messages, "figures"),
                stop=stop,
            )
            metrics = fit(job, Run(path, stage, {}), context, make(job, chosen, pulse))
    except Exception as error:
        known = describe(error)
        if known is None:
            raise
        if isinstance(known, StoppedError):  # agreed on by all: the first rank may still be writing its checkpoint
            dist.barrier()
            pulse.close()
        number = known.exit_code - 128 if isinstance(known, StoppedError) else 0
        raise RankError(json.dumps([type(known).__name__, known.message, known.hint, number])) from error
    pulse.close()
    dist.destroy_process_group()
    return metrics


def describe(error: Exception) -> GptctlError | None:
    """Say what a rank's error means to the user; None if it is a bug."""
    if isinstance(error, GptctlError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return MachineError(
            f"out of memory: {str(error).splitlines()[0]}",
            "use --set micro_batch=1 or parallel=fsdp, with another -o; pretrain --dry-run shows what is needed",
        )
    if isinstance(error, dist.DistError | torch.AcceleratorError) or "gloo" in str(error):
        reason = str(error).partition(". ")[0].partition("\n")[0]  # gloo goes on with advice
        return LostRankError(f"the connection to another rank was lost: {reason}", AGAIN)
    return None


class RankError(Exception):
    """A GptctlError on its way to the parent process."""


class RankStop(StopFlag):
    """A stop flag that a second signal does not end at once: Ctrl-C reaches a rank from the terminal and its parent."""

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number


def worst(error: ChildFailedError) -> GptctlError:
    """Return the error that explains the others: a rank that was killed, or else what a rank said, before all those
    that only lost the connection to it."""
    found = [understand(rank, failure) for rank, failure in sorted(error.failures.items())]
    return min(found, key=lambda ranked: ranked[0])[1]


def understand(rank: int, failure: ProcessFailure) -> tuple[int, GptctlError]:
    """Return the error that a rank ended with, after how little it explains."""
    text = failure.message if isinstance(failure.message, str) else failure.message.get("message", "")
    _, marker, packed = text.partition(f"{RankError.__name__}: ")
    if marker:
        name, message, hint, number = json.loads(packed)
        if number:
            return 1, StoppedError(message, hint, number)
        if name == LostRankError.__name__:
            return 3, LostRankError(message, hint)
        return 1, getattr(errors, name)(message, hint)
    if failure.exitcode == -signal.SIGTERM:  # the launcher's own doing
        return 4, LostRankError(f"rank {rank} was ended", AGAIN)
    if failure.exitcode < 0:
        return 0, LostRankError(f"rank {rank} was killed by {failure.signal_name()}", AGAIN)
    return 2, GptctlError(f"rank {rank} failed: {text or failure.exitcode}", "see log.txt in the run folder")


def tell(messages: Any, kind: str, *args: Any) -> None:
    """Send what the first rank has to say to the parent process."""
    messages.put((kind, args))


def listen(messages: Any, context: Context) -> None:
    """Pass on what `tell` sends, until None comes."""
    while (message := messages.get()) is not None:
        kind, args = message
        getattr(context, kind)(*args)
