"""Metrics of tokenization: the size of each split, compression, and how much of the vocabulary is used."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gptctl.core.context import Context
from gptctl.core.formatting import format_bytes, format_count
from gptctl.core.summary import Table
from gptctl.text import arrow_arrays
from gptctl.text.tokenization import splits, token_rows
from gptctl.text.tokenization.options import DEFAULT_VOCAB_SIZE
from gptctl.text.tokenizer import Tokenizer

SMALLEST_SUGGESTION, LARGEST_SUGGESTION = 512, 65_536
FEW_DOCUMENTS = 10  # of a split, below which a loss on it is rough


def split_figures(rows: pa.Table, token_bytes: int) -> dict[str, int]:
    """Return the documents, tokens and bytes of text of a split's rows, whose tokens are bytes."""
    return {
        "documents": len(rows),
        "tokens": int(pc.sum(pc.binary_length(rows["tokens"])).as_py()) // token_bytes,
        "bytes": int(pc.sum(rows["n_bytes"]).as_py()),
    }


def text_figures(texts: pa.LargeStringArray, tokens: pa.Array, unknown_id: int | None) -> dict[str, int]:
    """Return the characters, words and tokens of texts, and how many tokens are the unknown one.

    `unspaced` are the characters of scripts that are written without spaces between words.
    """
    unknown = 0 if unknown_id is None else int(np.count_nonzero(arrow_arrays.to_numpy(tokens) == unknown_id))
    return {
        "text_tokens": len(tokens),
        "words": token_rows.count_words(texts),
        "characters": int(pc.sum(pc.utf8_length(texts)).as_py() or 0),
        "unspaced": token_rows.count_unspaced(texts),
        "unknown": unknown,
    }


def pack_bits(bits: NDArray[np.bool_]) -> str:
    """Return bits as text, eight in a byte of base64."""
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def unpack_bits(text: str, count: int) -> NDArray[np.bool_]:
    """Return `count` bits that `pack_bits` has written. An empty text stands for zeros."""
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(packed, count=count).astype(np.bool_) if len(packed) else np.zeros(count, np.bool_)


def combine(task_figures: list[dict[str, Any]], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the metrics of all tasks together.

    bytes_per_token counts end-of-text. The figures on words, characters and unknown tokens do not, and are of all
    splits. Words are what white space separates. There is no tokens_per_word if most characters are of scripts that
    are written without spaces between words.
    """
    total: dict[str, Any] = {name: {"documents": 0, "tokens": 0, "bytes": 0} for name in splits.NAMES}
    is_used = np.zeros(tokenizer.vocab_size, np.bool_)
    for figures in task_figures:
        for name in splits.NAMES:
            for key, value in figures.get(name, {}).items():
                total[name][key] += value
        is_used |= unpack_bits(figures.get("seen", ""), tokenizer.vocab_size)
    words, tokens, characters, unspaced, unknown, without_cluster_id = (
        sum(figures[key] for figures in task_figures)
        for key in ("words", "text_tokens", "characters", "unspaced", "unknown", "without_cluster_id")
    )
    train: dict[str, int] = total["train"]
    return total | {
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": tokenizer.hash,
        "bytes_per_token": round(train["bytes"] / train["tokens"], 4) if train["tokens"] else None,
        "characters_per_token": round(characters / tokens, 4) if tokens else None,
        "tokens_per_word": round(tokens / words, 4) if words and 2 * unspaced <= characters else None,
        "unknown_share": round(unknown / tokens, 6) if tokens else None,
        "vocabulary_used": round(float(is_used.mean()), 4),
        "without_cluster_id": without_cluster_id,
    }


def warn_of_splits(metrics: dict[str, Any], shares: dict[str, float]) -> Iterator[str]:
    """Yield a warning for each split that was asked for and is empty or too small to be measured on."""
    for name, share in shares.items():
        documents, tokens = metrics[name]["documents"], metrics[name]["tokens"]
        if share and not tokens:
            yield f"the {name} split is empty: too few documents for --{name} {share}"
        elif share and documents < FEW_DOCUMENTS:
            size = f"{format_count(documents, 'document')} ({format_count(tokens, 'token')})"
            yield f"the {name} split has only {size}: a loss on it is rough; raise --{name}"


def describe_missing(metrics: dict[str, Any], by_cluster: bool, vocab_size: int | None) -> Iterator[str]:
    """Yield a sentence on what was asked for and could not be had from the documents.

    `by_cluster`: documents are divided by their clusters. `vocab_size` is the size of the vocabulary that was asked
    for, if a tokenizer was trained.
    """
    if by_cluster and metrics["without_cluster_id"]:
        yield (
            f"{metrics['without_cluster_id']:,} documents have no cluster_id: near-duplicates of them may be in "
            "different splits (gptctl dedup adds it)"
        )
    if vocab_size and metrics["vocab_size"] < vocab_size:
        yield (
            f"the vocabulary has {metrics['vocab_size']:,} tokens, fewer than --vocab-size {vocab_size:,}: there is "
            "too little text for more"
        )


def suggest_vocab_size(vocab_size: int, text_bytes: int, context: Context) -> None:
    """Say which vocabulary size fits the text if the default is far from it.

    The number of different words of a text grows with about the square root of its length (Heaps 1978, "Information
    Retrieval", 7.5). A token that is rare in the text cannot be learned, and costs a row of the model's embeddings.
    """
    fitting = 2 ** round(math.log2(math.sqrt(max(text_bytes, 1))))
    suggested = min(max(fitting, SMALLEST_SUGGESTION), LARGEST_SUGGESTION)
    if vocab_size == DEFAULT_VOCAB_SIZE != suggested:
        context.info(f"suggestion for {format_bytes(text_bytes)} of text: --vocab-size {suggested} (now {vocab_size})")


def table(metrics: dict[str, Any]) -> Table:
    """Return a table of the splits and of the vocabulary."""
    rows = [
        (name, f"{metrics[name]['documents']:,}", f"{metrics[name]['tokens']:,}", format_bytes(metrics[name]["bytes"]))
        for name in splits.NAMES
    ]
    rows.append(("vocabulary", "", f"{metrics['vocab_size']:,}", f"{metrics['bytes_per_token']} B/token"))
    of_text = f"{metrics['tokens_per_word']} tokens/word" if metrics["tokens_per_word"] else ""
    if not of_text and metrics["characters_per_token"]:
        of_text = f"{metrics['characters_per_token']} characters/token"
    rows.append(("used in train", "", f"{metrics['vocabulary_used']:.1%}", of_text))
    rows.append(("unknown tokens", "", f"{metrics['unknown_share'] or 0:.2%}", ""))
    return Table("tokenize", ("", "documents", "tokens", "text"), tuple(rows))
