"""Finetuning of a classifier on labelled texts, or pairs of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from gptctl.model.classifier import Pooling
from gptctl.pipeline import data_splits
from gptctl.text.classifier_inputs import MARKERS, ClassifierInputs, LongDocuments, encode_pairs
from gptctl.train.data.data_source import TrainSource
from gptctl.train.data.labelled_texts import LabelledTexts
from gptctl.train.tasks import initial_models
from gptctl.train.tasks.finetune_task import SPLITS, FinetuneTask, TaskInputs


@dataclass(frozen=True)
class ClassifyOptions:
    """The columns of the data, and how the model reads a text."""

    label_column: str
    pair_column: str | None
    pooling: Pooling
    long_documents: LongDocuments
    max_windows: int
    symmetric: bool
    balance_labels: bool
    select_on: str


def prepare(inputs: TaskInputs, options: ClassifyOptions) -> FinetuneTask:
    """Encode the texts and number their labels. Raises DataError (3) for missing or unknown labels."""
    tokenizer = inputs.tokenizer.with_special_tokens(MARKERS)
    names = data_splits.label_names(inputs.tables["train"], options.label_column)
    start, delimiter, classify = (tokenizer.token_to_id(marker) for marker in MARKERS)
    classifier_inputs = ClassifierInputs(
        start,
        delimiter,
        classify,
        inputs.model_config.max_seq_len,
        options.long_documents,
        options.max_windows,
        options.symmetric,
    )
    data, labels = {}, {}
    for split in SPLITS:
        table = inputs.tables[split]
        texts = [
            classifier_inputs.sequences(*pair) for pair in encode_pairs(table, tokenizer, options.pair_column, split)
        ]
        known = data_splits.known_labels(table, options.label_column, names, split)
        labels[split] = [names.index(label) for label in known]
        data[split] = partial(LabelledTexts, texts, labels[split], inputs.seed, split)
    return FinetuneTask(
        model=initial_models.PretrainedModel(inputs.initial_for(tokenizer), len(names), options.pooling),
        train_sources=(TrainSource(data["train"]),),
        val_data=data["val"],
        train_samples=len(labels["train"]),
        objective="classification",
        select_on=options.select_on,
        tokenizer=tokenizer,
        metadata=inputs.kept_metadata()
        | {
            "label_names": names,
            "classifier_inputs": classifier_inputs.to_json(),
            "pair_column": options.pair_column,
        },
        label_weights=balanced_weights(labels["train"], len(names)) if options.balance_labels else (),
    )


def balanced_weights(labels: Sequence[int], count: int) -> tuple[float, ...]:
    """Return a weight per label with which all labels contribute the same to the loss."""
    counts = Counter(labels)
    return tuple(len(labels) / (count * counts[number]) for number in range(count))
