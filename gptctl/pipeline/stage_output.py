"""What the data stages have in common: a dataset folder that resumes, or a pipe, from the same shard tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptctl.core.config import ReadingOptions, StageConfig, Values
from gptctl.core.context import Context
from gptctl.core.errors import GptctlError, MachineError, UsageError
from gptctl.core.rundir import Run, check_settings, open_run
from gptctl.core.summary import Counts, Summary
from gptctl.io.dataset import manifest, shards, stream
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.dataset.stream import StreamWriter
from gptctl.io.files import plain_path
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.records import ReadOptions
from gptctl.io.object_storage.address import Address, is_uri
from gptctl.io.object_storage.remote import ObjectOutputStore
from gptctl.pipeline import execution
from gptctl.pipeline.execution import PipelineTotals


@dataclass
class StageResult:
    """What a data stage made: its shard results, and figures for the manifest."""

    totals: PipelineTotals
    metrics: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""
    compression: str | None = "lz4"


Make = Callable[[Path | None, StreamWriter | None], StageResult]


def options(config: ReadingOptions) -> ReadOptions:
    """Say how a stage finds documents in records."""
    return ReadOptions(config.text_column, config.id_column, config.max_doc_bytes)


def produce(
    config: ReadingOptions,
    out: str,
    context: Context,
    inputs: Inputs,
    kind: str,
    make: Make,
    also: dict[str, str] | None = None,
) -> Summary:
    """Run `make` into a folder or a pipe, or find that it was done. `also` fingerprints what else is read.

    Raises UsageError (2) where OUT lies inside an input folder, DataError (3) where too little could be read.
    """
    stage = type(config).__name__.lower()
    if out == "-":
        if getattr(config, "keep_rejects", False):
            raise UsageError(
                "rejects cannot be written to a pipe", "name a folder with -o, or leave out --keep-rejects"
            )
        pipe = StreamWriter(stream.standard_output())
        made = make(None, pipe)
        for record in made.totals.unreadable:
            context.warn(f"unreadable: {record.source} {record.position}: {record.reason}")
        execution.check_readable(made.totals, config.max_bad, "the warnings above")
        check_balance(made.totals.counts)
        pipe.close()
        return Summary(stage, "done", ("-",), made.totals.counts, made.metrics)
    refuse_nested(out, config)
    also = also or {}
    known = inputs.fingerprints()
    fingerprints = None if known is None else known | also
    with open_output(out, config, context, fingerprints) as run:
        folder = run.path
        if run.up_to_date:
            execution.finish(folder)  # where the run was killed just before it did so
            confirm_stream(run, inputs, config.limit, also)
            found = manifest.read(folder)
            return Summary(stage, "up to date", (out,), found.counts, found.metrics)
        made = make(folder, None)
        if any(not (folder / shard.path).exists() for shard in made.totals.shards):
            raise MachineError(
                f"shards are not in {folder}, where they were written: not all nodes share it",
                "put it on storage that all nodes share" + (", with GPTCTL_CACHE" if run.store else ""),
            )
        execution.write_quarantine(folder, made.totals.unreadable)
        execution.check_readable(made.totals, config.max_bad, str(folder / "quarantine.jsonl"))
        unified = execution.unify_shards(folder, made.totals.shards, made.compression)
        run.record["inputs"] = fingerprints or inputs.stream_fingerprint() | also
        counts = made.totals.counts
        check_balance(counts)
        execution.sync(folder)
        declared = Manifest(
            kind, stage, config.settings(), run.record["inputs"], tuple(unified), counts, made.metrics, made.tokenizer
        )
        summary = run.finish(Summary(stage, "done", (out,), counts, made.metrics), declared)
        execution.finish(folder)
        return summary


def check_balance(counts: Counts) -> None:
    """Raise GptctlError (1) unless every document is accounted for."""
    if not counts.balanced():
        raise GptctlError(
            f"internal error: {counts.documents_in} documents in, but {counts.kept} kept, {counts.dropped.total()} "
            f"dropped and {counts.quarantined.total()} quarantined",
            "the output was not finished; please report this with what --debug shows",
        )


def intact(folder: Path) -> bool:
    """Return whether all shards of a complete folder are there with their sizes (checksums are verified by readers)."""
    found = manifest.read(folder)
    whole = all(shards.has_size(folder, shard) for shard in found.shards)
    return whole and (found.kind != "tokens" or (folder / "tokenizer.json").exists())


@contextmanager
def open_output(out: str, config: StageConfig, context: Context, inputs: Values | None) -> Iterator[Run]:
    """Open a folder, or a URI and the folder where its output is made, as `open_run` does."""
    out = plain_path(out)
    store = ObjectOutputStore(out, context) if is_uri(out) else None
    folder = store.folder if store else Path(out)
    with open_run(folder, config, context, inputs, intact=store.intact if store else intact, store=store) as run:
        yield run


def refuse_nested(out: str, config: ReadingOptions) -> None:
    """Refuse to write where we read."""
    inputs: tuple[str, ...] = (*getattr(config, "inputs", ()), *getattr(config, "against", ()))
    for argument in inputs:
        if argument != "-" and is_within(plain_path(out), plain_path(argument)):
            raise UsageError(f"the output {out} lies inside the input {argument}", "choose a folder outside it with -o")


def is_within(out: str, source: str) -> bool:
    """Return whether an output is at or below an input folder; both here or both in object storage."""
    if is_uri(out) and is_uri(source):
        inner, outer = Address.parse(out), Address.parse(source)
        same = (inner.scheme, inner.query) == (outer.scheme, outer.query)
        return same and f"{inner.path}/".startswith(f"{outer.path}/")
    return not is_uri(out) and Path(source).is_dir() and Path(out).resolve().is_relative_to(Path(source).resolve())


def confirm_stream(run: Run, inputs: Inputs, limit: int, also: dict[str, str]) -> None:
    """Read a stream as far as it was read, to see whether it is the one the finished output was made from."""
    if not inputs.is_stream:
        return
    for _ in inputs.tasks(limit):
        pass
    check_settings(run.name, run.record, run.record["settings"], inputs.stream_fingerprint() | also, {})
