"""What ranks do together: add tensors up in buckets, and share out work on whole matrices.

Every order of additions is fixed, so that a resumed run computes what an uninterrupted one would, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 25 * 2**20  # large enough to be bound by bandwidth, small enough to overlap with one another

Group = Any  # a dist.ProcessGroup; None is all ranks
OnMatrices = Callable[[Tensor], Tensor]  # (N, rows, ...) to the same shape, each of the N for itself


def add_up(tensors: Sequence[Tensor], group: Group = None) -> None:
    """Add tensors up over a group, in place."""
    in_buckets(tensors, lambda flat: dist.all_reduce(flat, group=group, async_op=True))


def copy_from_first(tensors: Sequence[Tensor], group: Group) -> None:
    """Give every rank of a group the tensors of its first one, in place."""
    in_buckets(tensors, lambda flat: dist.broadcast(flat, group=group, group_src=0, async_op=True))


def in_buckets(tensors: Sequence[Tensor], start: Callable[[Tensor], Any]) -> None:
    """Lay tensors end to end in buckets, start a collective on each, and copy what comes out back."""
    pending = []
    for bucket in buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        pending.append((bucket, flat, start(flat)))
    for bucket, flat, work in pending:
        work.wait()
        pieces = torch.split(flat, [tensor.numel() for tensor in bucket])
        for tensor, piece in zip(bucket, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group gradients, last first as the backward pass makes them, into buckets of about BUCKET_BYTES."""
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


def share_out(function: OnMatrices, matrices: Sequence[Tensor]) -> list[Tensor]:
    """Apply a function to matrices of one shape that every rank holds whole: each rank does its share, and all get
    all. Matrix i is done by rank i modulo N."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    mine = matrices[rank::ranks]
    done = matrices[0].new_zeros((-(-len(matrices) // ranks), *matrices[0].shape))
    if mine:
        done[: len(mine)] = function(torch.stack(list(mine)))
    everyone = [torch.empty_like(done) for _ in range(ranks)]
    dist.all_gather(everyone, done)
    return [everyone[index % ranks][index // ranks] for index in range(len(matrices))]


def share_out_rows(function: OnMatrices, pieces: Sequence[Tensor], rows: Sequence[int], group: Group) -> list[Tensor]:
    """Do the same for matrices whose rows are spread over a group; give this rank's rows of each result.

    pieces: (rows[rank], ...) of each matrix. Each matrix travels to the one rank that works on it and its result back,
    so a rank sends and receives twice its own part, where gathering all matrices everywhere would take N times that.
    """
    wholes = to_owners(pieces, rows, group)
    if wholes.size(0):
        wholes = function(wholes)
    return from_owners(wholes, len(pieces), rows, group)


def to_owners(pieces: Sequence[Tensor], rows: Sequence[int], group: Group) -> Tensor:
    """Bring matrix i together at rank i modulo N of a group: gives this rank's matrices, (owned, sum(rows), ...)."""
    rank, owned, rest = dist.get_rank(group), shares(len(pieces), len(rows)), pieces[0].shape[1:]
    sent = torch.cat([piece.reshape(-1) for owner in range(len(rows)) for piece in pieces[owner :: len(rows)]])
    sizes = [owned[rank] * count * rest.numel() for count in rows]  # from each rank
    received = sent.new_empty(sum(sizes))
    dist.all_to_all_single(received, sent, sizes, [count * rows[rank] * rest.numel() for count in owned], group=group)
    blocks = zip(torch.split(received, sizes), rows, strict=True)
    return torch.cat([block.view(owned[rank], count, *rest) for block, count in blocks], dim=1)


def from_owners(wholes: Tensor, matrices: int, rows: Sequence[int], group: Group) -> list[Tensor]:
    """Send the rows of each matrix back to where they belong: the inverse of `to_owners`."""
    rank, owned, rest = dist.get_rank(group), shares(matrices, len(rows)), wholes.shape[2:]
    sent = torch.cat([block.reshape(-1) for block in torch.split(wholes, list(rows), dim=1)])
    sizes = [count * rows[rank] * rest.numel() for count in owned]  # from each owner
    received = sent.new_empty(sum(sizes))
    dist.all_to_all_single(received, sent, sizes, [owned[rank] * count * rest.numel() for count in rows], group=group)
    pieces = zip(torch.split(received, sizes), owned, strict=True)
    blocks = [piece.view(count, rows[rank], *rest) for piece, count in pieces]
    return [blocks[index % len(rows)][index // len(rows)] for index in range(matrices)]


def shares(count: int, ranks: int) -> list[int]:
    """Say how many of `count` things each rank has if thing i is rank i modulo N's."""
    return [len(range(rank, count, ranks)) for rank in range(ranks)]


def chunk_sizes(size: int, chunks: int) -> list[int]:
    """Return the lengths of the pieces that torch.chunk, and so FSDP, cuts `size` rows into; the last may be empty."""
    step = -(-size // chunks)
    return [max(0, min(step, size - chunk * step)) for chunk in range(chunks)]


def square_sum(gradients: Sequence[Tensor]) -> Tensor:
    """Return the sum of all squares, float64 on the CPU."""
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    norms = torch._foreach_norm(list(gradients))  # in float32, one kernel for all on a GPU
    return torch.stack(norms).double().square().sum().cpu()
