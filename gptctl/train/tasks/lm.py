"""Continued language modeling on more text."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text.tokenizer import Tokenizer
from gptctl.train.data.token_windows import TokenWindows
from gptctl.train.tasks import initial_models
from gptctl.train.tasks.finetune_task import SPLITS, FinetuneTask, TaskInputs


def prepare(inputs: TaskInputs) -> FinetuneTask:
    """Encode the texts into one stream per split. The model keeps its chat template."""
    tokenizer, max_seq_len = inputs.tokenizer, inputs.model_config.max_seq_len
    streams = {split: encode_stream(inputs.tables[split], tokenizer) for split in SPLITS}
    data = {split: partial(TokenWindows, [streams[split]], max_seq_len, inputs.seed, split) for split in SPLITS}
    return FinetuneTask(
        model=initial_models.PretrainedModel(inputs.initial_for(tokenizer)),
        train_data=data["train"],
        val_data=data["val"],
        train_samples=max(1, (len(streams["train"]) - 1) // max_seq_len),
        objective="language_model",
        select_on="loss",
        tokenizer=tokenizer,
        metadata={name: inputs.metadata[name] for name in ("chat_template", "stop_ids") if name in inputs.metadata},
    )


def encode_stream(table: pa.Table, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return the tokens of all texts, with end-of-text before, between and after them."""
    end = [tokenizer.end_of_text_id]
    texts = tokenizer.encode_to_arrays(table["text"].to_pylist())
    return np.concatenate([np.array(end), *(part for text in texts for part in (text, end))]).astype(np.int64)
