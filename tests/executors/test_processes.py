"""The executor `processes`: what is left when a worker dies."""

from __future__ import annotations

import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from gptctl.core.errors import MachineError
from gptctl.executors import processes


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_worker_that_starts_while_the_pool_breaks_is_ended(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The first worker is killed before or after the second one starts, of which the pool does not know yet."""
    started: list[BaseProcess] = []
    start = BaseProcess.start

    def kill_first() -> None:
        started[0].kill()
        pool = processes.open_pool(2, Path.cwd())
        while not pool._call_queue._reader.closed:
            time.sleep(0.01)

    def start_slowly(process: BaseProcess) -> None:
        if started and moment == "before":
            kill_first()
        start(process)
        if started and moment == "after":
            kill_first()
        started.append(process)

    processes.open_pool.cache_clear()
    monkeypatch.setattr(BaseProcess, "start", start_slowly)
    with pytest.raises(MachineError, match="a worker process died"):
        list(processes.run(abs, range(4), workers=2))
    for process in started:
        process.join(timeout=60)
        assert not process.is_alive()
