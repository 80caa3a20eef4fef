"""Remove lines and paragraphs that occur in many documents: menus, footers, notices, licence headers.

Documents are compared within one task. The input alone decides which documents form a task, so the number of workers
does not change the result. Larger tasks find more repetition. Wenzek et al. 2020, "CCNet", also remove repeated
paragraphs of web pages shard by shard.

A second run finds nothing more: lines are removed until no line or paragraph occurs in too many documents. The one
exception is `min_document_share` if documents were dropped in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.config import Settings, key
from gptctl.text.filters import DocumentBatch, FilterResult, Rule

COMPARES_DOCUMENTS = True
# Odd numbers with well-mixed bits: 2**64 divided by the golden ratio, and SplitMix64's first multiplier.
GOLDEN, MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


class Config(Settings):
    """What counts as repeated.

    With five documents and 20 characters, repeated paragraphs are 18 % of 915 pages of program documentation, 0.5 % of
    the 1,790 files of Python's library and 0 % of 2,000 film reviews. Repeated lines are 18 %, 6 % and 0.1 %. In code
    these are lines such as `if __name__ == "__main__":`, and the code below them no longer runs without them. 74 of
    those pages keep less than a fifth of their text: all but one of the 74 have only one sentence of their own, such as
    "No usage of java.awt.CardLayout".
    """

    unit: Literal["line", "paragraph", "both"] = key(
        "paragraph", "What is compared: lines (this breaks code), paragraphs (lines between two blank lines), or both."
    )
    min_documents: int = key(5, "A line or paragraph is removed if at least this many documents have it.", ge=2)
    min_document_share: float = key(0.0, "And if at least this share of the documents of a task have it.", ge=0, le=1)
    min_chars: int = key(20, "Shortest line or paragraph that is removed, in characters without indentation.", ge=1)
    min_kept_share: float = key(0.2, "Drop documents that keep a smaller share of their characters.", ge=0, le=1)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rule. It never drops a document without characters."""
    return (Rule("min_kept_share", "share of characters kept", config.min_kept_share, "below"),)


def measure(batch: DocumentBatch, config: Config) -> FilterResult:
    """Remove repeated lines from the documents that are kept; where lines were removed, at most one blank line remains.

    The stats `repeated_lines` and `repeated_line_bytes` (without line ends) count what was removed.
    """
    lines = Lines.split(batch.text)
    removed = _find_repeated(lines, len(batch), config)
    total = np.bincount(lines.document, lines.chars, len(batch))
    kept = np.bincount(lines.document, lines.chars * ~removed, len(batch))
    shares = np.divide(kept, total, out=np.full(len(batch), np.nan), where=total > 0)
    removed &= ~(shares < config.min_kept_share)[lines.document]
    size = pc.sum(pc.binary_length(lines.text.filter(pa.array(removed)))).as_py() or 0
    stats = {"repeated_lines": int(removed.sum()), "repeated_line_bytes": size}
    text = _remove_lines(batch.text, lines, removed) if removed.any() else None
    return FilterResult(shares[:, None], text, stats=stats)


@dataclass(frozen=True)
class Lines:
    """All lines of a batch, without their line ends.

    `document` is the document of each line. Lines that differ only in indentation have the same `number`. `chars`
    counts characters without indentation; it is 0 for blank lines.
    """

    text: pa.LargeStringArray
    document: NDArray[np.int64]
    number: NDArray[np.int64]
    chars: NDArray[np.int64]

    @classmethod
    def split(cls, text: pa.LargeStringArray) -> Lines:
        """Split documents at line feeds; a null is one empty line."""
        split = pc.split_pattern(pc.fill_null(text, ""), "\n")
        document = np.repeat(np.arange(len(text)), np.diff(split.offsets.to_numpy()))
        flat = pc.list_flatten(split)
        raw = flat.dictionary_encode()
        trimmed = pc.utf8_trim_whitespace(raw.dictionary).dictionary_encode()
        number = trimmed.indices.to_numpy()[raw.indices.to_numpy()].astype(np.int64)
        chars = pc.utf8_length(trimmed.dictionary).to_numpy().astype(np.int64)
        return cls(flat, document, number, chars[number] if len(number) else number)

    @cached_property
    def blank(self) -> NDArray[np.bool_]:
        """Which lines are empty or white space."""
        return np.asarray(self.chars == 0)


