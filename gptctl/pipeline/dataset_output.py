"""The output of a data stage: a dataset folder, which a killed run can resume, or a pipe."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptctl.core.config import ReadingOptions
from gptctl.core.context import Context
from gptctl.core.errors import GptctlError, MachineError, UsageError
from gptctl.core.run_folder import Run
from gptctl.core.run_record import check_same_run, stage_name
from gptctl.core.summary import Counts, Summary
from gptctl.io.dataset import manifest, stream
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.dataset.shard_format import ARROW, MAPPED, ShardFormat
from gptctl.io.dataset.stream import StreamWriter
from gptctl.io.files import plain_path
from gptctl.io.input.blocks import Tolerance
from gptctl.io.input.inputs import Inputs
from gptctl.io.object_storage.address import Address, is_uri, join
from gptctl.pipeline import finalize
from gptctl.pipeline.open_output import open_output
from gptctl.pipeline.task_results import PipelineTotals

# What an output may have besides its shards.
BESIDES = {"rejects": "dropped documents", "quarantine.jsonl": "records that were left out"}


@dataclass
class StageResult:
    """What a data stage has written, with the metrics and the tokenizer hash for the manifest."""

    totals: PipelineTotals
    metrics: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""


class DatasetOutput(ABC):
    """Where a data stage writes. Exactly one of `folder` and `pipe` is set.

    `storage` is the format of the folder's shards. If `up_to_date`, an earlier run has written everything, and
    `summary` is its result. Otherwise the stage writes its shards and calls `commit`.
    """

    folder: Path | None = None
    pipe: StreamWriter | None = None
    storage: ShardFormat = ARROW
    up_to_date: bool = False
    summary: Summary

    @abstractmethod
    def commit(self, result: StageResult) -> None:
        """Declare the output complete, and set `summary`. Raises DataError (3) if too few records were readable."""


@contextmanager
def open_dataset(
    out: str,
    kind: str,
    config: ReadingOptions,
    context: Context,
    inputs: Inputs,
    other_fingerprints: Callable[[], dict[str, str]] = dict,
) -> Iterator[DatasetOutput]:
    """Open OUT, a folder, a URI or "-" for a pipe, for a dataset of this kind.

    `other_fingerprints` returns those of what the stage reads besides its inputs. Raises UsageError (2) if OUT lies
    inside an input folder, and what `open_run` raises.
    """
    context.expected.shards = inputs.expected_tasks(config.limit)
    warn_of_inputs(config, context, inputs)
    if out == "-":
        refuse_rejects(config)
        yield PipeOutput(config, context)
        return
    refuse_nested(out, config)
    others = other_fingerprints()

    def fingerprints() -> dict[str, str]:
        return (inputs.fingerprints() or {}) | other_fingerprints()

    with open_output(out, config, context, None if inputs.is_stream else fingerprints) as run:
        output = FolderOutput(
            out=out, kind=kind, config=config, context=context, inputs=inputs, run=run, other_fingerprints=others
        )
        if run.up_to_date:
            output.reuse()
        yield output
        for name in BESIDES:
            if (output.folder / name).exists():
                context.info(f"{BESIDES[name]}: gptctl inspect {shlex.quote(join(out, name))}")


class PipeOutput(DatasetOutput):
    """Standard output, as an Arrow stream."""

    def __init__(self, config: ReadingOptions, context: Context) -> None:
        self.config = config
        self.context = context
        context.stop.output = "-"
        self.pipe: StreamWriter = StreamWriter(stream.standard_output())

    def commit(self, result: StageResult) -> None:
        """Write the end mark, unless too few records were readable: without it the reader sees a broken stream."""
        for record in result.totals.unreadable:
            self.context.warn(f"unreadable: {record.source} {record.position}: {record.reason}")
        tolerance = Tolerance.from_config(self.config)
        finalize.check_readable(result.totals, tolerance, "the warnings above", self.context.warn)
        check_balance(result.totals.counts)
        self.pipe.close()
        self.summary = Summary(stage_name(self.config), "done", ("-",), result.totals.counts, result.metrics)


class FolderOutput(DatasetOutput):
    """A dataset folder. Its manifest is written last."""

    def __init__(
        self,
        *,
        out: str,
        kind: str,
        config: ReadingOptions,
        context: Context,
        inputs: Inputs,
        run: Run,
        other_fingerprints: dict[str, str],
    ) -> None:
        self.out = out
        self.kind = kind
        self.config = config
        self.context = context
        self.inputs = inputs
        self.run = run
        self.other_fingerprints = other_fingerprints
        self.folder: Path = run.path
        self.storage = MAPPED if kind == "tokens" else ShardFormat.of(config)
        self.up_to_date = run.up_to_date

    def reuse(self) -> None:
        """Take over the output of an earlier run, and set `summary`. Raises ConflictError (5) for another stream."""
        finalize.remove_work_folder(self.folder)  # the earlier run may have been killed just before it did so
        if self.inputs.is_stream:
            for _ in self.inputs.tasks(self.config.limit):
                pass  # the stream's fingerprint is known once it was read
            fingerprints = self.inputs.stream_fingerprint() | self.other_fingerprints
            check_same_run(self.run.name, self.run.record, self.run.record["settings"], fingerprints, {})
        found = manifest.read(self.folder)
        self.summary = Summary(stage_name(self.config), "up to date", (self.out,), found.counts, found.metrics)

    def commit(self, result: StageResult) -> None:
        """Check the shards, give them the same columns, and write the manifest.

        Raises DataError (3) if too few records were readable, MachineError (4) if shards are missing.
        """
        folder, totals, counts = self.folder, result.totals, result.totals.counts
        if any(not (folder / shard.path).exists() for shard in totals.shards):
            raise MachineError(
                f"shards are missing from {folder}, where they were written: not all nodes share this folder",
                "use storage that all nodes share" + (", and set GPTCTL_CACHE to it" if self.run.store else ""),
            )
        finalize.write_quarantine(folder, totals.unreadable)
        tolerance, quarantine = Tolerance.from_config(self.config), str(folder / "quarantine.jsonl")
        finalize.check_readable(totals, tolerance, quarantine, self.context.warn)
        shards = finalize.unify_shards(folder, totals.shards, self.storage)
        check_balance(counts)
        if self.run.record["inputs"] is None:
            self.run.record["inputs"] = self.inputs.stream_fingerprint() | self.other_fingerprints
        finalize.flush_names(folder)
        stage = stage_name(self.config)
        declared = Manifest(
            self.kind, stage, self.config.settings(), self.run.record["inputs"], tuple(shards), counts,
            result.metrics, result.tokenizer,
        )  # fmt: skip
        self.summary = self.run.finish(Summary(stage, "done", (self.out,), counts, result.metrics), declared)
        finalize.remove_work_folder(folder)


def check_balance(counts: Counts) -> None:
    """Raise GptctlError (1) if a document is unaccounted for."""
    if not counts.balanced():
        raise GptctlError(
            f"internal error: {counts.documents_in} documents in, but {counts.kept} kept, {counts.dropped.total()} "
            f"dropped and {counts.quarantined.total()} quarantined",
            "the output was not finished; please report this with what --debug shows",
        )


def warn_of_inputs(config: ReadingOptions, context: Context, inputs: Inputs) -> None:
    """Warn of empty files, and of options of reading that no input can need, unless other data is read with them."""
    if empty := inputs.empty_files():
        context.warn(empty)
    reads_more = getattr(config, "against", ()) or getattr(config, "decontaminate", ())
    if not reads_more and (unused := inputs.unused_options()):
        context.warn(unused)


def refuse_rejects(config: ReadingOptions) -> None:
    """Raise UsageError (2) if rejects were to be written to a pipe."""
    if getattr(config, "keep_rejects", False):
        raise UsageError("rejects cannot be written to a pipe", "name a folder with -o, or leave out --keep-rejects")


def refuse_nested(out: str, config: ReadingOptions) -> None:
    """Raise UsageError (2) if OUT is one of the folders that the stage reads, or lies inside one."""
    arguments: tuple[str, ...] = (*getattr(config, "inputs", ()), *getattr(config, "against", ()))
    for argument in arguments:
        if argument != "-" and is_within(plain_path(out), plain_path(argument)):
            raise UsageError(f"the output {out} lies inside the input {argument}", "choose a folder outside it with -o")


def is_within(out: str, source: str) -> bool:
    """Return whether an output is an input folder or lies below it. Both are local or both in object storage."""
    if is_uri(out) and is_uri(source):
        inner, outer = Address.parse(out), Address.parse(source)
        same_store = (inner.scheme, inner.query) == (outer.scheme, outer.query)
        return same_store and f"{inner.path}/".startswith(f"{outer.path}/")
    return not is_uri(out) and Path(source).is_dir() and Path(out).resolve().is_relative_to(Path(source).resolve())
