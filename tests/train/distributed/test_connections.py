"""The sockets between ranks, and how many a process may have."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from gptctl.train.distributed.connections import raise_file_limit
from tests.train.jobs import make_job
from tests.train.rank_pool import RankPool, count_sockets


@pytest.mark.slow
def test_four_ranks_have_two_meshes(four: RankPool, tmp_path: Path) -> None:
    """Each of the two groups connects a rank with the three others: the limit of open files must allow for that."""
    counts = four.call(count_sockets, tmp_path, replace(make_job(), world_size=4, strategy="ddp"))
    assert counts == [2 * 3] * 4


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
