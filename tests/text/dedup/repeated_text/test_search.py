"""Repeats across tasks: found for any ranges of keys, counted, and shown with the most frequent first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gptctl.core.context import Context
from gptctl.executors import Executor, serial
from gptctl.io.dataset import stream
from gptctl.io.input.blocks import Block, ReadOptions, ShardTask
from gptctl.text.dedup import report
from gptctl.text.dedup.corpus import Corpus
from gptctl.text.dedup.repeated_text.method import Method
from gptctl.text.dedup.repeated_text.removal import RemoveRepeats
from gptctl.text.dedup.repeated_text.search import RepeatSearch, Workspace
from gptctl.text.dedup.worker_pool import WorkerPool

LINES = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf"]


def tasks(parts: Sequence[Sequence[str]], folder: Path) -> tuple[ShardTask, ...]:
    """Return tasks that hold some texts."""
    made = []
    for number, texts in enumerate(parts):
        ids = pa.array([f"{number}:{row}" for row in range(len(texts))], pa.string())
        table = pa.table({"id": ids, "text": pa.array(texts, pa.large_string()), "source": ids})
        made.append(ShardTask(number, (Block("documents", "-", data=stream.to_bytes(table)),)))
    return tuple(made)


def removed(
    parts: Sequence[Sequence[str]], against: int, memory: int, folder: Path
) -> tuple[list[list[str]], dict[str, Any]]:
    """Remove lines that occurred before; the first `against` parts are the documents of --against."""
    given = tasks(parts, folder)

    def new() -> Iterator[ShardTask]:
        return (ShardTask(number, task.blocks) for number, task in enumerate(given[against:]))

    corpus = Corpus(ReadOptions(), given[:against], new)
    method, workspace = Method("lines", min_chars=4, min_words=50, fold=False), Workspace(folder / "work")
    counts = RepeatSearch(method, workspace, corpus, WorkerPool(Executor(serial.run, 1), memory, Context())).run()
    remove = RemoveRepeats(method, workspace, against)
    outcomes = [remove(task, stream.from_bytes(task.blocks[0].data)) for task in new()]
    return [outcome.tables[""]["text"].to_pylist() for outcome in outcomes], counts | report.repeat_metrics(
        outcome.stats for outcome in outcomes
    )


@given(
    st.lists(st.lists(st.lists(st.sampled_from(LINES), max_size=6), max_size=4), min_size=1, max_size=4),
    st.integers(0, 3),
    st.sampled_from([300, 10**6]),
)
@settings(deadline=None, max_examples=60)
def test_any_cut_of_tasks_and_keys(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[list[str]]], against: int, memory: int
) -> None:
    """The first of each line stays, also if it is in --against; counts and samples agree with plain Python."""
    against = min(against, len(documents) - 1)
    assume(not against or any(documents[:against]))  # --against without a document is an error
    seen: set[str] = set()
    expected: list[list[str]] = []
    times: dict[str, int] = {}
    for number, part in enumerate(documents):
        texts = []
        for lines in part:
            left = []
            for line in lines:
                if line not in seen:
                    left.append(line)
                elif number >= against:
                    times[line] = times.get(line, 0) + 1
                seen.add(line)
            if left or not lines:
                texts.append("\n".join(left))
        expected.append(texts)
    parts = [["\n".join(lines) for lines in part] for part in documents]
    found, metrics = removed(parts, against, memory, tmp_path_factory.mktemp("repeats"))
    assert found == expected[against:]
    assert metrics["removed"] == metrics["repeats"] == sum(times.values())
    # Of lines that were removed equally often, the one that was removed first comes first.
    ordered = sorted(times, key=lambda line: -times[line])
    assert metrics["often"] == [[times[line], line] for line in ordered[:5]]
