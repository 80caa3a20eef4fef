"""Train a pretrained GPT on a task: classify texts, answer in conversations, or go on with language modelling."""

from __future__ import annotations

import math
import shlex
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import field_validator

from gptctl.core import atomic
from gptctl.core.config import ReadingOptions, SeedOption, Values, argument, flag, key, output, plain
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.formatting import format_number
from gptctl.core.run_folder import Run, open_run
from gptctl.core.summary import Counts, Summary, Table
from gptctl.io.dataset.manifest import Manifest
from gptctl.model.lora_config import LoraConfig, LoraOptions
from gptctl.pipeline import labelled_data
from gptctl.text import chat
from gptctl.text.classifier_inputs import MARKERS, ClassifierInputs, LongDocuments, encode_pairs
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.distributed.options import DistributedOptions
from gptctl.train.faults import FaultPolicy
from gptctl.train.recipe import FinetuneRecipe, Recipe
from gptctl.train.tasks.aggregate_runs import mean_and_spread

if TYPE_CHECKING:
    from gptctl.model.config import ModelConfig
    from gptctl.train.job import TrainJob
    from gptctl.train.tasks.initial_models import Base

EXAMPLES = (
    "gptctl finetune run labelled -o classifier --epochs 2",
    "gptctl finetune run labelled/train.jsonl -o again --select-on f1 --epochs 1",
    "gptctl finetune run unique -o adapted --task lm --epochs 1",
)
RECIPE = FinetuneRecipe(
    lr=5e-4, schedule="linear", min_lr_share=0.0, betas=(0.9, 0.99), weight_decay=0.01, batch_size=32, lm_weight=0.0
)
WARMUP_SHARE = 0.1
OF_CLASSIFIERS = (
    "label_column", "pair_column", "pooling", "long_documents", "select_on", "lm_weight", "fold_column", "fold",
    "label_weights", "symmetric", "max_windows", "training.lm_weight", "training.label_weights",
)  # fmt: skip


