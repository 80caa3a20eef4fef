"""From the texts and a pretrained model to the task that is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from gptctl.io.input.blocks import Tolerance
from gptctl.model.saved_model import SavedModel
from gptctl.train.tasks import chat, classify, lm, preference
from gptctl.train.tasks.finetune_options import FinetuneOptions
from gptctl.train.tasks.finetune_task import FinetuneTask, TaskInputs
from gptctl.train.tasks.initial_models import InitialModel

Sources = Mapping[str, Mapping[str, pa.Table]]  # the texts of each source, by its name and their split


def prepare_task(
    config: FinetuneOptions, folder: Path, saved: SavedModel, sources: Sources, warn: Callable[[str], None]
) -> FinetuneTask:
    """Prepare data and model for the chosen task."""
    initial = InitialModel(
        folder.absolute(),
        saved.config,
        dropout=config.dropout,
        seed=config.seed,
        lora=config.lora_config(),
        freeze=config.freeze,
        freeze_layers=config.freeze_layers,
    )
    tokenizer = saved.tokenizer()
    tables = next(iter(sources.values()))
    model = config.limit_context(saved.config)
    inputs = TaskInputs(tables, initial, model, tokenizer, saved.extra, config.seed, warn)
    if config.task == "chat":
        reading = chat.ChatOptions(config.chat_template, config.long_conversations, Tolerance.from_config(config))
        return chat.prepare(inputs, reading)
    if config.task == "preference":
        how = preference.PreferenceTaskOptions(config.chat_template, Tolerance.from_config(config), config.select_on)
        return preference.prepare(inputs, how)
    if config.task == "lm":
        return lm.prepare(inputs, sources, config)
    options = classify.ClassifyOptions(
        label_column=config.label_column,
        pair_column=config.pair_column,
        pooling=config.pooling,
        long_documents=config.long_documents,
        max_windows=config.max_windows,
        symmetric=config.symmetric,
        balance_labels=config.label_weights == "balanced",
        select_on=config.select_on,
    )
    return classify.prepare(inputs, options)
