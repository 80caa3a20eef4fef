"""The sockets between ranks: none for a group by itself, and few for what is sent."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from gptctl.train.distributed.connections import connect_on_demand
from tests.train.jobs import make_job
from tests.train.rank_pool import RankPool, count_sockets


@pytest.mark.slow
def test_groups_of_four_ranks_connect_on_demand(four: RankPool, tmp_path: Path) -> None:
    """Two groups would need six sockets per rank. A tree and a ring need fewer, and the more ranks the more so."""
    counts = four.call(count_sockets, tmp_path, replace(make_job(), world_size=4, strategy="ddp"))
    assert [built for built, _, _ in counts] == [0] * 4
    assert sum(broadcast for _, broadcast, _ in counts) <= 2 * 3  # the ends of the three edges of a tree
    assert sum(gathered for _, _, gathered in counts) <= 2 * (3 + 4)  # and of the four edges of a ring
    assert max(gathered for _, _, gathered in counts) <= 4


def test_as_many_files_may_be_open_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setenv("TORCH_GLOO_LAZY_INIT", "1")  # and so restored after the test
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        connect_on_demand()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
