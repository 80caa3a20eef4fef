"""Split texts into words, and remove stop words, as classic methods that count words need it.

Scripts without spaces between words are segmented first (gptctl.text.segmentation). A combining mark belongs to the
character before it. `match_datatrove` leaves both out, as the decisions of datatrove were made.

Nothing is downloaded. If NLTK's data is not installed, the functions return the name of what they used instead.
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
from gptctl.text.language_names import list_of
from gptctl.text.segmentation import separate_text, separate_words

WordSplitter = Literal["regex", "nltk"]

# The words of datatrove's decisions that gptctl's are compared with: a combining mark ends a word.
DATATROVE_WORD = re.compile(r"\w+|[^\w\s]+")


def split_text(text: str, splitter: WordSplitter) -> list[str]:
    """Split a text into words and punctuation.

    "nltk" splits the text into sentences and these into words as in the Penn Treebank: "don't" becomes "do", "n't", and
    quotes become `` and ''.
    """
    return split_function(splitter)(separate_text(text))


def split_function(splitter: WordSplitter, punkt_parameters: str = "") -> Callable[[str], list[str]]:
    """Return the function that splits one text into words, in which `separate_text` has put spaces.

    "nltk" uses the sentence splitter with these parameters (from gptctl.text.punkt), or NLTK's own if they are "".
    """
    return word_pattern().findall if splitter == "regex" else _nltk(punkt_parameters)[0]


@cache
def word_pattern(single_marks: bool = False) -> re.Pattern[str]:
    """Return the pattern of a word: word characters with their combining marks, or anything else but white space.

    With `single_marks`, each punctuation mark is a word of its own.
    """
    from gptctl.text.combining_marks import character_class, combining_marks

    other = r"[^\w\s]" if single_marks else r"[^\w\s]+"
    return re.compile(rf"\w[\w{character_class(combining_marks())}]*|{other}")


@dataclass(frozen=True)
class Words:
    """The words of a batch of documents.

    `data` has the UTF-8 bytes of all words without anything between them. `starts` (words + 1) has the position of each
    word in `data`, and then the end of the last one. Document d has the words from `first[d]` up to, but not including,
    `last[d]`.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def filter(self, mask: NDArray[np.bool_]) -> Words:
        """Return the words of the documents for which the mask is true, without copying any bytes."""
        selected = replace(self, first=self.first[mask], last=self.last[mask])
        if "traits" in self.__dict__:
            selected.__dict__["traits"] = self.traits
        return selected

    def counts(self) -> NDArray[np.int64]:
        """Count each document's words."""
        return self.last - self.first

    def strings(self, document: int) -> list[str]:
        """Return one document's words as strings."""
        bounds = self.starts[self.first[document] : self.last[document] + 1].tolist()
        data = self.data[bounds[0] : bounds[-1]].tobytes()
        return [data[a - bounds[0] : b - bounds[0]].decode() for a, b in pairwise(bounds)]

    @cached_property
    def traits(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """The number of characters of each word, and bits: 1 if it has a letter, 2 if it is punctuation only."""
        from gptctl.text.kernels.characters import character_classes
        from gptctl.text.kernels.words import describe_words

        characters = np.empty(len(self.starts) - 1, np.int32)
        traits = np.empty(len(self.starts) - 1, np.uint8)
        describe_words(self.data, self.starts, character_classes(), characters, traits)
        return characters, traits


def count_batch(
    text: pa.LargeStringArray, splitter: WordSplitter, punkt_parameters: str = "", match_datatrove: bool = False
) -> NDArray[np.int64]:
    """Count the words of each document of a column."""
    if splitter == "regex":
        return _count_words_and_bytes(text if match_datatrove else separate_words(text), match_datatrove)[0]
    return split_batch(text, splitter, punkt_parameters, match_datatrove).counts()


def _count_words_and_bytes(
    text: pa.LargeStringArray, match_datatrove: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the words of each document, and the bytes of these words."""
    from gptctl.text.kernels.characters import buffers, character_classes
    from gptctl.text.kernels.words import count_words

    counts, sizes = np.empty(len(text), np.int64), np.empty(len(text), np.int64)
    count_words(*buffers(text), character_classes(marks=not match_datatrove), counts, sizes)
    return counts, sizes


def split_batch(
    text: pa.LargeStringArray, splitter: WordSplitter, punkt_parameters: str = "", match_datatrove: bool = False
) -> Words:
    """Split all documents of a column into words. A null has none."""
    if not match_datatrove:
        text = separate_words(text)
    if splitter != "regex":
        split = split_function(splitter, punkt_parameters)
        return _from_lists([split(document or "") for document in text.to_pylist()])
    from gptctl.text.kernels.characters import buffers, character_classes
    from gptctl.text.kernels.words import split_words

    data, offsets = buffers(text)
    counts, sizes = _count_words_and_bytes(text, match_datatrove)
    joined = np.empty(max(1, int(sizes.sum())), np.uint8)
    starts = np.empty(int(counts.sum()) + 1, np.int64)
    split_words(data, offsets, character_classes(marks=not match_datatrove), joined, starts)
    last = np.cumsum(counts)
    return Words(joined, starts, last - counts, last)


def _from_lists(documents: list[list[str]]) -> Words:
    encoded = [word.encode() for words in documents for word in words]
    starts = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
    last = np.fromiter(accumulate(map(len, documents)), np.int64, len(documents))
    lengths = np.fromiter(map(len, documents), np.int64, len(documents))
    return Words(np.frombuffer(b"".join(encoded) or b"\0", np.uint8), starts, last - lengths, last)


def describe_splitter(splitter: WordSplitter, punkt_parameters: str = "") -> str:
    """Return which splitter is used, in words, for the manifest."""
    return "regex words" if splitter == "regex" else _nltk(punkt_parameters)[1]


@cache
def _nltk(punkt_parameters: str = "") -> tuple[Callable[[str], list[str]], str]:
    """Return NLTK's function that splits a text into words, and its description."""
    from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer, punkt_model_available, sent_tokenize

    split_words: Callable[[str], list[str]] = NLTKWordTokenizer().tokenize
    split_sentences: Callable[[str], list[str]]
    if punkt_parameters:
        from gptctl.text import punkt

        split_sentences = punkt.sentence_splitter(punkt_parameters)
        description = "nltk words (punkt trained on this input)"
    elif punkt_model_available():
        split_sentences = sent_tokenize
        description = "nltk words (punkt_tab)"
    else:
        # Not trained on the batch: a document's words must not depend on the other documents.
        split_sentences = PunktSentenceTokenizer().tokenize
        description = "nltk words (no punkt data: untrained)"

    def split(text: str) -> list[str]:
        return [word for sentence in split_sentences(text) for word in split_words(sentence)]

    return split, description


def stop_words(language: str) -> tuple[frozenset[str], str]:
    """Return a language's stop words in lower case, and the name of the list: "nltk:german" or "packaged:german".

    The language is given by its name or code: german or de.
    The packaged lists have function words only. NLTK's list is used if its data is installed. Raises UsageError for a
    language without a list. The hint names the languages that have one.
    """
    corpus = _nltk_stop_words()
    of_nltk = corpus.fileids() if corpus is not None else []
    language = list_of(language, [*of_nltk, *packaged_stop_words()])
    if language in of_nltk:
        return frozenset(corpus.words(language)), f"nltk:{language}"
    packaged = packaged_stop_words()
    if language in packaged:
        return packaged[language], f"packaged:{language}"
    raise unknown("stop-word list", language, sorted({*of_nltk, *packaged}))


def stop_word_list(language: str) -> str:
    """Return the name of a language's packaged list, also for a code: "chinese" for "zh". Others stay as they are."""
    return list_of(language, list(packaged_stop_words()))


@cache
def packaged_stop_words() -> dict[str, frozenset[str]]:
    """Return the stop words of each language that has a packaged list."""
    text = resources.files("gptctl.text").joinpath("stopwords.txt").read_text(encoding="utf-8")
    lists = (line.partition(": ") for line in text.splitlines())
    return {language: frozenset(words.split()) for language, _, words in lists}


def _nltk_stop_words() -> Any:
    """Return NLTK's corpus of stop words, or None if its data is not installed."""
    from nltk.corpus import stopwords

    try:
        stopwords.ensure_loaded()
    except LookupError:
        return None
    return stopwords


def remove_stop_words(
    texts: pa.LargeStringArray, splitter: WordSplitter, language: str = "english", punkt_parameters: str = ""
) -> tuple[pa.LargeStringArray, int, str]:
    """Remove stop words in any case, and join the other words by single spaces. Line ends are kept; nulls stay null.

    Returns also how many were removed, and a description of what was used: "nltk words (no punkt data: untrained), stop
    words packaged:english".
    """
    stops, list_name = stop_words(language)
    split = split_function(splitter, punkt_parameters)
    count = 0

    def remove(line: str) -> str:
        nonlocal count
        words = split(line)
        kept = [word for word in words if word.lower() not in stops]
        count += len(words) - len(kept)
        return " ".join(kept)

    removed = [
        None if text is None else "\n".join(remove(line) for line in text.split("\n"))
        for text in separate_words(texts).to_pylist()
    ]
    used = f"{describe_splitter(splitter, punkt_parameters)}, stop words {list_name}"
    return pa.array(removed, pa.large_string()), count, used
