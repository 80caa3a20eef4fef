"""The options of `gptctl finetune` that decide what is trained and for how long. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import field_validator, model_validator

from gptctl.core.config import ReadingOptions, SeedOption, Values, flag, key
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.run_record import changed_names
from gptctl.io.input.blocks import UnreadableRecord
from gptctl.io.input.names import name_sources
from gptctl.model.config import ModelConfig
from gptctl.model.lora_config import LoraConfig, LoraOptions
from gptctl.pipeline import data_splits
from gptctl.text.chat_formats import ChatFormatName, conversation_table
from gptctl.text.chat_length import LongConversations
from gptctl.text.classifier_inputs import LongDocuments
from gptctl.text.preference_pairs import pair_table
from gptctl.train.distributed.options import DistributedOptions
from gptctl.train.faults import FaultPolicy
from gptctl.train.preference import LossName, PreferenceLoss, PreferenceOptions, unused_options
from gptctl.train.recipe import FinetuneRecipe, Recipe, recipe_for_epochs
from gptctl.train.tasks.filter import LabelledTables
from gptctl.train.tasks.mixing_options import MixingOptions

DEFAULT_RECIPE = FinetuneRecipe(
    lr=5e-4, schedule="linear", min_lr_share=0.0, betas=(0.9, 0.99), weight_decay=0.01, batch_size=32, lm_weight=0.0
)
WARMUP_SHARE = 0.1
CLASSIFIER_KEYS = (
    "label_column", "pair_column", "pooling", "long_documents", "select_on", "fold_column", "fold",
    "label_weights", "symmetric", "max_windows", "training.lm_weight", "training.label_weights",
)  # fmt: skip
# What --task filter reads besides the options of reading: it has one recipe, and needs neither devices nor a model.
FILTER_KEYS = frozenset(("task", "label_column", "seed", "seeds", "select_on", "fold_column", "fold", "plugins"))
CHAT_KEYS = ("chat_format", "long_conversations")
PREFERENCE_KEYS = ("loss", "preference")
PREFERENCE_LR = 1e-5  # the answers are mostly likely already: larger steps soon damage the model
# What preference tuning does not read: its only losses are those of pairs, and the reference has no dropout either.
UNPREFERRED_KEYS = (
    "dropout", "adapter.dropout", "training.label_smoothing", "training.aux_loss_weight", "training.router_z_weight",
    "text_column",
)  # fmt: skip


def with_source(fingerprints: dict[str, str], name: str) -> dict[str, str]:
    """Return fingerprints by their names SPLIT/FILE with the name of one of several sources between."""
    parts = {file: file.partition("/") for file in fingerprints} if name else {}
    return {f"{parts[file][0]}/{name}/{parts[file][2]}" if name else file: fingerprints[file] for file in fingerprints}


@dataclass(frozen=True)
class FinetuneData:
    """The texts of each source, by its name and split; fingerprints of all files; and the texts without a label."""

    sources: dict[str, dict[str, pa.Table]]
    fingerprints: dict[str, str]
    quarantined: list[UnreadableRecord]

    def labelled(self, label_column: str) -> LabelledTables:
        """Return the texts of the first source with the column of their labels."""
        return LabelledTables(next(iter(self.sources.values())), label_column)


class FinetuneOptions(DistributedOptions, MixingOptions, ReadingOptions, SeedOption):
    """Task, recipe, adapter, repeats and logging."""

    instead: ClassVar[dict[str, str]] = {
        "training.steps": "--epochs decides how long it trains",
        "train_tokens": "--epochs decides how long it trains",
        "max_minutes": "--epochs decides how long it trains",
        "chat": "a chat model is trained with --task chat",
        "training.warmup_steps": "the warm-up is a tenth of all steps",
        "training.seq_len": "the base model's context decides, or max_seq_len",
        "adapter.rank": "use --lora",
    }

    task: Literal["classify", "chat", "preference", "lm", "filter"] = flag(
        "classify",
        "Learn to classify texts, to answer in conversations (chat), to prefer the chosen of two answers (preference), "
        "to continue text (lm), or, without a MODEL, to score texts for clean --filters classifier (filter).",
        panel="Task",
    )
    label_column: str = flag("label", "Column that holds the label.", panel="Task")
    pair_column: str | None = flag(None, "Column of a second text, to classify pairs.", panel="Task")
    pooling: Literal["last", "mean", "max", "concat"] = flag(
        "last", "How a classifier pools hidden states; concat: the other three.", panel="Task"
    )
    long_documents: LongDocuments = flag(
        "head", "Which part of a text longer than the context is read; windows: all of it, averaged.", panel="Task"
    )
    chat_format: ChatFormatName | None = flag(
        None, "Format of the conversations. Default: the one that the columns of DATA show.", panel="Task"
    )
    long_conversations: LongConversations = flag(
        "leave-out", "Conversations longer than the context: leave them out, or read their head or tail.", panel="Task"
    )
    loss: LossName = flag("dpo", "Loss of pairs of answers, for --task preference.", panel="Task")
    max_seq_len: int = flag(
        0, "Tokens of the longest sequence that is trained on; 0 is the model's context.", panel="Training", ge=0
    )
    epochs: float = flag(3.0, "Passes over the training texts.", panel="Training", gt=0)
    select_on: Literal["f1", "accuracy", "loss", "reward_accuracy"] = flag(
        "f1",
        "Metric on val that selects the weights (chat and lm: always loss; preference: loss or reward_accuracy).",
        panel="Training",
    )
    lr: float | None = flag(
        None, "Peak learning rate. With muon, training.matrix_lr is that of hidden matrices.", panel="Training",
        paths=("training.lr",), gt=0,
    )  # fmt: skip
    batch_size: int | None = flag(None, "Texts per update.", panel="Training", paths=("training.batch_size",), ge=1)
    lm_weight: float | None = flag(
        None, "Weight of the language-model loss beside a classifier's.", panel="Training",
        paths=("training.lm_weight",), ge=0,
    )  # fmt: skip
    lora: int = flag(0, "Rank of a low-rank update (LoRA); 0 trains all weights.", panel="Training", ge=0)
    seeds: int = flag(
        1, "Train with this many seeds. Reports mean and deviation, and keeps the best model.", panel="Repeats", ge=1
    )
    fold_column: str | None = flag(
        None, "Cross-validate: hold out each fold that this column names, and train on the others.", panel="Repeats"
    )
    fold: str | None = key(None, "Hold out only this fold of fold_column.")
    dropout: float = key(0.1, "Dropout while finetuning.", ge=0, lt=1)
    training: FinetuneRecipe = key(DEFAULT_RECIPE, "The recipe; steps and warm-up follow from --epochs.")
    adapter: LoraOptions = key(LoraOptions(), "More about --lora: its scale, dropout, layers, and DoRA.")
    preference: PreferenceOptions = key(PreferenceOptions(), "More about --loss: its strength and its margin.")
    freeze: tuple[str, ...] = key((), "Parameters to freeze, as globs: blocks.0.*,embedding.*")
    freeze_layers: int = key(0, "How many of the lowest blocks to freeze, embeddings included.", ge=0)
    label_weights: Literal["none", "balanced"] = key("none", "balanced: rare labels weigh more in the loss.")
    symmetric: bool = key(False, "Read a pair in both orders.")
    max_windows: int = key(16, "Largest number of windows of a long document.", ge=1)
    chat_template: str | None = key(None, "File with a Jinja chat template. Default: the model's own, or ChatML.")
    patience: int = key(0, "Stop after this many evaluations without improvement; 0 never stops.", ge=0)
    faults: FaultPolicy = key(FaultPolicy(), "What happens when a step goes wrong.")
    loggers: tuple[str, ...] = key((), "Where events go besides events.jsonl: tensorboard, wandb.", runtime=True)
    eval_per_epoch: int = key(1, "Evaluations on val per epoch.", ge=1)
    eval_batches: int = key(
        0,
        "Batches of training.batch_size that an evaluation reads, spread over the val split; 0 reads all of it.",
        ge=0,
    )
    micro_batch_size: int = key(
        0,
        "Texts per forward pass and process (gradient accumulation); 0 takes as much of a process's share as fits.",
        ge=0,
    )

    @field_validator("fold", mode="before")
    @classmethod
    def as_text(cls, value: Any) -> Any:
        """Turn a number, as TOML and --set read it, into text: folds are compared as text."""
        return str(value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def selects_on_what_there_is(self) -> FinetuneOptions:
        """Refuse a metric that the task does not have."""
        if self.task == "preference" and self.select_on not in ("loss", "reward_accuracy"):
            raise ValueError(f"--task preference has no {self.select_on}: use --select-on loss or reward_accuracy")
        if self.select_on == "reward_accuracy" and self.task != "preference":
            raise ValueError(f"--task {self.task} has no reward_accuracy: it is for --task preference")
        return self

    @classmethod
    def preset_layer(cls, chosen: Values) -> Values:
        """Return the defaults of preference tuning, which changes a model less than the other tasks."""
        is_preference = chosen.get("task") == "preference"
        return {"select_on": "loss", "training": {"lr": PREFERENCE_LR}} if is_preference else {}

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        found |= self.without_effect_on_task()
        if self.label_weights == "balanced":
            found["training.label_weights"] = "beside label_weights balanced"
        if not self.lora:
            found["adapter"] = "without --lora"
        if self.pair_column is None:
            found["symmetric"] = "without --pair-column"
        if self.long_documents != "windows":
            found["max_windows"] = "without --long-documents windows"
        if self.fold_column is None:
            found["fold"] = "without --fold-column"
        elif self.fold is None:
            found["seeds"] = "beside --fold-column"
        return found

    def without_effect_on_task(self) -> dict[str, str]:
        """Return the keys that have no effect with the task, each with the reason."""
        found: dict[str, str] = {}
        if self.task == "filter":
            kept = FILTER_KEYS | set(ReadingOptions.own_keys())
            found |= dict.fromkeys(FinetuneOptions.model_fields.keys() - kept, "with --task filter")
            if self.seeds == 1 and self.fold_column is None:
                found["select_on"] = "with --task filter, unless --seeds or --fold-column trains several models"
        elif self.task != "classify":
            found |= dict.fromkeys(CLASSIFIER_KEYS, f"with --task {self.task}")
        if self.task == "preference":
            found.pop("select_on")
            found |= dict.fromkeys(UNPREFERRED_KEYS, "with --task preference") | unused_options(self.loss)
        else:
            found |= dict.fromkeys(PREFERENCE_KEYS, "without --task preference")
        if self.task != "chat":
            found |= dict.fromkeys(CHAT_KEYS, "without --task chat")
        if self.task not in ("chat", "preference"):
            found["chat_template"] = "without --task chat or preference"
        if self.task != "lm":
            found |= dict.fromkeys(("training.document_mask", "weights", "mixture.phases"), f"with --task {self.task}")
        return found

    def effective_recipe(self, label_weights: tuple[float, ...], samples: int, seq_len: int) -> Recipe:
        """Return the recipe that training uses, with the steps that follow from the epochs."""
        recipe = self.training.model_copy(update={"label_weights": label_weights} if label_weights else {})
        return recipe_for_epochs(recipe, self.epochs, samples, seq_len, WARMUP_SHARE)

    def limit_context(self, model: ModelConfig) -> ModelConfig:
        """Return a model's config with the context that is trained on.

        Raises UsageError (2) if max_seq_len is longer than the model's context.
        """
        if self.max_seq_len > model.max_seq_len:
            raise UsageError(
                f"max_seq_len {self.max_seq_len} is longer than the model's context of {model.max_seq_len} tokens",
                "leave max_seq_len out",
            )
        return model.model_copy(update={"max_seq_len": self.max_seq_len or model.max_seq_len})

    def lora_config(self) -> LoraConfig:
        """Return the settings of LoRA with the rank of --lora."""
        return LoraConfig(rank=self.lora, **vars(self.adapter))

    def read_sources(self, paths: Sequence[str], context: Context) -> FinetuneData:
        """Return the texts of each source as `read_splits` does, without those of a classifier that have no label.

        Raises UsageError (2) for several sources of another task than lm, and for one that is named twice.
        """
        if len(paths) > 1 and self.task != "lm":
            raise UsageError(f"--task {self.task} reads one DATA, not {len(paths)}", "put the files into one folder")
        sources, fingerprints = {}, dict[str, str]()
        quarantined: list[UnreadableRecord] = []
        for name, path in zip(name_sources(paths), paths, strict=True):
            tables, prints = self.read_splits(path, context, quarantined)
            for split in tables if self.task in ("classify", "filter") else ():
                texts = len(tables[split])
                tables[split], lacking = data_splits.with_labels(tables[split], self.label_column, split)
                if lacking:
                    context.warn(data_splits.lacking_warning(lacking, texts, split))
                quarantined += lacking
            sources[name] = tables
            fingerprints |= with_source(prints, name if len(paths) > 1 else "")
        return FinetuneData(sources, fingerprints, quarantined)

    def checked_fingerprints(self, paths: Sequence[str], found: dict[str, str]) -> dict[str, str]:
        """Return what `read_sources` found. Raises DataError (3) if a file has changed or vanished since then."""
        now: dict[str, str] = {}
        for name, path in zip(name_sources(paths), paths, strict=True):
            now |= with_source(data_splits.training_fingerprints(path), name if len(paths) > 1 else "")
        if changed := changed_names(found, now):
            raise DataError(f"{changed[0]} has changed since it was read", "run the same command again")
        return found

    def read_splits(
        self, data: str, context: Context, unreadable: list[UnreadableRecord]
    ) -> tuple[dict[str, pa.Table], dict[str, str]]:
        """Return the training and validation texts, and the fingerprints of their files. Add to `unreadable` the rest.

        A held-out fold becomes a table of its own, "held out".
        """
        converts = {"chat": self.read_conversations, "preference": self.read_pairs}
        convert = partial(converts[self.task], context) if self.task in converts else None
        held_by = "prompt" if self.task == "preference" else "text"
        tables, prints = data_splits.training_splits(self, data, context, convert, unreadable, held_by)
        if self.fold is not None:
            if self.fold_column is None or self.task not in ("classify", "filter"):
                raise UsageError("fold needs --fold-column, and task classify or filter", "name the column that has it")
            tables = data_splits.hold_out(tables, self.fold_column, self.fold)
        return tables, prints

    def read_conversations(self, context: Context, records: pa.Table, split: str) -> pa.Table:
        """Return the conversations of a split, and say which format they have.

        Raises UsageError (2) for a column that the format does not have, DataError (3) if no format fits.
        """
        column = None if self.text_column == "text" else self.text_column
        if column and self.chat_format in ("alpaca", "prompt-completion"):
            raise UsageError(f"--text-column has no effect with --chat-format {self.chat_format}", "leave it out")
        table, found = conversation_table(records, split, self.chat_format, column)
        context.info(f"{split}: the chat format is {found}")
        return table

    def read_pairs(self, context: Context, records: pa.Table, split: str) -> pa.Table:
        """Return the pairs of answers of a split, and say which columns they have. Raises DataError (3) without any."""
        table, found = pair_table(records, split)
        context.info(f"{split}: the pairs have the {found}")
        return table

    def preference_loss(self) -> PreferenceLoss | None:
        """Return the loss of --task preference, or None for another task."""
        return PreferenceLoss.from_options(self.loss, self.preference) if self.task == "preference" else None

    def repeat_settings(self, train: pa.Table) -> dict[str, Values]:
        """Return the settings in which the runs of --seeds or --fold-column differ, by name; none for a single run.

        Raises DataError (3) for a missing column or value, or a fold that no folder can be named after.
        """
        if self.fold_column and self.fold is None:
            hint = "name it with --fold-column"
            folds = sorted(set(data_splits.strings_of(train, self.fold_column, "train", "fold", hint)))
            if unfit := [fold for fold in folds if "/" in fold or "\0" in fold]:
                raise DataError(f"a folder cannot be named after the fold '{unfit[0]}'", "rename it without a slash")
            return {f"fold-{fold}": {"fold": fold} for fold in folds}
        if self.seeds > 1:
            return {f"seed-{seed}": {"seed": seed, "seeds": 1} for seed in range(self.seed, self.seed + self.seeds)}
        return {}
