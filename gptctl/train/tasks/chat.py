"""Finetuning of an assistant on conversations."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.text import chat
from gptctl.train.data.conversations import Conversations
from gptctl.train.data.data_source import TrainSource
from gptctl.train.tasks import initial_models
from gptctl.train.tasks.finetune_task import SPLITS, FinetuneTask, TaskInputs

Conversation = tuple[NDArray[np.int64], NDArray[np.bool_]]  # tokens, and which of them are learned


def prepare(inputs: TaskInputs, template_file: str | None) -> FinetuneTask:
    """Render and encode the conversations with the template of a file, of the model, or ChatML.

    Conversations that are longer than the model's context are left out with a warning.
    """
    source = inputs.metadata.get("chat_template") or chat.CHATML
    if template_file:
        source = chat.read_template(Path(template_file))
    tokenizer = inputs.tokenizer.with_special_tokens([marker for marker in chat.MARKERS if marker in source])
    template = chat.ChatTemplate(source, tokenizer)
    max_seq_len = inputs.model_config.max_seq_len
    data, counts = {}, {}
    for split in SPLITS:
        found = encode_conversations(inputs.tables[split], template, split)
        fitting = [conversation for conversation in found if len(conversation[0]) <= max_seq_len + 1]
        too_long = counts[f"{split}_too_long"] = len(found) - len(fitting)
        if too_long:
            inputs.warn(
                f"{split}: leaving out {too_long:,} of {len(found):,} conversations that are longer than the context "
                f"of {max_seq_len:,} tokens"
            )
        tokens, learned = [tokens for tokens, _ in fitting], [learned for _, learned in fitting]
        data[split] = partial(Conversations, tokens, learned, max_seq_len, inputs.seed, split)
    stop_ids = dict.fromkeys((*template.stop_ids, *inputs.metadata.get("stop_ids", ())))
    metadata = inputs.kept_metadata() | {"chat_template": source, "stop_ids": list(stop_ids), "counts": counts}
    return FinetuneTask(
        model=initial_models.PretrainedModel(inputs.initial_for(tokenizer)),
        train_sources=(TrainSource(data["train"]),),
        val_data=data["val"],
        train_samples=data["train"]().samples_per_epoch,
        objective="language_model",
        select_on="loss",
        tokenizer=tokenizer,
        metadata=metadata,
    )


def encode_conversations(table: pa.Table, template: chat.ChatTemplate, split: str) -> list[Conversation]:
    """Return the tokens of each row's messages. Raises DataError (3), naming the row, if they cannot be read."""
    rows = zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
    return [
        sample
        for row, (identity, text) in enumerate(rows)
        for sample in template.samples(chat.read_messages(text, f"{split}: row {row} (id {identity})"))
    ]
