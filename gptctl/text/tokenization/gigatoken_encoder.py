"""Encoding with gigatoken, which is many times faster than the library tokenizers, where it returns the same ids.

One encoder serves all threads of a process: it releases Python's lock, and its cache of words serves all. With one or
two workers, one thread at a time calls it (200 MB of documentation take 0.58 s of processor time, and 0.86 s with an
encoder for each of two threads). With more workers, it spreads each call over threads of its own.
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
from gptctl.text import arrow_arrays
from gptctl.text.tokenization import token_rows
from gptctl.text.tokenization.split_patterns import CL100K, MODERN
from gptctl.text.tokenizer import END_OF_TEXT_NAMES, Tokenizer

Encoder = Literal["auto", "gigatoken", "tokenizers"]

# gigatoken's cache of words grows without bound. Prose adds little to it, but random letters add 5.3 bytes for a byte
# of text, so that 256 MiB cost up to 1.4 GB. A new encoder takes 0.1 s, and as much again to fill its cache.
MAX_ENCODED_BYTES = 256 * 2**20
MAX_SERIAL_WORKERS = 2
# Letters, digits and marks of many scripts, some of them of Unicode 15 and 16.
SCRIPTS = (
    "Größe naïve façade Ærø şı İ", "Привет, мир", "Καλημέρα κόσμε", "שָׁלוֹם עוֹלָם", "السَّلامُ عليكم ١٢٣٤",
    "नमस्ते दुनिया ४५६७", "สวัสดีชาวโลก", "日本語の文章、です。", "中文字符测试１２３４", "안녕하세요 세계",
    "გამარჯობა Ⴀⴀ", "ሰላም ልዑል", "ᏣᎳᎩ ꭰꭱ", "ᠮᠣᠩᠭᠣᠯ\u180e", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛𝟜", "𑼄𑼅 𞓐𞓑 𐵐𐵑 𐗀𐗁", "Ⅷ ½ ²³¹ ৪৫৬৭৮",
    "ſ'ſ 'S 'ſ K ﬁ ﬀ",
)  # fmt: skip
EDGE_CASES = (
    "", " ", "\n", "\0", "a\0b\0\0", "\r\n", "a\r\nb\r\n\r\n c", "\r\r\n\n\r", "end\n  ", "end \n", "end\t",
    "\u00a0\u2003\u3000 x", "\u2028a\u2029b\u0085c", "\x1c\x1d\x1e\x1f\x7f", " " * 300, "a" + " " * 129 + "b",
    "\n" * 77, "\t" * 65 + "x", "=" * 200, "-+" * 99, "0123456789" * 12, "1 22 333 4444 55555",
    "3.14159,26535e-89", "DON'T don't Don'T I'M we'LL 'tis o'clock 'S'T", "👩‍👩‍👧‍👦 🇩🇪🇫🇷 👍🏽 ☺️ 🙂🙂",
    "e\u0301 n\u0303 a\u0308\u0323 Z\u0351\u036b\u0343", "\ufeffBOM \ufffd \uffff", "\U0010ffff\ue000",
    "CamelCaseWordsAndHTTPServer2XX", "snake_case __init__ /usr/bin/env\n//\n", "<|endoftext|>",
    "a<|endoftext|>b <|endoftext|>", "<|endoftext|", "x" * 1000, "ab" * 700, "é" * 300, "日" * 200,
)  # fmt: skip


class GigatokenEncoder:
    """A tokenizer that is loaded into gigatoken."""

    def __init__(self, tokenizer: Tokenizer, threads: int = 1) -> None:
        """Load a tokenizer. Raises whatever gigatoken raises for one that it does not support."""
        import awkward
        from gigatoken.gigatoken_rs import load_hf_json

        self.tokenizer = tokenizer
        self._awkward = awkward
        self._load = load_hf_json
        definition = orjson.dumps(without_special_tokens(tokenizer.definition)).decode()
        # gigatoken supports cl100k's pattern except for white space at the end of a text.
        cl100k, modern = (orjson.dumps(pattern).decode() for pattern in (CL100K, MODERN))
        self._differs_at_end = cl100k in definition
        self._json = definition.replace(cl100k, modern)
        self._parallel = threads > MAX_SERIAL_WORKERS
        self._lock = threading.Lock()
        self._encoded_bytes = 0
        self._backend = self._load(self._json)

    def encode(self, texts: pa.LargeStringArray) -> pa.LargeListArray:
        """Return the ids of each text, as lists of the tokenizer's type. No token is added."""
        tokens = self._encode(texts)
        if not self._differs_at_end:
            return tokens
        rows = np.flatnonzero(ends_in_blank(texts))
        if not len(rows):
            return tokens
        corrected = self.tokenizer.encode_batch(texts.take(arrow_arrays.from_numpy(rows)).to_pylist())
        order = np.arange(len(texts))
        order[rows] = len(texts) + np.arange(len(rows))
        both = pa.concat_arrays([token_rows.to_binary(tokens), token_rows.to_binary(corrected)])
        return token_rows.to_lists(both.take(arrow_arrays.from_numpy(order)), self.tokenizer.dtype)

    def _encode(self, texts: pa.LargeStringArray) -> pa.LargeListArray:
        dtype = self.tokenizer.dtype
        if not len(texts):
            return arrow_arrays.lists(np.zeros(1, np.int64), np.empty(0, dtype))
        backend = self._backend_for(texts.nbytes)
        encoded = backend.encode_batch(self._awkward.from_arrow(texts), parallel=self._parallel)
        layout = self._awkward.to_packed(encoded).layout
        return arrow_arrays.lists(layout.offsets.data, layout.content.data.astype(dtype))

    def _backend_for(self, size: int) -> Any:
        """Return gigatoken's encoder for the next `size` bytes: a new one if the last has encoded enough."""
        with self._lock:
            if self._encoded_bytes > MAX_ENCODED_BYTES:
                self._backend = self._load(self._json)
                self._encoded_bytes = 0
            self._encoded_bytes += size
            return self._backend


