"""Clean the documents of one task: extract text, filter, look for evaluation data, and edit what is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.summary import Counts
from gptctl.io.dataset.schema import slices, text_bytes, with_kind
from gptctl.io.input.blocks import ReadOptions, ShardTask
from gptctl.pipeline.task_results import TaskOutput, combine_outputs
from gptctl.text.cleaning import contamination, evaluation_data
from gptctl.text.cleaning.document_batch import DocumentBatch
from gptctl.text.cleaning.evaluation_data import EvaluationData
from gptctl.text.cleaning.filter_chain import ConfiguredFilter, apply_filters, load_filter, replace_rows
from gptctl.text.cleaning.findings import (
    EVALUATION_TEXTS,
    FOUND,
    LABEL_COLUMNS,
    LABELS,
    OTHER_LANGUAGE,
    OTHER_LANGUAGES_PREFIX,
    PERSONAL_DATA,
    SEGMENTER_PREFIX,
    STOP_WORDS,
    STOP_WORDS_PREFIX,
)
from gptctl.text.cleaning.html import extract, looks_like_html
from gptctl.text.cleaning.options import CleaningOptions
from gptctl.text.normalize import normalize
from gptctl.text.pii import mask
from gptctl.text.segmentation import segmenters_used
from gptctl.text.words import remove_stop_words

SLICE_BYTES = 2**20


@dataclass(frozen=True)
class CleanTask:
    """Cleans the documents of one task; this is what a worker calls.

    `punkt_parameters` come from a sentence splitter that was trained on the input, or are "". With `keep_rejects`, the
    dropped documents are returned as well.
    """

    options: CleaningOptions
    punkt_parameters: str = ""
    keep_rejects: bool = False

    @cached_property
    def filters(self) -> tuple[ConfiguredFilter, ...]:
        """The chain of filters."""
        return self.options.filter_chain()

    @property
    def evaluation_texts(self) -> EvaluationData:
        """What --decontaminate names, which is read once per process."""
        options, how = self.options, self.options.contamination
        reading = ReadOptions.from_config(options)
        return evaluation_data.read(options.decontaminate, how.text_column, how.words, reading)

    @property
    def by_block(self) -> bool:
        """Whether documents can be cleaned a few at a time, because no filter compares them."""
        return not any(configured.compares_documents for configured in self.filters)

    def __call__(self, task: ShardTask, table: pa.Table) -> TaskOutput:
        """Clean a table in slices, which limits memory and fits the processor's caches."""
        parts = slices(table, SLICE_BYTES) if self.by_block else [table]
        return combine_outputs([self.clean(part) for part in parts])

    def clean(self, table: pa.Table) -> TaskOutput:
        """Clean some documents, and count why the others are dropped."""
        counts = Counts(documents_in=len(table), bytes_in=text_bytes(table))
        stats: Counter[str] = Counter()
        batch, reasons = self.extract_texts(table)
        if self.options.remove_stopwords or (self.filters and not batch.match_datatrove):
            used = segmenters_used(batch.text)
            stats.update({SEGMENTER_PREFIX + name: documents for name, documents in used.items()})
        table, reasons = self._filter(table, batch, reasons, stats)
        table, reasons = self._decontaminate(table, reasons, stats)
        is_kept = pc.is_null(reasons)
        dropped, reasons = table.filter(pc.invert(is_kept)), reasons.filter(pc.invert(is_kept))
        for reason, size in zip(reasons.to_pylist(), pc.binary_length(dropped["text"]).to_pylist(), strict=True):
            counts.dropped[reason] += 1
            counts.dropped_bytes[reason] += size
        if label := next((name for name in LABEL_COLUMNS if name in dropped.column_names), ""):
            stats[FOUND + LABELS + label] += len(dropped) - dropped[label].null_count
        kept = self._identify_language(table.filter(is_kept))
        kept = self._mask_personal_data(kept, stats)
        kept = self._remove_stop_words(kept, stats)
        counts.kept, counts.bytes_kept = len(kept), text_bytes(kept)
        kept = kept.replace_schema_metadata(with_kind(kept.schema, "documents").metadata)
        if not self.keep_rejects:
            return TaskOutput({"": kept}, counts, dict(stats))
        if "reason" in dropped.column_names:  # the input consists of rejects of an earlier run
            dropped = dropped.drop_columns(["reason"])
        rejects = dropped.append_column("reason", reasons)
        return TaskOutput({"": kept}, counts, dict(stats), {"rejects": rejects})

    def extract_texts(self, table: pa.Table) -> tuple[DocumentBatch, pa.StringArray]:
        """Extract the text of HTML pages and normalize all texts.

        Returns the texts, and for pages without an extracted text the reason to drop them.
        """
        options = self.options
        text = table["text"].combine_chunks()
        reasons = pa.nulls(len(text), pa.string())
        if options.html == "auto":
            pages = looks_like_html(text)
        else:
            pages = pa.array([options.html == "always"] * len(text), pa.bool_())
        if pc.any(pages).as_py():
            extracted, page_reasons = extract(text.filter(pages), options.extractor, options.html_seconds)
            text = pc.replace_with_mask(text, pages, extracted)
            reasons = pc.replace_with_mask(reasons, pages, page_reasons)
        if options.normalize:
            text = normalize(text)
        match_datatrove = options.filter_compat == "datatrove"
        return DocumentBatch(text, table, options.words, match_datatrove, self.punkt_parameters), reasons

    def _filter(
        self, table: pa.Table, batch: DocumentBatch, reasons: pa.StringArray, stats: Counter[str]
    ) -> tuple[pa.Table, pa.StringArray]:
        """Apply the filters to all documents that have no reason yet; return texts, columns and reasons for all."""
        has_text = pc.is_null(reasons)
        result = apply_filters(batch.filter(has_text), self.filters)
        rows = pc.indices_nonzero(has_text).to_numpy()
        table = set_column(table, "text", replace_rows(batch.text, rows, result.text))
        for name, values in result.columns.items():
            table = set_column(table, name, replace_rows(pa.nulls(len(table), values.type), rows, values))
        if "language" in result.columns:
            sure = pc.greater_equal(
                result.columns["language_score"], self.options.filter_settings("language").min_score
            )
            is_other = pc.and_(pc.equal(result.reasons, OTHER_LANGUAGE), sure)
            others = result.columns["language"].filter(is_other)
            stats.update(
                {
                    OTHER_LANGUAGES_PREFIX + code: count
                    for code, count in Counter(others.drop_null().to_pylist()).items()
                }
            )
        stats.update(result.stats)
        stats.update({FOUND + name: count for name, count in result.found.items()})
        return table, replace_rows(reasons, rows, result.reasons)

    def _decontaminate(
        self, table: pa.Table, reasons: pa.StringArray, stats: Counter[str]
    ) -> tuple[pa.Table, pa.StringArray]:
        """Drop or mark documents that share a sequence of words with the evaluation data."""
        if not self.options.decontaminate:
            return table, reasons
        index = self.evaluation_texts.index
        contaminated = pa.array(contamination.count_matches(table["text"].combine_chunks(), index) > 0)
        stats[FOUND + EVALUATION_TEXTS] += pc.sum(pc.and_(contaminated, pc.is_null(reasons))).as_py() or 0
        if self.options.contamination.action == "mark":
            stats["contaminated"] += pc.sum(contaminated).as_py() or 0
            return set_column(table, "contaminated", contaminated), reasons
        reason = pa.scalar("contamination.words")
        return table, pc.if_else(pc.and_(contaminated, pc.is_null(reasons)), reason, reasons)

    def _identify_language(self, table: pa.Table) -> pa.Table:
        """Add the columns `language` and `language_score` if there is no language yet."""
        if not self.options.identify_language or "language" in table.column_names:
            return table
        batch = DocumentBatch(table["text"].combine_chunks())
        result = load_filter("language").measure(batch, self.options.filter_settings("language"))
        for name, values in result.columns.items():
            table = set_column(table, name, values)
        return table

    def _mask_personal_data(self, table: pa.Table, stats: Counter[str]) -> pa.Table:
        """Mask personal data and count what was masked."""
        if not self.options.pii:
            return table
        options = self.options.mask
        if self.options.filter_compat == "datatrove":
            options = options.model_copy(update={"style": "datatrove"})
        text, masked = mask(table["text"].combine_chunks(), options)
        stats.update({f"pii: {rule}": count for rule, count in masked.items()})
        stats[FOUND + PERSONAL_DATA] += sum(masked.values())
        return set_column(table, "text", text)

    def _remove_stop_words(self, table: pa.Table, stats: Counter[str]) -> pa.Table:
        """Remove the stop words of a language and record how they were removed."""
        language = self.options.remove_stopwords
        if not language:
            return table
        text = table["text"].combine_chunks()
        text, count, description = remove_stop_words(text, self.options.words, language, self.punkt_parameters)
        stats[FOUND + STOP_WORDS] += count
        stats[STOP_WORDS_PREFIX + description] += len(table)
        return set_column(table, "text", text)


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Replace a column, or append it if the table has no column of this name."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)