class Finetune(DistributedOptions, ReadingOptions, SeedOption):
    """Finetune a model on labelled texts (classify), on conversations (chat), or on more text (lm).

    DATA is a file, or a folder with train and val files; without val, 10 % of the texts by hash are held out. The best
    weights by --select-on on val are kept. A test split is never read. For chat, DATA has a column `messages`.
    """

    instead: ClassVar[dict[str, str]] = {
        "training.steps": "--epochs decides how long it trains",
        "training.warmup_steps": "the warm-up is a tenth of all steps",
        "training.seq_len": "the base model's context decides",
        "adapter.rank": "use --lora",
    }

    base: str = argument(..., "MODEL", "A run folder, one of its checkpoints, or a model folder.")
    data: str = argument(..., "DATA", "File or folder with the texts.")
    out: str = output(..., "Folder of the run.")
    task: Literal["classify", "chat", "lm"] = flag("classify", "What to learn.", panel="Task")
    label_column: str = flag("label", "Column that holds the label.", panel="Task")
    pair_column: str | None = flag(None, "Column of a second text, to classify pairs.", panel="Task")
    pooling: Literal["last", "mean", "max", "concat"] = flag(
        "last", "What a classifier reads of a text's hidden states; concat: the other three.", panel="Task"
    )
    long_documents: LongDocuments = flag(
        "head", "What is read of a text longer than the context; windows: all of it, averaged.", panel="Task"
    )
    epochs: float = flag(3.0, "Passes over the training texts.", panel="Training", gt=0)
    select_on: Literal["f1", "accuracy", "loss"] = flag(
        "f1", "Metric on val that chooses the weights kept (chat, lm: loss).", panel="Training"
    )
    lr: float | None = flag(None, "Peak learning rate.", panel="Training", gt=0)
    batch_size: int | None = flag(None, "Texts per update.", panel="Training", ge=1)
    lm_weight: float | None = flag(
        None, "Weight of the language-model loss beside a classifier's.", panel="Training", ge=0
    )
    lora: int = flag(0, "Rank of a low-rank update (LoRA); 0 trains all weights.", panel="Training", ge=0)
    seeds: int = flag(
        1, "Trainings, one seed after another: mean and spread, and the best model.", panel="Repeats", ge=1
    )
    fold_column: str | None = flag(
        None, "Column that names folds: each is held out once, and scored by a model of the others.", panel="Repeats"
    )
    fold: str | None = key(None, "Hold out this one fold of fold_column.")
    dropout: float = key(0.1, "Dropout while finetuning.", ge=0, lt=1)
    training: FinetuneRecipe = key(RECIPE, "The recipe; steps and warm-up follow from --epochs.")
    adapter: LoraOptions = key(LoraOptions(), "More about --lora: its scale, dropout, layers, and DoRA.")
    freeze: tuple[str, ...] = key((), "Parameters that stay as they are, as globs: blocks.0.*,embedding.*")
    freeze_layers: int = key(0, "Lowest blocks that stay as they are, embeddings included.", ge=0)
    label_weights: Literal["none", "balanced"] = key("none", "balanced: rare labels weigh more in the loss.")
    symmetric: bool = key(False, "Read a pair in both orders.")
    max_windows: int = key(16, "Windows of a long document, at most.", ge=1)
    chat_template: str | None = key(None, "File with a Jinja chat template; else the base's own, else ChatML.")
    patience: int = key(0, "Stop after so many evaluations without a better one; 0 never.", ge=0)
    faults: FaultPolicy = key(FaultPolicy(), "What happens when a step goes wrong.")
    loggers: tuple[str, ...] = key((), "Where events go besides events.jsonl: tensorboard.", runtime=True)
    eval_per_epoch: int = key(1, "Evaluations on val per epoch.", ge=1)
    micro_batch_size: int = key(0, "Texts per forward pass and process; 0 takes a whole share.", ge=0)

    @field_validator("fold", mode="before")
    @classmethod
    def as_text(cls, value: Any) -> Any:
        """Take numbers as text, as TOML and --set give them: folds are compared as text."""
        return str(value) if isinstance(value, int) else value

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.task != "classify":
            found |= dict.fromkeys(OF_CLASSIFIERS, f"with --task {self.task}")
        if self.task != "chat":
            found["chat_template"] = "without --task chat"
        if self.task != "lm":
            found["training.document_mask"] = f"with --task {self.task}"
        for name in ("lr", "batch_size", "lm_weight"):
            if getattr(self, name) is not None:
                found[f"training.{name}"] = f"beside --{name.replace('_', '-')}"
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

    def recipe(self, samples: int, seq_len: int) -> Recipe:
        """Lay the flags over the recipe and count the steps."""
        given = {"lr": self.lr, "batch_size": self.batch_size, "lm_weight": self.lm_weight}
        changes: Values = {name: value for name, value in given.items() if value is not None}
        training = self.training.model_copy(update=changes)
        batch = min(training.batch_size, max(samples, 1))
        steps = max(1, math.ceil(self.epochs * samples / batch))
        counted = {"batch_size": batch, "seq_len": seq_len, "steps": steps, "warmup_steps": int(steps * WARMUP_SHARE)}
        return Recipe.model_validate(plain(training) | counted)

    def repeats(self, tables: dict[str, pa.Table]) -> dict[str, Finetune]:
        """Return the trainings that this one stands for, by the folders that they go to; none if it is one."""
        if self.fold_column and self.fold is None:
            hint = "name it with --fold-column"
            folds = sorted(set(labelled_data.strings_of(tables["train"], self.fold_column, "train", "fold", hint)))
            if unfit := [fold for fold in folds if "/" in fold or "\0" in fold]:
                problem = f"a folder cannot be named after the fold '{unfit[0]}'"
                raise DataError(problem, "give it a name without a slash")
            changes: dict[str, Values] = {f"fold-{fold}": {"fold": fold} for fold in folds}
        elif self.seeds > 1:
            seeds = range(self.seed, self.seed + self.seeds)
            changes = {f"seed-{seed}": {"seed": seed, "seeds": 1} for seed in seeds}
        else:
            return {}
        return {
            name: self.model_copy(update=change | {"out": str(Path(self.out) / name)})
            for name, change in changes.items()
        }


def plan(config: Finetune, context: Context) -> Summary:
    """Say what would be done."""
    from gptctl.model.files.locate import find_model

    tables, _ = read(config)
    facts: Values = {
        "model": str(find_model(config.base)),
        "train_texts": len(tables["train"]),
        "val_texts": len(tables["val"]),
    }
    if config.task == "classify":
        facts["labels"] = labelled_data.label_names(tables["train"], config.label_column)
    if runs := list(config.repeats(tables)):
        facts["runs"] = runs
    return Summary("finetune", "planned", (config.out,), plan=facts)


