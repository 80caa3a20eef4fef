"""Encode text to token ids and decode them, with tokenizers in Hugging Face's tokenizer.json format.

Documents are data: text that spells a special token is encoded as text. Only gptctl itself inserts special tokens.

What precedes a text differs. Models of gptctl have one token, end-of-text, which ends each document and precedes the
next. In a model of another program a text is preceded by what the post-processor of its tokenizer adds: mostly the
token that begins a text (BOS), or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from gptctl.core.errors import DataError
from gptctl.text import arrow_arrays
from gptctl.text.guarded_encoder import GuardedEncoder, can_be_spelled
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenization import segmented_words
from gptctl.text.tokenization.text_growth import MAX_GROWTH, text_growth

__all__ = ["END_OF_TEXT", "Tokenizer"]

END_OF_TEXT = "<|endoftext|>"
# The names of end-of-text in model families, the most common first.
END_OF_TEXT_NAMES = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "<|eot_id|>", "<|im_end|>")
# Encoding needs many times the memory of its text: offsets, strings and Python integers for every token. So each call
# gets one batch.
BATCH_DOCUMENTS = 1000
BATCH_CHARACTERS = 4 * 2**20


class Tokenizer:
    """A tokenizer read from tokenizer.json."""

    def __init__(self, definition: dict[str, Any], backend: Any, special: SpecialTokens | None = None) -> None:
        """Wrap a parsed definition and the tokenizers.Tokenizer made from it; use `from_json`."""
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        self.definition = definition
        self._vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        self.special = special
        self.end_of_text = special.eos_token if special else _end_of_text(self._vocabulary)
        self.end_of_text_id = self.token_to_id(self.end_of_text)
        self.bos_token = special.bos_token if special else self.end_of_text
        self.prefix_ids = self._prefix_ids() if special else (self.end_of_text_id,)
        # Ids may have gaps, but a model needs an embedding for the largest id.
        self.vocab_size = max(self._vocabulary.values()) + 1
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)
        self.hash = xxhash.xxh3_128_hexdigest(orjson.dumps(definition, option=orjson.OPT_SORT_KEYS))
        self.lossless = _is_lossless(definition)
        names = [token["content"] for token in definition.get("added_tokens") or [] if token.get("special")]
        names += [self.end_of_text] if self.bos_token is None else [self.end_of_text, self.bos_token]
        self.special_ids = frozenset(map(self.token_to_id, names))
        longest_first = sorted(set(names), key=lambda name: (-len(name), name))
        self._special_names = tuple(longest_first)
        self._is_guarded = can_be_spelled(definition, longest_first)
        self.special_pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._segmenters = segmented_words.marked(definition)
        # None if every text can be represented.
        self.unknown_id = self._vocabulary.get(definition["model"].get("unk_token") or "")
        self._is_character_level = self.lossless and definition["model"]["type"] == "WordLevel"

    @classmethod
    def from_json(cls, text: str, special: SpecialTokens | None = None) -> Tokenizer:
        """Parse a tokenizer.json. `special` are the special tokens of a model that another program made.

        Raises DataError (3) if it is not valid, has no end-of-text token, or has rules that make texts much longer.
        """
        from tokenizers import Tokenizer as Backend

        try:
            definition = orjson.loads(text)
            if (growth := text_growth(definition)) > MAX_GROWTH:
                raise DataError(
                    f"the rules of tokenizer.json can make a text {growth:.3g} times as long (at most {MAX_GROWTH})",
                    "use the tokenizer.json that the model was published with",
                )
            return cls(definition, Backend.from_str(text), special)
        except DataError:
            raise
        except Exception as error:  # tokenizers raises plain Exception for any invalid file
            message = f"not a tokenizer.json: {' '.join(str(error).split())[:200]}"
            raise DataError(message, "use a Hugging Face tokenizer.json, or train one with gptctl tokenize") from error

    def encode_batch(self, texts: Sequence[str]) -> pa.LargeListArray:
        """Return the ids of each text as a list of uint16, or of uint32 for more than 65,536 tokens. No token is added.

        Raises DataError (3) if the vocabulary lacks a symbol of the text and has no unknown token, MachineError (4) if
        words are segmented by a package that is not installed.
        """
        rows: list[NDArray[np.unsignedinteger[Any]]] = []
        for batch in _batches(texts):
            if self._is_character_level:
                self._check_symbols(batch)
            if self._segmenters:
                batch = segmented_words.separate(batch, self._segmenters)
            try:
                encoded = self._encode_plain(batch)
            except Exception as error:  # plain Exception or TypeError: a word without a token, or half a surrogate pair
                message = f"the tokenizer cannot encode a text: {' '.join(str(error).split())[:200]}"
                raise DataError(
                    message, "use a tokenizer with an unknown token, and text that is valid Unicode"
                ) from error
            rows += [np.array(ids, self.dtype) for ids in encoded]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        values = np.concatenate(rows) if rows else np.empty(0, self.dtype)
        return arrow_arrays.lists(offsets, values)

    def with_special_tokens(self, names: Sequence[str]) -> Tokenizer:
        """Return a tokenizer that also has these special tokens. New tokens get the ids after all others."""
        missing = [name for name in dict.fromkeys(names) if name not in self._vocabulary]
        if not missing:
            return self
        added = [
            {"id": self.vocab_size + number, "content": name, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for number, name in enumerate(missing)
        ]
        known = self.definition.get("added_tokens") or []
        text = orjson.dumps(self.definition | {"added_tokens": [*known, *added]}).decode()
        return Tokenizer.from_json(text, self.special)

    @property
    def start_id(self) -> int:
        """The token that stands for an empty context: BOS, or end-of-text where there is none."""
        return self.end_of_text_id if self.bos_token is None else self.token_to_id(self.bos_token)

    @property
    def chat_prefix_ids(self) -> tuple[int, ...]:
        """The tokens before a rendered conversation: none in other programs' models, whose templates write them."""
        return () if self.special else self.prefix_ids

    def stop_ids(self, extra: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the tokens that end a generated text. `extra` holds those that a model's files name.

        A model of gptctl also ends at end-of-text.
        """
        named = tuple(extra.get("stop_ids") or ())
        return named if named and self.special else tuple(dict.fromkeys((*named, self.end_of_text_id)))

    def with_prefix(self, ids: Sequence[int], add_bos: bool | None = None) -> list[int]:
        """Return the ids of a text after those that precede a text, or at least one id.

        `add_bos` puts BOS before it, or nothing, whatever the post-processor says.
        """
        prefix = self.prefix_ids
        if add_bos is not None:
            prefix = (self.start_id,) if add_bos and self.bos_token is not None else ()
        return [*prefix, *ids] or [self.start_id]

    def token_to_id(self, name: str) -> int:
        """Return the id of a token by its exact name. Raises DataError (3) if there is no such token."""
        if name not in self._vocabulary:
            raise DataError(f"the tokenizer has no token {name}", "use the tokenizer that the model was trained with")
        return self._vocabulary[name]

    def encode_to_arrays(self, texts: Sequence[str]) -> list[NDArray[np.unsignedinteger[Any]]]:
        """Return the ids of each text as a separate array."""
        encoded = self.encode_batch(texts)
        values, offsets = encoded.values.to_numpy(), encoded.offsets.to_numpy()
        return [values[start:stop] for start, stop in pairwise(offsets)]

    def encode_marked(self, text: str, marker: str) -> list[int]:
        """Return the ids of a text, recognizing its special tokens except those that `mask_special` has marked."""
        pieces = enumerate(self.special_pattern.split(text))
        return self._guarded.encode((piece.replace(marker, ""), number % 2 == 1) for number, piece in pieces)

    def encode_spans(self, text: str, marker: str, ends: tuple[str, str]) -> tuple[list[int], list[bool]]:
        """Return the ids of a text as `encode_marked` does, and whether each belongs to a marked span.

        `ends` are the two characters at the beginning and the end of a span, which are removed.
        """
        pieces: list[tuple[str, bool, bool]] = []
        is_inside = False
        for number, piece in enumerate(self.special_pattern.split(text)):
            if number % 2:
                pieces.append((piece, True, is_inside))
                continue
            for part in re.split(f"([{ends[0]}{ends[1]}])", piece.replace(marker, "")):
                if part in ends:
                    is_inside = part == ends[0]
                elif part:
                    pieces.append((part, False, is_inside))
        return self._guarded.encode_spans(pieces)

    def mask_special(self, text: str, marker: str) -> str:
        """Insert the character `marker` into everything that spells a special token, and remove it everywhere else."""
        return self.special_pattern.sub(lambda found: found[0][0] + marker + found[0][1:], text.replace(marker, ""))

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""
        ids: list[int] = self.encode_batch([text])[0].as_py()
        return ids

    def can_encode(self, text: str) -> bool:
        """Return whether the vocabulary has all symbols of a text, or an unknown token."""
        try:
            self.encode(text)
        except DataError:
            return False
        return True

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]], *, skip_special_tokens: bool = False) -> str:
        """Return the text of some ids. `skip_special_tokens` omits special tokens such as end-of-text."""
        text: str = self._backend.decode([int(number) for number in ids], skip_special_tokens=skip_special_tokens)
        return text

    def to_json(self) -> str:
        """Return the tokenizer as the text of a tokenizer.json."""
        text: str = self._backend.to_str(pretty=True)
        return text

    @cached_property
    def byte_lengths(self) -> NDArray[np.int64] | None:
        """The bytes of text that each id stands for, 0 for special tokens, or None if they depend on other ids."""
        if not self.lossless:
            return None
        symbols = {token["content"] for token in self.definition.get("added_tokens") or []}
        is_bytewise = self.definition["model"]["type"] == "BPE"
        lengths = np.zeros(self.vocab_size, np.int64)
        for name, number in self._vocabulary.items():
            if number not in self.special_ids:  # a symbol of a byte-level token is one byte
                lengths[number] = len(name) if is_bytewise and name not in symbols else len(name.encode())
        return lengths

    @cached_property
    def _guarded(self) -> GuardedEncoder:
        return GuardedEncoder(self.definition, {name: self._vocabulary[name] for name in self._special_names})

    def _encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts in which special tokens are text."""
        if self._is_guarded:
            return self._guarded.encode_batch(list(texts))
        return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _prefix_ids(self) -> tuple[int, ...]:
        """Return what the post-processor puts before a text."""
        text = self._backend.encode("a", add_special_tokens=False).ids
        whole = self._backend.encode("a", add_special_tokens=True).ids
        starts = (start for start in range(len(whole)) if whole[start : start + len(text)] == text)
        return tuple(whole[: next(starts, 0)])

    def _check_symbols(self, texts: Sequence[str]) -> None:
        # Each text is checked alone, since joining all of them would double the memory.
        for text in texts:
            missing = {symbol for symbol in set(text) if symbol not in self._vocabulary}
            if missing:
                names = ", ".join(f"{symbol!r} (U+{ord(symbol):04X})" for symbol in sorted(missing)[:5])
                raise DataError(
                    f"the tokenizer has no token for {names}",
                    "train a new tokenizer on text that has these characters, or use --algorithm bpe or bytes",
                )


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield groups of texts that fit into memory while they are encoded. A longer text forms a group of its own."""
    first = size = 0
    for position, text in enumerate(texts):
        if position > first and (size + len(text) > BATCH_CHARACTERS or position - first == BATCH_DOCUMENTS):
            yield texts[first:position]
            first, size = position, 0
        size += len(text)
    if first < len(texts):
        yield texts[first:]


def _end_of_text(vocabulary: dict[str, int]) -> str:
    for name in END_OF_TEXT_NAMES:
        if name in vocabulary:
            return name
    raise DataError(
        "the tokenizer has no end-of-text token",
        f"add one of these to its added_tokens: {', '.join(END_OF_TEXT_NAMES)}",
    )


def _is_lossless(definition: dict[str, Any]) -> bool:
    """Return whether decoding restores every text exactly: no character is rewritten, and none is unknown."""
    if definition.get("normalizer") is not None:
        return False
    model = definition["model"]
    if model.get("type") == "WordLevel":
        return (definition.get("decoder") or {}).get("type") == "Fuse" and model.get("unk_token") not in model["vocab"]
    steps = definition.get("pre_tokenizer") or {}
    bytewise = [step for step in steps.get("pretokenizers", [steps]) if step.get("type") == "ByteLevel"]
    from tokenizers.pre_tokenizers import ByteLevel

    return (
        model.get("type") == "BPE"
        and bool(bytewise)
        and not any(step.get("add_prefix_space") for step in bytewise)
        and all(symbol in model["vocab"] for symbol in ByteLevel.alphabet())
    )
