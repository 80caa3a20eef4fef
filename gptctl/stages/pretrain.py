"""Train a GPT to predict the next token, from token shards; checkpoints that resume exactly."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gptctl.core import atomic, plugins
from gptctl.core.config import Values, argument, flag, output, plain
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.formatting import format_number
from gptctl.core.run_folder import Run, open_run
from gptctl.core.run_record import Extendable
from gptctl.core.summary import Counts, Summary, Table, source_table
from gptctl.io.dataset.manifest import Manifest
from gptctl.train.planning.reading_plan import plan_reading
from gptctl.train.planning.time_budget import minutes_used
from gptctl.train.tasks.preflight import check_command, check_val_split
from gptctl.train.tasks.pretrain_options import OPTIMIZERS, PretrainOptions
from gptctl.train.tasks.token_sources import TokenSources, open_token_sources

if TYPE_CHECKING:
    from gptctl.text.tokenizer import Tokenizer
    from gptctl.train.distributed.nodes import Nodes
    from gptctl.train.job import TrainJob
    from gptctl.train.planning.training_plan import TrainingPlan

PROMPT = "Once upon a time"  # of the command that follows


def extendable(config: Pretrain) -> Extendable:
    """Return the budgets that a later command may raise. A preset without one trains for all of its steps.

    A model that is chosen without one was chosen for other steps, so a budget cannot be left out or added later: NaN is
    neither more nor less than a number.
    """
    absent = math.nan if config.chooses_model else math.inf
    minutes = (config.chooses_model and config.minutes) or absent
    return {
        "training.steps": float,
        "max_minutes": lambda value: float(value or minutes),
        "train_tokens": lambda value: float(value or absent),
    }


EXAMPLES = (
    "gptctl pretrain tokens -o run --max-minutes 10",
    "gptctl pretrain tokens -o sized --size 5M --train-tokens 20M --dry-run",
    "gptctl pretrain --preset gpt2 --gpus 8 --dry-run",
)


class Pretrain(PretrainOptions):
    """Pretrain a GPT on token shards to predict the next token.

    Without a preset, model and recipe are chosen for the lowest expected val loss after --max-minutes on this machine,
    or for --size or --train-tokens. A preset sets the model (model.*) and the recipe (training.*). Flags and
    config keys change single values of either. The same command resumes a run that was stopped or killed.
    """

    tokens: tuple[str, ...] = argument(
        (), "TOKENS...", "Folder that gptctl tokenize wrote; several are mixed, see --weights."
    )
    out: str | None = output(None, "Folder of the run.")
    list_presets: bool = flag(False, "List the presets and stop.", panel="Model", runtime=True, switch=True)

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        if self.list_presets:
            others = (name for name in type(self).own_keys() if name != "list_presets")
            return dict.fromkeys(others, "with --list-presets")
        found = super().without_effect() | self.without_weights(len(self.tokens))
        if self.tokens:
            found |= dict.fromkeys(("model.vocab_size", "model.end_of_text"), "beside TOKENS, whose tokenizer decides")
        return found


def plan(config: Pretrain, context: Context) -> Summary:
    """Estimate parameters, memory, FLOPs, communication and time, and simulate a sharded step without its GPUs."""
    from gptctl.train.planning.plan_run import plan_run
    from gptctl.train.planning.plan_table import plan_table
    from gptctl.train.tasks import plan_pretraining

    if config.list_presets:
        return list_presets()
    if config.training.optimizer not in plugins.names(OPTIMIZERS):
        raise plugins.unknown("optimizer", config.training.optimizer, plugins.names(OPTIMIZERS))
    data = open_data(config, context) if config.tokens else None
    chosen = plan_pretraining.plan_without_training(config, data)
    for line in chosen.reasons:
        context.info(line)
    options = config.plan_options(config.micro_batch_size, config.assumed_accelerator())
    found = chosen.figures() | plan_run(chosen.model, chosen.recipe, options)
    if data:
        found |= plan_reading(data, config, chosen.recipe, context).to_json()
    table = plan_table(found, options.accelerator)
    return Summary("pretrain", "planned", (config.out,) if config.out else (), plan=found, tables=(table,))


def run(config: Pretrain, context: Context | None = None) -> Summary:
    """Pretrain into a run folder."""
    context, began = context or Context(), time.monotonic()
    if config.list_presets:
        return list_presets()
    if not config.tokens:
        raise UsageError("TOKENS is missing", "gptctl pretrain TOKENS -o RUN; only --dry-run works without")
    if config.out is None:
        raise UsageError("-o is missing", "gptctl pretrain TOKENS -o RUN")
    data = open_data(config, context)
    from gptctl.model import device
    from gptctl.train.distributed.nodes import join_nodes

    device.select_device(config.device_name(), config.gpus)
    with join_nodes(config.nodes, config.rdzv_endpoint, context.stop) as nodes:
        if nodes.is_leader:
            return lead(config, data, context, nodes, began)
        return follow(config, data, context, nodes)


def open_data(config: Pretrain, context: Context) -> TokenSources:
    """Open TOKENS, after checking what would end the command later."""
    check_command(config)
    data = open_token_sources(config.tokens, config)
    check_val_split(config, data.count("val"), context.warn)
    return data


def lead(config: Pretrain, data: TokenSources, context: Context, nodes: Nodes, began: float) -> Summary:
    """Open the run folder, plan, train, and write the model. `began` is when the command began, on `time.monotonic`."""
    from gptctl.train.tasks import plan_pretraining

    assert config.out is not None

    def inputs() -> dict[str, str]:
        return data.inputs() | plan_pretraining.other_plan(config)

    plan_pretraining.check_finished(config, Path(config.out), context.force)
    with open_run(Path(config.out), config, context, inputs, extendable(config)) as record:
        if record.up_to_date:
            return replace(summarise(config, record.previous_summary().metrics, data.tokenizer), status="up to date")
        planned = plan_pretraining.prepare_plan(config, data, record, context, began)
        nodes.announce_training()
        reading = plan_reading(data, config, planned.recipe, context)
        context.info(reading.summary())
        record.event("packing", **reading.packing)
        record.event("sources", sources=reading.sources)
        job = make_job(config, data, planned, began - 60 * minutes_used(record.path))
        metrics = train(config, job, record, context, {"packing": reading.packing})
        plan_pretraining.record_plan(record)
        write_curve(record, f"{config.preset or 'chosen model'}, {metrics['parameters']:,} parameters")
        lasting = {name: value for name, value in metrics.items() if name not in ("tokens_per_second", "train_seconds")}
        known, tokenizer = record.record["inputs"], data.tokenizer
        declared = Manifest("run", "pretrain", config.settings(), known, (), Counts(), lasting, tokenizer.hash)
        return record.finish(summarise(config, metrics, tokenizer), declared)


def follow(config: Pretrain, data: TokenSources, context: Context, nodes: Nodes) -> Summary:
    """Train with this node's processes in a run that another node leads."""
    from gptctl.train.distributed.follow import follow_leader
    from gptctl.train.tasks.plan_pretraining import plan_of

    assert config.out is not None
    folder = Path(config.out)

    def job() -> TrainJob:
        return make_job(config, data, plan_of(config, data, folder), time.monotonic())

    metrics = follow_leader(nodes, job, folder, "pretrain", context)
    if metrics is None:
        return Summary("pretrain", "up to date", (config.out,))
    return summarise(config, metrics, data.tokenizer)


