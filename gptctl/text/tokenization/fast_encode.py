"""Encoding with gigatoken, which gives the ids of the tokenizers library many times faster, where it does.

One instance serves all threads of a process: it lets go of Python's lock, and its cache of words is warm for all. Below
three workers it is called from one thread at a time (200 MB of documentation: 0.58 s of processor time, against 0.86
with an instance for each of two threads); above, it spreads each call over its own threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gptctl.core.errors import UsageError
from gptctl.text.tokenization import token_rows
from gptctl.text.tokenization.split_patterns import CL100K, MODERN
from gptctl.text.tokenizer import END_OF_TEXT_NAMES, Tokenizer

Wanted = Literal["auto", "gigatoken", "tokenizers"]

# The cache of words has no bound of its own. Prose adds little; random letters add 5.3 bytes a byte of text, so that a
# life of 256 MiB costs 1.4 GB at worst. A new instance takes 0.1 s, and as much again to fill its cache.
LIFE_BYTES = 256 * 2**20
THREADS_OF_ONE = 2
# Letters, digits and marks of many scripts, among them some of Unicode 15 and 16.
SCRIPTS = (
    "Größe naïve façade Ærø şı İ", "Привет, мир", "Καλημέρα κόσμε", "שָׁלוֹם עוֹלָם", "السَّلامُ عليكم ١٢٣٤",
    "नमस्ते दुनिया ४५६७", "สวัสดีชาวโลก", "日本語の文章、です。", "中文字符测试１２３４", "안녕하세요 세계",
    "გამარჯობა Ⴀⴀ", "ሰላም ልዑል", "ᏣᎳᎩ ꭰꭱ", "ᠮᠣᠩᠭᠣᠯ\u180e", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛𝟜", "𑼄𑼅 𞓐𞓑 𐵐𐵑 𐗀𐗁", "Ⅷ ½ ²³¹ ৪৫৬৭৮",
    "ſ'ſ 'S 'ſ K ﬁ ﬀ",
)  # fmt: skip
NASTY = (
    "", " ", "\n", "\0", "a\0b\0\0", "\r\n", "a\r\nb\r\n\r\n c", "\r\r\n\n\r", "end\n  ", "end \n", "end\t",
    "\u00a0\u2003\u3000 x", "\u2028a\u2029b\u0085c", "\x1c\x1d\x1e\x1f\x7f", " " * 300, "a" + " " * 129 + "b",
    "\n" * 77, "\t" * 65 + "x", "=" * 200, "-+" * 99, "0123456789" * 12, "1 22 333 4444 55555",
    "3.14159,26535e-89", "DON'T don't Don'T I'M we'LL 'tis o'clock 'S'T", "👩‍👩‍👧‍👦 🇩🇪🇫🇷 👍🏽 ☺️ 🙂🙂",
    "e\u0301 n\u0303 a\u0308\u0323 Z\u0351\u036b\u0343", "\ufeffBOM \ufffd \uffff", "\U0010ffff\ue000",
    "CamelCaseWordsAndHTTPServer2XX", "snake_case __init__ /usr/bin/env\n//\n", "<|endoftext|>",
    "a<|endoftext|>b <|endoftext|>", "<|endoftext|", "x" * 1000, "ab" * 700, "é" * 300, "日" * 200,
)  # fmt: skip


class FastEncoder:
    """A tokenizer's definition, loaded into gigatoken."""

    def __init__(self, coder: Tokenizer, threads: int = 1) -> None:
        """Load a definition. Raises whatever gigatoken raises for one that it does not know."""
        import awkward
        from gigatoken.gigatoken_rs import load_hf_json

        self.coder = coder
        self._awkward = awkward
        self._load = load_hf_json
        definition = orjson.dumps(prepared(coder.definition)).decode()
        # cl100k's white space at the end of a text is all that gigatoken cuts in another way.
        exact, near = (orjson.dumps(pattern).decode() for pattern in (CL100K, MODERN))
        self._end_differs = exact in definition
        self._json = definition.replace(exact, near)
        self._parallel = threads > THREADS_OF_ONE
        self._lock = threading.Lock()
        self._spent_bytes = 0
        self._engine = self._load(self._json)

    def encode(self, texts: pa.Array) -> pa.LargeListArray:
        """Return the ids of a large_string column, as lists of the tokenizer's type. No token is added."""
        tokens = self._encode(texts)
        if not self._end_differs:
            return tokens
        rows = np.flatnonzero(ends_in_blank(texts))
        if not len(rows):
            return tokens
        others = self.coder.encode_batch(texts.take(token_rows.numbers(rows)).to_pylist())
        order = np.arange(len(texts))
        order[rows] = len(texts) + np.arange(len(rows))
        both = pa.concat_arrays([token_rows.as_rows(tokens), token_rows.as_rows(others)])
        return token_rows.as_lists(both.take(token_rows.numbers(order)), self.coder.dtype)

    def _encode(self, texts: pa.Array) -> pa.LargeListArray:
        if not len(texts):
            return token_rows.lists(np.zeros(1, np.int64), np.empty(0, self.coder.dtype))
        found = self._instance(texts.nbytes).encode_batch(self._awkward.from_arrow(texts), parallel=self._parallel)
        layout = self._awkward.to_packed(found).layout
        return token_rows.lists(layout.offsets.data, layout.content.data.astype(self.coder.dtype))

    def _instance(self, size: int) -> Any:
        """Return the instance that encodes the next `size` bytes; a new one where the last has seen enough."""
        with self._lock:
            if self._spent_bytes > LIFE_BYTES:
                self._engine = self._load(self._json)
                self._spent_bytes = 0
            self._spent_bytes += size
            return self._engine


