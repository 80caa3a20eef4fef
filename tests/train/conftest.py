"""Connected ranks, started once for all tests of a process that want them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.train.crew import Crew, crew


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(2, tmp_path_factory.mktemp("two")) as ranks:
        yield ranks


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(4, tmp_path_factory.mktemp("four")) as ranks:
        yield ranks
