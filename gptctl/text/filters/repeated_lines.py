"""Remove lines and paragraphs that stand in many documents: menus, footers, notices, licence headers.

Documents are compared within one shard task, which the input alone decides, so the number of workers changes nothing.
More documents to a task find more. Wenzek et al. 2020, "CCNet", remove repeated paragraphs of web pages by shards too.

What this filter leaves it leaves again: removing goes on until no line or paragraph is left that stands in too many
documents. Only `min_document_share` can find more in a second run, where documents have gone in between.
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
from gptctl.text.cleaning.batch import Batch, Measured, Rule

COMPARES_DOCUMENTS = True  # of all the batch: it must not be cut into slices
# Odd numbers with well-mixed bits: 2**64 divided by the golden ratio, and SplitMix64's first multiplier.
GOLDEN, MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


class Config(Settings):
    """What counts as repeated.

    At five documents and 20 characters, whole paragraphs are 18 % of 915 pages of program documentation, 0.5 % of the
    1,790 files of Python's library and nothing of 2,000 film reviews. Single lines are 18 %, 6 % and 0.1 %: in code,
    lines such as `if __name__ == "__main__":`, and what stands below them would no longer run. Of those pages, 74 keep
    less than a fifth: all but one hold a single sentence of their own, such as "No usage of java.awt.CardLayout".
    """

    unit: Literal["line", "paragraph", "both"] = key(
        "paragraph", "What is compared: lines, which breaks code, or paragraphs, the lines between two blank ones."
    )
    min_documents: int = key(5, "Fewest documents that have a line or paragraph that goes.", ge=2)
    min_document_share: float = key(0.0, "Smallest share of a task's documents that have it, too.", ge=0, le=1)
    min_chars: int = key(20, "Shortest line or paragraph that can go, in characters without indentation.", ge=1)
    min_kept_share: float = key(0.2, "Smallest share of its characters that a document must keep.", ge=0, le=1)


def rules(config: Config) -> tuple[Rule, ...]:
    """Return the rule; a document without characters is never dropped by it."""
    return (Rule("only_boilerplate", "share of characters kept", config.min_kept_share, above=False),)


def measure(batch: Batch, config: Config) -> Measured:
    """Rewrite the documents that have repeated lines and stay; where lines went, at most one blank line is left.

    Notes: `repeated_lines` and `repeated_line_bytes` (without line ends) are what went out of them.
    """
    lines = Lines.split(batch.text)
    gone = _repeated(lines, len(batch), config)
    total = np.bincount(lines.document, lines.chars, len(batch))
    left = np.bincount(lines.document, lines.chars * ~gone, len(batch))
    shares = np.divide(left, total, out=np.full(len(batch), np.nan), where=total > 0)
    gone &= ~(shares < config.min_kept_share)[lines.document]
    size = pc.sum(pc.binary_length(lines.text.filter(pa.array(gone)))).as_py() or 0
    notes = {"repeated_lines": int(gone.sum()), "repeated_line_bytes": size}
    return Measured(shares[:, None], _without(batch.text, lines, gone) if gone.any() else None, notes=notes)


@dataclass(frozen=True)
class Lines:
    """All lines of a batch: their text, the document of each, a number equal for lines that differ in indentation only,
    and their characters without indentation (0 for blank lines).
    """

    text: pa.LargeStringArray
    document: NDArray[np.int64]
    code: NDArray[np.int64]
    chars: NDArray[np.int64]

    @classmethod
    def split(cls, text: pa.LargeStringArray) -> Lines:
        """Split documents at line feeds; a null is an empty line."""
        split = pc.split_pattern(pc.fill_null(text, ""), "\n")
        document = np.repeat(np.arange(len(text)), np.diff(split.offsets.to_numpy()))
        flat = pc.list_flatten(split)
        raw = flat.dictionary_encode()
        trimmed = pc.utf8_trim_whitespace(raw.dictionary).dictionary_encode()
        code = trimmed.indices.to_numpy()[raw.indices.to_numpy()].astype(np.int64)
        chars = pc.utf8_length(trimmed.dictionary).to_numpy().astype(np.int64)
        return cls(flat, document, code, chars[code] if len(code) else code)

    @cached_property
    def blank(self) -> NDArray[np.bool_]:
        """Mark lines of white space only."""
        return np.asarray(self.chars == 0)


def _repeated(lines: Lines, documents: int, config: Config) -> NDArray[np.bool_]:
    """Mark the lines that go. Where a line has left a paragraph, the rest may now be a repeated one: look again."""
    gone = np.zeros(len(lines.text), np.bool_)
    while True:
        left = np.flatnonzero(~gone)
        found = np.zeros(len(left), np.bool_)
        if config.unit != "paragraph":
            found |= _frequent(lines.code[left], lines.document[left], lines.chars[left], config, documents)
        if config.unit != "line":
            found |= _in_frequent_paragraph(lines, left, documents, config)
        if not found.any():
            return gone
        gone[left[found]] = True


def _in_frequent_paragraph(lines: Lines, left: NDArray[np.int64], documents: int, config: Config) -> NDArray[np.bool_]:
    """Mark lines of paragraphs that go. Two different paragraphs have the same key with odds of 2**-64."""
    solid, document = ~lines.blank[left], lines.document[left]
    begins = solid.copy()
    begins[1:] &= ~solid[:-1] | (document[1:] != document[:-1])
    rows = np.flatnonzero(solid)
    starts = np.flatnonzero(begins[rows])
    if not len(starts):
        return solid
    paragraph = np.cumsum(begins[rows]) - 1
    position = np.arange(len(rows)) - starts[paragraph]
    mixed = lines.code[left[rows]].astype(np.uint64) * GOLDEN + position.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * MIXER
    keys = np.add.reduceat(mixed ^ (mixed >> np.uint64(27)), starts)
    chars = np.add.reduceat(lines.chars[left[rows]], starts)
    found = np.zeros(len(left), np.bool_)
    found[rows] = _frequent(keys, document[rows[starts]], chars, config, documents)[paragraph]
    return found


def _frequent(
    keys: NDArray[np.generic], document: NDArray[np.int64], chars: NDArray[np.int64], config: Config, documents: int
) -> NDArray[np.bool_]:
    """Mark the items whose key stands in enough of all `documents`, and that are not too short."""
    found = chars >= config.min_chars
    rows = np.flatnonzero(found)
    needed = max(config.min_documents, int(np.ceil(config.min_document_share * documents)))
    _, item, occurrences = np.unique(keys[rows], return_inverse=True, return_counts=True)
    often = occurrences[item] >= needed
    pairs = np.unique(item[often] * documents + document[rows[often]])
    holders = np.bincount(pairs // documents, minlength=len(occurrences))
    found[rows] = holders[item] >= needed
    return found


def _without(text: pa.LargeStringArray, lines: Lines, gone: NDArray[np.bool_]) -> pa.LargeStringArray:
    """Join the lines that stay, in the documents that lose some."""
    changed = np.bincount(lines.document[gone], minlength=len(text)) > 0
    keep = changed[lines.document] & ~gone & ~_loose_blanks(lines, gone)
    counts = np.bincount(lines.document[keep], minlength=len(text))[changed]
    bounds = np.concatenate(([0], np.cumsum(counts)))
    ends = np.zeros(bounds[-1], np.int8)
    ends[bounds[1:][counts > 0] - 1] = 1
    breaks = pa.array(["\n", ""], pa.large_string()).take(pa.array(ends))
    joined = pc.binary_join_element_wise(lines.text.filter(pa.array(keep)), breaks, pa.scalar("", pa.large_string()))
    starts = np.zeros(1, np.int64) if not len(joined) else np.frombuffer(joined.buffers()[1], np.int64)
    rewritten = pa.LargeStringArray.from_buffers(len(counts), pa.py_buffer(starts[bounds]), joined.buffers()[2])
    return pc.replace_with_mask(text, pa.array(changed), rewritten)


def _loose_blanks(lines: Lines, gone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark blank lines that go with what they set apart: all at a document's start or end, elsewhere all but one."""
    solid = ~lines.blank & ~gone
    # Lines between the same two solid ones of the same document have the same number.
    before = np.cumsum(solid)
    gap = before + lines.document
    blanks = np.flatnonzero(lines.blank & (np.bincount(gap, gone) > 0)[gap])
    document = lines.document[blanks]
    firsts = np.searchsorted(lines.document, document)
    lasts = np.searchsorted(lines.document, document, "right") - 1
    edge = (before[blanks] == before[firsts] - solid[firsts]) | (before[blanks] == before[lasts])
    loose = np.zeros(len(gone), np.bool_)
    loose[blanks] = edge
    loose[blanks[1:]] |= gap[blanks[1:]] == gap[blanks[:-1]]
    return loose
