"""Export a model for transformers, or as a GGUF file for llama.cpp, or tokens as train.bin and val.bin for nanoGPT."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gptctl.core import atomic
from gptctl.core.config import StageConfig, Values, argument, flag, key, output
from gptctl.core.context import Context
from gptctl.core.errors import DataError, UsageError
from gptctl.core.formatting import format_bytes
from gptctl.core.run_folder import Run, open_run
from gptctl.core.summary import Counts, Summary, Table
from gptctl.core.written_files import CARD, file_hash
from gptctl.io.dataset.manifest import SPLITS, Manifest, Shard
from gptctl.io.dataset.token_export import check_width, write_bin_files
from gptctl.io.dataset.tokens import open_tokens
from gptctl.io.hub.uri import is_hub
from gptctl.io.recognize import recognize

if TYPE_CHECKING:
    from gptctl.model.config import ModelConfig
    from gptctl.model.folder import OpenModel

EXAMPLES = (
    "gptctl export run -o exported",
    "gptctl export run -o quantized --format gguf --dtype q8_0",
    "gptctl export tokens -o nanogpt --format bin",
)
GGUF = "model.gguf"
HINT = "see docs/export.md for what can be exported"
FORMATS = {"hf": ("float32", "bfloat16", "float16"), "gguf": ("float32", "float16", "q8_0")}


class Export(StageConfig):
    """Export a model, or tokens, for other programs.

    hf is a folder that transformers' from_pretrained opens, with tokenizer, chat template and model card. gguf is one
    file for llama.cpp. Unsupported architectures are rejected, with the reason. bin writes the train, val and test
    tokens of a folder of gptctl tokenize as the .bin files that nanoGPT trains on.
    """

    model: str = argument(..., "MODEL", "A run, checkpoint, model folder or hf://OWNER/MODEL; for bin, tokens.")
    out: str = output(..., "Folder for the exported files.")
    format: Literal["hf", "gguf", "bin"] = flag(
        "hf", "hf for transformers, gguf for llama.cpp, bin for nanoGPT.", panel="Output"
    )
    dtype: Literal["float32", "bfloat16", "float16", "q8_0"] = flag(
        "float32", "Number format of the weights; q8_0 is for gguf only, bfloat16 for hf only.", panel="Output"
    )
    max_shard_bytes: int = key(
        5_000_000_000, "Largest file of weights (hf). Larger models are split into several files with an index.", ge=1
    )

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.format != "hf":
            found["max_shard_bytes"] = f"with --format {self.format}"
        if self.format == "bin":
            found["dtype"] = "with --format bin"
        return found


def plan(config: Export, context: Context) -> Summary:
    """Return what would be exported, or raise why it cannot be."""
    if config.format == "bin":
        tokens = open_tokens(config.model)
        check_width(tokens)
        return Summary("export", "planned", (config.out,), plan={split: tokens.count(split) for split in SPLITS})
    from gptctl.model.files.locate import find_model
    from gptctl.model.hf.family_lookup import closest_family

    refuse_tokens(config)
    folder = find_model(config.model, context.info)
    shape = check(config, folder)
    facts: Values = {
        "model": str(folder),
        "format": config.format,
        "class": closest_family(shape).architecture,
        "parameters": shape.parameters(),
    }
    return Summary("export", "planned", (config.out,), plan=facts)


def run(config: Export, context: Context | None = None) -> Summary:
    """Export a model or tokens into a folder."""
    context = context or Context()
    if config.format == "bin":
        return export_tokens(config, context)
    from gptctl.model.files.locate import find_model
    from gptctl.model.files.model_manifest import fingerprint
    from gptctl.model.folder import open_model

    refuse_tokens(config)
    folder = find_model(config.model, context.info)
    check(config, folder)
    with open_run(Path(config.out), config, context, partial(fingerprint, folder)) as record:
        if record.up_to_date:
            return record.previous_summary()
        opened = open_model(folder)
        files = write(config, opened, record, context)
        size = sum(file.bytes for file in files)
        metrics: Values = {"parameters": opened.saved.config.parameters(), "bytes": size, "files": len(files)}
        declared = Manifest("export", "export", config.settings(), record.record["inputs"], files, Counts(), metrics)
        rows = (("parameters", f"{metrics['parameters']:,}"), ("size", format_bytes(size)), ("files", str(len(files))))
        out = shlex.quote(config.out)
        chat = " --chat" * bool(opened.saved.extra.get("chat_template"))
        follow = f"gptctl generate {out}{chat}" if config.format == "hf" else f"llama-cli -m {out}/{GGUF}"
        tables = (Table("export", ("", "value"), rows),)
        return record.finish(
            Summary("export", "done", (config.out,), metrics=metrics, tables=tables, next=follow), declared
        )


def refuse_tokens(config: Export) -> None:
    """Raise DataError (3) for tokens in a format for models."""
    if not is_hub(config.model) and recognize(config.model).kind == "tokens":
        hint = f"for nanoGPT: gptctl export {shlex.join((config.model, '-o', config.out))} --format bin"
        raise DataError(f"{config.model} holds tokens, not a model", hint)


def export_tokens(config: Export, context: Context) -> Summary:
    """Write the tokens of each split into a file."""
    tokens = open_tokens(config.model)
    check_width(tokens)
    with open_run(Path(config.out), config, context, lambda: {"tokens": tokens.fingerprint()}) as record:
        if record.up_to_date:
            return record.previous_summary()
        files = write_bin_files(tokens, record.path, lambda done, total: context.progress(done, total, "tokens"))
        metrics: Values = {Path(file.path).stem: file.tokens for file in files} | {"vocab_size": tokens.vocab_size}
        declared = Manifest("bin", "export", config.settings(), record.record["inputs"], files, Counts(), metrics)
        rows = ((file.path, f"{file.tokens:,}", format_bytes(file.bytes)) for file in files)
        table = Table("export", ("", "tokens", "size"), tuple(rows))
        return record.finish(Summary("export", "done", (config.out,), metrics=metrics, tables=(table,)), declared)


def check(config: Export, folder: Path) -> ModelConfig:
    """Return the config of a model. Raises UsageError (2), with the reason, if it cannot be exported."""
    from gptctl.model.files.json_files import read_json
    from gptctl.model.files.locate import adapter_base, is_adapter
    from gptctl.model.gguf import tensors as gguf
    from gptctl.model.hf import family_lookup
    from gptctl.model.hf.config_import import read_model_config

    if config.dtype not in FORMATS[config.format]:
        raise UsageError(
            f"--format {config.format} has no --dtype {config.dtype}", f"choose {', '.join(FORMATS[config.format])}"
        )
    while is_adapter(folder):
        folder = adapter_base(folder)
    values = read_json(folder / "config.json")
    if values.get("labels"):
        raise UsageError(f"{config.model} is a classifier, whose label head no other program has", HINT)
    shape = read_model_config(values, str(folder / "config.json"))
    if reason := (family_lookup if config.format == "hf" else gguf).unsupported_reason(shape):
        raise UsageError(reason, HINT)
    return shape


def write(config: Export, opened: OpenModel, record: Run, context: Context) -> tuple[Shard, ...]:
    """Write the files into a staging folder, then move them into place; return all but the model card."""
    import torch

    from gptctl.model.gguf.writer import write_gguf
    from gptctl.model.gpt import GPT
    from gptctl.model.save import write_transformers

    model, _, tokenizer_json, extra = opened.saved
    assert isinstance(model, GPT)
    staging = record.path / "staging"
    with atomic.atomic_folder(staging) as temporary:
        if config.format == "hf":
            dtype = getattr(torch, config.dtype)
            write_transformers(temporary, model, tokenizer_json, extra, dtype, config.max_shard_bytes, opened.weights)
        else:
            assert config.dtype != "bfloat16"
            write_gguf(temporary / GGUF, model, tokenizer_json, extra, config.dtype, opened.weights, context.warn)
    written = []
    for file in sorted(staging.iterdir()):
        if file.name != CARD:
            written.append(Shard(file.name, 0, file.stat().st_size, file_hash(file)))
        file.replace(record.path / file.name)
    staging.rmdir()
    return tuple(written)
