"""Collectives: add tensors over ranks in buckets, and let each rank compute a function of some of the full matrices.

Every order of additions is fixed, so that a resumed run computes bit for bit what an uninterrupted one would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gptctl.model.device import to_double

BUCKET_BYTES = 25 * 2**20  # large enough to be bound by bandwidth, small enough to overlap with one another
BUCKETS_IN_FLIGHT = 2

Group = Any  # a dist.ProcessGroup; None is the group of all ranks
MatrixFunction = Callable[[Tensor], Tensor]  # maps (N, rows, ...) to the same shape, each of the N matrices by itself


def all_reduce_in_buckets(tensors: Sequence[Tensor], group: Group = None) -> None:
    """Sum tensors over a group, in place."""
    run_in_buckets(tensors, lambda flat: dist.all_reduce(flat, group=group, async_op=True))


def broadcast_in_buckets(tensors: Sequence[Tensor], group: Group) -> None:
    """Copy the tensors of a group's first rank to all its ranks, in place."""
    run_in_buckets(tensors, lambda flat: dist.broadcast(flat, group=group, group_src=0, async_op=True))


def run_in_buckets(tensors: Sequence[Tensor], start: Callable[[Tensor], Any]) -> None:
    """Concatenate tensors into flat buckets, start a collective on each bucket, and copy the results back.

    At most BUCKETS_IN_FLIGHT buckets exist at a time, so that there is no second copy of all tensors.
    """
    pending: deque[tuple[list[Tensor], Tensor, Any]] = deque()

    def finish_one() -> None:
        bucket, flat, work = pending.popleft()
        work.wait()
        pieces = torch.split(flat, [tensor.numel() for tensor in bucket])
        for tensor, piece in zip(bucket, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    for bucket in buckets(tensors):
        if len(pending) == BUCKETS_IN_FLIGHT:
            finish_one()
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        pending.append((bucket, flat, start(flat)))
    while pending:
        finish_one()


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors into buckets of about BUCKET_BYTES, the last first, as the backward pass computes gradients."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in reversed(tensors):
        bucket.append(tensor)
        size += tensor.nbytes
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


def map_replicated_matrices(function: MatrixFunction, matrices: Sequence[Tensor]) -> list[Tensor]:
    """Apply a function to matrices of one shape that every rank holds, and return all results on every rank.

    Each rank computes its share: matrix i belongs to rank i modulo N.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    own = matrices[rank::world_size]
    results = matrices[0].new_zeros((-(-len(matrices) // world_size), *matrices[0].shape))
    if own:
        results[: len(own)] = function(torch.stack(list(own)))
    gathered = [torch.empty_like(results) for _ in range(world_size)]
    dist.all_gather(gathered, results)
    return [gathered[index % world_size][index // world_size] for index in range(len(matrices))]


def map_sharded_matrices(
    function: MatrixFunction, shards: Sequence[Tensor], rows: Sequence[int], group: Group
) -> list[Tensor]:
    """Apply a function to matrices of one shape whose rows are sharded over a group; return this rank's rows.

    shards: (rows[rank], ...) of each matrix. Each matrix is sent to one rank, its owner, and the result sent back. So a
    rank sends and receives twice the size of its shards, where gathering all matrices everywhere would take N times
    that.
    """
    matrices = gather_to_owners(shards, rows, group)
    if matrices.size(0):
        matrices = function(matrices)
    return scatter_from_owners(matrices, len(shards), rows, group)


def gather_to_owners(shards: Sequence[Tensor], rows: Sequence[int], group: Group) -> Tensor:
    """Send matrix i to rank i modulo N of a group. Return the matrices of this rank, (owned, sum(rows), ...)."""
    rank, owned, rest = dist.get_rank(group), owned_counts(len(shards), len(rows)), shards[0].shape[1:]
    sent = torch.cat([shard.reshape(-1) for owner in range(len(rows)) for shard in shards[owner :: len(rows)]])
    sizes = [owned[rank] * count * rest.numel() for count in rows]  # from each rank
    received = sent.new_empty(sum(sizes))
    dist.all_to_all_single(received, sent, sizes, [count * rows[rank] * rest.numel() for count in owned], group=group)
    blocks = zip(torch.split(received, sizes), rows, strict=True)
    return torch.cat([block.view(owned[rank], count, *rest) for block, count in blocks], dim=1)


def scatter_from_owners(matrices: Tensor, total: int, rows: Sequence[int], group: Group) -> list[Tensor]:
    """Send the rows of each of `total` matrices back to the ranks that hold them: the inverse of `gather_to_owners`."""
    rank, owned, rest = dist.get_rank(group), owned_counts(total, len(rows)), matrices.shape[2:]
    sent = torch.cat([block.reshape(-1) for block in torch.split(matrices, list(rows), dim=1)])
    sizes = [count * rows[rank] * rest.numel() for count in owned]  # from each owner
    received = sent.new_empty(sum(sizes))
    dist.all_to_all_single(received, sent, sizes, [owned[rank] * count * rest.numel() for count in rows], group=group)
    pieces = zip(torch.split(received, sizes), owned, strict=True)
    blocks = [piece.view(count, rows[rank], *rest) for piece, count in pieces]
    return [blocks[index % len(rows)][index // len(rows)] for index in range(total)]


def owned_counts(count: int, world_size: int) -> list[int]:
    """Return how many of `count` matrices each rank owns, where matrix i belongs to rank i modulo N."""
    return [len(range(rank, count, world_size)) for rank in range(world_size)]


def chunk_sizes(size: int, chunks: int) -> list[int]:
    """Return the lengths of the chunks that torch.chunk, and so FSDP, makes of `size` rows; the last may be empty."""
    step = -(-size // chunks)
    return [max(0, min(step, size - chunk * step)) for chunk in range(chunks)]


def squared_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the sum of the squares of one or more gradients, () on their device: float64, on MPS float32."""
    norms = torch._foreach_norm(list(gradients))  # in float32, one kernel for all on a GPU
    return to_double(torch.stack(norms)).square().sum()
