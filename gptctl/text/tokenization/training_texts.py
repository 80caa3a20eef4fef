"""The texts that a tokenizer is trained on, its training, and samples on which encoders are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from gptctl.core import seeds
from gptctl.core.context import Context
from gptctl.core.formatting import format_bytes
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.read_task import read_task
from gptctl.text import arrow_arrays
from gptctl.text.tokenization import training
from gptctl.text.tokenization.options import TokenizeOptions
from gptctl.text.tokenization.positions import Positions
from gptctl.text.tokenization.splits import SplitRule

# Text that encoders are compared on, from each of three tasks.
SAMPLE_BYTES = 2**16
SAMPLE_CHARACTERS = 2000  # of one document
# The trainer counts pairs in 32 bits and does not notice an overflow. At 8 GiB, a pair that is a quarter of all (two
# spaces, two dashes) occurs 2^31 times.
MAX_TRAINING_BYTES = 2**33


@dataclass
class TrainingTexts:
    """The documents of the training split, or a sample of them, cut to `max_chars`. Iterate over it once.

    With `all_splits`, whole documents of all splits are used, as every symbol that occurs needs a token, even one that
    is seen in val only. `share` is the share of documents in the sample, chosen by a hash of their text.
    """

    options: ReadOptions
    tasks: Callable[[], Iterator[ShardTask]]
    rule: SplitRule
    positions: Positions
    share: float
    max_chars: int | None
    all_splits: bool
    context: Context
    characters: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[str]:
        """Yield the texts, count their characters and report progress."""
        for task in self.tasks():
            table = read_task(task, self.options)[0]
            column = table["text"]
            if not self.all_splits:
                pieces = self.rule.divide(table, self.positions.first_character(task.index), task.split)
                column = pieces.texts_of("train")
            for text in column.to_pylist():
                if self.share < 1.0 and seeds.unit_hash("tokenizer", text.encode()) >= self.share:
                    continue
                used = text if self.all_splits else text[: self.max_chars]
                self.characters += len(used)
                yield used
            self.context.report_shards(task.index + 1, "shards read for the tokenizer")
            self.context.stop.check("stopped")


def sample_texts(options: ReadOptions, tasks: Callable[[], Iterator[ShardTask]]) -> list[str]:
    """Return beginnings of documents from the first, the middle and the last task."""
    last = sum(1 for _ in tasks()) - 1
    texts: list[str] = []
    for task in tasks():
        if task.index not in (0, last // 2, last):
            continue
        column = read_task(task, options)[0]["text"]
        rows = np.arange(0, len(column), max(1, len(column) * SAMPLE_CHARACTERS // SAMPLE_BYTES))
        documents = column.take(arrow_arrays.from_numpy(rows))
        texts += pc.utf8_slice_codeunits(documents, 0, SAMPLE_CHARACTERS).to_pylist()
    return texts


def train_for(config: TokenizeOptions, texts: TrainingTexts) -> str:
    """Train the tokenizer that the options ask for, and return its tokenizer.json."""
    pattern = config.split_pattern or "gpt2"
    tokenizer_json = training.train(texts, config.algorithm, config.vocab_size, split_pattern=pattern)
    if config.algorithm == "bpe" and texts.characters > MAX_TRAINING_BYTES:
        texts.context.warn(
            f"the tokenizer was trained on {format_bytes(texts.characters)}: its counts of pairs may have overflowed "
            "(32 bits); lower train_bytes"
        )
    return tokenizer_json
