"""Making a tokenizer.json from text: byte-level BPE, words, characters or bytes.

End-of-text is always id 0. The same texts give the same file, for any number of threads.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, get_args

from gptctl.core.errors import DataError, UsageError
from gptctl.core.plugins import unknown
from gptctl.text.tokenization import split_patterns
from gptctl.text.tokenizer import END_OF_TEXT

Algorithm = Literal["bpe", "words", "chars", "bytes"]

UNKNOWN = "<unk>"
# Longest BPE token, in bytes: without a bound, lines of dashes and runs of blanks become tokens of hundreds of bytes.
MAX_TOKEN_LENGTH = 64
# The words that NLTK's NLTKWordTokenizer finds, as far as one pattern can say it (99 % of the words of 60 reviews,
# speeches and plays): contractions' parts, ellipses, dashes, abbreviations, numbers, words with inner hyphens, single
# marks.
WORD = (
    r"(?:(?i:can(?=not\b)|gon(?=na\b)|got(?=ta\b)|wan(?=na\b)|gim(?=me\b)|lem(?=me\b)))"
    r"|\w+(?=n't\b)|n't\b|'(?i:s|m|d|ll|re|ve)\b"
    r"|\.{2,}|-{2,}"
    r"|(?:\p{L}\.){2,}"
    r"|\w+(?:(?:[-/.@&]|[,:](?=\d)|'(?!(?i:s|m|d|ll|re|ve)\b))\w+)*"
    r"|[^\w\s]"
)


def train(
    texts: Iterable[str], algorithm: Algorithm, vocab_size: int, end_of_text: str = END_OF_TEXT,
    split_pattern: split_patterns.Name = "gpt2",
) -> str:  # fmt: skip
    """Return the text of a tokenizer.json trained on `texts`.

    - bpe: byte-level BPE (Radford et al. 2019, GPT-2, section 2.2), at most `vocab_size` tokens, which lie inside the
      pieces that `split_pattern` cuts; decodes every text.
    - words: the `vocab_size` commonest words and `<unk>`; white space and rare words are lost.
    - chars: one token for each character seen, none for others; `vocab_size` plays no part.
    - bytes: the 256 bytes; `vocab_size` plays no part; decodes every text.
    """
    if algorithm == "bpe":
        return _train_bpe(texts, vocab_size, end_of_text, split_pattern)
    if algorithm == "words":
        return _train_words(texts, vocab_size, end_of_text)
    if algorithm == "chars":
        return _train_chars(texts, end_of_text)
    if algorithm == "bytes":
        return _bytes(end_of_text)
    raise unknown("algorithm", algorithm, list(get_args(Algorithm)))


def _train_bpe(texts: Iterable[str], vocab_size: int, end_of_text: str, split_pattern: str) -> str:
    from tokenizers import Tokenizer, pre_tokenizers, trainers

    if vocab_size < 257:
        raise UsageError(
            f"a byte-level BPE of {vocab_size} tokens has no room for 256 bytes and end-of-text",
            "use a vocab_size of 257 or more",
        )
    empty = split_patterns.byte_level({"vocab": {}, "merges": []}, split_pattern, {})
    engine = Tokenizer.from_str(json.dumps(empty))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[end_of_text],
        max_token_length=MAX_TOKEN_LENGTH,
        show_progress=False,
    )
    engine.train_from_iterator(texts, trainer)
    return _text(engine)


def _train_words(texts: Iterable[str], vocab_size: int, end_of_text: str) -> str:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    if vocab_size < 3:
        raise UsageError(f"a vocabulary of {vocab_size} has no room for a word", "use a vocab_size of 3 or more")
    # With invert, the pattern says what a piece is; what lies between pieces, white space, is removed.
    splitter = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    # A word spelled like a special token would be taken for it.
    ranked = sorted(counts.keys() - {end_of_text, UNKNOWN}, key=lambda word: (-counts[word], word))
    vocabulary = {name: place for place, name in enumerate([end_of_text, UNKNOWN, *ranked[: vocab_size - 2]])}
    engine = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    engine.pre_tokenizer = splitter
    engine.add_special_tokens([end_of_text, UNKNOWN])
    return _text(engine)


def _train_chars(texts: Iterable[str], end_of_text: str) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    seen: set[str] = set()
    for text in texts:
        seen.update(text)
    if not seen:
        raise DataError("there is no character to make a vocabulary of", "give text, or use --algorithm bytes")
    vocabulary = {name: place for place, name in enumerate([end_of_text, *sorted(seen)])}
    engine = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    engine.decoder = decoders.Fuse()
    engine.add_special_tokens([end_of_text])
    return _text(engine)


def _bytes(end_of_text: str) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {name: place for place, name in enumerate([end_of_text, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    engine = Tokenizer(models.BPE(vocabulary, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([end_of_text])
    return _text(engine)


def _text(engine: Any) -> str:
    text: str = engine.to_str(pretty=True)
    return text
