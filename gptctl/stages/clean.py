"""Turn raw files into clean documents: repair, HTML to text, filters; every dropped document has a counted reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import create_model, field_validator

from gptctl.core import plugins
from gptctl.core.config import DataConfig, Values, argument, flag, key
from gptctl.core.context import Context
from gptctl.core.summary import Counts, Summary, funnel
from gptctl.io import dataset, jobs
from gptctl.io.dataset import Made
from gptctl.io.inputs import Inputs
from gptctl.io.jobs import Job, Outcome
from gptctl.io.records import Task
from gptctl.io.schema import with_kind
from gptctl.io.stream import StreamWriter
from gptctl.text.filter_sets import PRESETS
from gptctl.text.html import looks_like_html, to_text
from gptctl.text.normalize import normalize
from gptctl.text.words import Splitter, remove_stop_words

FILTERS = "gptctl.text.filters"
EXAMPLES = (
    "gptctl clean raw.jsonl -o clean",
    "gptctl clean pages/ -o clean --html always --keep-rejects",
    "gptctl clean raw.jsonl -o classic --words nltk --remove-stopwords english",
)


class CleanKeys(DataConfig):
    """Clean documents: repair broken Unicode, turn HTML into text, normalise white space, and drop what filters reject.

    Reads txt, md, html, json, jsonl, csv, parquet, arrow and warc files, also compressed. Lines that cannot be read go
    to quarantine.jsonl.
    """

    inputs: tuple[str, ...] = argument(
        ..., "INPUT...", "Files, folders, globs, URIs, a dataset folder, or - for a pipe."
    )
    out: str = flag(..., "Folder to write, or - for a pipe.", panel="Output", short="-o", runtime=True)
    preset: str = flag("basic", f"Set of filters: {', '.join(PRESETS)}.", panel="Cleaning")
    filters: tuple[str, ...] | None = flag(
        None, "Filters to apply, in order, instead of the preset's: a,b.", panel="Cleaning"
    )
    html: Literal["auto", "always", "never"] = flag(
        "auto", "Turn HTML into text; auto looks at each document.", panel="Cleaning"
    )
    normalize: bool = key(True, "Repair Unicode, line ends, control characters and white space.")
    words: Splitter = flag("regex", "How text is split into words.", panel="Cleaning")
    remove_stopwords: str | None = flag(
        None, "Remove this language's stop words (classic NLP); language models need them.", panel="Cleaning"
    )  # fmt: skip
    keep_rejects: bool = flag(False, "Write dropped documents, with the reason, to OUT/rejects/.", panel="Output")

    @field_validator("preset")
    @classmethod
    def known_preset(cls, value: str) -> str:
        """Refuse an unknown preset."""
        if value not in PRESETS:
            raise ValueError(f"no preset is called '{value}'{plugins.did_you_mean(value, list(PRESETS))}")
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
        """Give the filters of the chosen preset and their settings."""
        preset = PRESETS.get(str(chosen.get("preset", "basic")), {})
        return {"filters": list(preset)} | {name: dict(settings) for name, settings in preset.items() if settings}


def filter_fields() -> dict[str, Any]:
    """Give each filter's settings as a table under its name."""
    modules = {name: plugins.load(FILTERS, name) for name in plugins.names(FILTERS)}
    return {
        name: (module.Config, key(module.Config(), (module.__doc__ or "").splitlines()[0]))
        for name, module in modules.items()
    }


if TYPE_CHECKING:
    Clean = CleanKeys
else:
    Clean = create_model("Clean", __base__=CleanKeys, __module__=__name__, __doc__=CleanKeys.__doc__, **filter_fields())


