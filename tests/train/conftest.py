"""Connected ranks, started once for all tests of a process that want them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.train.rank_pool import RankPool, rank_pool


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankPool]:
    with rank_pool(2, tmp_path_factory.mktemp("two")) as ranks:
        yield ranks


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankPool]:
    with rank_pool(4, tmp_path_factory.mktemp("four")) as ranks:
        yield ranks
