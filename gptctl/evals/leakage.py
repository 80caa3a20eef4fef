"""Leakage: which evaluation texts are in the training data, as a whole or as 13 consecutive words.

The 13 words are those of Brown et al. 2020, appendix C. Words are compared in lower case and without punctuation. The
training data is scanned shard by shard, in any number of processes. The ids of both sides are reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.evals import training_data
from gptctl.evals.training_data import TrainingShard
from gptctl.executors import Executor
from gptctl.io.input.blocks import ReadOptions, Tolerance
from gptctl.io.input.predictions import Rows
from gptctl.text.cleaning import contamination
from gptctl.text.dedup import shingles
from gptctl.text.dedup.minhash import chunks

WORDS = contamination.NGRAM_WORDS
SHOWN = 20  # training documents listed per evaluation text
NO_TOLERANCE = Tolerance()
EXACT, OVERLAP = "exact", f"{WORDS} words"
Matches: TypeAlias = dict[int, list[tuple[str, str]]]  # index of an evaluation text: (training id, EXACT or OVERLAP)


class ShardMatches(NamedTuple):
    """The matches in a shard of the training data, and the numbers of its documents and unreadable records."""

    matches: Matches
    documents: int
    unreadable: int = 0


@dataclass(frozen=True, eq=False)
class TextIndex:
    """An index of the evaluation texts. It is small and is sent to worker processes."""

    texts: tuple[str, ...]

    @cached_property
    def ngrams(self) -> contamination.NgramIndex:
        """Return an index of all sequences of 13 words; a shorter text is found as a whole only."""
        return contamination.build_index([text_column(self.texts)], WORDS, WORDS)

    @cached_property
    def texts_by_ngram(self) -> dict[int, list[int]]:
        """Return the evaluation texts that contain each sequence of the index."""
        found: defaultdict[int, set[int]] = defaultdict(set)
        for row, ngram in zip(
            *(column.tolist() for column in contamination.find_ngrams(text_column(self.texts), self.ngrams)),
            strict=True,
        ):
            found[ngram].add(row)
        return {ngram: sorted(texts) for ngram, texts in found.items()}

    @cached_property
    def texts_by_hash(self) -> dict[bytes, list[int]]:
        """Return the evaluation texts by the hash of all their words."""
        found: defaultdict[bytes, list[int]] = defaultdict(list)
        for row, key in enumerate(hash_words(text_column(self.texts))):
            if key is not None:
                found[key].append(row)
        return dict(found)

    def find(self, ids: Sequence[str], texts: pa.LargeStringArray) -> Matches:
        """Find the evaluation texts in training documents; a text that is found as a whole is "exact"."""
        found: defaultdict[int, dict[str, str]] = defaultdict(dict)
        for document, key in enumerate(hash_words(texts)):
            for row in self.texts_by_hash.get(key, ()) if key is not None else ():
                found[row][str(ids[document])] = EXACT
        documents, ngrams = contamination.find_ngrams(texts, self.ngrams)
        pairs = np.unique(np.stack((documents, ngrams), axis=1), axis=0)
        for document, ngram in pairs.tolist():
            for row in self.texts_by_ngram[ngram]:
                found[row].setdefault(str(ids[document]), OVERLAP)
        return {row: list(matches.items()) for row, matches in found.items()}


def text_column(texts: Sequence[str]) -> pa.LargeStringArray:
    """Return texts as an Arrow column."""
    return pa.array(texts, pa.large_string())


def hash_words(texts: pa.LargeStringArray) -> list[bytes | None]:
    """Return the hash of all words of each text; None for a text without words."""
    found: list[bytes | None] = []
    for first, last in chunks(texts):
        words, counts = shingles.hashes(texts.slice(first, last - first), shingles.Shingling(ngram=1, segment=False))
        ends = pairwise(shingles.to_offsets(counts).tolist())
        found += [xxhash.xxh3_128_digest(words[start:end].tobytes()) if end > start else None for start, end in ends]
    return found


@dataclass(frozen=True)
class ShardScan:
    """Scans one shard of the training data, in any process."""

    texts: tuple[str, ...]
    reading: ReadOptions

    def __call__(self, shard: TrainingShard) -> ShardMatches:
        """Return the matches in a shard."""
        found = training_data.read_shard(shard, self.reading)
        return ShardMatches(index_of(self.texts).find(found.ids, found.texts), len(found.texts), found.unreadable)


@lru_cache(maxsize=1)
def index_of(texts: tuple[str, ...]) -> TextIndex:
    """Return the index of texts, which is built once per process."""
    return TextIndex(texts)


@dataclass(frozen=True)
class Leakage:
    """The evaluation texts that were found in the training data, and how much of that was read."""

    matches: Matches
    documents: int
    unreadable: int = 0

    @classmethod
    def merge(cls, shards: Iterable[ShardMatches]) -> Leakage:
        """Merge the matches of all shards of the training data, in their order."""
        matches: Matches = {}
        documents = unreadable = 0
        for shard in shards:
            documents, unreadable = documents + shard.documents, unreadable + shard.unreadable
            for row, found in shard.matches.items():
                matches.setdefault(row, []).extend(found)
        return cls(dict(sorted(matches.items())), documents, unreadable)

    def report(self, rows: Rows) -> dict[str, Any]:
        """Return which rows leaked, by their ids and those of the training documents.

        `n` counts rows with any match, `exact` those found as a whole, `documents` the training documents.
        """
        listed = [
            {
                "id": str(rows[row]["id"]),
                "match": EXACT if any(kind == EXACT for _, kind in found) else OVERLAP,
                "train_ids": [identity for identity, _ in found[:SHOWN]],
                "train_documents": len(found),
            }
            for row, found in self.matches.items()
        ]
        return {
            "n": len(listed),
            "exact": sum(item["match"] == EXACT for item in listed),
            "words": WORDS,
            "documents": self.documents,
            "rows": listed,
        }

    def clean_rows(self, rows: Rows) -> Rows:
        """Return the rows that were not found in the training data."""
        return [row for number, row in enumerate(rows) if number not in self.matches]


@dataclass(frozen=True)
class LeakageSearch:
    """A search of training data for evaluation texts, by an executor.

    `tolerance` is how many of the training records may be unreadable.
    """

    training_data: str
    reading: ReadOptions
    executor: Executor
    tolerance: Tolerance = NO_TOLERANCE

    def find(self, texts: tuple[str, ...], context: Context) -> Leakage:
        """Scan all shards of the training data.

        Raises DataError (3) if it has no document or too many unreadable records, or if no evaluation text has a word.
        """
        if not any(key is not None for key in hash_words(text_column(texts))):
            raise DataError("--leakage: no evaluation text has a word to search for", "name DATA with texts")
        reading = replace(self.reading, usual_columns=True)
        shards = training_data.training_shards(self.training_data, reading)
        if column := training_data.describe_column(self.training_data, reading):
            context.info(column)

        def scan() -> Iterable[ShardMatches]:
            found = self.executor.map(ShardScan(texts, reading), shards)
            for number, result in enumerate(found, start=1):
                context.progress(number, len(shards), "training shards")
                context.stop.check("stopped")
                yield result

        found = Leakage.merge(scan())
        records = found.documents + found.unreadable
        if not records:
            raise DataError(f"--leakage: {self.training_data} holds no document", "name the training data")
        if not self.tolerance.accepts(found.unreadable, records):
            raise DataError(
                f"{found.unreadable:,} of {records:,} records of --leakage are unreadable",
                "name the column that holds the text with --text-column; to accept them: --set max_bad=1",
            )
        if found.unreadable:
            context.warn(f"{found.unreadable:,} of {records:,} records of --leakage are unreadable")
        return found
