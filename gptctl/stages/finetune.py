"""Train a pretrained GPT on a task: classify texts, or go on with language modelling on other text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core.config import DataConfig, Values, argument, flag, key, plain
from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.core.rundir import Run, open_run
from gptctl.core.summary import Counts, Summary, Table
from gptctl.io import labelled
from gptctl.io.manifest import Manifest
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.faults import Faults
from gptctl.train.placement import PARALLEL_HELP, Parallel, Placement
from gptctl.train.recipe import Recipe

if TYPE_CHECKING:
    from gptctl.model.classifier import Classifier
    from gptctl.model.config import ModelConfig
    from gptctl.model.gpt import GPT
    from gptctl.train.data import Samples
    from gptctl.train.job import TrainJob

EXAMPLES = (
    "gptctl finetune run labelled -o classifier --epochs 2",
    "gptctl finetune run labelled/train.jsonl -o again --select-on f1 --epochs 1",
    "gptctl finetune run unique -o adapted --task lm --epochs 1",
)
RECIPE = Recipe(
    lr=5e-4, schedule="linear", min_lr_share=0.0, betas=(0.9, 0.99), weight_decay=0.01, batch_size=32, lm_weight=0.0
)
WARMUP_SHARE = 0.1


class Finetune(Placement, DataConfig):
    """Finetune a model on labelled texts (classify) or on more text (lm).

    DATA is a file, or a folder with train and val files; without val, 10 % of the texts by hash are held out. The best
    weights by --select-on on val are kept. The test split is never read. A text longer than the context is cut to its
    head; the classifier reads the hidden state of the closing end-of-text token.
    """

    base: str = argument(..., "MODEL", "A run folder, one of its checkpoints, or a model folder.")
    data: str = argument(..., "DATA", "File or folder with the texts.")
    out: str = flag(..., "Folder of the run.", panel="Output", short="-o", runtime=True)
    task: Literal["classify", "lm"] = flag("classify", "What to learn.", panel="Task")
    label_column: str = flag("label", "Column that holds the label.", panel="Task")
    epochs: float = flag(3.0, "Passes over the training texts.", panel="Training", gt=0)
    select_on: Literal["f1", "accuracy", "loss"] = flag(
        "f1", "Metric on val that chooses the weights kept (lm: loss).", panel="Training"
    )
    lr: float | None = flag(None, "Peak learning rate.", panel="Training", gt=0)
    batch_size: int | None = flag(None, "Texts per update.", panel="Training", ge=1)
    patience: int = flag(0, "Stop after so many evaluations without a better one; 0 never.", panel="Training", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = flag("auto", "Device to train on.", panel="Devices")
    procs: int = key(1, "Processes for device cpu.", ge=1, runtime=True)
    parallel: Parallel = key("auto", PARALLEL_HELP, runtime=True)
    gpus: int = key(0, "GPUs to train on, one process each.", ge=0, runtime=True)
    dropout: float = key(0.1, "Dropout while finetuning.", ge=0, lt=1)
    training: Recipe = key(RECIPE, "The recipe; steps and warm-up follow from --epochs.")
    faults: Faults = key(Faults(), "What happens when a step goes wrong.")
    loggers: tuple[str, ...] = key((), "Where events go besides events.jsonl: tensorboard.", runtime=True)
    eval_per_epoch: int = key(1, "Evaluations on val per epoch.", ge=1)
    micro_batch: int = key(0, "Texts per forward pass and process; 0 takes a whole share.", ge=0)

    def recipe(self, samples: int, seq_len: int) -> Recipe:
        """Lay the flags over the recipe and count the steps."""
        changes: Values = {"seq_len": seq_len}
        changes |= {"lr": self.lr} if self.lr else {}
        changes |= {"batch_size": self.batch_size} if self.batch_size else {}
        recipe = self.training.model_copy(update=changes)
        batch = min(recipe.batch_size, max(samples, 1))
        steps = max(1, math.ceil(self.epochs * samples / batch))
        return recipe.model_copy(
            update={"steps": steps, "batch_size": batch, "warmup_steps": int(steps * WARMUP_SHARE)}
        )


def plan(config: Finetune, context: Context) -> Summary:
    """Say what would be done."""
    from gptctl.model.locate import find_model

    tables, _ = labelled.training_splits(config, config.data)
    facts: Values = {
        "model": str(find_model(config.base)),
        "train_texts": len(tables["train"]),
        "val_texts": len(tables["val"]),
    }
    if config.task == "classify":
        facts["labels"] = label_names(tables["train"], config.label_column)
    return Summary("finetune", "planned", (config.out,), plan=facts)


def run(config: Finetune, context: Context | None = None) -> Summary:
    """Finetune into a run folder."""
    context = context or Context()
    from gptctl.model import sealed
    from gptctl.model.folder import load_model
    from gptctl.model.locate import find_model
    from gptctl.train import device

    folder = find_model(config.base)
    _, shape, tokenizer_json, _ = load_model(folder)
    device.pick("cuda" if config.gpus else config.device, config.gpus)
    tables, prints = labelled.training_splits(config, config.data)
    inputs = {"model": sealed.fingerprint(folder), **prints}
    with open_run(
        Path(config.out),
        config,
        context,
        inputs,
        {"epochs": float},
        lambda out: (out / "model" / "model.safetensors").exists(),
    ) as record:
        if record.up_to_date:
            return record.previous_summary()
        coder = Tokenizer.from_json(tokenizer_json)
        if config.task == "classify":
            names = label_names(tables["train"], config.label_column)
            job = classify_job(config, folder, shape, coder, tables, names)
        else:
            names = []
            job = lm_job(config, folder, shape, coder, tables)
        about = {"stage": "finetune", "task": config.task, "label_names": names, "data": prints}
        job = replace(job, tokenizer_json=tokenizer_json, about=about)
        metrics = train(job, record, context)
        lasting = {name: value for name, value in metrics.items() if name not in ("tokens_per_second", "train_seconds")}
        declared = Manifest("run", "finetune", config.settings(), inputs, (), Counts(), lasting, coder.hash)
        return record.finish(summarise(config, metrics), declared)


def train(job: TrainJob, record: Run, context: Context) -> Values:
    """Train, then write the best weights as the model folder."""
    from gptctl.model.folder import save_model
    from gptctl.train import checkpoint, loop

    metrics = loop.train(job, record, context)
    model = job.build()
    state = checkpoint.load_best(record.path, model)
    metrics |= {f"best_val_{name}": value for name, value in state["val"].items()}
    save_model(record.path / "model", model, job.tokenizer_json, job.about | {"metrics": metrics})
    return metrics


def classify_job(
    config: Finetune, folder: Path, shape: ModelConfig, coder: Tokenizer, tables: dict[str, pa.Table], names: list[str]
) -> TrainJob:
    """Describe the training of a classifier."""
    splits = {name: encode(tables[name], coder, shape.context) for name in ("train", "val")}
    numbers = {
        name: [names.index(label) for label in known_labels(tables[name], config.label_column, names, name)]
        for name in splits
    }
    data = {name: partial(open_labelled, splits[name], numbers[name], config.seed, name) for name in splits}
    return make_job(
        config, partial(build_classifier, folder, len(names), config.seed, config.dropout), data, len(splits["train"]),
        shape, "classification", config.select_on,
    )  # fmt: skip


def lm_job(
    config: Finetune, folder: Path, shape: ModelConfig, coder: Tokenizer, tables: dict[str, pa.Table]
) -> TrainJob:
    """Describe continued language modelling."""
    streams = {
        name: np.concatenate([[coder.end_of_text_id], *encode(tables[name], coder, None)]) for name in ("train", "val")
    }
    data = {name: partial(open_stream, streams[name], shape.context, config.seed, name) for name in streams}
    windows = max(1, (len(streams["train"]) - 1) // shape.context)
    return make_job(config, partial(build_lm, folder, config.dropout), data, windows, shape, "language_model", "loss")


def make_job(
    config: Finetune, build: Any, data: dict[str, Any], samples: int, shape: ModelConfig, objective: str, select_on: str
) -> TrainJob:
    """Describe a finetuning run: an evaluation and a checkpoint at the end of each epoch."""
    from gptctl.train.estimate import estimate
    from gptctl.train.job import TrainJob

    recipe, ranks = config.recipe(samples, shape.context), config.gpus or config.procs
    every = max(1, round(recipe.steps / max(1.0, config.epochs * config.eval_per_epoch)))
    return TrainJob(
        recipe=recipe,
        build=build,
        train_data=data["train"],
        val_data=data["val"],
        objective=objective,
        seed=config.seed,
        device="cuda" if config.gpus else config.device,
        ranks=ranks,
        memory_bytes=estimate(shape, recipe, ranks, config.micro_batch)["memory_bytes_per_rank"],
        micro_batch_size=config.micro_batch,
        patience=config.patience,
        select_on=select_on,
        eval_every=every,
        checkpoint_every=every,
        faults=config.faults,
        loggers=config.loggers,
        parallel=config.parallel,
        **config.placed(),
    )


def encode(table: pa.Table, coder: Tokenizer, context: int | None) -> list[NDArray[np.int64]]:
    """Tokenize texts, each closed by end-of-text; with a context, cut to their heads."""
    from gptctl.infer.classify import fit_context

    rows = coder.encode_each(table["text"].to_pylist())
    return [fit_context(tokens, coder.end_of_text_id, context or len(tokens) + 1) for tokens in rows]


def label_names(table: pa.Table, column: str) -> list[str]:
    """List the labels of the training split, sorted. Raises DataError (3) if there are fewer than two."""
    names = sorted(set(labelled.labels_of(table, column, "train")))
    if len(names) < 2:
        raise DataError(
            f"column '{column}' has {len(names)} label in the training split",
            "a classifier needs two or more; see --label-column",
        )
    return names


def known_labels(table: pa.Table, column: str, names: Sequence[str], split: str) -> list[str]:
    """Give a split's labels. Raises DataError (3) for one that the training split lacks."""
    labels = labelled.labels_of(table, column, split)
    for row, label in enumerate(labels):
        if label not in names:
            raise DataError(
                f"{split}: row {row} has the label '{label}', which the training split lacks",
                f"known: {', '.join(names)}",
            )
    return labels


