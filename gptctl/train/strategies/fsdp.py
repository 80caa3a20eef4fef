"""Fully sharded data parallelism: every rank holds a part of each parameter, gradient and optimizer state, and takes
its share of each batch (Rajbhandari et al. 2020, "ZeRO", stage 3; torch's fully_shard).

With `hybrid_shard` each machine holds a whole copy, spread over its own ranks: only gradients cross the network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh

from gptctl.core.context import Context
from gptctl.core.rundir import Run
from gptctl.train.distributed.launch import Fit
from gptctl.train.distributed.launch import launch as launch_ranks
from gptctl.train.distributed.sharded import Sharded
from gptctl.train.job import TrainJob
from gptctl.train.monitor.heartbeat import Pulse


def launch(fit: Fit, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call `fit` with an engine in each rank."""
    return launch_ranks(make, fit, job, run, context)


def make(job: TrainJob, device: torch.device, pulse: Pulse) -> Sharded:
    """Make the engine of one rank."""
    if job.hybrid_shard and job.nodes > 1:
        shape, names = (job.nodes, job.local_ranks), ("copies", "rows")
        return Sharded(device, pulse, init_device_mesh(device.type, shape, mesh_dim_names=names))
    return Sharded(device, pulse, init_device_mesh(device.type, (job.ranks,), mesh_dim_names=("rows",)))
