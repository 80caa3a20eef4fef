"""Data parallelism: every rank holds the model and takes its share of each batch. gloo on CPUs, NCCL on GPUs.

Gradients are summed in buckets of fixed size and order after the backward pass. torch's DistributedDataParallel lays
its buckets out anew after the first step it sees, so with three or more ranks a resumed run would add in another order
than an uninterrupted one and not be bit-equal to it; it also averages over ranks, where we divide by the targets.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gptctl.core import errors
from gptctl.core.context import Context
from gptctl.core.errors import GptctlError, MachineError, StoppedError
from gptctl.core.rundir import Run
from gptctl.core.signals import HANDLED, StopFlag
from gptctl.train import device
from gptctl.train.job import Model, TrainJob

Fit = Callable[[TrainJob, Run, Context, Any], dict[str, Any]]

BUCKET_BYTES = 25 * 2**20  # large enough to be bound by bandwidth, small enough to overlap with one another
SAVE_SECONDS = 300  # how long a stopped rank may take for its checkpoint


class Parallel:
    """One of several ranks; made inside its process by `work`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank = dist.get_rank()
        self.ranks = dist.get_world_size()

    def reduce_gradients(self, model: Model) -> None:
        """Add gradients up over all ranks, in place."""
        pending = []
        for bucket in buckets([parameter.grad for parameter in model.parameters() if parameter.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in pending:
            work.wait()
            pieces = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, piece in zip(bucket, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def sum(self, values: Tensor) -> Tensor:
        """Add float64 values up over all ranks."""
        values = values.to(self.device)
        dist.all_reduce(values)
        return values.cpu()


def buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Group gradients, last first as the backward pass makes them, into buckets of about BUCKET_BYTES."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in reversed(gradients):
        bucket.append(gradient)
        size += gradient.nbytes
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


def launch(fit: Fit, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Start job.ranks processes on this machine, call `fit` in each, and give what the first one gave.

    Raises what a rank raised; MachineError (4) if one died; StoppedError after a signal, which every rank is sent.
    """
    chosen = device.pick(job.device)
    if chosen.type == "cuda":
        device.pick("cuda", job.ranks)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it says, we say in one line
    messages = get_context("spawn").SimpleQueue()
    listener = threading.Thread(target=listen, args=(messages, context), daemon=True)
    listener.start()
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    with tempfile.TemporaryDirectory(prefix="gptctl-ranks-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=job.ranks,
            run_id=f"gptctl-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=job.max_restarts,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=Std.ALL),
            signals_to_handle=",".join(number.name for number in HANDLED),
            shutdown_timeout=SAVE_SECONDS,
        )
        try:
            results = elastic_launch(config, work)(fit, job, run.path, run.stage, chosen.type, messages)
        except SignalException as error:
            raise StoppedError("training stopped", "run the same command again to go on", int(error.sigval)) from error
        except ChildFailedError as error:
            for path in sorted(Path(logs).rglob("stderr.log")):
                run.log(f"{path.parent.name}: {path.read_text(errors='replace')}")
            raise_failure(error)
        finally:
            messages.put(None)
            listener.join()
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)
    metrics: dict[str, Any] = results[0]
    return metrics


def work(fit: Fit, job: TrainJob, path: Path, stage: str, device_type: str, messages: Any) -> dict[str, Any]:
    """Be one rank. Errors leave as JSON, since the launcher keeps only their text."""
    local = int(os.environ["LOCAL_RANK"])
    chosen = torch.device(device_type, local) if device_type == "cuda" else torch.device(device_type)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        with RankStop() as stop:
            context = Context(
                progress=partial(tell, messages, "progress"),
                warn=partial(tell, messages, "warn"),
                say=partial(tell, messages, "say"),
                stop=stop,
            )
            return fit(job, Run(path, stage, {}), context, Parallel(chosen))
    except GptctlError as error:
        if isinstance(error, StoppedError):  # agreed on by all: the first rank may still be writing its checkpoint
            dist.barrier()
        number = error.exit_code - 128 if isinstance(error, StoppedError) else 0
        raise RankError(json.dumps([type(error).__name__, error.message, error.hint, number])) from error
    finally:
        dist.destroy_process_group()


class RankError(Exception):
    """A GptctlError on its way to the parent process."""


class RankStop(StopFlag):
    """A stop flag that a second signal does not end at once: Ctrl-C reaches a rank from the terminal and its parent."""

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number


def raise_failure(error: ChildFailedError) -> NoReturn:
    """Raise the error of the rank that failed first."""
    rank, failure = error.get_first_failure()
    text = failure.message if isinstance(failure.message, str) else failure.message.get("message", "")
    _, marker, packed = text.partition(f"{RankError.__name__}: ")
    if marker:
        name, message, hint, number = json.loads(packed)
        if number:
            raise StoppedError(message, hint, number) from error
        raise getattr(errors, name)(message, hint) from error
    if failure.exitcode < 0:
        raise MachineError(
            f"rank {rank} was killed by {failure.signal_name()}",
            "run the same command again to go on from the last checkpoint",
        ) from error
    raise GptctlError(f"rank {rank} failed: {text or failure.exitcode}", "see log.txt in the run folder") from error


def tell(messages: Any, kind: str, *args: Any) -> None:
    """Send what the first rank has to say to the parent process."""
    messages.put((kind, args))


def listen(messages: Any, context: Context) -> None:
    """Pass on what `tell` sends, until None comes."""
    while (message := messages.get()) is not None:
        kind, args = message
        getattr(context, kind)(*args)
