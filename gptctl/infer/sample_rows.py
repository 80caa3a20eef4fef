"""Completions as rows: the Arrow shards of `generate -o`, and the JSON of `generate --json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from gptctl.infer.completions import Completion
from gptctl.io.dataset.schema import with_kind


def samples_table(prompts: pa.Table, completions: Sequence[Sequence[Completion]], logprobs: bool) -> pa.Table:
    """Return a row for each completion of each row of `prompts`, whose other columns are repeated."""
    samples = [sample for of_prompt in completions for sample in of_prompt]
    owners = pa.array([row for row, of_prompt in enumerate(completions) for _ in of_prompt], pa.int64())
    ids = [
        sample_id(identity, number, len(of_prompt))
        for identity, of_prompt in zip(prompts["id"].to_pylist(), completions, strict=True)
        for number in range(len(of_prompt))
    ]
    columns: dict[str, Any] = {
        "id": pa.array(ids, pa.string()),
        "prompt": prompts["text"].take(owners),
        "text": pa.array([sample.text for sample in samples], pa.large_string()),
        "finish": pa.array([sample.finish_reason for sample in samples], pa.string()),
        "tokens": pa.array([len(sample.token_ids) for sample in samples], pa.int64()),
    }
    if logprobs:
        columns["token_ids"] = pa.array([sample.token_ids for sample in samples], pa.list_(pa.uint32()))
        columns["logprobs"] = pa.array([sample.logprobs for sample in samples], pa.list_(pa.float32()))
    for name in prompts.column_names:
        if name not in columns and name != "source":
            columns[name] = prompts[name].take(owners)
    table = pa.table(columns)
    return table.replace_schema_metadata(with_kind(table.schema, "samples").metadata)


def sample_stats(completions: Sequence[Sequence[Completion]]) -> dict[str, int]:
    """Return the numbers of samples and tokens and, if there are stop texts, of samples that reached one."""
    samples = [sample for of_prompt in completions for sample in of_prompt]
    found = {"samples": len(samples), "tokens": sum(len(sample.token_ids) for sample in samples)}
    if any(sample.stream.stops for sample in samples):
        found["stopped"] = sum(sample.stream.stopped for sample in samples)
    return found


def sample_rows(identity: str, prompt: str, samples: Sequence[Completion], logprobs: bool) -> list[dict[str, Any]]:
    """Return the samples of one prompt as JSON objects."""
    rows = []
    for number, sample in enumerate(samples):
        row: dict[str, Any] = {"id": sample_id(identity, number, len(samples)), "prompt": prompt, "text": sample.text}
        row |= {"finish": sample.finish_reason, "tokens": len(sample.token_ids)}
        rows.append(row | ({"token_ids": sample.token_ids, "logprobs": sample.logprobs} if logprobs else {}))
    return rows


def sample_id(identity: str, number: int, count: int) -> str:
    """Return the id of one of `count` samples of a prompt: the prompt's id, with #number if there are several."""
    return identity if count == 1 else f"{identity}#{number}"
