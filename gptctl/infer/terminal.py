"""Input and output of `generate` in the terminal: samples as they are generated, and lines as they are typed."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.infer.options import NEVER_STOPPED
from gptctl.infer.prompt_sampler import Sampler
from gptctl.infer.sample_rows import sample_rows
from gptctl.io.input.blocks import Encodings, ReadResult
from gptctl.pipeline.finalize import warn_of_encodings

WAIT_SECONDS = 0.2  # how often `check` is called while there is no input


def read_lines(check: Callable[[], None]) -> Iterator[str]:
    """Yield the lines of standard input that are not blank, each as soon as it is complete.

    `check` is called again and again while waiting, and may raise to stop. Raises DataError (3) for bytes that are not
    UTF-8.
    """
    source, waiting, ended = sys.stdin.fileno(), b"", False
    while not ended or waiting:
        check()
        line, found, rest = waiting.partition(b"\n")
        if not found and not ended:
            if select.select([source], [], [], WAIT_SECONDS)[0]:
                read = os.read(source, 2**16)
                ended = not read
                waiting += read
            continue
        waiting = rest
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError("standard input is not UTF-8", "set the terminal to UTF-8") from error
        if text:
            yield text


def stream_prompts(
    sampler: Sampler, tables: Iterable[ReadResult], context: Context
) -> tuple[int, list[dict[str, Any]]]:
    """Write the samples of all prompts, one after the other; return the number of prompts and the samples as JSON."""
    rows: list[dict[str, Any]] = []
    count = stopped = 0
    encodings = Encodings()
    for table, unreadable, detected, _ in tables:
        encodings.update(detected)
        for record in unreadable:
            context.warn(f"unreadable: {record.source} {record.position}: {record.reason}")
        for identity, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
            samples = sampler.stream(text, count, context.write, lambda: context.stop.check("stopped"))
            stopped += sum(sample.stream.stopped for sample in samples)
            rows += sample_rows(identity, text, samples, sampler.params.logprobs)
            count += 1
    if count:
        context.write("\n")
    if count and sampler.params.stop and not stopped:
        context.info(NEVER_STOPPED)
    sampler.warn(context.warn)
    warn_of_encodings(encodings, context.warn)
    return count, rows
