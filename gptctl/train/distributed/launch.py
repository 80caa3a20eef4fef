"""The launcher: it starts the ranks of a run on this machine, relays their messages and errors, and restarts them.

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
from dataclasses import fields
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

from gptctl.core import atomic, errors, plugins
from gptctl.core.context import Context
from gptctl.core.errors import GptctlError, MachineError, StoppedError
from gptctl.core.main_module import without_current_folder, without_main_module
from gptctl.core.run_folder import Run
from gptctl.core.signals import StopFlag, not_ignored
from gptctl.model import device
from gptctl.train.distributed.base_strategy import COLLECTIVE_TIMEOUT
from gptctl.train.distributed.connections import raise_file_limit
from gptctl.train.job import TrainJob
from gptctl.train.monitor.heartbeat import heartbeat_path
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter
from gptctl.train.monitor.watchdog import Watchdog
from gptctl.train.strategies import MEMORY_HINT, RankFunction

BuildStrategy = Callable[[TrainJob, torch.device, HeartbeatWriter], Any]  # called inside a rank

SAVE_SECONDS = 300  # how long a stopped rank may take for its checkpoint
RESUME_HINT = "run the same command again to resume from the last checkpoint"


class LostRankError(MachineError):
    """A rank died or fell silent for an outside reason: restarting all ranks may help."""


def launch(build: BuildStrategy, train_rank: RankFunction, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call train_rank in each of this machine's ranks and return the result of the first.

    If a rank dies or falls silent, all ranks are ended and restarted from the last checkpoint, up to job.max_restarts
    times. Raises what a rank raised; MachineError (4) if a rank was lost and no restart is left; StoppedError after a
    signal, which is sent to every rank.
    """
    if device.select_device(job.device).type == "cuda":
        device.select_device("cuda", job.local_world_size)
    raise_file_limit()  # the leading machine's launcher has a connection to every rank
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the error raised here says the same in one line
    for attempt in range(job.max_restarts + 1):
        try:
            return attempt_once(build, train_rank, job, run, context, attempt)
        except LostRankError as lost:
            if attempt == job.max_restarts:
                raise
            context.warn(f"{lost.message}; restarting all ranks ({attempt + 1} of {job.max_restarts})")
            atomic.sweep(run.path / "checkpoints")  # remove a checkpoint that was being written
    raise AssertionError


def attempt_once(
    build: BuildStrategy, train_rank: RankFunction, job: TrainJob, run: Run, context: Context, attempt: int
) -> dict[str, Any]:
    """Start the ranks and wait for them."""
    with (
        without_current_folder(),
        relayed_messages(context) as messages,
        original_handlers(),
        tempfile.TemporaryDirectory(prefix="gptctl-ranks-") as logs,
        Watchdog(Path(logs), job.heartbeat_timeout) as watchdog,
    ):
        try:
            start = elastic_launch(launch_config(job, logs, attempt), run_rank)
            with without_main_module():
                results = start(build, plugins.carried(train_rank), job, run.path, run.stage, logs, messages)
        except SignalException as error:
            raise StoppedError("training stopped", RESUME_HINT, int(error.sigval)) from error
        except ChildFailedError as error:
            for path in sorted(Path(logs).rglob("stderr.log")):
                run.log(f"{path.parent.name}: {path.read_text(errors='replace')}")
            if watchdog.diagnosis:
                raise LostRankError(watchdog.diagnosis, RESUME_HINT) from error
            raise root_cause(error) from error
        except RendezvousError as error:
            raise MachineError(
                f"fewer than {job.nodes} nodes joined at {job.rdzv_endpoint or 'this machine'} in time",
                "start the same command on each of them",
            ) from error
    metrics: dict[str, Any] = results[min(results)]
    return metrics


def launch_config(job: TrainJob, logs: str, attempt: int) -> LaunchConfig:
    """Return the settings of torch's launcher, which restarts no ranks itself: it could not report why."""
    single_node = job.nodes == 1
    is_local = single_node or job.rdzv_endpoint.partition(":")[0] in ("localhost", "127.0.0.1")
    settings: dict[str, Any] = {}
    if any(field.name == "shutdown_timeout" for field in fields(LaunchConfig)):  # torch 2.11 always allows 30 s
        settings["shutdown_timeout"] = SAVE_SECONDS
    return LaunchConfig(
        min_nodes=job.nodes,
        max_nodes=job.nodes,
        nproc_per_node=job.local_world_size,
        run_id=f"gptctl-{os.getpid() if single_node else 'run'}-{attempt}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0" if single_node else job.rdzv_endpoint,
        rdzv_configs={} if single_node else {"is_host": False},  # nodes.py hosts it
        local_addr="localhost" if is_local else None,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=Std.ALL),
        signals_to_handle=",".join(number.name for number in not_ignored()),
        **settings,
    )


