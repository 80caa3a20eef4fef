"""Generate text with a model: streamed to the terminal, written as shards, or in a conversation."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from gptctl.core.config import ReadingOptions, StorageOptions, Values, argument, flag, key, output
from gptctl.core.context import Context, ignore_progress
from gptctl.core.errors import UsageError, memory_hint
from gptctl.core.summary import Counts, Summary
from gptctl.executors import Executor, serial
from gptctl.infer.options import NEVER_STOPPED, LoadingOptions, SamplingOptions
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.model.files.locate import find_model
from gptctl.pipeline.dataset_output import DatasetOutput, StageResult, open_dataset
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.pipeline.task_results import TaskOutput

if TYPE_CHECKING:
    from gptctl.infer.prompt_sampler import Sampler
    from gptctl.infer.prompts import Prompts

EXAMPLES = (
    'gptctl generate run "Once upon a time" --max-tokens 40',
    'gptctl generate run "The" --num 3 --temperature 0.8 --top-p 0.95 --seed 7 --quantize int8',
    "gptctl generate run --prompts prompts.jsonl -o samples --max-tokens 16 --stop END --logprobs",
)


class Generate(SamplingOptions, ReadingOptions, StorageOptions, LoadingOptions):
    """Continue a prompt or every prompt of a file, or chat with a model.

    Text streams to standard output. With -o, shards with the prompts and samples are written, and an interrupted run
    resumes. A prompt that is too long for the model is truncated from the left.
    """

    model: str = argument(..., "MODEL", "A run, a checkpoint, a model folder, or hf://OWNER/MODEL.")
    prompt: str | tuple[str, ...] | None = argument(
        None, "[PROMPT]", "Text to continue; without it, the model begins a document.", reads=False
    )
    prompts: str | None = flag(
        None,
        "File with a prompt on each line, or any input format with a text column; - reads lines or Arrow.",
        panel="Input",
        runtime=True,
        reads=True,
    )
    chat: bool = flag(
        False, "Treat the prompt as a user message; without a prompt, chat in the terminal.", panel="Input", switch=True
    )
    out: str | None = output(None, "Folder for the samples; - writes Arrow to a pipe.")
    logprobs: bool = flag(False, "Write the ids and log-probabilities of the tokens, too.", panel="Output", switch=True)
    num: int = flag(1, "Samples per prompt.", panel="Sampling", ge=1)
    batch_size: int = key(16, "Samples generated at a time.", ge=1, runtime=True)
    shard_prompts: int = key(
        256, "Prompts of each shard of -o. An interrupted run does not generate finished shards again.", ge=1
    )
    system: str | None = key(None, "System message at the beginning of a chat.")

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if not self.chat:
            found["system"] = "without --chat"
        if self.out is None:
            found |= dict.fromkeys(("shard_prompts", "max_bad", "max_bad_records"), "without -o")
        if self.prompts is None:
            found |= dict.fromkeys(ReadingOptions.own_keys(), "without --prompts")
        if self.is_conversation():
            found |= dict.fromkeys(("num", "logprobs", "batch_size"), "in a conversation")
        return found

    def is_conversation(self) -> bool:
        """Return whether to chat in the terminal."""
        return self.chat and self.prompt is None and self.prompts is None


def plan(config: Generate, context: Context) -> Summary:
    """Load the model, read the prompts, and return what would be generated."""
    check(config)
    load(config, context)
    folder = str(find_model(config.model, context.info))
    facts: Values = {"model": folder, "weights": config.dtype(), "max_tokens": config.max_tokens}
    if not config.is_conversation() and config.prompts != "-":
        facts["prompts"] = open_prompts(config).count(config.limit, required=True)
    facts |= {"draft": str(find_model(config.draft))} if config.draft else {}
    return Summary("generate", "planned", (config.out,) if config.out else (), plan=facts)


@memory_hint("use --set batch_size=1, --set precision=bf16, or --device cpu")
def run(config: Generate, context: Context | None = None) -> Summary:
    """Generate text: into a dataset, to standard output, or in a conversation."""
    context = context or Context()
    check(config)
    folder = find_model(config.model, context.info)
    if config.is_conversation():
        return converse(config, context)
    prompts = open_prompts(config)
    if config.out is None:
        return write_to_terminal(config, prompts, context)
    from gptctl.model.files.model_manifest import fingerprint

    with open_dataset(config.out, "samples", config, context, prompts, partial(fingerprint, folder)) as dataset:
        if not dataset.up_to_date:
            dataset.commit(write_shards(config, prompts, context, dataset))
    if dataset.summary.metrics.get("stopped") == 0:
        context.info(NEVER_STOPPED)
    return replace(dataset.summary, next="" if config.out == "-" else f"gptctl inspect {shlex.quote(config.out)}")


def open_prompts(config: Generate) -> Prompts:
    """Open the prompts. Raises UsageError (2) for a missing path."""
    from gptctl.infer.prompts import Prompts, options_for

    options = options_for(ReadOptions.from_config(config), config.chat)
    return Prompts(config.prompts, "" if config.prompt is None else config.prompt, options, config.shard_prompts)


def check(config: Generate) -> None:
    """Raise UsageError (2) for options that exclude each other."""
    if config.prompt is not None and config.prompts is not None:
        raise UsageError("PROMPT and --prompts are both given", "give one of them")
    config.check_loading()
    if config.is_conversation() and config.out is not None:
        raise UsageError("a conversation in the terminal is not written to a folder", "give --prompts, or leave out -o")


def load(config: Generate, context: Context) -> Sampler:
    """Load the model on its device, and prepare this process for it."""
    from gptctl.infer.prompt_sampler import Sampler
    from gptctl.model import device

    generator = config.load_generator(config.model)
    if config.chat:
        generator.require_chat_template()
    device.configure_process(device.cpu_threads())
    options = config.with_model_defaults(generator.generation_config, context)
    params = replace(options.sampling_params(), logprobs=config.logprobs)
    return Sampler(generator, params, config.num, config.batch_size, config.chat, config.system)


def write_shards(config: Generate, prompts: Prompts, context: Context, dataset: DatasetOutput) -> StageResult:
    """Generate for all prompts, one shard at a time. Shards that exist already are kept."""
    total = None if prompts.is_stream else prompts.count(config.limit) * config.num
    sample = partial(sample_task, sampler := load(config, context), context, total)
    pipeline = ShardPipeline(sample, prompts.options, dataset.folder, dataset.storage)
    silent = replace(context, progress=ignore_progress)
    totals = pipeline.run(prompts.tasks(config.limit), Executor(serial.run, 1), silent, dataset.pipe)
    metrics = Counter[str]()
    for stats in totals.stats:
        metrics.update(stats)
    sampler.warn(context.warn)
    return StageResult(totals, dict(metrics), sampler.generator.tokenizer.hash)


def sample_task(sampler: Sampler, context: Context, total: int | None, task: ShardTask, table: pa.Table) -> TaskOutput:
    """Generate for the prompts of one task."""
    from gptctl.infer.sample_rows import sample_stats, samples_table

    prompts_before = int(task.payload)

    def on_progress(done: int) -> None:
        context.progress(prompts_before * sampler.samples_per_prompt + done, total, "samples")
        context.stop.check("stopped")

    completions = sampler.generate(table["text"].to_pylist(), prompts_before, on_progress)
    made = samples_table(table, completions, sampler.params.logprobs)
    return TaskOutput({"": made}, Counts(documents_in=len(table), kept=len(table)), sample_stats(completions))


def write_to_terminal(config: Generate, prompts: Prompts, context: Context) -> Summary:
    """Stream the samples to standard output, one after the other."""
    from gptctl.infer.terminal import stream_prompts

    count, rows = stream_prompts(load(config, context), prompts.tables(config.limit), context)
    if not count:
        raise prompts.without_any()
    metrics = {"tokens": sum(row["tokens"] for row in rows), "samples": rows}
    return Summary("generate", counts=Counts(documents_in=count, kept=count), metrics=metrics)


def converse(config: Generate, context: Context) -> Summary:
    """Answer each line of standard input until it ends."""
    from gptctl.infer.conversation import Conversation, chat
    from gptctl.infer.terminal import read_lines

    if is_typed := sys.stdin.isatty():
        context.info(f"loading {config.model}; type a message after each >, and Ctrl-D to end")
    sampler = load(config, context)
    conversation = Conversation(sampler.generator, sampler.params, config.system)
    chat(conversation, read_lines(partial(context.stop.check, "stopped")), context, "> " if is_typed else "")
    return Summary("generate", metrics=conversation.metrics())
