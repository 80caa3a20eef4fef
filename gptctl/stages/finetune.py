"""Train a pretrained GPT on a task: classify texts, answer in conversations, or continue text; or a quality filter."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from gptctl.core import atomic
from gptctl.core.config import ReadingOptions, Values, argument, output, plain
from gptctl.core.config.command_line import options_text
from gptctl.core.context import Context
from gptctl.core.formatting import format_number
from gptctl.core.run_folder import Run, open_run
from gptctl.core.summary import Counts, Summary, Table, source_table
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.hub.uri import is_hub
from gptctl.pipeline import data_splits, finalize
from gptctl.text.chat_formats import chat_format_of
from gptctl.text.classifier_inputs import ClassifierInputs
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer
from gptctl.train.planning.reading_plan import warn_of_repetition
from gptctl.train.tasks.aggregate_runs import best_run, mean_and_deviation
from gptctl.train.tasks.filter import check_base, train_filter
from gptctl.train.tasks.finetune_options import FinetuneOptions

if TYPE_CHECKING:
    from gptctl.train.tasks.finetune_inputs import FinetuneInputs

EXAMPLES = (
    "gptctl finetune run labelled -o classifier --epochs 2",
    "gptctl finetune run unique -o adapted --task lm --epochs 1",
    "gptctl finetune none labelled -o quality --task filter",
)

LABELS = ("label_column",)  # of a classifier's DATA; eval has the same key


class Finetune(FinetuneOptions):
    """Finetune a model on labelled texts (classify), conversations (chat), preferred answers (preference) or text (lm).

    With `none` instead of MODEL, --task filter trains a small model that scores texts for clean --filters classifier.

    DATA is a file, or a folder with train and val files. Without val, 10 % of the texts are held out by hash. The
    weights that are best on val by --select-on are kept. A test split is never read. For chat, DATA has conversations
    as messages, or in the format of ShareGPT, Alpaca, or prompt and completion; for preference, pairs of answers.
    """

    base: str = argument(..., "MODEL", "A run, a checkpoint, a model folder, or hf://OWNER/MODEL; none for filter.")
    data: tuple[str, ...] = argument(
        ..., "DATA...", "File or folder with the texts. For lm several are mixed, see --weights."
    )
    out: str = output(..., "Folder of the run.")

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        return self.without_weights(len(self.data)) | super().without_effect()

    def sources(self) -> dict[str, list[str]]:
        """Return what is read, by the key that names it, without the MODEL that is none."""
        found = super().sources()
        return {name: paths for name, paths in found.items() if name != "base" or self.task != "filter"}

    def repeats(self, tables: dict[str, pa.Table]) -> dict[str, Finetune]:
        """Return the runs of --seeds or --fold-column by their folders; none for a single run."""
        return {
            name: self.model_copy(update=changes | {"out": str(Path(self.out) / name)})
            for name, changes in self.repeat_settings(tables["train"]).items()
        }


def plan(config: Finetune, context: Context) -> Summary:
    """Describe what would be done."""
    check_base(config.base, config.task)
    if config.task == "filter":
        return plan_filter(config, context)
    from gptctl.train.source_metrics import planned_sources
    from gptctl.train.tasks.finetune_inputs import open_inputs
    from gptctl.train.tasks.finetune_job import make_job

    inputs = open_inputs(config, config.base, config.data, context)
    facts: Values = {
        "model": str(inputs.folder),
        "train_texts": inputs.count("train"),
        "val_texts": inputs.count("val"),
    }
    if config.task == "classify":
        facts["labels"] = data_splits.label_names(inputs.tables["train"], config.label_column)
    if config.task == "chat":
        facts["chat_format"] = chat_format_of(inputs.tables["train"])
    if runs := list(config.repeats(inputs.tables)):
        facts["runs"] = runs
    job = make_job(config, inputs, context)
    trained = (parameter for parameter in job.model.build().parameters() if parameter.requires_grad)
    facts |= {"steps": job.recipe.steps, "trained_parameters": sum(parameter.numel() for parameter in trained)}
    if planned := planned_sources(job):
        facts["sources"] = planned
        warn_of_repetition(planned, context)
    return Summary("finetune", "planned", (config.out,), plan=facts)


def run(config: Finetune, context: Context | None = None) -> Summary:
    """Finetune into a run folder."""
    context = context or Context()
    check_base(config.base, config.task)
    if config.task == "filter":
        return run_filter(config, context)
    from gptctl.train.distributed.follow import follow_leader
    from gptctl.train.distributed.nodes import join_nodes
    from gptctl.train.tasks.finetune_inputs import open_inputs
    from gptctl.train.tasks.finetune_job import make_job

    inputs = open_inputs(config, config.base, config.data, context)
    repeats = config.repeats(inputs.tables)
    with join_nodes(config.nodes, config.rdzv_endpoint, context.stop) as nodes:
        if not nodes.is_leader:
            build_job = partial(make_job, config, inputs, context)
            found = follow_leader(nodes, build_job, Path(config.out), "finetune", context)
            return Summary("finetune", "up to date", (config.out,)) if found is None else summarise(config, found)
        prints = partial(inputs.current_fingerprints, config.data)
        with open_run(Path(config.out), config, context, prints, {"epochs": float}) as record:
            if record.up_to_date:
                return replace(summarise(config, record.previous_summary().metrics), status="up to date")
            finalize.write_quarantine(record.path, inputs.quarantined)
            nodes.announce_training()
            metrics = train_all(repeats, record, context) if repeats else train(config, inputs, record, context)
            return finish(config, record, metrics, inputs.saved.tokenizer().hash)


def plan_filter(config: Finetune, context: Context) -> Summary:
    """Describe the training of a filter."""
    data = config.read_sources(config.data, context).labelled(config.label_column)
    facts = {"labels": data.names()} | {f"{split}_texts": len(data.tables[split]) for split in ("train", "val")}
    facts |= {"runs": runs} if (runs := list(config.repeats(data.tables))) else {}
    return Summary("finetune", "planned", (config.out,), plan=facts)


def run_filter(config: Finetune, context: Context) -> Summary:
    """Train a filter into a run folder."""
    from gptctl.evals.inference import held_out

    found = config.read_sources(config.data, context)
    data = found.labelled(config.label_column)
    repeats = config.repeats(data.tables)
    prints = partial(config.checked_fingerprints, config.data, found.fingerprints)
    with open_run(Path(config.out), config, context, prints) as record:
        if record.up_to_date:
            return replace(summarise(config, record.previous_summary().metrics), status="up to date")
        finalize.write_quarantine(record.path, found.quarantined)
        if repeats:
            metrics = train_all(repeats, record, context)
        else:
            metrics, rows = train_filter(data, config.seed, record.path, context)
            metrics |= held_out.score_rows(rows, record.path) if rows else {}
        return finish(config, record, metrics)


def finish(config: Finetune, record: Run, metrics: Values, tokenizer: str = "") -> Summary:
    """Declare the output complete. `tokenizer` is the hash of the model's tokenizer."""
    lasting = {name: value for name, value in metrics.items() if name not in ("tokens_per_second", "train_seconds")}
    kind, inputs = "filter" if config.task == "filter" else "run", record.record["inputs"]
    declared = Manifest(kind, "finetune", config.settings(), inputs, (), Counts(), lasting, tokenizer)
    return record.finish(summarise(config, metrics), declared)