@contextmanager
def relayed_messages(context: Context) -> Iterator[Any]:
    """Yield a queue, and pass what the first rank puts into it to a context."""
    messages = get_context("spawn").SimpleQueue()
    listener = threading.Thread(target=relay, args=(messages, context), daemon=True)
    listener.start()
    try:
        yield messages
    finally:
        messages.put(None)
        listener.join()


@contextmanager
def original_handlers() -> Iterator[None]:
    """Restore the signal handlers at the end: torch's launcher replaces them."""
    handlers = {number: signal.getsignal(number) for number in not_ignored()}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def run_rank(
    build: BuildStrategy, train_rank: RankFunction, job: TrainJob, path: Path, stage: str, folder: str, messages: Any
) -> dict[str, Any]:  # fmt: skip
    """Run one rank. Errors leave it as JSON, since the launcher keeps only their text."""
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    heartbeat_writer = HeartbeatWriter(heartbeat_path(Path(folder), int(os.environ["RANK"])))
    chosen = device.select_device(job.device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    # With a device, NCCL connects the ranks now and not in the first step.
    on_gpu = chosen.type == "cuda"
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=COLLECTIVE_TIMEOUT, device_id=chosen if on_gpu else None
    )
    try:
        with RankStopFlag() as stop:
            context = Context(
                progress=partial(send, messages, "progress"),
                warn=partial(send, messages, "warn"),
                info=partial(send, messages, "info"),
                show_metrics=partial(send, messages, "show_metrics"),
                stop=stop,
            )
            metrics = train_rank(job, Run(path, stage, {}), context, build(job, chosen, heartbeat_writer))
    except Exception as error:
        known = as_gptctl_error(error)
        if known is None:
            raise
        if isinstance(known, StoppedError):  # all ranks stop together: the first may still be writing its checkpoint
            dist.barrier()
            heartbeat_writer.close()
        number = known.exit_code - 128 if isinstance(known, StoppedError) else 0
        raise RankError(json.dumps([type(known).__name__, known.message, known.hint, number])) from error
    heartbeat_writer.close()
    dist.destroy_process_group()
    return metrics


def as_gptctl_error(error: Exception) -> GptctlError | None:
    """Return a rank's error in the user's terms, or None if it is a bug."""
    if isinstance(error, GptctlError):
        return error
    if errors.is_out_of_memory(error):
        return errors.from_out_of_memory(error, MEMORY_HINT)
    if isinstance(error, dist.DistError | torch.AcceleratorError) or "gloo" in str(error):
        reason = str(error).partition(". ")[0].partition("\n")[0]  # gloo adds advice
        return LostRankError(f"the connection to another rank was lost: {reason}", RESUME_HINT)
    return None


class RankError(Exception):
    """A GptctlError on its way to the parent process."""


class RankStopFlag(StopFlag):
    """A stop flag that a second signal does not turn into an immediate exit.

    Ctrl-C reaches a rank twice: from the terminal and from its parent.
    """

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number


def root_cause(error: ChildFailedError) -> GptctlError:
    """Return the error that explains the others.

    A rank that was killed comes first, then an error that a rank raised, last the ranks that only lost the connection.
    """
    found = [parse_failure(rank, failure) for rank, failure in sorted(error.failures.items())]
    return min(found, key=lambda ranked: ranked[0])[1]


def parse_failure(rank: int, failure: ProcessFailure) -> tuple[int, GptctlError]:
    """Return the error that a rank ended with, and its priority: the lower, the more it explains."""
    text = failure.message if isinstance(failure.message, str) else failure.message.get("message", "")
    _, marker, packed = text.partition(f"{RankError.__name__}: ")
    if marker:
        name, message, hint, number = json.loads(packed)
        if number:
            return 1, StoppedError(message, hint, number)
        if name == LostRankError.__name__:
            return 3, LostRankError(message, hint)
        return 1, getattr(errors, name)(message, hint)
    if failure.exitcode == -signal.SIGTERM:  # sent by the launcher
        return 4, LostRankError(f"rank {rank} was terminated", RESUME_HINT)
    if failure.exitcode < 0:
        return 0, LostRankError(f"rank {rank} was killed by {failure.signal_name()}", RESUME_HINT)
    return 2, GptctlError(f"rank {rank} failed: {text or failure.exitcode}", "see log.txt in the run folder")


def send(messages: Any, kind: str, *args: Any) -> None:
    """Send a call of a Context's method to the parent process."""
    messages.put((kind, args))


def relay(messages: Any, context: Context) -> None:
    """Repeat the calls that `send` sends on a context, until None arrives."""
    while (message := messages.get()) is not None:
        kind, args = message
        getattr(context, kind)(*args)
