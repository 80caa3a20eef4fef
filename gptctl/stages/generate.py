"""Let a model continue prompts: sampling with a KV cache, streamed to the terminal or written as shards."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
import pyarrow as pa

from gptctl.core.config import DataConfig, Values, argument, flag, key
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.rundir import open_run
from gptctl.core.summary import Counts, Summary
from gptctl.io import labelled, shards
from gptctl.io.manifest import Manifest
from gptctl.io.schema import with_kind
from gptctl.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from gptctl.infer.engine import Engine

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
    prompts: str | None = flag(None, "File of prompts: text lines, or any input format with a text column; - reads lines.", panel="Input", runtime=True)
    out: str | None = flag(None, "Folder for the samples.", panel="Output", short="-o", runtime=True)
    max_tokens: int = flag(128, "Tokens to generate, at most.", panel="Sampling", ge=1)
    temperature: float = flag(1.0, "0 takes the likeliest token.", panel="Sampling", ge=0)
    top_k: int = flag(0, "Sample from the k likeliest tokens; 0 from all.", panel="Sampling", ge=0)
    top_p: float = flag(1.0, "Sample from the likeliest tokens that hold this probability together.", panel="Sampling", gt=0, le=1)
    min_p: float = flag(0.0, "Drop tokens less likely than this share of the likeliest.", panel="Sampling", ge=0, lt=1)
    num: int = flag(1, "Samples per prompt.", panel="Sampling", ge=1)
    batch_size: int = key(16, "Prompts continued at a time.", ge=1, runtime=True)
    device: Literal["auto", "cpu", "cuda", "mps"] = flag("auto", "Device.", panel="Devices", runtime=True)


def plan(config: Generate, context: Context) -> Summary:
    """Check the command and say what would be generated."""
    from gptctl.model.folder import find_model

    facts: Values = {"model": str(find_model(config.model)), "prompts": config.prompts or 1, "max_tokens": config.max_tokens}
    return Summary("generate", "planned", (config.out,) if config.out else (), plan=facts)


def run(config: Generate, context: Context | None = None) -> Summary:
    """Generate."""
    context = context or Context()
    if config.prompt is not None and config.prompts is not None:
        raise UsageError("PROMPT and --prompts are both given", "name one of them")
    from gptctl.model.classifier import Classifier
    from gptctl.model.folder import find_model, load_model

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

    inputs = {"model": sealed.checksum(folder / "model.safetensors"), **prints}
    with open_run(Path(config.out), config, context, inputs) as record:
        if record.up_to_date:
            return record.previous_summary()
        rows: list[Values] = []
        for start in range(0, len(prompts), config.batch_size):
            rows += samples(config, engine, coder, prompts[start : start + config.batch_size], start)
            context.progress(start + config.batch_size, len(prompts), "prompts")
            context.stop.check("stopped")
        table = pa.Table.from_pylist(rows)
        shard = shards.write_shard(record.path, "shards/part-00000.arrow", table.replace_schema_metadata(with_kind(table.schema, "samples").metadata))
        counts = Counts(documents_in=len(prompts), kept=len(prompts))
        metrics = {"samples": len(rows), "tokens": sum(row["tokens"] for row in rows)}
        Manifest("samples", "generate", config.settings(), inputs, (shard,), counts, metrics, coder.hash).write(record.path)
        return record.finish(Summary("generate", "done", (config.out,), counts, metrics, next=f"gptctl inspect {config.out}"))


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
        return [("prompt", config.prompt or "")], {}
    if config.prompts == "-":
        lines = sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()
        return [(f"-:{i}", line) for i, line in enumerate(lines) if line], {}
    if Path(config.prompts).suffix in (".txt", ".text", "") and Path(config.prompts).is_file():
        from gptctl.io.files import content_hash

        try:
            lines = Path(config.prompts).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{config.prompts} is not UTF-8 at byte {error.start}", "save it as UTF-8") from error
        name = Path(config.prompts).name
        found = [(f"{name}:{i}", line) for i, line in enumerate(lines) if line]
        if not found:
            raise DataError(f"{config.prompts} holds no prompt", "one prompt a line")
        return found, {name: content_hash(config.prompts)}
    table, prints = labelled.read_documents(config, config.prompts)
    return list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)), prints


def encode_prompts(coder: Tokenizer, prompts: list[str], room: int) -> list[list[int]]:
    """Tokenize prompts: end-of-text stands before each, as it does between training documents; long ones keep their tail."""
    encoded = coder.encode_batch(prompts).to_pylist()
    return [[coder.end_of_text_id, *tokens][-room:] for tokens in encoded]


def samples(config: Generate, engine: Engine, coder: Tokenizer, prompts: list[tuple[str, str]], first: int) -> list[Values]:
    """Continue a batch of prompts `num` times each."""
    rows: list[Values] = []
    tokens = encode_prompts(coder, [text for _, text in prompts], room(config, engine))
    for number in range(config.num):
        made = engine.generate(tokens, sampling(config, number), stop_ids=(coder.end_of_text_id,), first_row=first)
        for (identity, text), sample in zip(prompts, made, strict=True):
            rows.append({"id": f"{identity}#{number}" if config.num > 1 else identity, "prompt": text, "text": coder.decode(sample.tokens), "finish": sample.finish, "tokens": len(sample.tokens)})
    return sorted(rows, key=lambda row: [identity for identity, _ in prompts].index(row["id"].split("#")[0]) if config.num > 1 else 0)


def room(config: Generate, engine: Engine) -> int:
    """Give the tokens a prompt may have, so that at least a quarter of the context is left to write in."""
    return max(1, engine.context - min(config.max_tokens, engine.context // 4))