def prepared(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that gigatoken should follow: special tokens in documents are text, and none is added.

    Tokens that were added without being special are found in text by tokenizers too, and stay.
    """
    added = [token for token in definition.get("added_tokens") or [] if not token.get("special")]
    return definition | {"added_tokens": added, "post_processor": None, "truncation": None, "padding": None}


def ends_in_blank(texts: pa.Array) -> Any:
    """Mark the texts whose last character is white space but no line break."""
    last = pc.utf8_slice_codeunits(texts, -1)
    breaks = pc.or_(pc.equal(last, "\n"), pc.equal(last, "\r"))
    return pc.and_not(pc.utf8_is_space(last), breaks).to_numpy(zero_copy_only=False)


def nasty(coder: Tokenizer) -> Iterator[str]:
    """Yield texts on which encoders are known to differ, with the names of this tokenizer's own added tokens."""
    names = [str(token["content"]) for token in coder.definition.get("added_tokens") or []]
    yield from (*NASTY, *SCRIPTS, " ".join(SCRIPTS), "\n".join(NASTY))
    for name in dict.fromkeys([*END_OF_TEXT_NAMES, *names[:1000]]):
        yield from (name, f"a{name}b {name}\n{name} ")


def choose(wanted: Wanted, coder: Tokenizer, sample: Sequence[str], threads: int = 1) -> tuple[FastEncoder | None, str]:
    """Return the encoder to use, None for tokenizers, and the reason.

    gigatoken is used where it gives the same ids as tokenizers for all of `sample` and for nasty texts. Raises
    UsageError (2) where gigatoken is wanted and is not equal, or cannot load the tokenizer.
    """
    if wanted == "tokenizers":
        return None, "asked for"
    encoder, reason = compare(coder, sample, threads)
    if encoder is None and wanted == "gigatoken":
        raise UsageError(f"gigatoken cannot be used: {reason}", "leave out encoder=gigatoken; tokenizers will encode")
    return encoder, reason


def compare(coder: Tokenizer, sample: Sequence[str], threads: int) -> tuple[FastEncoder | None, str]:
    """Return gigatoken's encoder if it agrees with tokenizers, and what was found."""
    if coder.definition["model"].get("type") != "BPE":
        return None, "the tokenizer is no BPE"
    texts = [*nasty(coder), *sample]
    try:
        encoder = FastEncoder(coder, threads)
        fast = encoder.encode(token_rows.text_column(texts))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of its Rust code is no Exception
        return None, f"gigatoken cannot load it: {' '.join(str(error).split())[:120]}"
    slow = coder.encode_batch(texts)
    if fast.equals(slow):
        size = sum(len(text.encode()) for text in texts)
        return encoder, f"gives the ids of tokenizers for {len(texts)} texts, {size} bytes"
    first = next(text for text, one, other in zip(texts, fast, slow, strict=True) if one != other)
    return None, f"ids differ for the text {first[:40]!r}"
