"""Continued language modeling on more text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.tokenizer import Tokenizer
from gptctl.train.data.data_source import TrainSource
from gptctl.train.data.mixture import open_val_sources
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.tasks import initial_models
from gptctl.train.tasks.finetune_task import SPLITS, FinetuneTask, TaskInputs
from gptctl.train.tasks.mixing_options import MixingOptions


def prepare(inputs: TaskInputs, sources: Mapping[str, Mapping[str, pa.Table]], options: MixingOptions) -> FinetuneTask:
    """Encode the texts of each source into one stream per split. The model keeps its chat template."""
    tokenizer, max_seq_len = inputs.tokenizer, inputs.model_config.max_seq_len
    streams = {
        name: {split: encode_stream(tables[split], tokenizer) for split in SPLITS} for name, tables in sources.items()
    }
    opens = {
        name: {split: partial(TokenWindows, [found[split]], max_seq_len, inputs.seed, split) for split in SPLITS}
        for name, found in streams.items()
    }
    lengths = [len(found["train"]) for found in streams.values()]
    evaluated = {name: opens[name]["val"] for name, found in streams.items() if len(found["val"]) > 1}
    is_mixed = len(sources) > 1 and evaluated
    return FinetuneTask(
        model=initial_models.PretrainedModel(inputs.initial_for(tokenizer)),
        train_sources=tuple(TrainSource(parts["train"], name) for name, parts in opens.items()),
        phases=options.mixture_phases(lengths) if len(sources) > 1 else (),
        val_data=partial(open_val_sources, evaluated) if is_mixed else next(iter(opens.values()))["val"],
        train_samples=sum(max(1, (length - 1) // max_seq_len) for length in lengths),
        objective="language_model",
        select_on="loss",
        tokenizer=tokenizer,
        metadata=inputs.kept_metadata("chat_template", "stop_ids"),
    )


def encode_stream(table: pa.Table, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return the tokens of all texts. Each is preceded by the tokenizer's prefix and followed by end-of-text.

    Where end-of-text is the prefix, too, there is one between two texts.
    """
    prefix, end = list(tokenizer.prefix_ids), [tokenizer.end_of_text_id]
    before = [] if prefix == end else prefix
    texts = tokenizer.encode_to_arrays(table["text"].to_pylist())
    parts = [prefix if prefix == end else [], *(part for text in texts for part in (before, text, end))]
    return np.concatenate([np.array(part, np.int64) for part in parts])
