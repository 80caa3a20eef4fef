"""Let a model continue prompts: streamed to the terminal, written as shards, or as a conversation."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from gptctl.core.config import DeviceOption, ReadingOptions, SeedOption, Values, argument, flag, key, output
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.summary import Counts, Summary
from gptctl.executors import Executor, serial
from gptctl.io.dataset.schema import with_kind
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.pipeline.dataset_output import DatasetOutput, StageResult, open_dataset
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.pipeline.task_results import TaskOutput
from gptctl.text.chat import ChatTemplate
from gptctl.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from gptctl.infer.completions import Continuation, Writer
    from gptctl.infer.decoder import Decoder
    from gptctl.infer.prompts import Prompts
    from gptctl.infer.sampling import SamplingParams
    from gptctl.infer.speculative import Guesser

EXAMPLES = (
    'gptctl generate run "Once upon a time" --max-tokens 40',
    'gptctl generate run "The" --num 3 --temperature 0.8 --top-p 0.95 --seed 7 --quantize int8',
    "gptctl generate run --prompts prompts.jsonl -o samples --max-tokens 16 --stop END --logprobs",
)


class Generate(ReadingOptions, SeedOption, DeviceOption):
    """Continue a prompt, or every prompt of a file, or hold a conversation.

    Text streams to standard output; with -o, shards of prompt and continuation are written, and a run that was cut off
    goes on where it was. Greedy at temperature 0. A prompt that fills the model's context is cut to its tail.
    """

    model: str = argument(..., "MODEL", "A run folder, one of its checkpoints, or a model folder.")
    prompt: str | None = argument(
        None, "[PROMPT]", "Text to continue; the beginning of a document if not given.", reads=False
    )
    prompts: str | None = flag(
        None,
        "File of prompts: text lines, or any input format with a text column; - reads lines or Arrow.",
        panel="Input",
        runtime=True,
        reads=True,
    )
    chat: bool = flag(
        False, "The prompt is what a user says; without one, talk in the terminal.", panel="Input", switch=True
    )
    out: str | None = output(None, "Folder for the samples; - writes Arrow to a pipe.")
    logprobs: bool = flag(False, "Write each token and its log-probability, too.", panel="Output", switch=True)
    max_tokens: int = flag(128, "Tokens to generate, at most.", panel="Sampling", ge=1)
    temperature: float = flag(1.0, "0 takes the likeliest token.", panel="Sampling", ge=0)
    top_k: int = flag(0, "Sample from the k likeliest tokens; 0 from all.", panel="Sampling", ge=0)
    top_p: float = flag(
        1.0, "Sample from the likeliest tokens that hold this probability together.", panel="Sampling", gt=0, le=1
    )
    min_p: float = flag(0.0, "Drop tokens less likely than this share of the likeliest.", panel="Sampling", ge=0, lt=1)
    repetition_penalty: float = flag(1.0, "Above 1, tokens that were seen are less likely.", panel="Sampling", gt=0)
    stop: tuple[str, ...] = flag((), "End before one of these texts; \\n is a line feed.", panel="Sampling")
    num: int = flag(1, "Samples per prompt.", panel="Sampling", ge=1)
    quantize: Literal["none", "int8"] = flag("none", "Keep the weights in int8: faster on the CPU.", panel="Devices")
    draft: str | None = flag(
        None,
        "A smaller model of the same tokenizer that guesses ahead; it changes the time alone.",
        panel="Devices",
        runtime=True,
    )
    precision: Literal["fp32", "bf16"] = key("fp32", "Number format of the weights without --quantize.")
    prompt_lookup: bool = key(
        False, "Guess ahead that a passage goes on as before; it changes the time alone.", runtime=True
    )
    num_draft_tokens: int = key(4, "Tokens that are guessed at a time.", ge=1, runtime=True)
    batch_size: int = key(16, "Samples continued at a time.", ge=1, runtime=True)
    shard_prompts: int = key(256, "Prompts in a shard of -o; what was written is not generated again.", ge=1)
    system: str | None = key(None, "System message that a chat begins with.")


@dataclass(frozen=True)
class Ready:
    """A loaded model, and how it reads a prompt and writes."""

    writer: Writer
    sampling: SamplingParams
    template: ChatTemplate | None
    system: str | None

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Tokenize prompts: end-of-text stands before each, as in training; long ones keep their tail.

        At least a quarter of the context is left to write in.
        """
        from gptctl.infer.conversation import prompt_tokens

        context, coder = self.writer.engine.context, self.writer.coder
        room = max(1, context - max(1, min(self.sampling.max_tokens, context // 4)))
        if self.template:
            return [prompt_tokens(self.template, text, self.system)[-room:] for text in texts]
        return [[coder.end_of_text_id, *tokens][-room:] for tokens in coder.encode_batch(texts).to_pylist()]


def plan(config: Generate, context: Context) -> Summary:
    """Check the command and say what would be generated."""
    from gptctl.model.files.locate import find_model

    check(config)
    facts: Values = {"model": str(find_model(config.model)), "prompts": config.prompts or 1}
    facts |= {"max_tokens": config.max_tokens, "weights": weights(config)}
    if config.draft:
        facts["draft"] = str(find_model(config.draft))
    return Summary("generate", "planned", (config.out,) if config.out else (), plan=facts)


def run(config: Generate, context: Context | None = None) -> Summary:
    """Generate."""
    context = context or Context()
    check(config)
    from gptctl.model.files.locate import find_model

    folder = find_model(config.model)
    if config.chat and config.prompt is None and config.prompts is None:
        return converse(config, load(config, folder), context)
    from gptctl.infer.prompts import Prompts, options_for

    options = options_for(ReadOptions.from_config(config), config.chat)
    prompts = Prompts(config.prompts, config.prompt or "", options, config.shard_prompts)
    if config.out is None:
        return to_terminal(config, load(config, folder), prompts, context)
    from gptctl.model.files import checksummed

    model = {"model": checksummed.model_fingerprint(folder)}
    with open_dataset(config.out, "samples", config, context, prompts, model) as dataset:
        if not dataset.up_to_date:
            dataset.commit(to_shards(config, folder, prompts, context, dataset))
    return replace(dataset.summary, next="" if config.out == "-" else f"gptctl inspect {shlex.quote(config.out)}")


def check(config: Generate) -> None:
    """Refuse flags that exclude each other."""
    if config.prompt is not None and config.prompts is not None:
        raise UsageError("PROMPT and --prompts are both given", "name one of them")
    if config.quantize == "int8" and config.precision == "bf16":
        raise UsageError("weights are either int8 or bf16", "leave out --quantize or --set precision=bf16")
    if config.draft and config.prompt_lookup:
        raise UsageError("--draft and prompt_lookup both guess ahead", "leave out one of them")
    if config.chat and config.out is not None and config.prompt is None and config.prompts is None:
        raise UsageError("a conversation in the terminal is not written to a folder", "give --prompts, or leave out -o")


def weights(config: Generate) -> Literal["fp32", "bf16", "int8"]:
    """Return the number format of the weights."""
    return "int8" if config.quantize == "int8" else config.precision


def load(config: Generate, folder: Path) -> Ready:
    """Load the model and put it on its device."""
    from gptctl.infer.completions import Writer
    from gptctl.infer.engine import Engine
    from gptctl.infer.sampling import SamplingParams
    from gptctl.model import device
    from gptctl.model.memory import trim_memory

    where = device.select_device(config.device)
    decoder, coder, extra = load_decoder(folder, weights(config), where)
    template = None
    if config.chat:
        if not extra.get("chat_template"):
            raise DataError(
                f"{config.model} has no chat template",
                "make a chat model: gptctl finetune MODEL DATA -o OUT --task chat",
            )
        template = ChatTemplate(extra["chat_template"], coder)
    guesser = make_guesser(config, coder, where)
    trim_memory()
    device.configure_process(device.cpu_threads())  # from here on freed memory is kept
    stop_ids = dict.fromkeys((*(extra.get("stop_ids") or ()), coder.end_of_text_id))
    stops = [stop.replace("\\n", "\n").replace("\\t", "\t") for stop in config.stop]
    engine = Engine(decoder, guesser, config.num_draft_tokens)
    sampling = SamplingParams(
        config.max_tokens, config.temperature, config.top_k, config.top_p, config.min_p, config.seed,
        config.repetition_penalty,
    )  # fmt: skip
    return Ready(Writer(engine, coder, tuple(stop_ids), stops, config.logprobs), sampling, template, config.system)


def load_decoder(
    folder: Path, kind: Literal["fp32", "bf16", "int8"], where: torch.device
) -> tuple[Decoder, Tokenizer, Values]:
    """Load a language model arranged for generation, its tokenizer, and what its config says beside.

    Raises DataError (3) for a classifier.
    """
    from gptctl.infer.decoder import Decoder
    from gptctl.model.classifier import Classifier
    from gptctl.model.folder import load_model

    model, _, tokenizer_json, extra = load_model(folder)
    if isinstance(model, Classifier):
        raise DataError(f"{folder} is a classifier and gives labels, not text", "see: gptctl eval MODEL DATA")
    return Decoder(model.to(where), kind), Tokenizer.from_json(tokenizer_json), extra


def make_guesser(config: Generate, coder: Tokenizer, where: torch.device) -> Guesser | None:
    """Return what guesses ahead. Raises UsageError (2) for a draft model with another tokenizer."""
    from gptctl.infer.speculative import DraftModel, PromptLookup
    from gptctl.model.files.locate import find_model

    if config.draft is None:
        return PromptLookup() if config.prompt_lookup else None
    draft, its_coder, _ = load_decoder(find_model(config.draft), weights(config), where)
    if its_coder.hash != coder.hash:
        raise UsageError(
            f"{config.draft} has another tokenizer than {config.model}", "train the draft model on the same tokens"
        )
    return DraftModel(draft)


def to_shards(
    config: Generate, folder: Path, prompts: Prompts, context: Context, dataset: DatasetOutput
) -> StageResult:
    """Continue all prompts, a shard at a time; shards that are there already are kept."""
    ready = load(config, folder)
    transform = partial(to_samples, config, ready, context)
    pipeline = ShardPipeline(transform, prompts.options, dataset.folder)
    totals = pipeline.run(prompts.tasks(config.limit), Executor(serial.run, 1), context, dataset.pipe)
    metrics = Counter[str]()
    for stats in totals.stats:
        metrics.update(stats)
    return StageResult(totals, dict(metrics), ready.writer.coder.hash)


def to_samples(config: Generate, ready: Ready, context: Context, task: ShardTask, table: pa.Table) -> TaskOutput:
    """Continue the prompts of one task."""
    from gptctl.infer.completions import complete

    texts, before = table["text"].to_pylist(), int(task.payload)

    def each(done: int) -> None:
        context.progress(task.index, None, "shards", f"{before * config.num + done:,} samples")
        context.stop.check("stopped")

    made = complete(
        ready.writer, ready.encode(texts), ready.sampling, before * config.num, config.num, config.batch_size, each
    )
    samples = [sample for of_prompt in made for sample in of_prompt]
    owners = pa.array([row for row in range(len(table)) for _ in range(config.num)], pa.int64())
    ids = [
        numbered(identity, number, config.num) for identity in table["id"].to_pylist() for number in range(config.num)
    ]
    columns: dict[str, Any] = {
        "id": pa.array(ids, pa.string()),
        "prompt": table["text"].take(owners),
        "text": pa.array([sample.text for sample in samples], pa.large_string()),
        "finish": pa.array([sample.finish for sample in samples], pa.string()),
        "tokens": pa.array([len(sample.tokens) for sample in samples], pa.int64()),
    }
    if config.logprobs:
        columns["token_ids"] = pa.array([sample.tokens for sample in samples], pa.list_(pa.uint32()))
        columns["logprobs"] = pa.array([sample.logprobs for sample in samples], pa.list_(pa.float32()))
    for name in table.column_names:
        if name not in columns and name != "source":
            columns[name] = table[name].take(owners)
    found = pa.table(columns)
    found = found.replace_schema_metadata(with_kind(found.schema, "samples").metadata)
    counts = Counts(documents_in=len(table), kept=len(table))
    stats = {"samples": len(samples), "tokens": sum(len(sample.tokens) for sample in samples)}
    return TaskOutput({"": found}, counts, stats)


def numbered(identity: str, number: int, count: int) -> str:
    """Tell the samples of a prompt apart."""
    return identity if count == 1 else f"{identity}#{number}"


def to_terminal(config: Generate, ready: Ready, prompts: Prompts, context: Context) -> Summary:
    """Stream the samples to standard output, one after the other."""
    rows: list[Values] = []
    count = 0
    for table, bad in prompts.tables(config.limit):
        for item in bad:
            context.warn(f"unreadable: {item.source} {item.position}: {item.reason}")
        for identity, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
            for number, sample in enumerate(stream_samples(config, ready, text, count, context)):
                told = {"id": numbered(identity, number, config.num), "prompt": text, "text": sample.text}
                more = {"token_ids": sample.tokens, "logprobs": sample.logprobs} if config.logprobs else {}
                rows.append(told | {"finish": sample.finish, "tokens": len(sample.tokens)} | more)
            count += 1
    if not count:
        raise DataError(f"{prompts.name} holds no prompt", "one prompt a line, or a text column")
    context.write("\n")
    counts = Counts(documents_in=count, kept=count)
    return Summary("generate", counts=counts, metrics={"tokens": sum(row["tokens"] for row in rows), "samples": rows})


def stream_samples(config: Generate, ready: Ready, text: str, before: int, context: Context) -> list[Continuation]:
    """Generate the samples of one prompt together; the first is written as it comes, the others when all have ended."""
    from gptctl.infer.completions import continued

    tokens, found = ready.encode([text]), []
    shown = "" if config.chat else text
    for start in range(0, config.num, config.batch_size):
        copies = min(config.batch_size, config.num - start)
        samples: dict[int, Continuation] = {}
        context.write(("\n---\n" if before or start else "") + shown)
        for row, piece, sample in continued(
            ready.writer, tokens, ready.sampling, [before * config.num + start], copies
        ):
            context.stop.check("stopped")
            context.write(piece if row == 0 else "")
            samples[row] = sample
        found += [samples[row] for row in range(copies)]
        for sample in found[start + 1 :]:
            context.write(f"\n---\n{shown}{sample.text}")
    return found


def converse(config: Generate, ready: Ready, context: Context) -> Summary:
    """Answer what is typed, line by line, until the end of input."""
    from gptctl.infer.conversation import Conversation, typed_lines

    assert ready.template is not None
    talk = Conversation(ready.writer, ready.template, ready.sampling, config.system)
    marker = "> " if sys.stdin.isatty() else ""
    forgotten = 0
    context.write(marker)
    for line in typed_lines(partial(context.stop.check, "stopped")):
        for piece in talk.say(line):
            context.write(piece)
            context.stop.check("stopped")
        context.write("\n" + marker)
        if talk.forgotten > forgotten:
            context.warn(f"the conversation is too long for the model: {talk.forgotten - forgotten} turns forgotten")
            forgotten = talk.forgotten
    return Summary("generate", metrics={"turns": talk.turns, "messages": list(map(dict, talk.messages))})
