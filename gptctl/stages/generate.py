"""Let a model continue prompts: sampling with a KV cache, streamed to the terminal or written as shards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import xxhash

from gptctl.core.config import DataConfig, Values, argument, flag, key
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.rundir import open_run
from gptctl.core.summary import Counts, Summary
from gptctl.io import dataset, labelled, shards
from gptctl.io.manifest import Manifest
from gptctl.io.schema import with_kind
from gptctl.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from gptctl.infer.engine import Engine
    from gptctl.infer.sampling import Sampling

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
EXAMPLES = (
    'gptctl generate run "Once upon a time" --max-tokens 40',
    'gptctl generate run "The" --num 3 --temperature 0.8 --top-p 0.95 --seed 7',
    "gptctl generate run --prompts prompts.jsonl -o samples --max-tokens 16",
)


class Generate(DataConfig):
    """Continue a prompt, or every prompt of a file.

    Text streams to standard output; with -o, shards of prompt and continuation are written. Greedy at temperature 0. A
    prompt that fills the model's context is cut to its tail.
    """

    model: str = argument(..., "MODEL", "A run folder, one of its checkpoints, or a model folder.")
    prompt: str | None = argument(None, "[PROMPT]", "Text to continue; the beginning of a document if not given.")
    prompts: str | None = flag(
        None,
        "File of prompts: text lines, or any input format with a text column; - reads lines.",
        panel="Input",
        runtime=True,
    )
    out: str | None = flag(None, "Folder for the samples.", panel="Output", short="-o", runtime=True)
    max_tokens: int = flag(128, "Tokens to generate, at most.", panel="Sampling", ge=1)
    temperature: float = flag(1.0, "0 takes the likeliest token.", panel="Sampling", ge=0)
    top_k: int = flag(0, "Sample from the k likeliest tokens; 0 from all.", panel="Sampling", ge=0)
    top_p: float = flag(
        1.0, "Sample from the likeliest tokens that hold this probability together.", panel="Sampling", gt=0, le=1
    )
    min_p: float = flag(0.0, "Drop tokens less likely than this share of the likeliest.", panel="Sampling", ge=0, lt=1)
    num: int = flag(1, "Samples per prompt.", panel="Sampling", ge=1)
    batch_size: int = key(16, "Prompts continued at a time.", ge=1, runtime=True)
    device: Literal["auto", "cpu", "cuda", "mps"] = flag("auto", "Device.", panel="Devices", runtime=True)


def plan(config: Generate, context: Context) -> Summary:
    """Check the command and say what would be generated."""
    from gptctl.model.locate import find_model

    facts: Values = {
        "model": str(find_model(config.model)),
        "prompts": config.prompts or 1,
        "max_tokens": config.max_tokens,
    }
    return Summary("generate", "planned", (config.out,) if config.out else (), plan=facts)


def run(config: Generate, context: Context | None = None) -> Summary:
    """Generate."""
    context = context or Context()
    if config.prompt is not None and config.prompts is not None:
        raise UsageError("PROMPT and --prompts are both given", "name one of them")
    from gptctl.model.classifier import Classifier
    from gptctl.model.folder import load_model
    from gptctl.model.locate import find_model

    folder = find_model(config.model)
    model, _, tokenizer_json, _ = load_model(folder)
    if isinstance(model, Classifier):
        raise DataError(f"{config.model} is a classifier and gives labels, not text", "see: gptctl eval MODEL DATA")
    coder = Tokenizer.from_json(tokenizer_json)
    prompts, prints = read_prompts(config)
    engine = make_engine(config, model, coder)
    if config.out is None:
        return to_terminal(config, engine, coder, prompts, context)
    from gptctl.model import sealed

    inputs = {"model": sealed.fingerprint(folder), **prints}
    with open_run(Path(config.out), config, context, inputs, intact=dataset.intact) as record:
        if record.up_to_date:
            return record.previous_summary()
        rows = to_rows(config, engine, coder, prompts, context)
        table = pa.Table.from_pylist(rows)
        table = table.replace_schema_metadata(with_kind(table.schema, "samples").metadata)
        shard = shards.write_shard(record.path, "shards/part-00000.arrow", table)
        counts = Counts(documents_in=len(prompts), kept=len(prompts))
        metrics = {"samples": len(rows), "tokens": sum(row["tokens"] for row in rows)}
        declared = Manifest("samples", "generate", config.settings(), inputs, (shard,), counts, metrics, coder.hash)
        follow = f"gptctl inspect {config.out}"
        return record.finish(Summary("generate", "done", (config.out,), counts, metrics, next=follow), declared)


def make_engine(config: Generate, model: Any, coder: Tokenizer) -> Engine:
    """Put the model on its device."""
    from gptctl.infer.engine import Engine
    from gptctl.train import device

    where = device.pick(config.device)
    device.prepare(device.threads())
    return Engine(model.to(where))


def read_prompts(config: Generate) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Give (id, prompt) pairs and the fingerprints of the file they come from."""
    if config.prompts is None:
        prompt = config.prompt or ""
        return [("prompt", prompt)], {"prompt": xxhash.xxh3_128_hexdigest(prompt.encode())}
    if config.prompts == "-":
        return prompt_lines(sys.stdin.buffer.read(), "-")
    if Path(config.prompts).suffix in (".txt", ".text", "") and Path(config.prompts).is_file():
        return prompt_lines(Path(config.prompts).read_bytes(), Path(config.prompts).name)
    table, prints = labelled.read_documents(config, config.prompts)
    return list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)), prints


