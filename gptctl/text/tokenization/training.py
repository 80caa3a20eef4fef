"""Training a tokenizer on text: byte-level BPE, words, characters or bytes.

End-of-text always has id 0. The same texts give the same tokenizer.json, for any number of threads.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

import pyarrow as pa
import regex

from gptctl.core.errors import DataError, UsageError
from gptctl.core.plugins import unknown
from gptctl.text.segmentation import segmenters_used, separate_text
from gptctl.text.tokenization import segmented_words, split_patterns
from gptctl.text.tokenizer import END_OF_TEXT

Algorithm = Literal["bpe", "words", "chars", "bytes"]

UNKNOWN = "<unk>"
# In bytes. Without a bound, lines of dashes and runs of spaces become tokens of hundreds of bytes.
MAX_TOKEN_LENGTH = 64
# The words that NLTK's NLTKWordTokenizer finds, as far as one pattern can describe them (99 % of the words of 60
# reviews, speeches and plays): parts of contractions, ellipses, dashes, abbreviations, numbers, words with hyphens,
# single marks.
WORD = (
    r"(?:(?i:can(?=not\b)|gon(?=na\b)|got(?=ta\b)|wan(?=na\b)|gim(?=me\b)|lem(?=me\b)))"
    r"|\w+(?=n't\b)|n't\b|'(?i:s|m|d|ll|re|ve)\b"
    r"|\.{2,}|-{2,}"
    r"|(?:\p{L}\.){2,}"
    r"|\w+(?:(?:[-/.@&]|[,:](?=\d)|'(?!(?i:s|m|d|ll|re|ve)\b))\w+)*"
    r"|[^\w\s]"
)
# The same for texts with joiners inside words, as in Persian and Sinhala.
JOINED_WORD = WORD.replace(r"(?:[-/.@&]|", r"(?:[-/.@&\u200c\u200d]|")
# What no split pattern divides: training takes the square of its length in time.
LONGEST_PIECE = 4096
PIECE = regex.compile(r"[\p{L}\p{M}]++|\p{N}++|\s++|[^\s\p{L}\p{M}\p{N}]++")
JOINER = re.compile("[^\\s][\u200c\u200d]\\w")


def train(
    texts: Iterable[str], algorithm: Algorithm, vocab_size: int, end_of_text: str = END_OF_TEXT,
    split_pattern: split_patterns.Name = "gpt2",
) -> str:  # fmt: skip
    """Return the text of a tokenizer.json trained on `texts`.

    - bpe: byte-level BPE (Radford et al. 2019, GPT-2, section 2.2) of at most `vocab_size` tokens, which are inside the
      pieces of `split_pattern`. It represents every text.
    - words: the most frequent words and `<unk>`, `vocab_size` tokens in all. White space and rare words are lost.
      Scripts without spaces between words are segmented (gptctl.text.segmentation).
    - chars: one token for each character that occurs, none for others. `vocab_size` is not used.
    - bytes: the 256 bytes. `vocab_size` is not used. It represents every text.
    """
    if algorithm == "bpe":
        return _train_bpe(texts, vocab_size, end_of_text, split_pattern)
    if algorithm == "words":
        return _train_words(texts, vocab_size, end_of_text)
    if algorithm == "chars":
        return _train_chars(texts, end_of_text)
    if algorithm == "bytes":
        return _make_bytes(end_of_text)
    raise unknown("algorithm", algorithm, list(get_args(Algorithm)))


def _train_bpe(texts: Iterable[str], vocab_size: int, end_of_text: str, split_pattern: str) -> str:
    from tokenizers import Tokenizer, pre_tokenizers, trainers

    if vocab_size < 257:
        raise UsageError(
            f"a byte-level BPE of {vocab_size} tokens has no room for 256 bytes and end-of-text",
            "use a vocab_size of 257 or more",
        )
    empty = split_patterns.byte_level_definition({"vocab": {}, "merges": []}, split_pattern, {})
    tokenizer = Tokenizer.from_str(json.dumps(empty))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[end_of_text],
        max_token_length=MAX_TOKEN_LENGTH,
        show_progress=False,
    )
    tokenizer.train_from_iterator(cut_long_pieces(texts), trainer)
    return _to_json(tokenizer)


def cut_long_pieces(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, cut where a run of letters, of digits, of white space or of marks is very long.

    One letter a million times would otherwise take hours, and would teach nothing that its first thousands do not.
    """
    for text in texts:
        words = text.split()
        blanks = len(text) - sum(map(len, words))
        if max(blanks, *map(len, words), 0) <= LONGEST_PIECE:
            yield text
            continue
        start = 0
        for piece in PIECE.finditer(text):
            for end in range(piece.start() + LONGEST_PIECE, piece.end(), LONGEST_PIECE):
                yield text[start:end]
                start = end
        yield text[start:]


def _train_words(texts: Iterable[str], vocab_size: int, end_of_text: str) -> str:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    if vocab_size < 3:
        raise UsageError(f"a vocabulary of {vocab_size} has no room for a word", "use a vocab_size of 3 or more")
    # With invert, the pattern matches pieces. What is between them, white space, is removed.
    splitter = pre_tokenizers.Split(Regex(JOINED_WORD), "removed", invert=True)
    counts: Counter[str] = Counter()
    segmenters: set[str] = set()
    has_joiners = False
    for text in texts:
        has_joiners = has_joiners or bool(JOINER.search(text))
        segmenters |= segmenters_used(pa.array([text], pa.large_string())).keys()
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(separate_text(text)))
    pattern = segmented_words.mark(JOINED_WORD if has_joiners else WORD, segmenters)
    splitter = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    # A word that is spelled like a special token would be confused with it.
    ranked = sorted(counts.keys() - {end_of_text, UNKNOWN}, key=lambda word: (-counts[word], word))
    vocabulary = {name: place for place, name in enumerate([end_of_text, UNKNOWN, *ranked[: vocab_size - 2]])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens([end_of_text, UNKNOWN])
    return _to_json(tokenizer)


def _train_chars(texts: Iterable[str], end_of_text: str) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    seen: set[str] = set()
    for text in texts:
        seen.update(text)
    if not seen:
        raise DataError(
            "there is no character to build a vocabulary from", "use --algorithm bytes, or an input with text"
        )
    vocabulary = {name: place for place, name in enumerate([end_of_text, *sorted(seen)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([end_of_text])
    return _to_json(tokenizer)


def _make_bytes(end_of_text: str) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {name: place for place, name in enumerate([end_of_text, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([end_of_text])
    return _to_json(tokenizer)


def _to_json(tokenizer: Any) -> str:
    text: str = tokenizer.to_str(pretty=True)
    return text
