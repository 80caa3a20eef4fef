"""Words of a text, stop words of a language, and texts without them: the classic preparation for counting words.

Nothing is downloaded: where NLTK's data is not installed, what is used instead is named in what the functions return.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gptctl.core.plugins import unknown

Splitter = Literal["regex", "nltk"]

# Runs of word characters, and runs of anything else that is not white space: 28 MB/s, where NLTK's splitter does 1.6.
WORD = re.compile(r"\w+|[^\w\s]+")


def words(text: str, splitter: Splitter) -> list[str]:
    """Split a text into words and punctuation.

    "nltk" finds sentences, then splits them as the Penn Treebank does: "don't" gives "do", "n't"; quotes become ``
    and ''.
    """
    return split_function(splitter)(text)


def split_function(splitter: Splitter, punkt: str = "") -> Callable[[str], list[str]]:
    """Return the function that splits one text; for many texts this saves looking it up each time.

    `punkt`: parameters of a sentence splitter that gptctl.text.punkt has trained, for "nltk".
    """
    return WORD.findall if splitter == "regex" else _nltk(punkt)[0]


@dataclass(frozen=True)
class Words:
    """The words of a batch of documents.

    `data`: all words' UTF-8 bytes, one after another with nothing between. `starts` (words + 1): where each begins in
    `data`. `first`, `last` (documents): the range of a document's words, its end exclusive.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def only(self, kept: NDArray[np.bool_]) -> Words:
        """Return the words of some documents; the bytes stay shared."""
        fewer = replace(self, first=self.first[kept], last=self.last[kept])
        if "traits" in self.__dict__:
            fewer.__dict__["traits"] = self.traits
        return fewer

    def counts(self) -> NDArray[np.int64]:
        """Count each document's words."""
        return self.last - self.first

    def texts(self, document: int) -> list[str]:
        """Return one document's words as strings."""
        bounds = self.starts[self.first[document] : self.last[document] + 1].tolist()
        data = self.data[bounds[0] : bounds[-1]].tobytes()
        return [data[a - bounds[0] : b - bounds[0]].decode() for a, b in pairwise(bounds)]

    @cached_property
    def traits(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Each word's number of characters, and whether it has a letter (1) or is punctuation only (2)."""
        from gptctl.text.kernels.characters import kinds
        from gptctl.text.kernels.words import describe_words

        characters = np.empty(len(self.starts) - 1, np.int32)
        traits = np.empty(len(self.starts) - 1, np.uint8)
        describe_words(self.data, self.starts, kinds(), characters, traits)
        return characters, traits


def count_batch(text: pa.LargeStringArray, splitter: Splitter, punkt: str = "") -> NDArray[np.int64]:
    """Count the words of each document of a column."""
    return _sizes(text)[0] if splitter == "regex" else split_batch(text, splitter, punkt).counts()


def _sizes(text: pa.LargeStringArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count each document's words, and their bytes."""
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.words import count_words

    counts, sizes = np.empty(len(text), np.int64), np.empty(len(text), np.int64)
    count_words(*buffers(text), kinds(), counts, sizes)
    return counts, sizes


def split_batch(text: pa.LargeStringArray, splitter: Splitter, punkt: str = "") -> Words:
    """Split all documents of a column into words. A null has none."""
    if splitter != "regex":
        split = split_function(splitter, punkt)
        return _join([split(doc or "") for doc in text.to_pylist()])
    from gptctl.text.kernels.characters import buffers, kinds
    from gptctl.text.kernels.words import split_words

    data, offsets = buffers(text)
    counts, sizes = _sizes(text)
    joined = np.empty(max(1, int(sizes.sum())), np.uint8)
    starts = np.empty(int(counts.sum()) + 1, np.int64)
    split_words(data, offsets, kinds(), joined, starts)
    last = np.cumsum(counts)
    return Words(joined, starts, last - counts, last)


def _join(documents: list[list[str]]) -> Words:
    encoded = [word.encode() for words in documents for word in words]
    starts = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
    last = np.fromiter(accumulate(map(len, documents)), np.int64, len(documents))
    lengths = np.fromiter(map(len, documents), np.int64, len(documents))
    return Words(np.frombuffer(b"".join(encoded) or b"\0", np.uint8), starts, last - lengths, last)


def describe(splitter: Splitter, punkt: str = "") -> str:
    """Say which splitter really runs, for manifests."""
    return "regex words" if splitter == "regex" else _nltk(punkt)[1]


@cache
def _nltk(punkt: str = "") -> tuple[Callable[[str], list[str]], str]:
    from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer, punkt_model_available, sent_tokenize

    split_sentence: Callable[[str], list[str]] = NLTKWordTokenizer().tokenize
    split_text: Callable[[str], list[str]]
    if punkt:
        from gptctl.text import punkt as trained

        split_text = trained.splitter(punkt)
        note = "nltk words (punkt trained on this input)"
    elif punkt_model_available():
        split_text = sent_tokenize
        note = "nltk words (punkt_tab)"
    else:
        # Not trained on the batch at hand: a document's words must not depend on its neighbours.
        split_text = PunktSentenceTokenizer().tokenize
        note = "nltk words (no punkt data: untrained)"

    def split(text: str) -> list[str]:
        return [word for sentence in split_text(text) for word in split_sentence(sentence)]

    return split, note


def stop_words(language: str) -> tuple[frozenset[str], str]:
    """Return a language's stop words, lower case, and which list they are: "nltk:english" or "packaged:english".

    Raises UsageError for a language without a list; its hint names those there are.
    """
    corpus = _nltk_stop_words()
    if corpus is not None:
        known = sorted(corpus.fileids())
        if language in known:
            return frozenset(corpus.words(language)), f"nltk:{language}"
    else:
        known = ["english"]
    if language == "english":
        packaged = resources.files("gptctl.text").joinpath("stopwords_english.txt").read_text(encoding="utf-8")
        return frozenset(packaged.split()), "packaged:english"
    raise unknown("stop-word list", language, known)


def _nltk_stop_words() -> Any:
    """Return NLTK's corpus of stop words, or None where its data is not installed."""
    from nltk.corpus import stopwords

    try:
        stopwords.ensure_loaded()
    except LookupError:
        return None
    return stopwords


def remove_stop_words(
    texts: pa.LargeStringArray, splitter: Splitter, language: str = "english", punkt: str = ""
) -> tuple[pa.LargeStringArray, str]:
    """Drop stop words, whatever their case, and join the rest by single spaces; lines stay lines. Nulls stay null.

    The string says what ran, e.g. "nltk words (no punkt data: untrained), stop words packaged:english".
    """
    stops, list_name = stop_words(language)
    split = split_function(splitter, punkt)

    def without(line: str) -> str:
        return " ".join(word for word in split(line) if word.lower() not in stops)

    kept = [
        None if text is None else "\n".join(without(line) for line in text.split("\n")) for text in texts.to_pylist()
    ]
    return pa.array(kept, pa.large_string()), f"{describe(splitter, punkt)}, stop words {list_name}"