def _find_repeated(lines: Lines, documents: int, config: Config) -> NDArray[np.bool_]:
    """Mark the lines to remove.

    The search is repeated until it finds nothing: what remains of a paragraph can be a repeated paragraph itself.
    """
    removed = np.zeros(len(lines.text), np.bool_)
    while True:
        rows = np.flatnonzero(~removed)
        found = np.zeros(len(rows), np.bool_)
        if config.unit != "paragraph":
            found |= _is_frequent(lines.number[rows], lines.document[rows], lines.chars[rows], config, documents)
        if config.unit != "line":
            found |= _in_frequent_paragraph(lines, rows, documents, config)
        if not found.any():
            return removed
        removed[rows[found]] = True


def _in_frequent_paragraph(lines: Lines, rows: NDArray[np.int64], documents: int, config: Config) -> NDArray[np.bool_]:
    """Mark which of some lines are in a repeated paragraph.

    Paragraphs are compared by a 64-bit hash: two different ones are taken for equal with probability 2**-64.
    """
    visible, document = ~lines.blank[rows], lines.document[rows]
    begins = visible.copy()
    begins[1:] &= ~visible[:-1] | (document[1:] != document[:-1])
    visible_rows = np.flatnonzero(visible)
    starts = np.flatnonzero(begins[visible_rows])
    if not len(starts):
        return visible
    paragraph = np.cumsum(begins[visible_rows]) - 1
    position = np.arange(len(visible_rows)) - starts[paragraph]
    mixed = lines.number[rows[visible_rows]].astype(np.uint64) * GOLDEN + position.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * MIXER
    hashes = np.add.reduceat(mixed ^ (mixed >> np.uint64(27)), starts)
    chars = np.add.reduceat(lines.chars[rows[visible_rows]], starts)
    found = np.zeros(len(rows), np.bool_)
    frequent = _is_frequent(hashes, document[visible_rows[starts]], chars, config, documents)
    found[visible_rows] = frequent[paragraph]
    return found


def _is_frequent(
    keys: NDArray[np.generic], document: NDArray[np.int64], chars: NDArray[np.int64], config: Config, documents: int
) -> NDArray[np.bool_]:
    """Mark the items that are long enough and whose key occurs in enough of all `documents`."""
    found = chars >= config.min_chars
    rows = np.flatnonzero(found)
    needed = max(config.min_documents, int(np.ceil(config.min_document_share * documents)))
    _, item, occurrences = np.unique(keys[rows], return_inverse=True, return_counts=True)
    candidates = occurrences[item] >= needed
    pairs = np.unique(item[candidates] * documents + document[rows[candidates]])
    document_counts = np.bincount(pairs // documents, minlength=len(occurrences))
    found[rows] = document_counts[item] >= needed
    return found


def _remove_lines(text: pa.LargeStringArray, lines: Lines, removed: NDArray[np.bool_]) -> pa.LargeStringArray:
    """Return the texts without the removed lines. Documents that lose none keep every byte."""
    changed = np.bincount(lines.document[removed], minlength=len(text)) > 0
    keep = changed[lines.document] & ~removed & ~_find_superfluous_blanks(lines, removed)
    counts = np.bincount(lines.document[keep], minlength=len(text))[changed]
    bounds = np.concatenate(([0], np.cumsum(counts)))
    is_last = np.zeros(bounds[-1], np.int8)
    is_last[bounds[1:][counts > 0] - 1] = 1
    line_ends = pa.array(["\n", ""], pa.large_string()).take(pa.array(is_last))
    joined = pc.binary_join_element_wise(lines.text.filter(pa.array(keep)), line_ends, pa.scalar("", pa.large_string()))
    starts = np.zeros(1, np.int64) if not len(joined) else np.frombuffer(joined.buffers()[1], np.int64)
    rewritten = pa.LargeStringArray.from_buffers(len(counts), pa.py_buffer(starts[bounds]), joined.buffers()[2])
    return pc.replace_with_mask(text, pa.array(changed), rewritten)


def _find_superfluous_blanks(lines: Lines, removed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the blank lines next to removed lines: all at the start or end of a document, elsewhere all but one."""
    visible = ~lines.blank & ~removed
    # All lines between the same two visible lines of a document have the same gap number.
    visible_before = np.cumsum(visible)
    gap = visible_before + lines.document
    blanks = np.flatnonzero(lines.blank & (np.bincount(gap, removed) > 0)[gap])
    document = lines.document[blanks]
    first = np.searchsorted(lines.document, document)
    last = np.searchsorted(lines.document, document, "right") - 1
    before = visible_before[blanks]
    superfluous = np.zeros(len(removed), np.bool_)
    superfluous[blanks] = (before == visible_before[first] - visible[first]) | (before == visible_before[last])
    superfluous[blanks[1:]] |= gap[blanks[1:]] == gap[blanks[:-1]]
    return superfluous
