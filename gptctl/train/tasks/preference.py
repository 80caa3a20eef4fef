"""Preference tuning on pairs of a chosen and a rejected answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from gptctl.core.errors import DataError
from gptctl.io.input.blocks import Tolerance, UnreadableRecord
from gptctl.io.labels import lacking_records
from gptctl.text import chat
from gptctl.text.chat_render import CHATML, TemplateCostsError
from gptctl.text.preference_pairs import EQUAL, SILENT, Pair
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.data.data_source import TrainSource
from gptctl.train.data.preference_pairs import EncodedPair, PreferencePairs
from gptctl.train.tasks import initial_models
from gptctl.train.tasks.chat import check_rows
from gptctl.train.tasks.finetune_task import SPLITS, FinetuneTask, TaskInputs

TOO_LONG, ON_BOTH_SIDES = "longer than the context", "the prompt is also in val"
COUNTS = {EQUAL: "equal", SILENT: "without_answer", TOO_LONG: "too_long", ON_BOTH_SIDES: "prompt_in_val"}


@dataclass(frozen=True)
class PreferenceTaskOptions:
    """The file of a template, how many rows may be unreadable, and the metric that selects the weights."""

    template_file: str | None
    tolerance: Tolerance
    select_on: str


@dataclass(frozen=True)
class PairEncoder:
    """Encodes pairs: messages by a template, and texts by it too if `has_turns`, or else as one text that goes on."""

    template: chat.ChatTemplate | None  # None if there are texts alone
    tokenizer: Tokenizer
    has_turns: bool
    longest: int  # tokens of a prompt with its answer

    def encode(self, row: dict[str, Any]) -> tuple[EncodedPair | None, str]:
        """Return the pair of a row, or why it is left out. Raises DataError (3) if the row is no pair."""
        if row["error"] is not None:
            raise DataError(row["error"], row["hint"])
        values = orjson.loads(row["text"])
        is_plain = values.pop("plain") or not self.has_turns
        pair = Pair(**values)
        if pair.problem:
            return None, pair.problem
        if isinstance(pair.prompt, list) or not is_plain:
            pair = pair.as_messages()
        found = EncodedPair(*(self.answer(pair, answer) for answer in (pair.chosen, pair.rejected)))
        if not all(is_answer[1:].any() for _, is_answer in found):
            return None, SILENT
        return (None, TOO_LONG) if max(len(tokens) for tokens, _ in found) > self.longest else (found, "")

    def answer(self, pair: Pair, answer: Any) -> chat.Sample:
        """Return the tokens of a prompt with an answer, and which of them are the answer's."""
        if isinstance(pair.prompt, list):
            assert self.template is not None
            before = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in map(dict, pair.prompt)]
            samples = self.template.samples([*before, *answer], pair.extras)
            if len(samples) != 1:
                raise DataError(
                    "the chat template renders the turns of an answer differently once others follow", chat.APPENDS
                )
            return samples[0]
        prompt = [*self.tokenizer.prefix_ids, *self.tokenizer.encode(pair.prompt)]
        said = [*self.tokenizer.encode(answer), self.tokenizer.end_of_text_id]
        return np.array([*prompt, *said], np.int64), np.arange(len(prompt) + len(said)) >= len(prompt)


def prepare(inputs: TaskInputs, options: PreferenceTaskOptions) -> FinetuneTask:
    """Encode the pairs, with the template of a file, of the model, or ChatML.

    Texts are turns if the model or the user has a template, and else go on after the prompt. Raises DataError (3) for
    more unreadable rows than the tolerance allows.
    """
    own = inputs.metadata.get("chat_template")
    source = chat.read_template(Path(options.template_file)) if options.template_file else own or CHATML
    uses_template = bool(own or options.template_file) or any(map(has_messages, inputs.tables.values()))
    tokenizer = inputs.tokenizer
    if uses_template:
        tokenizer = tokenizer.with_special_tokens([marker for marker in chat.MARKERS if marker in source])
    template = chat.ChatTemplate(source, tokenizer) if uses_template else None
    has_turns = bool(own or options.template_file)
    encoder = PairEncoder(template, tokenizer, has_turns, inputs.model_config.max_seq_len + 1)
    in_val = set(inputs.tables["val"]["prompt"].to_pylist())
    counts: dict[str, Any] = {}
    quarantined: list[UnreadableRecord] = []
    data = {}
    for split in SPLITS:
        pairs, left_out = encode_split(inputs, split, encoder, options.tolerance, in_val if split == "train" else set())
        quarantined += left_out
        reasons = Counter(record.reason for record in left_out)
        counts |= {f"{split}_{name}": reasons.pop(reason, 0) for reason, name in COUNTS.items()}
        counts |= {f"{split}_unreadable": reasons.total(), f"{split}_pairs": len(pairs)}
        data[split] = partial(PreferencePairs, pairs, inputs.seed, split)
    initial = inputs.initial_for(tokenizer)
    without_dropout = initial.base.model_copy(update={"attention_dropout": 0.0})
    metadata = inputs.kept_metadata("stop_ids") | {"counts": counts}
    if template is not None:
        stop_ids = dict.fromkeys((*template.stop_ids, *inputs.metadata.get("stop_ids", ())))
        template.close()
        metadata |= {"chat_template": source, "stop_ids": list(stop_ids)}
    return FinetuneTask(
        model=initial_models.PretrainedModel(replace(initial, base=without_dropout, dropout=0.0)),
        train_sources=(TrainSource(data["train"]),),
        val_data=data["val"],
        train_samples=data["train"]().samples_per_epoch,
        objective="preference",
        select_on=options.select_on,
        tokenizer=tokenizer,
        metadata=metadata,
        quarantined=tuple(quarantined),
    )


def has_messages(table: Any) -> bool:
    """Return whether a pair of a table has messages, for which a template is needed."""
    return any(prompt.startswith("[") for prompt in table["prompt"].to_pylist())


def encode_split(
    inputs: TaskInputs, split: str, encoder: PairEncoder, tolerance: Tolerance, in_val: set[str]
) -> tuple[Sequence[EncodedPair], list[UnreadableRecord]]:
    """Return the pairs of a split, and the rows that are left out: first those that cannot be read.

    `in_val` are prompts that must not be trained on.
    """
    table = inputs.tables[split]
    pairs: list[EncodedPair] = []
    errors: list[DataError | None] = []
    reasons: list[str] = []
    for row in table.to_pylist():
        reason, error = "", None
        try:
            found, reason = encoder.encode(row)
            reason = reason or (ON_BOTH_SIDES if row["prompt"] in in_val else "")
            if found is not None and not reason:
                pairs.append(found)
        except TemplateCostsError:
            raise  # each other pair would take as long
        except DataError as raised:
            error = raised
        errors.append(error)
        reasons.append(reason)
    unreadable = check_rows(inputs, split, errors, tolerance, "pairs")
    for reason, count in Counter(filter(None, reasons)).items():
        inputs.warn(f"{split}: leaving out {count:,} of {len(reasons):,} pairs: {reason}")
    return pairs, [*unreadable, *lacking_records(table, reasons)]