def prompt_lines(data: bytes, name: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Give the prompts of a text, one a line. Raises DataError (3) if there is none or the text is not UTF-8."""
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    found = [(f"{name}:{number}", line) for number, line in enumerate(lines) if line]
    if not found:
        raise DataError(f"{name} holds no prompt", "one prompt a line")
    return found, {name: xxhash.xxh3_128_hexdigest(data)}


def encode_prompts(coder: Tokenizer, prompts: list[str], room: int) -> list[list[int]]:
    """Tokenize prompts: end-of-text stands before each, as in training; long ones keep their tail."""
    encoded = coder.encode_batch(prompts).to_pylist()
    return [[coder.end_of_text_id, *tokens][-room:] for tokens in encoded]


def room(config: Generate, engine: Engine) -> int:
    """Give the tokens a prompt may have, so that at least a quarter of the context is left to write in."""
    return max(1, engine.context - max(1, min(config.max_tokens, engine.context // 4)))


def sampling(config: Generate) -> Sampling:
    """Say how tokens are chosen."""
    from gptctl.infer.sampling import Sampling

    return Sampling(config.max_tokens, config.temperature, config.top_k, config.top_p, config.min_p, config.seed)


def numbered(config: Generate, prompts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Repeat each prompt for its samples; the place in this list is what a sample's random numbers are drawn by."""
    if config.num == 1:
        return prompts
    return [(f"{identity}#{number}", text) for identity, text in prompts for number in range(config.num)]


def to_terminal(
    config: Generate, engine: Engine, coder: Tokenizer, prompts: list[tuple[str, str]], context: Context
) -> Summary:
    """Stream the samples to standard output, one after the other."""
    rows: list[Values] = []
    for row, (identity, prompt) in enumerate(numbered(config, prompts)):
        if row:
            context.write("\n---\n")
        context.write(prompt)
        tokens: list[int] = []
        written, finish = "", "length"
        for _, token in engine.stream(
            encode_prompts(coder, [prompt], room(config, engine)), sampling(config), (coder.end_of_text_id,), row
        ):
            if token == coder.end_of_text_id:
                finish = "stop"
                break
            tokens.append(token)
            text = coder.decode(tokens)
            if not text.endswith(REPLACEMENT):  # a character may take several tokens: wait until it is whole
                context.write(text[len(written) :])
                written = text
            context.stop.check("stopped")
        context.write(coder.decode(tokens)[len(written) :])
        rows.append(
            {"id": identity, "prompt": prompt, "text": coder.decode(tokens), "finish": finish, "tokens": len(tokens)}
        )
    context.write("\n")
    counts = Counts(documents_in=len(prompts), kept=len(prompts))
    return Summary("generate", counts=counts, metrics={"tokens": sum(row["tokens"] for row in rows), "samples": rows})


def to_rows(
    config: Generate, engine: Engine, coder: Tokenizer, prompts: list[tuple[str, str]], context: Context
) -> list[Values]:
    """Continue all prompts, a batch at a time; a sample does not depend on its batch."""
    wanted = numbered(config, prompts)
    rows: list[Values] = []
    for start in range(0, len(wanted), config.batch_size):
        part = wanted[start : start + config.batch_size]
        tokens = encode_prompts(coder, [text for _, text in part], room(config, engine))
        made = engine.generate(tokens, sampling(config), (coder.end_of_text_id,), start)
        for (identity, prompt), sample in zip(part, made, strict=True):
            rows.append(
                {
                    "id": identity,
                    "prompt": prompt,
                    "text": coder.decode(sample.tokens),
                    "finish": sample.finish,
                    "tokens": len(sample.tokens),
                }
            )
        context.progress(len(rows), len(wanted), "samples")
        context.stop.check("stopped")
    return rows