@dataclass(frozen=True)
class CleanTask:
    """What happens to one task's documents."""

    config: Clean

    def __call__(self, task: Task, table: pa.Table) -> Outcome:
        """Repair, filter, and say why each dropped document went."""
        text = table["text"].combine_chunks() if isinstance(table["text"], pa.ChunkedArray) else table["text"]
        counts = Counts(documents_in=len(table), bytes_in=jobs.text_bytes(table))
        text = self.pages_to_text(text)
        if self.config.normalize:
            text = normalize(text)
        text, reasons = self.filtered(text)
        figures: dict[str, Any] = {}
        if self.config.remove_stopwords:
            text, how = remove_stop_words(text, self.config.words, self.config.remove_stopwords)
            figures["stop_words"] = how
        cleaned = table.set_column(table.column_names.index("text"), "text", text)
        kept = pc.is_null(reasons)
        lost, why = cleaned.filter(pc.invert(kept)), reasons.filter(pc.invert(kept))
        survivors = cleaned.filter(kept)
        counts.kept, counts.bytes_kept = len(survivors), jobs.text_bytes(survivors)
        for reason, size in zip(why.to_pylist(), pc.binary_length(lost["text"]).to_pylist(), strict=True):
            counts.dropped[reason] += 1
            counts.dropped_bytes[reason] += size
        survivors = survivors.replace_schema_metadata(with_kind(survivors.schema, "documents").metadata)
        if not self.config.keep_rejects:
            return Outcome({"": survivors}, counts, figures)
        earlier = [name for name in lost.column_names if name == "reason"]  # rejects that are cleaned again
        rejects = lost.drop_columns(earlier).append_column("reason", why)
        return Outcome({"": survivors}, counts, figures, {"rejects": rejects})

    def pages_to_text(self, text: pa.LargeStringArray) -> pa.LargeStringArray:
        """Turn the documents that are HTML into text."""
        if self.config.html == "never":
            return text
        pages = pa.array([True] * len(text), pa.bool_()) if self.config.html == "always" else looks_like_html(text)
        if not pc.any(pages).as_py():
            return text
        extracted = [to_text(page) for page in text.filter(pages).to_pylist()]
        return pc.replace_with_mask(text, pages, pa.array(extracted, text.type))

    def filtered(self, text: pa.LargeStringArray) -> tuple[pa.LargeStringArray, pa.StringArray]:
        """Say why each document is dropped (the first filter that objects), or null; some filters rewrite text."""
        found = pa.nulls(len(text), pa.string())
        for name in self.config.filters or ():
            kept = pc.is_null(found)
            if not pc.any(kept).as_py():
                break
            module, settings = plugins.load(FILTERS, name), getattr(self.config, name)
            if hasattr(module, "rewrite"):
                changed, verdict = module.rewrite(text.filter(kept), settings)
                text = pc.replace_with_mask(text, kept, changed)
            else:
                verdict = module.reasons(text.filter(kept), settings)
            found = pc.replace_with_mask(found, kept, verdict.cast(pa.string()))
        return text, found


def plan(config: Clean, context: Context) -> Summary:
    """Say what would be done."""
    inputs = Inputs(config.inputs, dataset.options(config))
    facts = {
        "inputs": len(inputs.order),
        "input_bytes": inputs.total_bytes(),
        "filters": list(config.filters or ()),
        "workers": config.worker_count(),
    }
    return Summary("clean", "planned", (config.out,), plan=facts)


def run(config: Clean, context: Context | None = None) -> Summary:
    """Clean the inputs into a dataset folder, or into a pipe."""
    context = context or Context()
    reading = dataset.options(config)
    inputs = Inputs(config.inputs, reading)
    runner = plugins.load("gptctl.runners", config.engine).run

    def make(out: Path | None, pipe: StreamWriter | None) -> Made:
        job = Job(CleanTask(config), reading, out)
        totals = jobs.run(job, inputs.tasks(config.limit), runner, config.worker_count(), context, pipe)
        how = sorted({figures["stop_words"] for figures in totals.figures if "stop_words" in figures})
        return Made(totals, {"stop_words": ", ".join(how)} if how else {})

    summary = dataset.produce(config, config.out, context, inputs, "documents", make)
    if "stop_words" in summary.metrics:
        context.say(f"stop words removed with {summary.metrics['stop_words']}")
    follow = "" if config.out == "-" else f"gptctl dedup {config.out} -o unique"
    return replace(summary, tables=(funnel("clean", summary.counts),), next=follow)
