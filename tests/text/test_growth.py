"""Hostile texts take processor time in proportion to their length, in each function that reads documents."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gptctl.core.plugins import names
from gptctl.text import punkt, segmentation
from gptctl.text.cleaning import contamination
from gptctl.text.cleaning.filter_chain import FILTERS, load_filter
from gptctl.text.dedup import exact, minhash
from gptctl.text.dedup.repeated_text import lines, substrings
from gptctl.text.dedup.shingles import Shingling
from gptctl.text.filters import DocumentBatch
from gptctl.text.normalize import normalize
from gptctl.text.pii import Pii, mask
from gptctl.text.tokenization import training
from gptctl.text.tokenization.gigatoken_encoder import GigatokenEncoder
from gptctl.text.tokenizer import Tokenizer
from gptctl.text.word_models.fasttext_model import load_fasttext
from gptctl.text.word_models.ngram_model import NgramModel
from gptctl.text.words import remove_stop_words, split_text
from tests.growth import assert_linear_seconds
from tests.text.word_models.make_fasttext import MODELS

pytestmark = pytest.mark.slow
BYTES = 60_000
MODEL = NgramModel(("bad", "good"), 2, np.zeros((2**16, 2), np.float32), np.zeros(2))
FASTTEXT = load_fasttext(MODELS / "ns.bin")
SLOW_READERS = ("punkt", "split words as nltk")  # NLTK's, in Python


def repeated(unit: str) -> Callable[[int], str]:
    """Return a function that repeats a unit up to a number of characters."""
    return lambda size: (unit * (size // len(unit) + 1))[:size]


def distinct_words(size: int) -> str:
    """Return words of which each occurs once."""
    return " ".join(f"w{number:x}" for number in range(size // 6))


def random_letters(size: int) -> str:
    """Return one word of random letters."""
    return "".join(random.Random(size).choices("abcdefghijklmnopqrstuvwxyz", k=size))


SHAPES: dict[str, Callable[[int], str]] = {
    "one letter": repeated("a"),
    "a word of random letters": random_letters,
    "distinct words": distinct_words,
    "one word": repeated("word "),
    "blanks": repeated(" "),
    "line ends": repeated("\n"),
    "paragraphs": repeated("a\n\n"),
    "carriage returns": repeated("\r\r\n"),
    "lines of one letter": repeated("a\n"),
    "full stops": repeated("."),
    "abbreviations": repeated("U.S. "),
    "sentences of one word": repeated("No. "),
    "ellipses": repeated("a... "),
    "bullets": repeated("\u2022 a\n"),
    "digits": repeated("1"),
    "numbers": repeated("4111 1111 1111 1111 "),
    "a long number with dashes": repeated("1-"),
    "addresses": repeated("a@b.co"),
    "at signs": repeated("@"),
    "dots and letters": repeated("a."),
    "escaped ampersands": lambda size: "&" + "amp;" * (size // 4),
    "entities": repeated("&lt;"),
    "numeric entities": repeated("&#38;"),
    "ampersands": repeated("&"),
    "open tags": repeated("<div>"),
    "less-than signs": repeated("<"),
    "braces": repeated("{"),
    "urls": repeated("http://a.b/"),
    "percent signs": repeated("%25"),
    "Han": repeated("\u4e2d\u6587"),
    "Japanese": repeated("\u3053\u3093\u306b\u3061\u306f"),
    "Thai": repeated("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"),
    "combining marks": lambda size: "a" + "\u0301" * (size // 2),
    "emoji joined": repeated("\U0001f468\u200d"),
    "mojibake": repeated("\u00c3\u00a9"),
    "nested mojibake": repeated("\u00c3\u0192\u00c2\u00a9"),
    "right-to-left": repeated("\u0634\u0644\u0648\u0645 "),
    "NULs": repeated("\x00"),
    "escapes": repeated("\x1b[0m"),
    "quotes": repeated('"'),
    "apostrophes": repeated("n't "),
    "underscores": repeated("_"),
    "joiners": repeated("a\u200c"),
    "base64": repeated("QUJD/+=="),
    "private keys": repeated("-----BEGIN PRIVATE KEY-----"),
    "hyphens": repeated("a-b-"),
}


def column(text: str) -> pa.LargeStringArray:
    """Return a column with one document."""
    return pa.array([text], pa.large_string())


def by_filter(name: str) -> Callable[[str], Any]:
    """Return a function that measures a text with a filter."""
    module = load_filter(name)
    config = module.Config(**({"languages": ("en",)} if name == "language" else {}))
    return lambda text: module.measure(DocumentBatch(column(text)), config)


def by_tokenizer(algorithm: str) -> Callable[[str], Any]:
    """Return a function that encodes a text and decodes it."""
    sample = "Some words of a first text, and \u4e2d\u6587: aaaa aa a\n\n  <div> 1234 &amp; " * 3
    tokenizer = Tokenizer.from_json(training.train([sample], algorithm, 300))  # type: ignore[arg-type]
    return lambda text: tokenizer.decode(tokenizer.encode_batch([text])[0].values.to_numpy())


def by_gigatoken() -> Callable[[str], Any]:
    """Return a function that encodes a text with gigatoken."""
    sample = "Some words of a first text, and more: aaaa aa a\n\n  <div> 1234 &amp; " * 3
    encoder = GigatokenEncoder(Tokenizer.from_json(training.train([sample], "bpe", 300)))
    return lambda text: encoder.encode(column(text))


READERS: dict[str, Callable[[str], Any]] = {
    **{f"filter {name}": by_filter(name) for name in names(FILTERS)},
    "classifier": lambda text: MODEL.probabilities(column(text)),
    "words that decided": lambda text: MODEL.weights_of(text, 1),
    "classifier of fastText": lambda text: FASTTEXT.probabilities(column(text)),
    "normalize": lambda text: normalize(column(text)),
    "pii": lambda text: mask(column(text), Pii()),
    "pii datatrove": lambda text: mask(column(text), Pii(style="datatrove")),
    "exact": lambda text: exact.normalized_keys(column(text)),
    "minhash": lambda text: minhash.signatures(column(text), 64, Shingling(), 1),
    "lines": lambda text: lines.keys(column(text), "line", 1, fold=True),
    "substrings": lambda text: substrings.keys(column(text), 50),
    "train bpe": lambda text: training.train([text], "bpe", 300),
    "train words": lambda text: training.train([text], "words", 300),
    "train chars": lambda text: training.train([text], "chars", 300),
    "encode bpe": by_tokenizer("bpe"),
    "encode words": by_tokenizer("words"),
    "gigatoken": by_gigatoken(),
    "split words": lambda text: split_text(text, "regex"),
    "split words as nltk": lambda text: split_text(text, "nltk"),
    "stop words": lambda text: remove_stop_words(column(text), "regex"),
    "punkt": lambda text: punkt.train([text + "A word."]),
    "segmentation": lambda text: segmentation.separate_text(text),
    "contamination": lambda text: contamination.count_words(column(text)),
}


@pytest.mark.parametrize("reader", READERS)
def test_hostile_texts(reader: str) -> None:
    """Also a million times the same letter, and all that is a word, a line or a paragraph of its own."""
    work, size = READERS[reader], BYTES // 10 if reader in SLOW_READERS else BYTES
    work("Some words of a first text.")  # what is loaded and compiled once
    for shape, text in SHAPES.items():
        with_context(shape, lambda text=text: assert_linear_seconds(work, text, size))


def with_context(shape: str, check: Callable[[], None]) -> None:
    """Name the shape of the text in the message of a failed check."""
    try:
        check()
    except AssertionError as error:
        raise AssertionError(f"{shape}: {error}") from None
