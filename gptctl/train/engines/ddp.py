"""Data parallelism: every rank holds the model and takes its share of each batch. gloo on CPUs, NCCL on GPUs.

Gradients are summed in buckets of fixed size and order after the backward pass. torch's DistributedDataParallel lays its
buckets out anew after the first step it sees, so with three or more ranks a resumed run would add in another order than
an uninterrupted one and not be bit-equal to it; it also averages over ranks where we divide by the number of tokens.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gptctl.core import errors
from gptctl.core.context import Context
from gptctl.core.errors import EnvironmentFault, GptctlError, StoppedError, UsageError
from gptctl.core.rundir import Run
from gptctl.core.signals import HANDLED, StopFlag
from gptctl.train import device
from gptctl.train.job import TrainJob

Fit = Callable[[TrainJob, Run, Context, Any], dict[str, Any]]
BUCKET_BYTES = 25 * 2**20  # large enough to be bound by bandwidth, small enough to overlap with one another
SAVE_SECONDS = 300  # how long a stopped rank may take for its checkpoint