def build_lm(folder: Path, dropout: float) -> GPT:
    """Build a model with the base's weights; each process does it for itself."""
    from gptctl.model.classifier import Classifier
    from gptctl.model.folder import load_model
    from gptctl.model.gpt import GPT

    loaded, shape, _, _ = load_model(folder)
    base = loaded.gpt if isinstance(loaded, Classifier) else loaded
    model = GPT(shape.model_copy(update={"dropout": dropout}))
    model.load_state_dict(base.state_dict())
    return model


def build_classifier(folder: Path, labels: int, seed: int, dropout: float) -> Classifier:
    """Put a fresh label head on the base's weights."""
    from gptctl.model.classifier import Classifier

    return Classifier(build_lm(folder, dropout), labels, seed, dropout)


def open_labelled(tokens: list[NDArray[Any]], labels: list[int], seed: int, name: str) -> Samples:
    """Make labelled samples."""
    from gptctl.train.labelled import LabelledTexts

    return LabelledTexts(tokens, labels, seed, name)


def open_stream(tokens: NDArray[Any], seq_len: int, seed: int, name: str) -> Samples:
    """Make windows of a stream."""
    from gptctl.train.data import TokenWindows

    return TokenWindows([tokens], seq_len, seed, name)


def summarise(config: Finetune, metrics: Values) -> Summary:
    """Show the figures of a finished run."""
    shown = [
        name
        for name in ("parameters", "steps", "train_loss", *sorted(m for m in metrics if m.startswith("best_val_")))
        if name in metrics
    ]
    rows = tuple(
        (name, f"{metrics[name]:.4f}" if isinstance(metrics[name], float) else f"{metrics[name]:,}") for name in shown
    )
    return Summary(
        "finetune", "done", (config.out,), metrics=plain(metrics), tables=(Table("finetune", ("", "value"), rows),),
        next=f"gptctl eval {config.out} {config.data}",
    )  # fmt: skip