def train_all(repeats: dict[str, Finetune], record: Run, context: Context) -> Values:
    """Train several times, each in a folder of its own. Return means and deviations, and keep the best model."""
    from gptctl.evals.inference import held_out

    runs = {}
    for number, (name, config) in enumerate(repeats.items(), start=1):
        context.info(f"{name}, {number} of {len(repeats)}")
        runs[name] = run(config, replace(context, force=False)).metrics
    first = next(iter(repeats.values()))
    best = best_run(runs, first.select_on if first.task not in ("chat", "lm") else "loss")
    with atomic.atomic_folder(record.path / "model") as temporary:
        shutil.copytree(record.path / best / "model", temporary, dirs_exist_ok=True)
    metrics = mean_and_deviation(list(runs.values()))
    if scored := [record.path / name for name in runs if "held_out_f1" in runs[name]]:
        metrics |= held_out.score_rows([row for folder in scored for row in held_out.read_rows(folder)], record.path)
    return metrics | {"best": best, "runs": runs}


def train(config: Finetune, inputs: FinetuneInputs, record: Run, context: Context) -> Values:
    """Train, then write the best weights as the model folder, and with LoRA the adapter too."""
    from gptctl.evals.inference import held_out
    from gptctl.evals.inference.loaded_model import LoadedModel
    from gptctl.model import device, lora
    from gptctl.model.hf.adapter_save import save_adapter
    from gptctl.model.save import save_model
    from gptctl.train import loop
    from gptctl.train.source_metrics import planned_sources
    from gptctl.train.tasks import final_model
    from gptctl.train.tasks.finetune_job import make_job

    job, tables = make_job(config, inputs, context), inputs.tables
    finalize.write_quarantine(record.path, inputs.quarantined)
    if planned := planned_sources(job):
        record.event("sources", sources=planned)
        warn_of_repetition(planned, context)
    metrics = loop.train(job, record, context)
    needs_model = bool(config.lora) or "held out" in tables
    model, weights, best = final_model.open_best(job, record.path, load=needs_model)
    metrics |= best | job.metadata.get("counts", {})
    metadata = {name: value for name, value in job.metadata.items() if name != "lora"}
    if config.lora:
        metrics["trained_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        base = config.base if is_hub(config.base) else str(Path(config.base).absolute())
        save_adapter(record.path / "adapter", model, base, job.tokenizer_json, metadata | {"metrics": metrics})
        lora.merge_lora(model)
    if "held out" in tables:
        loaded = LoadedModel(
            model,
            Tokenizer.from_json(job.tokenizer_json, SpecialTokens.from_extra(metadata)),
            tuple(metadata["label_names"]),
            ClassifierInputs.from_json(metadata["classifier_inputs"]),
            config.pair_column,
        )
        rows = held_out.predict_texts(loaded, config.label_column, tables["held out"], device.select_device(job.device))
        metrics |= held_out.score_rows(rows, record.path)
    save_model(record.path / "model", model, job.tokenizer_json, metadata | {"metrics": metrics}, weights)
    return metrics


def summarise(config: Finetune, metrics: Values) -> Summary:
    """Show the metrics of a finished run."""
    names = ("parameters", "trained_parameters", "steps", "train_loss")
    shown = [*names, *sorted(name for name in metrics if name.startswith(("best_val_", "held_out_")))]
    rows = tuple((name, format_number(metrics[name])) for name in shown if isinstance(metrics.get(name), float | int))
    if "chat_format" in metrics:
        rows = (("chat_format", str(metrics["chat_format"])), *rows)
    next_command = f"gptctl eval {shlex.quote(config.out)} {shlex.quote(config.data[0])}"
    next_command += options_text(config, (*ReadingOptions.own_keys(), *(LABELS if config.task == "classify" else ())))
    if config.task == "filter":
        next_command = (
            f"gptctl clean TEXTS -o good --filters classifier --set classifier.model={shlex.quote(config.out)}"
        )
    if config.task in (asked := {"chat": "--chat", "preference": '"The"'}):
        next_command = f"gptctl generate {shlex.quote(config.out)} {asked[config.task]}"
    tables = [Table("finetune", ("", "value"), rows)]
    if len(sources := metrics.get("sources", ())) > 1:
        tables.append(source_table(sources))
    return Summary("finetune", "done", (config.out,), metrics=plain(metrics), tables=tuple(tables), next=next_command)