def train(config: Pretrain, job: TrainJob, record: Run, context: Context, extra: Values) -> Values:
    """Train, then write the model folder."""
    from gptctl.train import loop
    from gptctl.train.tasks import final_model

    metrics = loop.train(job, record, context) | extra
    final_model.save(job, record.path, bool(config.patience and job.val_data), metrics)
    return metrics


def make_job(config: Pretrain, data: TokenSources, planned: TrainingPlan, began: float) -> TrainJob:
    """Describe the training run, whose minutes began at a time on `time.monotonic`."""
    from gptctl.train.job import TrainJob
    from gptctl.train.planning.plan_run import arrange
    from gptctl.train.tasks import pretraining

    model, recipe, seed = planned.model, planned.recipe, config.seed
    opening = pretraining.Opening(config.pack, recipe.seq_len, seed, model.end_of_text)
    return TrainJob(
        recipe=recipe,
        model=pretraining.NewModel(model, seed),
        train_sources=pretraining.train_sources(data, opening),
        phases=data.phases,
        val_data=pretraining.val_data(data, opening),
        tokenizer_json=data.tokenizer_json,
        metadata={"stage": "pretrain", "preset": config.preset, "data": data.inputs()},
        seed=seed,
        time_budget=planned.time_budget(began),
        patience=config.patience,
        eval_every=planned.eval_every,
        eval_batches=config.eval_batches,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint.every,
        keep_checkpoints=config.checkpoint.keep,
        faults=config.faults,
        loggers=config.loggers,
        sample_every=config.sample_every,
        sample_prompt=config.sample_prompt,
        **config.distributed(arrange(model, recipe, config.plan_options(config.micro_batch_size))),
    )


def write_curve(record: Run, title: str) -> None:
    """Draw loss.svg and loss.png from the run's events."""
    from gptctl.reporting.events import read_events
    from gptctl.reporting.matplotlib_plots import loss_curve

    events = read_events(str(record.path))
    atomic.write_bytes(record.path / "loss.svg", loss_curve(events, title))
    atomic.write_bytes(record.path / "loss.png", loss_curve(events, title, "png"))


def list_presets() -> Summary:
    """Show every preset with its size."""
    from gptctl.train.planning.preset_table import preset_table

    return Summary("pretrain", "planned", tables=(preset_table(),))


def summarise(config: Pretrain, metrics: Values, tokenizer: Tokenizer) -> Summary:
    """Show the metrics of a finished run."""
    shown = ("parameters", "steps", "tokens", "train_loss", "val_loss", "tokens_per_second")
    rows = [(name, format_number(metrics[name])) for name in shown if name in metrics]
    if len(sources := metrics.get("sources", ())) == 1:
        rows.insert(3, ("epochs", format_number(sources[0]["epochs"])))
    table = Table("pretrain", ("", "value"), tuple(rows))
    tables = (table, source_table(sources)) if len(sources) > 1 else (table,)
    prompt = f' "{PROMPT}"' if tokenizer.can_encode(PROMPT) else ""
    next_command = f"gptctl generate {shlex.quote(str(config.out))}{prompt}"
    return Summary("pretrain", "done", (str(config.out),), metrics=plain(metrics), tables=tables, next=next_command)