def read(config: Finetune) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Read the training and validation texts; a fold that is held out becomes a table of its own."""
    column = "messages" if config.task == "chat" and config.text_column == "text" else config.text_column
    reading = config.model_copy(update={"text_column": column})
    tables, prints = labelled_data.training_splits(reading, config.data, structured=config.task == "chat")
    if config.fold is not None:
        if config.fold_column is None or config.task != "classify":
            raise UsageError("fold needs --fold-column, and task classify", "name the column that holds it")
        tables = labelled_data.hold_out(tables, config.fold_column, config.fold)
    return tables, prints


def run(config: Finetune, context: Context | None = None) -> Summary:
    """Finetune into a run folder."""
    context = context or Context()
    from gptctl.model import device
    from gptctl.model.files import checksummed
    from gptctl.model.files.locate import find_model
    from gptctl.model.folder import load_model

    folder = find_model(config.base)
    _, shape, tokenizer_json, extra = load_model(folder)
    device.select_device(config.device_name(), config.gpus)
    if config.lora and config.parallel == "tp":
        raise UsageError("--lora can't be cut by tensor parallelism", "leave parallel=tp out")
    tables, prints = read(config)
    inputs = {"model": checksummed.model_fingerprint(folder), **prints}
    with open_run(Path(config.out), config, context, inputs, {"epochs": float}, intact) as record:
        if record.up_to_date:
            return record.previous_summary()
        coder = Tokenizer.from_json(tokenizer_json)
        if repeats := config.repeats(tables):
            metrics = train_all(repeats, record, context)
        else:
            task = {"classify": classify_job, "chat": chat_job, "lm": lm_job}[config.task]
            job = task(config, folder, shape, coder, tables, extra, context)
            about = {"stage": "finetune", "task": config.task, "data": prints} | job.metadata
            metrics = train(config, replace(job, metadata=about), tables, record, context)
        lasting = {name: value for name, value in metrics.items() if name not in ("tokens_per_second", "train_seconds")}
        declared = Manifest("run", "finetune", config.settings(), inputs, (), Counts(), lasting, coder.hash)
        return record.finish(summarise(config, metrics), declared)


def intact(folder: Path) -> bool:
    """Return whether a finished run still has its model."""
    return (folder / "model" / "model.safetensors").exists()


def train_all(repeats: dict[str, Finetune], record: Run, context: Context) -> Values:
    """Do several trainings, each in a folder of its own; give means and spreads, and keep the best model."""
    from gptctl.evals.inference import held_out

    found = {}
    for number, (name, config) in enumerate(repeats.items(), start=1):
        context.info(f"{name}, {number} of {len(repeats)}")
        found[name] = run(config, replace(context, force=False)).metrics
    first = next(iter(repeats.values()))
    on = f"best_val_{first.select_on if first.task == 'classify' else 'loss'}"
    best = (min if on.endswith("loss") else max)(found, key=lambda name: found[name][on])
    with atomic.atomic_folder(record.path / "model") as temporary:
        shutil.copytree(record.path / best / "model", temporary, dirs_exist_ok=True)
    scored = [record.path / name for name in found if "held_out_f1" in found[name]]
    pooled = (
        held_out.score_rows([row for folder in scored for row in held_out.read_rows(folder)], record.path)
        if scored
        else {}
    )
    return mean_and_spread(list(found.values())) | pooled | {"best": best, "runs": found}


def train(config: Finetune, job: TrainJob, tables: dict[str, pa.Table], record: Run, context: Context) -> Values:
    """Train, then write the best weights as the model folder; low-rank updates are kept beside, too."""
    from gptctl.model import device, lora
    from gptctl.model.classifier import Classifier
    from gptctl.model.hf.adapter_save import save_adapter
    from gptctl.model.save import save_model
    from gptctl.model.saved_model import load_weights_into
    from gptctl.train import loop
    from gptctl.train.checkpoints.checkpoint_folders import best_or_latest
    from gptctl.train.checkpoints.load_checkpoint import read_progress

    metrics = loop.train(job, record, context)
    model = job.build_model().eval()
    best = best_or_latest(record.path)
    load_weights_into(model, best)
    metrics |= {f"best_val_{name}": value for name, value in read_progress(best)["val"].items()} | job.metadata.get(
        "counts", {}
    )
    about = {name: value for name, value in job.metadata.items() if name != "lora"}
    if config.lora:
        metrics["trained_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        base = str(Path(config.base).absolute())
        save_adapter(record.path / "adapter", model, base, job.tokenizer_json, about | {"metrics": metrics})
        lora.merge_lora(model)
    if "held out" in tables:
        from gptctl.evals.inference import held_out
        from gptctl.evals.inference.loaded_model import LoadedModel

        assert isinstance(model, Classifier)
        inputs = ClassifierInputs.from_json(about["classifier_inputs"])
        coder = Tokenizer.from_json(job.tokenizer_json)
        loaded = LoadedModel(model, coder, tuple(about["label_names"]), inputs, config.pair_column)
        rows = held_out.predict_texts(loaded, config.label_column, tables["held out"], device.select_device(job.device))
        metrics |= held_out.score_rows(rows, record.path)
    save_model(record.path / "model", model, job.tokenizer_json, about | {"metrics": metrics})
    return metrics


def classify_job(
    config: Finetune, folder: Path, shape: ModelConfig, coder: Tokenizer, tables: dict[str, pa.Table], extra: Values,
    context: Context,
) -> TrainJob:  # fmt: skip
    """Describe the training of a classifier."""
    from gptctl.train.data.labelled_texts import LabelledTexts
    from gptctl.train.tasks import initial_models

    coder = coder.with_special_tokens(MARKERS)
    names = labelled_data.label_names(tables["train"], config.label_column)
    start, delimiter, classify = (coder.token_to_id(marker) for marker in MARKERS)
    cut = config.long_documents, config.max_windows, config.symmetric
    inputs = ClassifierInputs(start, delimiter, classify, shape.max_seq_len, *cut)
    data, numbers = {}, {}
    for name in ("train", "val"):
        texts = [inputs.sequences(*pair) for pair in encode_pairs(tables[name], coder, config.pair_column, name)]
        numbers[name] = [
            names.index(one) for one in labelled_data.known_labels(tables[name], config.label_column, names, name)
        ]
        data[name] = partial(LabelledTexts, texts, numbers[name], config.seed, name)
    if config.label_weights == "balanced":
        counts = Counter(numbers["train"])
        weights = tuple(len(numbers["train"]) / (len(names) * counts[number]) for number in range(len(names)))
        config = config.model_copy(update={"training": config.training.model_copy(update={"label_weights": weights})})
    base = base_of(config, folder, shape, coder)
    build = partial(initial_models.classifier, base, len(names), config.pooling)
    about = {"label_names": names, "classifier_inputs": inputs.to_json(), "pair_column": config.pair_column}
    return make_job(config, build, data, len(numbers["train"]), shape, "classification", config.select_on, coder, about)


def chat_job(
    config: Finetune, folder: Path, shape: ModelConfig, coder: Tokenizer, tables: dict[str, pa.Table], extra: Values,
    context: Context,
) -> TrainJob:  # fmt: skip
    """Describe the training of an assistant."""
    from gptctl.train.data.conversations import Conversations
    from gptctl.train.tasks import initial_models

    source = extra.get("chat_template") or chat.CHATML
    if config.chat_template:
        source = chat.read_template(Path(config.chat_template))
    coder = coder.with_special_tokens([marker for marker in chat.MARKERS if marker in source])
    template = chat.ChatTemplate(source, coder)
    data, counts = {}, {}
    for name in ("train", "val"):
        found = [
            template.conversation(chat.read_messages(text, f"{name}: row {row} (id {identity})"))
            for row, (identity, text) in enumerate(
                zip(tables[name]["id"].to_pylist(), tables[name]["text"].to_pylist(), strict=True)
            )
        ]
        fitting = [(tokens, learned) for tokens, learned in found if len(tokens) <= shape.max_seq_len + 1]
        counts[f"{name}_too_long"] = len(found) - len(fitting)
        if len(fitting) < len(found):
            context.warn(
                f"{name}: {len(found) - len(fitting):,} of {len(found):,} conversations are longer than the context of "
                f"{shape.max_seq_len:,} tokens and left out; none is cut"
            )
        columns = [tokens for tokens, _ in fitting], [learned for _, learned in fitting]
        data[name] = partial(Conversations, *columns, shape.max_seq_len, config.seed, name)
    build = partial(initial_models.language_model, base_of(config, folder, shape, coder))
    samples = data["train"]().samples_per_epoch
    about = {"chat_template": source, "stop_ids": list(template.stop_ids), "counts": counts}
    return make_job(config, build, data, samples, shape, "language_model", "loss", coder, about)


def lm_job(
    config: Finetune, folder: Path, shape: ModelConfig, coder: Tokenizer, tables: dict[str, pa.Table], extra: Values,
    context: Context,
) -> TrainJob:  # fmt: skip
    """Describe continued language modelling."""
    from gptctl.train.data.token_windows import TokenWindows
    from gptctl.train.tasks import initial_models

    end, data, windows = [coder.end_of_text_id], {}, {}
    for name in ("train", "val"):
        texts = coder.encode_to_arrays(tables[name]["text"].to_pylist())
        stream = np.concatenate([np.array(end), *(part for text in texts for part in (text, end))]).astype(np.int64)
        data[name] = partial(TokenWindows, [stream], shape.max_seq_len, config.seed, name)
        windows[name] = max(1, (len(stream) - 1) // shape.max_seq_len)
    build = partial(initial_models.language_model, base_of(config, folder, shape, coder))
    kept: Values = {name: extra[name] for name in ("chat_template", "stop_ids") if name in extra}
    return make_job(config, build, data, windows["train"], shape, "language_model", "loss", coder, kept)


def base_of(config: Finetune, folder: Path, shape: ModelConfig, coder: Tokenizer) -> Base:
    """Say what the training starts from."""
    from gptctl.train.tasks.initial_models import Base

    lora = LoraConfig(rank=config.lora, **vars(config.adapter))
    return Base(
        folder.absolute(), max(shape.vocab_size, coder.vocab_size), config.dropout, config.seed, lora, config.freeze,
        config.freeze_layers,
    )  # fmt: skip


def make_job(
    config: Finetune, build: Any, data: dict[str, Any], samples: int, shape: ModelConfig, objective: str,
    select_on: str, coder: Tokenizer, about: Values,
) -> TrainJob:  # fmt: skip
    """Describe a finetuning run: an evaluation and a checkpoint at the end of each epoch."""
    from gptctl.train.data.data_source import WeightedSource
    from gptctl.train.distributed.parallel_dims import ParallelDims
    from gptctl.train.job import TrainJob
    from gptctl.train.planning.estimate import Layout, estimate

    recipe, ranks = config.recipe(samples, shape.max_seq_len), config.ranks()
    every = max(1, round(recipe.steps / max(1.0, config.epochs * config.eval_per_epoch)))
    replicated = Layout(ParallelDims(dp_replicate=ranks))
    if config.lora:
        about = about | {"lora": {"rank": config.lora} | plain(config.adapter)}
    return TrainJob(
        recipe=recipe,
        build_model=build,
        train_sources=(WeightedSource(data["train"]),),
        val_data=data["val"],
        objective=objective,
        tokenizer_json=coder.to_json(),
        metadata=about,
        seed=config.seed,
        memory_bytes=estimate(shape, recipe, replicated, config.micro_batch_size)["memory_bytes_per_rank"],
        micro_batch_size=config.micro_batch_size,
        patience=config.patience,
        select_on=select_on,
        eval_every=every,
        checkpoint_every=every,
        faults=config.faults,
        loggers=config.loggers,
        **config.distributed(),
    )


def summarise(config: Finetune, metrics: Values) -> Summary:
    """Show the figures of a finished run."""
    names = ("parameters", "trained_parameters", "steps", "train_loss")
    shown = [*names, *sorted(name for name in metrics if name.startswith(("best_val_", "held_out_")))]
    rows = tuple((name, format_number(metrics[name])) for name in shown if isinstance(metrics.get(name), float | int))
    follow = f"gptctl eval {shlex.quote(config.out)} {shlex.quote(config.data)}"
    if config.task == "chat":
        follow = f"gptctl generate {shlex.quote(config.out)} --chat"
    return Summary(
        "finetune", "done", (config.out,), metrics=plain(metrics), tables=(Table("finetune", ("", "value"), rows),),
        next=follow,
    )  # fmt: skip
