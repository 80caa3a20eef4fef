"""Which evaluation texts stood in the training data: 13 words in a row (Brown et al. 2020, appendix C), or all of it.

Two texts are the same where their words are, in lower case and without punctuation. The training data is scanned in
tasks, in any number of processes; each gives what it found, as plain lists, and the ids of both sides are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

from gptctl.evals import training_data
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.evals.training_data import Part
from gptctl.io.input.blocks import ReadOptions
from gptctl.text.cleaning import contamination
from gptctl.text.dedup import shingles
from gptctl.text.dedup.minhash import chunks

WORDS = contamination.WORDS
SHOWN = 20  # training documents listed per evaluation text
EXACT, RUN = "exact", f"{WORDS} words"
Hits: TypeAlias = dict[int, list[tuple[str, str]]]  # row of an evaluation text: (training id, how it matches)


@dataclass(frozen=True, eq=False)
class Probe:
    """What is looked for: the evaluation texts, in their order. It is small and travels to worker processes."""

    texts: tuple[str, ...]

    @cached_property
    def index(self) -> contamination.Index:
        """Index all runs of 13 words; a shorter text is found as a whole only."""
        return contamination.build([column(self.texts)], WORDS, WORDS)

    @cached_property
    def rows_of_gram(self) -> dict[int, list[int]]:
        """Return the evaluation texts that hold each gram of the index."""
        found: defaultdict[int, set[int]] = defaultdict(set)
        for row, gram in zip(
            *(part.tolist() for part in contamination.grams_in(column(self.texts), self.index)), strict=True
        ):
            found[gram].add(row)
        return {gram: sorted(holders) for gram, holders in found.items()}

    @cached_property
    def rows_of_whole(self) -> dict[bytes, list[int]]:
        """Return the evaluation texts by the hash of all their words."""
        found: defaultdict[bytes, list[int]] = defaultdict(list)
        for row, key in enumerate(wholes(column(self.texts))):
            if key is not None:
                found[key].append(row)
        return dict(found)

    def scan(self, ids: Sequence[str], text: pa.LargeStringArray) -> Hits:
        """Find the evaluation texts in some training documents; one that is there as a whole is "exact"."""
        found: defaultdict[int, dict[str, str]] = defaultdict(dict)
        for document, key in enumerate(wholes(text)):
            for row in self.rows_of_whole.get(key, ()) if key is not None else ():
                found[row][str(ids[document])] = EXACT
        documents, grams = contamination.grams_in(text, self.index)
        pairs = np.unique(np.stack((documents, grams), axis=1), axis=0)
        for document, gram in pairs.tolist():
            for row in self.rows_of_gram[gram]:
                found[row].setdefault(str(ids[document]), RUN)
        return {row: list(matches.items()) for row, matches in found.items()}


def column(texts: Sequence[str]) -> pa.LargeStringArray:
    """Make a column of texts."""
    return pa.array(texts, pa.large_string())


def wholes(text: pa.LargeStringArray) -> list[bytes | None]:
    """Hash all words of each text; None for a text without words."""
    found: list[bytes | None] = []
    for first, last in chunks(text):
        words, counts = shingles.hashes(text.slice(first, last - first), shingles.Shingling(ngram=1))
        ends = pairwise(shingles.to_offsets(counts).tolist())
        found += [xxhash.xxh3_128_digest(words[start:end].tobytes()) if end > start else None for start, end in ends]
    return found


@dataclass(frozen=True)
class Scan:
    """Look through one part of the training data, in any process."""

    texts: tuple[str, ...]
    reading: ReadOptions

    def __call__(self, part: Part) -> tuple[Hits, int]:
        """Return what was found, and how many documents were looked through."""
        ids, text = training_data.read(part, self.reading)
        return probe_of(self.texts).scan(ids, text), len(text)


@lru_cache(maxsize=1)
def probe_of(texts: tuple[str, ...]) -> Probe:
    """Make a probe, once a process."""
    return Probe(texts)


def merge(parts: Iterable[tuple[Hits, int]]) -> tuple[Hits, int]:
    """Put together what was found in all parts of the training data, in its order, and count its documents."""
    found: Hits = {}
    documents = 0
    for part, looked_through in parts:
        documents += looked_through
        for row, matches in part.items():
            found.setdefault(row, []).extend(matches)
    return dict(sorted(found.items())), documents


def describe(rows: Rows, hits: Hits, documents: int) -> Values:
    """Report which rows leaked, by their ids and those of the training documents.

    `n` counts rows of which anything was found, `exact` those found as a whole, `documents` what was looked through.
    """
    listed = [
        {
            "id": str(rows[row]["id"]),
            "match": EXACT if any(how == EXACT for _, how in matches) else RUN,
            "train_ids": [identity for identity, _ in matches[:SHOWN]],
            "train_documents": len(matches),
        }
        for row, matches in hits.items()
    ]
    return {
        "n": len(listed),
        "exact": sum(item["match"] == EXACT for item in listed),
        "words": WORDS,
        "documents": documents,
        "rows": listed,
    }


def clean_rows(rows: Rows, hits: Hits) -> Rows:
    """Return the rows that were not found in the training data."""
    return [row for number, row in enumerate(rows) if number not in hits]
