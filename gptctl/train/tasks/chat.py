"""Finetuning of an assistant on conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import Tolerance, UnreadableRecord
from gptctl.io.labels import lacking_records
from gptctl.text import chat
from gptctl.text.chat_formats import EXTRAS, chat_format_of
from gptctl.text.chat_length import LongConversations, shorten
from gptctl.text.chat_messages import read_messages
from gptctl.text.chat_render import CHATML, TemplateCostsError
from gptctl.train.data.conversations import Conversations
from gptctl.train.data.data_source import TrainSource
from gptctl.train.tasks import initial_models
from gptctl.train.tasks.finetune_task import SPLITS, FinetuneTask, TaskInputs


@dataclass(frozen=True)
class ChatOptions:
    """The file of a template, what is read of long conversations, and how many rows may be left out."""

    template_file: str | None
    long_conversations: LongConversations
    tolerance: Tolerance


@dataclass(frozen=True)
class EncodedSplit:
    """The training samples of a split, and why each row that has none is left out, or None."""

    samples: list[chat.Sample]
    errors: list[DataError | None]


def prepare(inputs: TaskInputs, options: ChatOptions) -> FinetuneTask:
    """Render and encode the conversations with the template of a file, of the model, or ChatML.

    Rows that are no conversation or that the template rejects are left out with a warning. Raises DataError (3) for
    more such rows than the tolerance allows.
    """
    source = inputs.metadata.get("chat_template") or CHATML
    if options.template_file:
        source = chat.read_template(Path(options.template_file))
    tokenizer = inputs.tokenizer.with_special_tokens([marker for marker in chat.MARKERS if marker in source])
    template = chat.ChatTemplate(source, tokenizer)
    max_seq_len = inputs.model_config.max_seq_len
    encoded = {split: encode_conversations(inputs.tables[split], template) for split in SPLITS}
    counts: dict[str, Any] = {"chat_format": chat_format_of(inputs.tables["train"])}
    quarantined: list[UnreadableRecord] = []
    data = {}
    for split, found in encoded.items():
        left_out = check_rows(inputs, split, found.errors, options.tolerance)
        counts[f"{split}_unreadable"] = len(left_out)
        quarantined += left_out
        samples, lengths = fit_context(found.samples, max_seq_len + 1, options.long_conversations)
        counts |= {f"{split}_{name}": number for name, number in lengths.items()}
        for words in describe_lengths(lengths, len(found.samples), max_seq_len, options.long_conversations):
            inputs.warn(f"{split}: {words}")
        tokens, learned = [tokens for tokens, _ in samples], [learned for _, learned in samples]
        data[split] = partial(Conversations, tokens, learned, max_seq_len, inputs.seed, split)
    stop_ids = dict.fromkeys((*template.stop_ids, *inputs.metadata.get("stop_ids", ())))
    template.close()
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
        quarantined=tuple(quarantined),
    )


def encode_conversations(table: pa.Table, template: chat.ChatTemplate) -> EncodedSplit:
    """Return the training samples of all rows, and the error of each row that has none."""
    found = EncodedSplit([], [])
    for row in table.to_pylist():
        try:
            if row["error"] is not None:
                raise DataError(row["error"], row["hint"])
            extras = {name: orjson.loads(row[name]) for name in EXTRAS if row[name] is not None}
            found.samples.extend(template.samples(read_messages(row["text"]), extras))
            found.errors.append(None)
        except TemplateCostsError:
            raise  # each other conversation would take as long
        except DataError as error:
            found.errors.append(error)
    return found


def check_rows(
    inputs: TaskInputs,
    split: str,
    errors: Sequence[DataError | None],
    tolerance: Tolerance,
    what: str = "conversations",
) -> list[UnreadableRecord]:
    """Warn of rows that are left out, and return them. Raises the first error if there are too many of them."""
    table = inputs.tables[split]
    left_out = lacking_records(table, ["" if error is None else error.message for error in errors])
    if not left_out:
        return []
    number, first = next((number, error) for number, error in enumerate(errors) if error is not None)
    words = f"{split}: row {number} (id {table['id'][number].as_py()}): {first.message}"
    if not tolerance.accepts(len(left_out), len(errors)):
        raise DataError(words, first.hint)
    inputs.warn(f"{len(left_out):,} of {len(errors):,} {what} are left out, the first because of {words}")
    return left_out


def fit_context(
    samples: Sequence[chat.Sample], length: int, how: LongConversations
) -> tuple[list[chat.Sample], dict[str, int]]:
    """Return the samples that have at most `length` tokens, and how many were left out or shortened for that."""
    kept: list[chat.Sample] = []
    too_long = shortened = 0
    for sample in samples:
        found: chat.Sample | None = sample
        if len(sample[0]) > length:
            found = shorten(sample, length, how)
            too_long, shortened = too_long + (found is None), shortened + (found is not None)
        if found is not None:
            kept.append(found)
    return kept, {"too_long": too_long, "shortened": shortened}


def describe_lengths(lengths: dict[str, int], samples: int, context: int, how: LongConversations) -> list[str]:
    """Return sentences about conversations that were left out or shortened."""
    of = f"of {samples:,} conversations that are longer than the context of {context:,} tokens"
    found = [f"leaving out {lengths['too_long']:,} {of}"] if lengths["too_long"] else []
    return found + ([f"reading only the {how} of {lengths['shortened']:,} {of}"] if lengths["shortened"] else [])
