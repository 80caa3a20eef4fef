"""Fully sharded data parallelism: every rank holds a shard of each parameter and takes its share of each batch.

Gradients and optimizer state are sharded like the parameters (Rajbhandari et al. 2020, "ZeRO", stage 3; torch's
fully_shard). With `hybrid_shard` each node holds a copy, sharded over its own ranks: only gradients cross the network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train.distributed.launch import launch as launch_ranks
from gptctl.train.distributed.parallel_dims import ParallelDims
from gptctl.train.distributed.sharded_strategy import ShardedStrategy
from gptctl.train.job import TrainJob
from gptctl.train.monitor.heartbeat_writer import HeartbeatWriter
from gptctl.train.strategies import RankFunction


def launch(train_rank: RankFunction, job: TrainJob, run: Run, context: Context) -> dict[str, Any]:
    """Call train_rank with the strategy in each rank."""
    return launch_ranks(build, train_rank, job, run, context)


def build(job: TrainJob, device: torch.device, heartbeat_writer: HeartbeatWriter) -> ShardedStrategy:
    """Build the strategy of one rank."""
    mesh = build_mesh(job.parallel_dims, device.type)
    return ShardedStrategy(device, heartbeat_writer, job.parallel_dims, mesh)


def build_mesh(dims: ParallelDims, device_type: str) -> DeviceMesh:
    """Return the mesh over which rows are sharded, with a first dimension for copies if there are any."""
    sizes = {"dp_replicate": dims.dp_replicate, "dp_shard": dims.dp_shard}
    if dims.dp_replicate == 1:
        del sizes["dp_replicate"]
    return init_device_mesh(device_type, tuple(sizes.values()), mesh_dim_names=tuple(sizes))
