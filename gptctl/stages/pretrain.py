"""Train a GPT to predict the next token, from token shards; checkpoints that resume exactly."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gptctl.core import atomic, plugins
from gptctl.core.config import SeedOption, Settings, Values, argument, flag, key, output, plain
from gptctl.core.context import Context
from gptctl.core.errors import DataError, MachineError, UsageError
from gptctl.core.formatting import format_number
from gptctl.core.run_folder import Run, open_run
from gptctl.core.run_record import Extendable
from gptctl.core.summary import Counts, Summary, Table
from gptctl.io.dataset import tokens as token_io
from gptctl.io.dataset.manifest import Manifest
from gptctl.model.config import ModelConfig, load_preset, preset_names
from gptctl.text import packing
from gptctl.text.tokenizer import Tokenizer
from gptctl.train import recipe
from gptctl.train.distributed.options import DistributedOptions
from gptctl.train.faults import FaultPolicy
from gptctl.train.planning.gpu_specs import Accelerator
from gptctl.train.recipe import PretrainRecipe, Recipe

if TYPE_CHECKING:
    from gptctl.model.gpt import GPT
    from gptctl.train.data.packed_documents import PackedDocuments
    from gptctl.train.data.token_windows import TokenWindows
    from gptctl.train.distributed.nodes import Nodes
    from gptctl.train.job import TrainJob

DEFAULT_PRESET = "tiny-modern"
OPTIMIZERS = "gptctl.train.optimizers"


def budget(bound: float) -> float:
    """Measure a budget in which 0 means no bound."""
    return bound or math.inf


EXTENDABLE: Extendable = {"steps": float, "max_minutes": budget, "max_tokens": budget}
EXAMPLES = (
    "gptctl pretrain tokens -o run --preset tiny-modern --steps 200",
    "gptctl pretrain tokens -o timed --preset tiny-vaswani --max-minutes 0.1 --set patience=3",
    "gptctl pretrain --preset gpt2 --gpus 8 --dry-run",
)


class Checkpoints(Settings):
    """When checkpoints are written."""

    every: int = key(500, "Steps between checkpoints; 0 saves at the end and when stopped.", ge=0)
    keep: int = key(2, "Newest checkpoints kept.", ge=1)


class Pretrain(DistributedOptions, SeedOption):
    """Pretrain a GPT on token shards to predict the next token.

    A preset gives the model (model.*) and the recipe (training.*); flags and config keys change single values. The same
    command resumes a run that was stopped or killed; more steps go on with a finished one.
    """

    tokens: str | None = argument(None, "TOKENS", "Folder that gptctl tokenize wrote.")
    out: str | None = output(None, "Folder of the run.")
    preset: str = flag(
        DEFAULT_PRESET, "Model and recipe; --list-presets shows them.", panel="Model", choices=preset_names
    )
    list_presets: bool = flag(False, "List the presets and stop.", panel="Model", runtime=True, switch=True)
    recipe: Literal["preset", "paper", "modern"] = flag(
        "preset",
        "The preset's own; as published; or Muon and AdamW with wsd on any preset.",
        panel="Training",
        runtime=True,  # what it stands for is in training
    )
    steps: int | None = flag(None, "Updates; the preset's if not given.", panel="Training", ge=0)
    seq_len: int | None = flag(None, "Tokens per sequence; also the model's context.", panel="Training", ge=1)
    batch_tokens: int | None = flag(None, "Tokens per update, over all processes.", panel="Training", ge=1)
    optimizer: str | None = flag(None, "adamw or muon.", panel="Training", choices=lambda: plugins.names(OPTIMIZERS))
    lr: float | None = flag(None, "Peak learning rate.", panel="Training", gt=0)
    max_minutes: float = flag(0, "Stop after so many minutes; 0 is no bound.", panel="Training", ge=0)
    model: ModelConfig = key(ModelConfig(), "The model's shape.")
    training: PretrainRecipe = key(PretrainRecipe(), "The recipe.")
    checkpoint: Checkpoints = key(Checkpoints(), "When checkpoints are written.")
    faults: FaultPolicy = key(FaultPolicy(), "What happens when a step goes wrong.")
    max_tokens: int = key(0, "Stop after so many tokens; 0 is no bound.", ge=0)
    patience: int = key(
        0, "Stop after so many evaluations without a better val loss, and keep the best; 0 never.", ge=0
    )
    pack: Literal["concat", "bestfit"] = key(
        "concat",
        "How sequences are filled: concat cuts one stream, bestfit cuts only documents longer than a sequence.",
    )
    eval_every: int = key(250, "Steps between evaluations on the val split; 0 evaluates at the end only.", ge=0)
    log_every: int = key(10, "Steps between lines in events.jsonl.", runtime=True, ge=1)
    loggers: tuple[str, ...] = key((), "Where events go besides events.jsonl: tensorboard.", runtime=True)
    sample_every: int = key(
        1, "Evaluations between samples of the model's text in events.jsonl; 0 writes none.", ge=0, runtime=True
    )
    sample_prompt: str = key("", "What the samples begin with; nothing begins a document.", runtime=True)
    micro_batch_size: int = key(
        0, "Sequences per forward pass and process (gradient accumulation); 0 takes a whole share.", ge=0
    )
    precision: Literal["auto", "fp32", "bf16"] = key("auto", "Number format of matrix products.")
    accelerator: Accelerator = key("h100", "Device that --dry-run reckons with.", runtime=True)

    @classmethod
    def preset_layer(cls, chosen: Values) -> Values:
        """Return the preset's model and recipe."""
        preset = str(chosen.get("preset", DEFAULT_PRESET))
        tables = load_preset(preset)
        return tables | {"training": recipe.named(tables["training"], str(chosen.get("recipe", "preset")), preset)}

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.list_presets:
            others = (name for name in type(self).own_keys() if name != "list_presets")
            return dict.fromkeys(others, "with --list-presets")
        flags = {
            "steps": "steps",
            "lr": "lr",
            "optimizer": "optimizer",
            "seq_len": "seq_len",
            "batch_tokens": "batch_size",
        }
        for name, replaced in flags.items():
            if getattr(self, name) is not None:
                found[f"training.{replaced}"] = f"beside --{name.replace('_', '-')}"
        if self.seq_len is not None:
            found["model.max_seq_len"] = "beside --seq-len"
        if self.tokens is not None:
            found |= dict.fromkeys(("model.vocab_size", "model.end_of_text"), "beside TOKENS, whose tokenizer decides")
        if not self.model.experts:
            found |= dict.fromkeys(("training.balance_weight", "training.router_z_weight"), "without experts")
        if not self.sample_every:
            found["sample_prompt"] = "with sample_every 0"
        if self.device == "cpu" or self.nproc_per_node > 1:
            found["accelerator"] = "on CPUs"
        return found

    def full_recipe(self) -> Recipe:
        """Lay the flags over the recipe."""
        given = {"steps": self.steps, "seq_len": self.seq_len, "optimizer": self.optimizer, "lr": self.lr}
        changes = {name: value for name, value in given.items() if value is not None}
        full = Recipe.model_validate(plain(self.training) | changes)
        if self.batch_tokens:
            full = full.model_copy(update={"batch_size": max(1, self.batch_tokens // full.seq_len)})
        return full

    def shape(self, vocab_size: int | None, end_of_text: int | None = None) -> ModelConfig:
        """Return the model's config for a tokenizer. Raises UsageError (2) where the sequence exceeds the context."""
        changes: Values = {"vocab_size": vocab_size} if vocab_size else {}
        if end_of_text is not None:
            changes["end_of_text"] = end_of_text
        if self.seq_len:
            changes["max_seq_len"] = self.seq_len
        shape = self.model.model_copy(update=changes)
        if self.full_recipe().seq_len > shape.max_seq_len:
            raise UsageError(
                f"training.seq_len {self.full_recipe().seq_len} is longer than model.max_seq_len {shape.max_seq_len}",
                "set both with --seq-len",
            )
        return shape

    def settings(self) -> Values:
        """Return the settings with the steps that the preset or the flag decides."""
        return super().settings() | {"steps": self.full_recipe().steps}


def plan(config: Pretrain, context: Context) -> Summary:
    """Estimate parameters, memory, FLOPs, communication and time; rehearse a fully sharded step without its GPUs."""
    from gptctl.train.distributed.parallel_dims import ParallelDims
    from gptctl.train.planning.estimate import Layout, choose_layout, estimate
    from gptctl.train.planning.gpu_specs import GPU_SPECS
    from gptctl.train.planning.plan_table import plan_table

    if config.list_presets:
        return list_presets()
    data = token_io.open_tokens(config.tokens) if config.tokens else None
    shape, recipe = config.shape(data.vocab_size if data else None), config.full_recipe()
    if recipe.optimizer not in plugins.names(OPTIMIZERS):
        raise plugins.unknown("optimizer", recipe.optimizer, plugins.names(OPTIMIZERS))
    on_cpu = config.device == "cpu" or config.nproc_per_node > 1
    bf16 = config.precision != "fp32" and not on_cpu

    def layout_of(strategy: str) -> Layout:
        tp_size, hybrid = config.tp_size, config.hybrid_shard
        world_size, nodes = config.ranks(), config.nodes
        dims = ParallelDims.for_strategy(strategy, world_size, nodes=nodes, tp_size=tp_size, hybrid_shard=hybrid)
        return Layout(dims, strategy, nodes, bf16)

    layouts = [layout_of(name) for name in (("ddp", "fsdp") if config.parallel == "auto" else (config.parallel,))]
    memory = math.inf if on_cpu else GPU_SPECS[config.accelerator].memory
    layout, micro_batch = choose_layout(shape, recipe, layouts, config.micro_batch_size, memory)
    facts = estimate(shape, recipe, layout, micro_batch, None if on_cpu else config.accelerator)
    if layout.dims.dp_shard > 1 and layout.dims.tp == 1:
        from gptctl.train.planning.simulate_step import simulate_step

        facts["simulated_step"] = simulate_step(shape, recipe, layout.dims)
    if data:
        facts["packing"] = asdict(packing_report(config, data))
    shown = plan_table(facts, None if on_cpu else config.accelerator)
    return Summary("pretrain", "planned", (config.out,) if config.out else (), plan=facts, tables=(shown,))


def run(config: Pretrain, context: Context | None = None) -> Summary:
    """Pretrain into a run folder."""
    context = context or Context()
    if config.list_presets:
        return list_presets()
    if config.tokens is None:
        raise UsageError("TOKENS is missing", "gptctl pretrain TOKENS -o RUN; only --dry-run works without")
    if config.out is None:
        raise UsageError("-o is missing", "gptctl pretrain TOKENS -o RUN")
    data = token_io.open_tokens(config.tokens)
    from gptctl.model import device
    from gptctl.train.distributed.nodes import join_nodes

    device.select_device(config.device_name(), config.gpus)
    coder = Tokenizer.from_json(data.tokenizer_json)
    if coder.hash != data.manifest.tokenizer:
        raise DataError(
            f"{config.tokens}/tokenizer.json is not the tokenizer that the tokens were made with",
            "put it back, or make the tokens again: gptctl tokenize ... --force",
        )
    shape = config.shape(data.vocab_size, coder.end_of_text_id)
    with join_nodes(config.nodes, config.rdzv_endpoint, context.stop) as nodes:
        return (lead if nodes.is_leader else follow)(config, data, shape, context, nodes)


def lead(config: Pretrain, data: token_io.Tokens, shape: ModelConfig, context: Context, nodes: Nodes) -> Summary:
    """Open the run folder, train, and write the model."""
    assert config.out is not None
    inputs = {"tokens": data.manifest.content()}
    with open_run(Path(config.out), config, context, inputs, EXTENDABLE, intact) as record:
        if record.up_to_date:
            return record.previous_summary()
        nodes.announce_training()
        metrics = train(config, data, shape, record, context)
        write_curve(record, f"{config.preset}, {metrics['parameters']:,} parameters")
        lasting = {name: value for name, value in metrics.items() if name not in ("tokens_per_second", "train_seconds")}
        declared = Manifest(
            "run", "pretrain", config.settings(), inputs, (), Counts(), lasting, data.manifest.tokenizer
        )
        return record.finish(summarise(config, metrics), declared)


def follow(config: Pretrain, data: token_io.Tokens, shape: ModelConfig, context: Context, nodes: Nodes) -> Summary:
    """Lend this machine's processes to a run that another machine leads."""
    from gptctl.train import loop

    assert config.out is not None
    if not nodes.wait_for_training(context.stop):
        if intact(Path(config.out)):
            return Summary("pretrain", "up to date", (config.out,))
        raise MachineError(f"the machine at {config.rdzv_endpoint} ended before it trained", "its own message says why")
    job = make_job(config, data, shape, packing_report(config, data))
    metrics = loop.train(job, Run(Path(config.out), "pretrain", {}), context)
    return summarise(config, metrics)


def intact(folder: Path) -> bool:
    """Return whether a finished run still has its model."""
    return (folder / "model" / "model.safetensors").exists()


def packing_report(config: Pretrain, data: token_io.Tokens) -> packing.PackingReport:
    """Report how the training documents fill sequences."""
    lengths = token_io.document_lengths(data.folder, "train")
    return packing.packing_report(config.pack, lengths, config.full_recipe().seq_len, config.seed)


def train(config: Pretrain, data: token_io.Tokens, shape: ModelConfig, record: Run, context: Context) -> Values:
    """Train, then write the model folder."""
    from gptctl.model.save import save_model
    from gptctl.model.saved_model import load_weights_into
    from gptctl.train import loop
    from gptctl.train.checkpoints import checkpoint_folders

    report = packing_report(config, data)
    context.info(report.summary())
    record.event("packing", **asdict(report))
    job = make_job(config, data, shape, report)
    metrics = loop.train(job, record, context) | {"packing": asdict(report)}
    model = build(shape, config.seed)
    if config.patience and data.count("val") > 1:
        folder: Path | None = checkpoint_folders.best_or_latest(record.path)
    else:
        folder = checkpoint_folders.latest_valid(record.path)
    assert folder is not None
    load_weights_into(model, folder)
    save_model(record.path / "model", model, job.tokenizer_json, job.metadata | {"metrics": metrics})
    return metrics


def make_job(config: Pretrain, data: token_io.Tokens, shape: ModelConfig, report: packing.PackingReport) -> TrainJob:
    """Describe the training run."""
    from gptctl.train.data.data_source import WeightedSource
    from gptctl.train.distributed.parallel_dims import ParallelDims
    from gptctl.train.job import TrainJob
    from gptctl.train.planning.estimate import Layout, estimate

    recipe = config.full_recipe()
    replicated = Layout(ParallelDims(dp_replicate=config.ranks()))
    needed = estimate(shape, recipe, replicated, config.micro_batch_size)
    windows = partial(open_windows, data.folder, recipe.seq_len, config.seed)
    end_of_text = Tokenizer.from_json(data.tokenizer_json).end_of_text_id
    sequences = partial(open_packed, data.folder, recipe.seq_len, config.seed, end_of_text)
    return TrainJob(
        recipe=recipe,
        build_model=partial(build, shape, config.seed),
        train_sources=(WeightedSource(sequences if config.pack == "bestfit" else partial(windows, "train")),),
        val_data=partial(windows, "val") if data.count("val") > 1 else None,
        tokenizer_json=data.tokenizer_json,
        metadata={"stage": "pretrain", "preset": config.preset, "data": {"tokens": data.manifest.content()}},
        seed=config.seed,
        precision=config.precision,
        micro_batch_size=config.micro_batch_size,
        max_tokens=report.positions(config.max_tokens),  # the loop plans its steps as if there were no padding
        max_minutes=config.max_minutes,
        patience=config.patience,
        eval_every=config.eval_every,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint.every,
        keep_checkpoints=config.checkpoint.keep,
        faults=config.faults,
        loggers=config.loggers,
        sample_every=config.sample_every,
        sample_prompt=config.sample_prompt,
        memory_bytes=needed["memory_bytes_per_rank"],
        **config.distributed(),
    )


def build(shape: ModelConfig, seed: int) -> GPT:
    """Build and initialise the model; each process does it for itself and comes to the same."""
    from gptctl.model.gpt import GPT
    from gptctl.model.initialize import initialize

    model = GPT(shape)
    initialize(model, seed)
    return model


def open_windows(folder: Path, seq_len: int, seed: int, split: str) -> TokenWindows:
    """Map a split's shards and cut them into windows."""
    from gptctl.train.data.token_windows import TokenWindows

    return TokenWindows(token_io.flat_parts(folder, split), seq_len, seed, split)


def open_packed(folder: Path, seq_len: int, seed: int, end_of_text: int) -> PackedDocuments:
    """Map the training shards and pack their documents."""
    from gptctl.train.data.packed_documents import PackedDocuments

    lengths = token_io.document_lengths(folder, "train")
    return PackedDocuments(token_io.flat_parts(folder, "train"), lengths, seq_len, seed, end_of_text)


def write_curve(record: Run, title: str) -> None:
    """Draw loss.svg and loss.png from the run's events."""
    from gptctl.reporting.events import read_events
    from gptctl.reporting.plots import loss_curve

    events = read_events(str(record.path))
    atomic.write_bytes(record.path / "loss.svg", loss_curve(events, title))
    atomic.write_bytes(record.path / "loss.png", loss_curve(events, title, "png"))


def list_presets() -> Summary:
    """Show every preset with its size."""
    rows = []
    for name in preset_names():
        tables = load_preset(name)
        shape = ModelConfig.model_validate(tables["model"])
        recipe = Recipe.model_validate(tables["training"])
        rows.append(
            (
                name,
                f"{shape.parameters():,}",
                str(shape.layers),
                str(shape.hidden_size),
                str(shape.max_seq_len),
                recipe.optimizer,
            )
        )
    return Summary(
        "pretrain",
        "planned",
        tables=(
            Table("presets", ("name", "parameters", "layers", "hidden_size", "max_seq_len", "optimizer"), tuple(rows)),
        ),
    )


def summarise(config: Pretrain, metrics: Values) -> Summary:
    """Show the figures of a finished run."""
    shown = ("parameters", "steps", "tokens", "train_loss", "val_loss", "tokens_per_second")
    rows = tuple((name, format_number(metrics[name])) for name in shown if name in metrics)
    follow = f'gptctl generate {shlex.quote(str(config.out))} "Once upon a time"'
    return Summary(
        "pretrain",
        "done",
        (str(config.out),),
        metrics=plain(metrics),
        tables=(Table("pretrain", ("", "value"), rows),),
        next=follow,
    )
