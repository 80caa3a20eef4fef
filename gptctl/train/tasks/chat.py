"""Finetuning of an assistant on conversations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import Tolerance
from gptctl.text import chat
from gptctl.train.data.conversations import Conversations
from gptctl.train.data.data_source import TrainSource
from gptctl.train.tasks import initial_models
from gptctl.train.tasks.finetune_task import SPLITS, FinetuneTask, TaskInputs


def prepare(inputs: TaskInputs, template_file: str | None, tolerance: Tolerance) -> FinetuneTask:
    """Render and encode the conversations with the template of a file, of the model, or ChatML.

    Conversations that are longer than the model's context are left out with a warning, and so are rows that are no
    conversation or that the template rejects. Raises DataError (3) for more such rows than the tolerance allows.
    """
    source = inputs.metadata.get("chat_template") or chat.CHATML
    if template_file:
        source = chat.read_template(Path(template_file))
    tokenizer = inputs.tokenizer.with_special_tokens([marker for marker in chat.MARKERS if marker in source])
    template = chat.ChatTemplate(source, tokenizer)
    max_seq_len = inputs.model_config.max_seq_len
    encoded = {split: encode_conversations(inputs.tables[split], template, split) for split in SPLITS}
    data, counts = {}, {}
    for split, (found, errors) in encoded.items():
        counts[f"{split}_unreadable"] = len(errors)
        check_conversations(errors, len(inputs.tables[split]), tolerance, inputs.warn)
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


def encode_conversations(
    table: pa.Table, template: chat.ChatTemplate, split: str
) -> tuple[list[chat.Sample], list[DataError]]:
    """Return the training samples of each row's messages, and an error for each row that has none."""
    found: list[chat.Sample] = []
    errors: list[DataError] = []
    for row, (identity, text) in enumerate(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)):
        try:
            found += template.samples(chat.read_messages(text))
        except DataError as error:
            errors.append(DataError(f"{split}: row {row} (id {identity}): {error}", error.hint))
    return found, errors


def check_conversations(errors: list[DataError], rows: int, tolerance: Tolerance, warn: Callable[[str], None]) -> None:
    """Warn of rows that are left out. Raises the first error if there are more than the tolerance allows."""
    if not tolerance.accepts(len(errors), rows):
        raise errors[0]
    if errors:
        warn(f"{len(errors):,} of {rows:,} conversations are left out, the first because of {errors[0]}")
