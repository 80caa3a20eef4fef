"""Speed of training with document masks, and of a model with 1.5 billion parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.gpu.check import Row, Setting, check
from tests.gpu.speed import described, rows


@check
def document_masks(setting: Setting) -> Iterator[Row]:
    """GPT-2 124M with document masks."""
    job, model = described("gpt2", setting, batch_size=128, document_mask=True)
    if not setting.is_small:  # what a mask takes is not in the estimate
        job = replace(job, micro_batch_size=min(32, job.micro_batch_size))
    yield from rows("gpt2 with document masks", setting, job, model)


@check
def gpt2_xl(setting: Setting) -> Iterator[Row]:
    """GPT-2 with 1.5 billion parameters."""
    job, model = described("gpt2-xl", setting, batch_size=32)
    yield from rows("gpt2-xl", setting, job, model)
