"""Turn raw files into clean documents: repair, HTML to text, filters; every dropped document has a counted reason."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import create_model, field_validator

from gptctl.core import plugins
from gptctl.core.config import ReadingOptions, Settings, Values, WorkerOptions, argument, flag, key, output
from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.summary import Counts, Summary, Table, funnel
from gptctl.executors import load_executor
from gptctl.io.dataset.schema import slices, text_bytes, with_kind
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.io.input.inputs import Inputs
from gptctl.io.input.read_task import read_task
from gptctl.pipeline.dataset_output import DatasetOutput, StageResult, open_dataset
from gptctl.pipeline.scratch import scratch_folder
from gptctl.pipeline.shard_pipeline import ShardPipeline
from gptctl.pipeline.task_results import TaskOutput, combine_outputs
from gptctl.text import punkt
from gptctl.text.cleaning import contamination, filter_chain
from gptctl.text.cleaning.document_batch import DocumentBatch
from gptctl.text.cleaning.explanation import ExplainedRule
from gptctl.text.cleaning.explanation import explain as explain_rules
from gptctl.text.cleaning.filter_chain import FILTERS, ConfiguredFilter
from gptctl.text.cleaning.filter_presets import PII_PRESETS, PRESETS
from gptctl.text.cleaning.html import Extractor, extract, looks_like_html
from gptctl.text.normalize import normalize
from gptctl.text.pii import Pii, mask
from gptctl.text.words import WordSplitter, describe_splitter, remove_stop_words

EXAMPLES = (
    "gptctl clean raw.jsonl -o clean",
    "gptctl clean pages/ -o clean --html always --keep-rejects",
    "gptctl clean raw.jsonl --preset web --explain d7",
)


# What --dry-run cleans, and Punkt is trained on: the first documents of tasks spread over the input.
SAMPLE_TASKS, SAMPLE_DOCUMENTS = 8, 200
PUNKT_CHARACTERS = 4_000_000  # 8 seconds
SLICE_BYTES = 2**20
KERNELS = ("gptctl.text.kernels.words",)  # starting numba takes longer than most tasks


class Contamination(Settings):
    """What counts as a document that holds evaluation data, and what becomes of it."""

    words: int = key(13, "Words in a row that must stand in evaluation data too.", ge=2)
    action: Literal["drop", "mark"] = key("drop", "drop it, or mark it in the column `contaminated`.")
    text_column: str = key("text", "Column of the evaluation data that is compared.")


class CleanKeys(ReadingOptions, WorkerOptions):
    """Clean documents: repair broken Unicode, turn HTML into text, normalise white space, and drop what filters reject.

    Reads txt, md, html, json, jsonl, csv, parquet, arrow and warc files, also compressed. Lines that cannot be read go
    to quarantine.jsonl.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str | None = output(None, "Folder or URI to write, or - for a pipe.")
    preset: str = flag(
        "basic", f"Set of filters: {', '.join(PRESETS)}.", panel="Cleaning", choices=lambda: PRESETS
    )  # fmt: skip
    filters: tuple[str, ...] | None = flag(
        None,
        "Filters to apply, in order, instead of the preset's: a,b.",
        panel="Cleaning",
        choices=lambda: plugins.names(FILTERS),
    )
    html: Literal["auto", "always", "never"] = flag(
        "auto", "Turn HTML into text; auto looks at each document.", panel="Cleaning"
    )
    extractor: Extractor = key("resiliparse", "What turns HTML into text; trafilatura is an extra.")
    html_seconds: float = key(10.0, "Longest time for one HTML page; a page that takes longer is dropped.", gt=0)
    normalize: bool = key(True, "Repair Unicode, line ends, control characters and white space.")
    words: WordSplitter = flag("regex", "How text is split into words.", panel="Cleaning")
    punkt: Literal["auto", "train"] = key(
        "auto",
        "Sentences for --words nltk: NLTK's data if installed, else untrained; or trained on a sample of the input.",
    )
    identify_language: bool = key(True, "Add the columns language and language_score where there is no language yet.")
    remove_stopwords: str | None = flag(
        None, "Remove this language's stop words (classic NLP); language models need them.", panel="Cleaning"
    )  # fmt: skip
    pii: bool = flag(False, "Replace e-mail addresses, phone and card numbers, keys and the like.", panel="Cleaning")
    mask: Pii = key(Pii(), "What --pii replaces, and by what.")
    decontaminate: tuple[str, ...] = flag(
        (),
        "Evaluation data: documents that share 13 words in a row with it go.",
        panel="Cleaning",
        runtime=True,
        reads=True,
    )
    contamination: Contamination = key(Contamination(), "What --decontaminate compares, and what it does.")
    filter_compat: Literal["none", "datatrove"] = flag(
        "none", "Repeat datatrove's decisions also where they are mistakes.", panel="Cleaning"
    )
    keep_rejects: bool = flag(False, "Write dropped documents, with the reason, to OUT/rejects/.", panel="Output")
    explain: str | None = flag(
        None, "Show every rule's figure for the document with this id; write nothing.", panel="Output", runtime=True
    )  # fmt: skip

    @field_validator("preset")
    @classmethod
    def known_preset(cls, value: str) -> str:
        """Refuse an unknown preset."""
        if value not in PRESETS:
            raise ValueError(f"no preset is called '{value}'{plugins.did_you_mean(value, list(PRESETS))}")
        return value

    @field_validator("decontaminate")
    @classmethod
    def no_pipe(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a pipe, which each worker would have to read."""
        if "-" in value:
            raise ValueError("evaluation data cannot come from a pipe; name files or folders")
        return value

    @field_validator("filters")
    @classmethod
    def known_filters(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Refuse an unknown filter."""
        known = plugins.names(FILTERS)
        for name in value or ():
            if name not in known:
                raise ValueError(
                    f"no filter is called '{name}'{plugins.did_you_mean(name, known)}; known: {', '.join(known)}"
                )
        return value

    @classmethod
    def preset_layer(cls, chosen: Values) -> Values:
        """Return the filters of the chosen preset and their settings; --filters alone means their own defaults."""
        if chosen.get("filters") is not None and "preset" not in chosen:
            return {}
        name = str(chosen.get("preset", "basic"))
        preset = PRESETS.get(name, {})
        settings = {step: dict(values) for step, values in preset.items() if values}
        return {"filters": list(preset), "pii": name in PII_PRESETS} | settings

    def steps(self) -> tuple[ConfiguredFilter, ...]:
        """Return the chain of filters; --language adds its filter in front where the preset has none."""
        names = self.filters or ()
        wanted = getattr(self, "language").languages  # noqa: B009  (the tables of filters are added below)
        if wanted and "language" not in names:
            names = ("language", *names)
        return tuple(ConfiguredFilter(name, getattr(self, name)) for name in names)


def filter_fields() -> dict[str, Any]:
    """Give each filter's settings as a table under its name; `--language en` is short for `language.languages`."""
    fields: dict[str, Any] = {}
    for name in plugins.names(FILTERS):
        module = plugins.load(FILTERS, name)
        settings, help_line = module.Config(), (module.__doc__ or "").splitlines()[0]
        if name == "language":
            help_line = "Keep documents in these languages only: en,de."
            fields[name] = (module.Config, flag(settings, help_line, panel="Cleaning", path="language.languages"))
        else:
            fields[name] = (module.Config, key(settings, help_line))
    return fields


if TYPE_CHECKING:
    Clean = CleanKeys
else:
    Clean = create_model("Clean", __base__=CleanKeys, __module__=__name__, __doc__=CleanKeys.__doc__, **filter_fields())


@dataclass(frozen=True)
class CleanTask:
    """What happens to one task's documents. `punkt`: parameters of a trained sentence splitter, or ""."""

    config: Clean
    punkt: str = ""

    @cached_property
    def steps(self) -> tuple[ConfiguredFilter, ...]:
        """The chain of filters."""
        return self.config.steps()

    def __call__(self, task: ShardTask, table: pa.Table) -> TaskOutput:
        """Clean slice by slice, for memory and the processor's caches."""
        parts = slices(table, SLICE_BYTES) if self.by_block else [table]
        return combine_outputs([self.clean(part) for part in parts])

    @property
    def by_block(self) -> bool:
        """Whether documents can be cleaned a few at a time: no filter compares them."""
        return not any(step.compares_documents for step in self.steps)

    def clean(self, table: pa.Table) -> TaskOutput:
        """Repair, filter, and say why each dropped document went."""
        counts = Counts(documents_in=len(table), bytes_in=text_bytes(table))
        notes: Counter[str] = Counter()
        batch, reasons = self.prepared(table)
        found = filter_chain.apply_filters(batch.filter(pc.is_null(reasons)), self.steps)
        table, reasons = self.merged(batch.table, batch.text, reasons, found)
        notes.update(found.stats)
        kept = pc.is_null(reasons)
        lost, why = table.filter(pc.invert(kept)), reasons.filter(pc.invert(kept))
        survivors = self.finished(table.filter(kept), notes)
        counts.kept, counts.bytes_kept = len(survivors), text_bytes(survivors)
        for reason, size in zip(why.to_pylist(), pc.binary_length(lost["text"]).to_pylist(), strict=True):
            counts.dropped[reason] += 1
            counts.dropped_bytes[reason] += size
        survivors = survivors.replace_schema_metadata(with_kind(survivors.schema, "documents").metadata)
        if not self.config.keep_rejects:
            return TaskOutput({"": survivors}, counts, dict(notes))
        earlier = [name for name in lost.column_names if name == "reason"]  # rejects that are cleaned again
        rejects = lost.drop_columns(earlier).append_column("reason", why)
        return TaskOutput({"": survivors}, counts, dict(notes), {"rejects": rejects})

    def prepared(self, table: pa.Table) -> tuple[DocumentBatch, pa.StringArray]:
        """Turn pages into text and repair it; say which pages could not be read."""
        config = self.config
        text = table["text"].combine_chunks()
        reasons = pa.nulls(len(text), pa.string())
        pages = (
            looks_like_html(text)
            if config.html == "auto"
            else pa.array([config.html == "always"] * len(text), pa.bool_())
        )
        if pc.any(pages).as_py():
            extracted, failed = extract(text.filter(pages), config.extractor, config.html_seconds)
            text = pc.replace_with_mask(text, pages, extracted)
            reasons = pc.replace_with_mask(reasons, pages, failed)
        if config.normalize:
            text = normalize(text)
        return DocumentBatch(text, table, config.words, config.filter_compat == "datatrove", self.punkt), reasons

    def merged(
        self, table: pa.Table, text: pa.LargeStringArray, reasons: pa.StringArray, found: filter_chain.ChainResult
    ) -> tuple[pa.Table, pa.StringArray]:
        """Put what the filters made of the readable documents back among all of them; then look for evaluation data."""
        rows = pc.indices_nonzero(pc.is_null(reasons)).to_numpy()
        text = filter_chain.replace_rows(text, rows, found.text)
        reasons = filter_chain.replace_rows(reasons, rows, found.reasons)
        table = with_column(table, "text", text)
        for name, values in found.columns.items():
            table = with_column(table, name, filter_chain.replace_rows(pa.nulls(len(table), values.type), rows, values))
        if self.config.decontaminate:
            index = evaluation_index(self.config.decontaminate, self.config.contamination)
            hit = pa.array(contamination.count_matches(text, index) > 0)
            if self.config.contamination.action == "mark":
                table = with_column(table, "contaminated", hit)
            else:
                reasons = pc.if_else(pc.and_(hit, pc.is_null(reasons)), pa.scalar("contamination.words"), reasons)
        return table, reasons

    def finished(self, survivors: pa.Table, notes: Counter[str]) -> pa.Table:
        """Name the language of what stays, mask personal data, remove stop words."""
        config = self.config
        if config.identify_language and "language" not in survivors.column_names:
            module = plugins.load(FILTERS, "language")
            settings = getattr(config, "language")  # noqa: B009
            columns = module.measure(DocumentBatch(survivors["text"].combine_chunks()), settings).columns
            for name, values in columns.items():
                survivors = with_column(survivors, name, values)
        if config.pii:
            style = "datatrove" if config.filter_compat == "datatrove" else config.mask.style
            masked, masks = mask(survivors["text"].combine_chunks(), config.mask.model_copy(update={"style": style}))
            survivors = with_column(survivors, "text", masked)
            notes.update({f"pii: {rule}": count for rule, count in masks.items()})
        if config.remove_stopwords:
            text = survivors["text"].combine_chunks()
            text, how = remove_stop_words(text, config.words, config.remove_stopwords, self.punkt)
            survivors = with_column(survivors, "text", text)
            notes[f"removed: {how}"] += len(survivors)
        return survivors


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Replace a column, or add it."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


@lru_cache(maxsize=1)
def evaluation_index(paths: tuple[str, ...], how: Contamination) -> contamination.NgramIndex:
    """Index the evaluation data, once a process. Raises UsageError (2) or DataError (3) as for any input."""
    reading = ReadOptions(text_column=how.text_column)
    tasks = Inputs(paths, reading).tasks()
    return contamination.build_index(
        (read_task(task, reading)[0]["text"].combine_chunks() for task in tasks), how.words
    )


def plan(config: Clean, context: Context) -> Summary:
    """Say what would be done; clean a sample to foretell the funnel."""
    reading = ReadOptions.from_config(config)
    inputs = Inputs(config.inputs, reading)
    facts: dict[str, Any] = {
        "inputs": len(inputs.sources),
        "input_bytes": inputs.total_bytes(),
        "filters": [step.name for step in config.steps()],
        "workers": config.worker_count(),
    }
    outputs = (config.out,) if config.out else ()
    if inputs.is_stream:
        return Summary("clean", "planned", outputs, plan=facts)
    counts = Counts()
    for task in spread(list(inputs.tasks(config.limit))):
        table, bad = read_task(task, reading)
        part = CleanTask(config)(task, table.slice(0, SAMPLE_DOCUMENTS)).counts
        share_read = part.documents_in / len(table) if len(table) else 1.0
        part.documents_in += round(len(bad) * share_read)
        part.quarantined.update(dict(Counter(item.reason for item in bad[: round(len(bad) * share_read)])))
        counts.add(part)
        context.stop.check("stopped")
    facts["sample"] = counts.to_json()
    facts["kept_share"] = round(counts.kept / counts.documents_in, 4) if counts.documents_in else None
    return Summary("clean", "planned", outputs, plan=facts, tables=(funnel("foretold by a sample", counts),))


def spread(tasks: list[ShardTask]) -> list[ShardTask]:
    """Choose a few tasks from all over the input."""
    few = min(len(tasks), SAMPLE_TASKS)
    return [tasks[i * len(tasks) // few] for i in range(few)]


def train_punkt(config: Clean, reading: ReadOptions, tasks: list[ShardTask]) -> str:
    """Train the sentence splitter on the first documents of some tasks."""
    texts: list[str] = []
    for task in spread(tasks):
        table = read_task(task, reading)[0].slice(0, SAMPLE_DOCUMENTS)
        batch, reasons = CleanTask(config).prepared(table)
        found = batch.filter(pc.is_null(reasons)).text.to_pylist()
        ends = accumulate(map(len, found))
        texts += [text for text, end in zip(found, ends, strict=True) if end <= PUNKT_CHARACTERS // SAMPLE_TASKS]
    return punkt.train(texts)


def run(config: Clean, context: Context | None = None) -> Summary:
    """Clean the inputs into a dataset folder, or into a pipe."""
    context = context or Context()
    if config.explain is not None:
        return explain(config, config.explain)
    if config.out is None:
        raise UsageError("-o is missing", "name the folder to write, or - for a pipe")
    reading = ReadOptions.from_config(config)
    inputs = Inputs(config.inputs, reading)
    also = {}
    if config.decontaminate:
        found = Inputs(config.decontaminate, reading).fingerprints() or {}
        also = {f"decontaminate {name}": value for name, value in found.items()}
    with open_dataset(config.out, "documents", config, context, inputs, also) as dataset:
        if not dataset.up_to_date:
            dataset.commit(clean_documents(config, context, inputs, dataset))
    summary = dataset.summary
    if how := summary.metrics.get("stop_words"):
        context.info(f"stop words removed with {how}")
    follow = "" if config.out == "-" else f"gptctl dedup {shlex.quote(config.out)} -o unique"
    tables = [funnel("clean", summary.counts)]
    if changes := summary.metrics.get("changed"):
        tables.append(Table("changed", ("", "times"), tuple((name, f"{n:,}") for name, n in changes.items())))
    return replace(summary, tables=tuple(tables), next=follow)


def clean_documents(config: Clean, context: Context, inputs: Inputs, dataset: DatasetOutput) -> StageResult:
    """Clean all documents and write them to the dataset."""
    options = ReadOptions.from_config(config)
    with scratch_folder(dataset.folder) as scratch:
        trained = ""
        tasks: Callable[[], Iterator[ShardTask]] = partial(inputs.tasks, config.limit)
        if config.words == "nltk" and config.punkt == "train":
            tasks = inputs.repeatable_tasks(scratch, config.limit)
            trained = train_punkt(config, options, list(tasks()))
        transform = CleanTask(config, trained)
        pipeline = ShardPipeline(
            transform,
            options,
            dataset.folder,
            preload=KERNELS if transform.steps else (),
            in_groups=transform.by_block,
        )
        totals = pipeline.run(tasks(), load_executor(config), context, dataset.pipe)
    return StageResult(totals, figures(totals.stats) | {"words": describe_splitter(config.words, trained)})


def figures(parts: list[dict[str, int]]) -> dict[str, Any]:
    """Sum what the tasks noted; say which list of stop words ran."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    made: dict[str, Any] = {}
    removed = [name.removeprefix("removed: ") for name in total if name.startswith("removed: ")]
    if removed:
        made["stop_words"] = ", ".join(sorted(removed))
    changed = {name: count for name, count in sorted(total.items()) if count and not name.startswith("removed: ")}
    return made | ({"changed": changed} if changed else {})


def explain(config: Clean, wanted: str) -> Summary:
    """Show each rule's figure against its threshold for one document. Raises UsageError (2) if there is none."""
    reading = ReadOptions.from_config(config)
    task_of = CleanTask(config)
    for task in Inputs(config.inputs, reading).tasks(config.limit):
        table, _ = read_task(task, reading)
        row = pc.index(table["id"], pa.scalar(wanted)).as_py()
        if row < 0:
            continue
        batch, reasons = task_of.prepared(table)
        if reasons[row].is_valid:
            raise UsageError(f"document {wanted} is not readable: {reasons[row]}", "see --set html_seconds")
        found = list(explain_rules(batch, task_of.steps, row))
        kept = task_of(task, table).tables[""]
        verdict = "kept" if pc.index(kept["id"], pa.scalar(wanted)).as_py() >= 0 else "dropped"
        metrics = {"id": wanted, "verdict": verdict, "rules": [item.to_json() for item in found]}
        shown = Table(f"{wanted}: {verdict}", ExplainedRule.COLUMNS, tuple(item.row() for item in found))
        return Summary("clean", "explained", metrics=metrics, tables=(shown,))
    raise UsageError(f"no document has the id '{wanted}'", "gptctl inspect shows ids; --id-column names their column")