def without_special_tokens(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition for encoding documents: special tokens in them are text, and no token is added.

    Added tokens that are not special are found in text by tokenizers too, so they stay.
    """
    added = [token for token in definition.get("added_tokens") or [] if not token.get("special")]
    return definition | {"added_tokens": added, "post_processor": None, "truncation": None, "padding": None}


def ends_in_blank(texts: pa.LargeStringArray) -> Any:
    """Mark the texts whose last character is white space but not a line break."""
    last = pc.utf8_slice_codeunits(texts, -1)
    breaks = pc.or_(pc.equal(last, "\n"), pc.equal(last, "\r"))
    return pc.and_not(pc.utf8_is_space(last), breaks).to_numpy(zero_copy_only=False)


def edge_cases(tokenizer: Tokenizer) -> Iterator[str]:
    """Yield texts on which encoders are known to differ, some with the names of the tokenizer's added tokens."""
    names = [str(token["content"]) for token in tokenizer.definition.get("added_tokens") or []]
    yield from (*EDGE_CASES, *SCRIPTS, " ".join(SCRIPTS), "\n".join(EDGE_CASES))
    for name in dict.fromkeys([*END_OF_TEXT_NAMES, *names[:1000]]):
        yield from (name, f"a{name}b {name}\n{name} ")


def choose_encoder(
    encoder: Encoder, tokenizer: Tokenizer, sample: Sequence[str], threads: int = 1
) -> tuple[GigatokenEncoder | None, str]:
    """Return gigatoken's encoder, or None for the library tokenizers, and the reason.

    gigatoken is used if it returns the same ids as tokenizers for all of `sample` and for the edge cases. Raises
    UsageError (2) if `encoder` is "gigatoken" and it does not, or cannot load the tokenizer.
    """
    if encoder == "tokenizers":
        return None, "encoder=tokenizers"
    fast, reason = try_gigatoken(tokenizer, sample, threads)
    if fast is None and encoder == "gigatoken":
        raise UsageError(f"gigatoken cannot be used: {reason}", "leave out encoder=gigatoken to use tokenizers")
    return fast, reason


def try_gigatoken(tokenizer: Tokenizer, sample: Sequence[str], threads: int) -> tuple[GigatokenEncoder | None, str]:
    """Return gigatoken's encoder if it agrees with tokenizers, and the result of the comparison."""
    if tokenizer.definition["model"].get("type") != "BPE":
        return None, "the tokenizer is not a BPE"
    texts = [*edge_cases(tokenizer), *sample]
    try:
        encoder = GigatokenEncoder(tokenizer, threads)
        fast = encoder.encode(arrow_arrays.strings(texts))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of its Rust code is not an Exception
        return None, f"gigatoken cannot load the tokenizer: {' '.join(str(error).split())[:120]}"
    slow = tokenizer.encode_batch(texts)
    if fast.equals(slow):
        size = sum(len(text.encode()) for text in texts)
        return encoder, f"same ids as tokenizers for {len(texts)} texts, {size} bytes"
    first = next(text for text, one, other in zip(texts, fast, slow, strict=True) if one != other)
    return None, f"ids differ for the text {first[:40]!r}"
